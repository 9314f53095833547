"""The worked example runs as a program, on drawn faces, for every protocol it offers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import siamlearn as sl

EXAMPLE = Path(__file__).parents[1] / "examples" / "att_faces.py"


def run(tmp_path, *flags, data=""):
    environment = {**os.environ, "SIAMLEARN_DATA": data, "XDG_CACHE_HOME": str(tmp_path)}
    environment |= {"HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(EXAMPLE), "--epochs", "1", *flags]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("protocol", ["notebook", "disjoint", "bob"])
def test_the_example_runs_on_drawn_faces(tmp_path, protocol):
    said = run(tmp_path, "--protocol", protocol, "--save_plots", "--verbose", "3")

    folder = tmp_path / "runs"
    assert said.startswith("The AT&T faces are not here")
    assert "PCA+LDA" in said
    assert "pictures answered rightly" in said
    for name in ("matches.png", "overview.png", "report.json", "metrics.jsonl", "gallery", "net"):
        assert (folder / name).exists(), name
    assert len(list((folder / "plots").rglob("*.png"))) == 6
    parts = sl.rebuilt_split(sl.DrawnFaces(), sl.read_config(folder)["split"])
    assert not {*parts["train"].people} & {*parts["tested"].people, *parts["calibration"].people}


def test_the_example_runs_on_the_real_faces(tmp_path, att_faces_root):
    said = run(tmp_path, "--batch-size", "32", data=str(att_faces_root))

    assert "not here" not in said
    assert json.loads((tmp_path / "runs" / "report.json").read_text())["people"] == 9


def test_the_example_is_short():
    assert len(EXAMPLE.read_text().splitlines()) <= 120

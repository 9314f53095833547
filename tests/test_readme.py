"""The README: its code runs as it stands, and its figures are those that were measured."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import siamlearn as sl

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SYSTEMS = ("net", "pixels", "PCA", "PCA+LDA")
SHOWN = [  # protocol, key in the JSON, name in the table
    ("notebook", "auc", "AUC"),
    ("notebook", "balanced_accuracy", "best balanced accuracy"),
    ("disjoint", "auc", "AUC"),
    ("disjoint", "balanced_accuracy", "best balanced accuracy"),
    ("closed", "rank1", "rank-1"),
    ("leave_one", "rank1", "rank-1"),
    ("bob", "auc", "AUC"),
    ("bob", "rank1", "rank-1"),
]


def put(faces: sl.ImageSet, folder: Path) -> None:
    """Write pictures as one folder of PNG files an identity."""
    for number, (image, label) in enumerate(zip(faces.pixels, faces.labels, strict=True)):
        person = folder / faces.identities[label]
        person.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(person / f"{number}.png")


def table(found: dict[str, Any]) -> str:
    """The measured table as the README has it."""
    rows = {(row["protocol"], row["system"]): row for row in found["rows"]}
    lines = [
        f"| protocol | trainings | measured | {' | '.join(SYSTEMS)} |",
        "|---|---|---|" + "---|" * len(SYSTEMS),
    ]
    for protocol, key, name in SHOWN:
        figures = [rows[protocol, system][key] for system in SYSTEMS]
        trainings = rows[protocol, "net"]["trainings"]
        lines.append(f"| {protocol} | {trainings} | {name} | {' | '.join(figures)} |")
    return "\n".join(lines)


def sentences(found: dict[str, Any]) -> str:
    """What the README says below the table."""
    gain, rates = found["auc_gain_split_by_split"], found["fmr_at_1_percent_asked"]
    best = gain["best of the baselines in each split"]
    won, splits = gain["splits won against the best"], gain["splits"]
    return (
        f"Split by split of *disjoint*, the AUC is {best:.4f} above the best of the baselines on "
        f"average, and above it in {won} of {splits}.\n"
        f"Thresholds that were asked for an FMR of 0.01, on five people whom the net had not seen, "
        f"gave {rates['cross-validated']} on four others (mean and standard error over the "
        f"{splits} divisions); thresholds that just fit the five give "
        f"{rates['as it fits the five']}."
    )


def speed(found: dict[str, Any]) -> str:
    """What the README says of the speed of training."""
    rows = {row["way"]: row for row in found["rows"]}
    ours, theirs = rows["siamlearn"], rows["notebook"]
    return (
        f"On the notebook's net and batches of 16 pairs, siamlearn takes "
        f"{ours['batches a second']} steps a second, "
        f"{100 * ours['of the floor']:.0f} % of what bare PyTorch takes on tensors in memory; the "
        f"notebook's way, which decodes both files of every pair, takes "
        f"{theirs['batches a second']}. With the default augmentation it is "
        f"{rows['siamlearn, augmented']['batches a second']}."
    )


def test_the_code_in_the_readme_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = sl.DrawnFaces(22, 8, size=(28, 23))
    known = faces.only(faces.people[20:])
    put(faces.only(faces.people[:20]), tmp_path / "faces")
    put(known.subset(range(1, len(known))), tmp_path / "staff")
    Image.fromarray(known.pixels[0, 0].numpy()).save(tmp_path / "unknown.jpg")
    monkeypatch.chdir(tmp_path)

    space: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL):
        exec(block, space)

    assert space["match"].nearest in known.people
    assert space["report"].auc > 0.5
    assert space["trainer"].step == 300


def test_the_figures_in_the_readme_are_the_measured_ones() -> None:
    found = json.loads((ROOT / "benchmarks" / "results" / "att_faces.json").read_text())

    assert table(found) in README
    assert " ".join(sentences(found).split()) in " ".join(README.split())
    quick = json.loads((ROOT / "benchmarks" / "results" / "loop.json").read_text())
    assert " ".join(speed(quick).split()) in " ".join(README.split())


def test_what_the_readme_points_to_is_there() -> None:
    paths = re.findall(r"\]\(([\w./]+)\)|`((?:docs|benchmarks)/[\w./]+\.\w+)`", README)

    assert paths
    for path in paths:
        assert (ROOT / "".join(path)).exists(), path


def test_the_documentation_begins_with_the_same_code() -> None:
    first = README[README.index("```python") :].split("```")[1]

    assert first in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")

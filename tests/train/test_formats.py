"""Proof 8: checkpoints of every format are kept here, and resumed to the end they had then."""

import json
import runpy
import shutil
from pathlib import Path

import pytest
import torch

from siamlearn.train import checkpoint
from siamlearn.train.checkpoint import CheckpointError

FORMATS = Path(__file__).with_name("formats")
RECIPE = runpy.run_path(str(FORMATS / "recipe.py"))
KEPT = sorted(path.parent for path in FORMATS.glob("*/*/end.json"))


def differences(found: dict, kept: dict) -> list[str]:
    """What is not the same to 12 digits: another processor may round the last ones otherwise."""
    names = sorted(found["tensors"].keys() ^ kept["tensors"].keys())
    for name in found["tensors"].keys() & kept["tensors"].keys():
        pair = [torch.tensor(each["tensors"][name], dtype=torch.float64) for each in (found, kept)]
        if pair[0].shape != pair[1].shape or not torch.allclose(*pair, rtol=1e-12, atol=1e-12):
            names.append(name)
    if len(found["log"]) != len(kept["log"]):
        names.append("log")
    for row, then in zip(found["log"], kept["log"], strict=False):
        # Values that a later version adds to a row do not matter.
        names += [name for name in then if row.get(name) != pytest.approx(then[name], rel=1e-12)]
    return names


def end(kept: Path) -> dict:
    return json.loads((kept / "end.json").read_text())


def test_the_present_format_is_kept_with_every_optimizer():
    assert {kept.relative_to(FORMATS) for kept in KEPT} >= {
        Path(str(checkpoint.FORMAT), kind) for kind in RECIPE["KINDS"]
    }


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: f"{kept.parent.name} {kept.name}")
def test_a_kept_checkpoint_is_resumed_to_the_end_it_had_then(tmp_path, kept):
    (place,) = checkpoint.checkpoints(kept)

    resumed = RECIPE["trained"](kept.name, tmp_path, resume=place)

    assert place == checkpoint.place_of(kept, RECIPE["SAVED"])
    assert resumed.step == 3 * RECIPE["EPOCHS"]
    assert differences(RECIPE["end"](resumed), end(kept)) == []


@pytest.mark.parametrize("kind", RECIPE["KINDS"])
def test_the_recipe_still_gives_that_end(tmp_path, kind):
    whole = RECIPE["trained"](kind, tmp_path)
    kept = end(FORMATS / str(checkpoint.FORMAT) / kind)
    assert differences(RECIPE["end"](whole), kept) == []


def test_a_loss_of_one_part_of_the_state_would_be_found(tmp_path):
    # The proof is as good as what it would notice: each part, left as it was, gives another end.
    kept = FORMATS / str(checkpoint.FORMAT) / "adamw"
    model, state = checkpoint.load(checkpoint.place_of(kept, RECIPE["SAVED"]))
    start = checkpoint.load(_early(tmp_path / "start"))[1]
    for part in ("optimizer", "schedule", "average", "loss", "batch", "total"):
        changed = state | {part: start[part]}
        place = checkpoint.save(
            tmp_path / part, state["step"], checkpoint.serialized(model, changed)
        )
        resumed = RECIPE["trained"]("adamw", tmp_path / f"after {part}", resume=place)
        assert differences(RECIPE["end"](resumed), end(kept)) != [], part


def _early(folder: Path) -> Path:
    """An early checkpoint of the recipe."""
    RECIPE["trained"]("adamw", folder)
    return checkpoint.place_of(folder, 2)


def test_a_newer_format_and_a_damaged_copy_are_refused(tmp_path, monkeypatch):
    kept = KEPT[-1]
    copy = tmp_path / "copy" / checkpoint.place_of(kept, RECIPE["SAVED"]).name
    shutil.copytree(checkpoint.place_of(kept, RECIPE["SAVED"]), copy)
    assert checkpoint.is_whole(copy)
    (copy / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"state\.json has 2 bytes"):
        RECIPE["trained"](kept.name, tmp_path / "run", resume=copy)
    monkeypatch.setattr(checkpoint, "FORMAT", checkpoint.FORMAT + 1)
    newer = checkpoint.save(tmp_path / "newer", 4, checkpoint.serialized({}, {}))
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"has format \d+, and this siamlearn reads up to"):
        RECIPE["trained"](kept.name, tmp_path / "run", resume=newer)

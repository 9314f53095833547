"""Proofs 2 and 4: whatever stops a save or spoils a file, changed bytes are never loaded."""

import errno
import os
import resource
import shutil
from pathlib import Path

import pytest
import torch

from siamlearn.train import checkpoint
from siamlearn.train.checkpoint import CheckpointError, CorruptCheckpointError

FILES = ("MANIFEST.json", "model.safetensors", "state.json", "train.safetensors")


def saved(folder: Path, step: int, value: float = 1.0) -> Path:
    state = {"step": step, "log": [{"loss": float("inf")}], "average": {"w": torch.ones(2)}}
    return checkpoint.save(
        folder, step, checkpoint.serialized({"w": torch.full((3,), value)}, state)
    )


def test_what_was_saved_is_loaded(tmp_path):
    place = saved(tmp_path, 7)

    model, state = checkpoint.load(place)

    assert sorted(path.name for path in place.iterdir()) == list(FILES)
    assert torch.equal(model["w"], torch.ones(3))
    assert state["log"] == [{"loss": float("inf")}]
    assert torch.equal(state["average"]["w"], torch.ones(2))


def test_what_cannot_be_saved_is_named():
    with pytest.raises(CheckpointError, match="callbacks/Counter/seen is a set"):
        checkpoint.serialized({}, {"callbacks": {"Counter": {"seen": {1, 2}}}})


def test_every_file_is_synced_before_the_rename_and_the_folder_after_it(tmp_path, monkeypatch):
    calls = []

    def fsync(descriptor, real=os.fsync):
        calls.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    def rename(source, target, real=os.rename):
        calls.append("rename")
        real(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    place = saved(tmp_path, 1)

    inode = {path.stat().st_ino: path.name for path in [*place.iterdir(), place]}
    names = [inode.get(call, call) for call in calls]
    assert sorted(names[:3]) == ["model.safetensors", "state.json", "train.safetensors"]
    assert names[3:] == ["MANIFEST.json", place.name, "rename", tmp_path.stat().st_ino]


def test_a_deletion_is_out_of_sight_on_the_disk_before_a_file_goes(tmp_path, monkeypatch):
    place, calls = saved(tmp_path, 1), []

    def noted(module, name):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given: (calls.append(name), real(*given))[1])

    for name in ("fsync", "rename", "unlink"):
        noted(os, name)
    checkpoint.discard(place)

    assert calls == ["rename", "fsync", *["unlink"] * 4]


def test_a_step_is_saved_again_before_the_old_one_is_deleted(tmp_path):
    points = []

    def passing(point):
        there = [path.name for path in checkpoint.checkpoints(tmp_path)]
        points.append((point, len(there), sorted(path.name for path in tmp_path.glob(".aside-*"))))

    place = saved(tmp_path, 3)
    checkpoint.save(tmp_path, 3, checkpoint.serialized({}, {}), passing=passing)

    aside = [f".aside-{place.name}"]
    assert points[3:8] == [
        ("before MANIFEST.json", 1, []),
        ("before the old one stands aside", 1, []),
        ("before the rename", 0, aside),
        ("after the rename", 1, aside),
        ("before a deletion", 1, aside),
    ]
    assert list(tmp_path.iterdir()) == [place]


def test_a_step_that_could_not_be_saved_again_is_as_it_was(tmp_path, monkeypatch):
    place = saved(tmp_path, 3, value=1.0)
    real = os.rename

    def rename(source, target):
        if ".tmp-" in str(source):
            raise OSError(errno.EIO, "the disk is broken")
        real(source, target)

    with monkeypatch.context() as broken:
        broken.setattr(os, "rename", rename)
        with pytest.raises(CheckpointError, match="the disk is broken; earlier checkpoints are as"):
            saved(tmp_path, 3, value=2.0)

    assert checkpoint.load(place)[0]["w"].tolist() == [1.0] * 3
    assert list(tmp_path.iterdir()) == [place]


def test_what_stood_aside_comes_back_where_nothing_took_its_place(tmp_path):
    place = saved(tmp_path, 3, value=1.0)
    old = tmp_path / f".aside-{place.name}"
    place.rename(old)
    assert checkpoint.latest(tmp_path) is None

    checkpoint.sweep(tmp_path)
    assert checkpoint.load(checkpoint.latest(tmp_path))[0]["w"].tolist() == [1.0] * 3

    shutil.copytree(saved(tmp_path, 3, value=2.0), old)
    checkpoint.sweep(tmp_path)
    assert checkpoint.load(place)[0]["w"].tolist() == [2.0] * 3
    assert list(tmp_path.iterdir()) == [place]


def test_the_latest_is_the_newest_by_number(tmp_path):
    for step in (2, 11, 9):
        saved(tmp_path, step)
    (tmp_path / ".tmp-step-0000000012").mkdir()
    (tmp_path / ".trash-step-0000000013").mkdir()

    assert checkpoint.latest(tmp_path) == tmp_path / "step-0000000011"
    assert [int(place.name[5:]) for place in checkpoint.checkpoints(tmp_path)] == [11, 9, 2]


def test_a_step_that_is_saved_again_replaces_the_old_one(tmp_path):
    saved(tmp_path, 3, value=1.0)
    place = saved(tmp_path, 3, value=2.0)

    assert checkpoint.load(place)[0]["w"].tolist() == [2.0] * 3
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize("name", FILES)
def test_a_spoilt_file_is_noticed_and_the_checkpoint_before_it_taken(tmp_path, name):
    good, bad = saved(tmp_path, 1), saved(tmp_path, 2)
    content = (bad / name).read_bytes()
    spoils = [b"", content[:-1], content + b" ", None]
    for place in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[place] ^= 1 << (place % 8)
        spoils.append(bytes(flipped))
    for spoilt in spoils:
        if spoilt is None:
            (bad / name).unlink()
        else:
            (bad / name).write_bytes(spoilt)
        with pytest.raises(CorruptCheckpointError, match=name):
            checkpoint.load(bad)
    with pytest.warns(UserWarning, match=f"skipped a corrupt checkpoint: .*{name}"):
        assert checkpoint.latest(tmp_path) == good


def test_every_bit_of_the_format_number_is_guarded(tmp_path):
    # A flip from 1 to 3 or 9 must not pass for a newer format, which would end the search.
    place = saved(tmp_path, 1)
    content = (place / "MANIFEST.json").read_bytes()
    at = content.index(b'"format": 1') + len(b'"format": ')
    for bit in range(8):
        flipped = bytearray(content)
        flipped[at] ^= 1 << bit
        (place / "MANIFEST.json").write_bytes(flipped)
        with pytest.raises(CorruptCheckpointError):
            checkpoint.load(place)


@pytest.mark.parametrize(
    "manifest",
    [b"[]", b"{}", b"\xff", b'{"format": 1, "step": 1, "files": {"../x": {}}, "seal": ""}'],
)
def test_a_manifest_of_something_else_is_refused(tmp_path, manifest):
    place = saved(tmp_path, 1)
    (place / "MANIFEST.json").write_bytes(manifest)
    with pytest.raises(CorruptCheckpointError, match=r"MANIFEST\.json"):
        checkpoint.load(place)


def test_a_renamed_checkpoint_is_refused(tmp_path):
    place = saved(tmp_path, 1).rename(tmp_path / "step-0000000005")
    with pytest.raises(CorruptCheckpointError, match="not the manifest of step-0000000005"):
        checkpoint.load(place)


def test_a_newer_format_is_refused_with_both_numbers(tmp_path, monkeypatch):
    saved(tmp_path, 1)
    with monkeypatch.context() as newer:
        newer.setattr(checkpoint, "FORMAT", 2)
        saved(tmp_path, 2)
    with pytest.raises(CheckpointError, match="has format 2, and this siamlearn reads up to 1"):
        checkpoint.latest(tmp_path)


def test_nothing_whole_is_an_error_and_nothing_at_all_is_none(tmp_path):
    assert checkpoint.latest(tmp_path) is None
    (saved(tmp_path, 1) / "state.json").unlink()
    with (
        pytest.warns(UserWarning, match="skipped"),
        pytest.raises(CorruptCheckpointError, match="none of the 1 checkpoints"),
    ):
        checkpoint.latest(tmp_path)


def test_a_full_disk_leaves_the_checkpoints_before(tmp_path, tiny):
    good = saved(tmp_path, 1)

    def fill():
        # A file that may not grow fails as a full disk does, and with no error of ours involved.
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            (tmp_path / "proof").write_bytes(bytes(301))
        with pytest.raises(CheckpointError, match=r"step-0000000002 could not be saved"):
            saved(tmp_path, 2)

    _, status = os.waitpid(tiny.in_child(fill), 0)

    assert os.waitstatus_to_exitcode(status) == 0
    (tmp_path / "proof").unlink()
    assert list(tmp_path.iterdir()) == [good]
    assert checkpoint.latest(tmp_path) == good


def test_a_folder_that_cannot_be_written_to_is_refused_at_the_start(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="checkpoints cannot be kept in"):
        checkpoint.sweep(tmp_path / "file")


def test_a_read_only_folder_is_refused_at_the_start(tiny, tmp_path):
    def sweep():
        os.chdir(tmp_path)
        if os.geteuid() == 0:  # root may write anywhere, so be somebody else
            os.seteuid(65534)
        assert not os.access(".", os.W_OK, effective_ids=True)
        with pytest.raises(CheckpointError, match="checkpoints cannot be kept in"):
            checkpoint.sweep(Path())

    tmp_path.chmod(0o555)
    try:
        _, status = os.waitpid(tiny.in_child(sweep), 0)
    finally:
        tmp_path.chmod(0o755)
    assert os.waitstatus_to_exitcode(status) == 0


def test_what_a_crash_left_is_swept_and_nothing_else(tmp_path):
    place = saved(tmp_path, 1)
    for name in (".tmp-step-0000000002", ".trash-step-0000000000"):
        shutil.copytree(place, tmp_path / name)
    (tmp_path / "notes.txt").write_text("mine")

    checkpoint.sweep(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", place.name]

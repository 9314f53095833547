"""Proof 4: a disk that is full or read-only during training, and every bit of what lies on it."""

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from siamlearn.folders import check, replacing
from siamlearn.train import checkpoint
from siamlearn.train.callbacks import Callback
from siamlearn.train.checkpoint import CheckpointError, CorruptCheckpointError
from siamlearn.train.keeping import Checkpoint

FILES = ("MANIFEST.json", "model.safetensors", "state.json", "train.safetensors")


class At(Callback):
    """Does something after a step, and says that it was done."""

    def __init__(self, step: int = -1, work=lambda: None) -> None:
        self.step, self.work = step, work

    def on_step_end(self, trainer):
        if trainer.step == self.step:
            self.work()


def run(tiny, folder, at: At | None = None):
    trainer = tiny.trainer(callbacks=[at or At(), Checkpoint(folder, steps=2)])
    resume = folder if checkpoint.checkpoints(folder) else None
    return trainer.fit(tiny.batches(), epochs=2, resume=resume)


def in_child(tiny, work) -> None:
    _, status = os.waitpid(tiny.in_child(work), 0)
    assert os.waitstatus_to_exitcode(status) == 0


def goes_on_from(tiny, folder: Path, step: int, other: Path) -> None:
    """The newest is of this step, and the run is taken up and ends as one that went through."""
    places = checkpoint.checkpoints(folder)
    assert places[0] == checkpoint.place_of(folder, step)
    assert all(map(checkpoint.is_whole, places))
    assert tiny.digest(run(tiny, folder)) == tiny.digest(run(tiny, other))
    assert sorted(folder.iterdir(), reverse=True) == checkpoint.checkpoints(folder)


@pytest.mark.parametrize("size", [0, 300, 1500])
def test_a_disk_that_fills_up_during_training_loses_nothing(tiny, tmp_path, size):
    folder = tmp_path / "run"

    def fill():
        # A file that may not grow fails as a full disk does.
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            (tmp_path / "proof").write_bytes(bytes(size + 1))

    def work():
        with pytest.raises(CheckpointError, match=r"step-0000000006 could not be saved: .*large"):
            run(tiny, folder, At(5, fill))

    in_child(tiny, work)
    assert (tmp_path / "proof").exists()
    goes_on_from(tiny, folder, 4, tmp_path / "whole")


def test_a_folder_that_becomes_read_only_during_training_loses_nothing(tiny, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)

    def lock():
        root = os.getuid() == 0
        if root:
            os.seteuid(0)
        Path().chmod(0o555)
        if root:  # who may write anywhere
            os.seteuid(65534)
        with pytest.raises(PermissionError):
            Path("proof").touch()

    def work():
        os.chdir(folder)
        if os.getuid() == 0:
            os.seteuid(65534)
        with pytest.raises(CheckpointError, match=r"step-0000000006 could not be saved: .*ermi"):
            run(tiny, Path(), At(5, lock))

    try:
        in_child(tiny, work)
    finally:
        folder.chmod(0o777)
    goes_on_from(tiny, folder, 4, tmp_path / "whole")


def spoilt(content: bytes, step: int) -> Iterator[bytes]:
    """The same, cut off at places ``step`` bytes apart, and with single bits so far apart."""
    for length in range(0, len(content), step):
        yield content[:length]
    for bit in range(0, 8 * len(content), step):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bytes(flipped)


def never_loaded(place: Path, step: int) -> int:
    """How many spoilt files of a checkpoint were refused, each by its name."""
    count = 0
    for name in FILES:
        content = (place / name).read_bytes()
        for changed in spoilt(content, step):
            assert changed != content
            (place / name).unlink()  # some file systems wait where a file is overwritten
            (place / name).write_bytes(changed)
            with pytest.raises(CorruptCheckpointError, match=name):
                checkpoint.load(place)
            count += 1
        (place / name).write_bytes(content)
        checkpoint.load(place)
    return count


def saved(folder: Path) -> Path:
    state = {"step": 1, "log": [{"loss": 0.5}], "average": {"w": torch.ones(2)}}
    return checkpoint.save(folder, 1, checkpoint.serialized({"w": torch.ones(3)}, state))


def test_no_cut_and_no_bit_of_a_sample_gets_through(tmp_path):
    assert never_loaded(saved(tmp_path), 31) > 200


@pytest.mark.soak
def test_no_cut_and_no_bit_of_a_checkpoint_gets_through(tiny, tmp_path):
    assert never_loaded(saved(tmp_path / "small"), 1) > 5000
    run(tiny, tmp_path / "run")
    assert never_loaded(checkpoint.checkpoints(tmp_path / "run")[0], 11) > 5000


def never_passed(folder: Path, step: int) -> int:
    """How many spoilt files of another folder of ours were found out."""
    with replacing(folder) as temporary:
        (temporary / "one.json").write_text('{"people": ["anna", "bob"]}')
        (temporary / "two.bin").write_bytes(bytes(range(40)))
    count = 0
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        for changed in spoilt(content, step):
            path.unlink()
            path.write_bytes(changed)
            if changed == content[:-1] and path.suffix == ".json" and content.endswith(b"\n"):
                check(folder)  # without its last line end a manifest says what it said
                continue
            with pytest.raises(ValueError, match=str(folder)):
                check(folder)
            count += 1
        path.write_bytes(content)
        check(folder)
    return count


def test_no_cut_and_no_bit_of_a_sample_of_a_folder_gets_through(tmp_path):
    assert never_passed(tmp_path / "place", 13) > 100


@pytest.mark.soak
def test_no_cut_and_no_bit_of_a_folder_gets_through(tmp_path):
    assert never_passed(tmp_path / "place", 1) > 2000

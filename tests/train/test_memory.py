"""Proof 12: a step leaves nothing behind, however many there are."""

import ctypes
import gc
import resource
from pathlib import Path

import pytest
import torch

from siamlearn.train.callbacks import Callback, EarlyStopping
from siamlearn.train.keeping import Checkpoint
from siamlearn.train.reporting import LogLines

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")


class Counts(ctypes.Structure):
    """What the GNU C library says of its memory; see mallinfo2(3)."""

    _fields_ = [(f"unread_{i}", ctypes.c_size_t) for i in range(4)]
    _fields_ += [("hblkhd", ctypes.c_size_t), ("usmblks", ctypes.c_size_t)]
    _fields_ += [("fsmblks", ctypes.c_size_t), ("uordblks", ctypes.c_size_t)]
    _fields_ += [("fordblks", ctypes.c_size_t), ("keepcost", ctypes.c_size_t)]


def give_back() -> None:
    """What the tests before have freed, or a leak might go unseen in what is free already."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident() -> int:
    """Bytes of the process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def in_use() -> int:
    """Bytes asked for and not freed, wherever there was room for them; else those in memory."""
    ask = getattr(ctypes.CDLL(None), "mallinfo2", None)  # since 2.33
    if ask is None:
        return resident()
    ask.restype = Counts
    found = ask()
    return found.uordblks + found.hblkhd


class Measure(Callback):
    """Objects that the collector of garbage knows, and bytes in memory and in use, an epoch."""

    def __init__(self) -> None:
        self.found: list[tuple[int, int, int]] = []

    def on_epoch_end(self, trainer):
        gc.collect()
        give_back()
        self.found.append((len(gc.get_objects()), resident(), in_use()))

    def grown(self) -> tuple[int, float, float]:
        """Objects and megabytes that came after the first third, when everything is in place."""
        third = len(self.found) // 3
        columns = zip(*self.found, strict=True)
        objects, *bytes_ = (max(each[third:]) - each[third - 1] for each in columns)
        return objects, *(each / 2**20 for each in bytes_)


class Keep(Callback):
    """A leak as they are made: what a step gave is kept, and nobody asks for it again."""

    def __init__(self) -> None:
        self.kept: list[torch.Tensor] = []

    def on_step_end(self, trainer):
        self.kept.append(torch.zeros(5000))


def trained(tiny, folder: Path, *callbacks: Callback, epochs: int, steps: int, workers: int = 0):
    """A run with all that runs have: augmentation, validation, a log, an average, checkpoints."""
    measure = Measure()
    saving = Checkpoint(folder / "checkpoints", every=3, keep=2, best="val_loss")
    stopping = EarlyStopping("val_loss", patience=10_000)
    lines = LogLines(folder / "metrics.jsonl")
    trainer = tiny.trainer(
        tiny.adamw, [*callbacks, saving, stopping, lines, measure], average=0.9, clip=1.0
    )
    validation = [(torch.linspace(0, 1, 288).view(8, 1, 6, 6), torch.arange(8) % 4)]
    batches = tiny.batches(workers=workers, number=steps)
    trainer.fit(batches, epochs=epochs, validation=validation)
    assert trainer.step == epochs * steps
    return measure.grown()


def test_a_thousand_steps_leave_nothing_behind(tiny, tmp_path):
    objects, *megabytes = trained(tiny, tmp_path, epochs=12, steps=100)
    assert objects < 100  # measured were none, and a tenth of a megabyte
    assert max(megabytes) < 2


def test_a_leak_of_one_tensor_a_step_would_be_found(tiny, tmp_path):
    objects, _, megabytes = trained(tiny, tmp_path, Keep(), epochs=6, steps=100)
    assert objects >= 400
    assert megabytes > 4  # kept are 8; what is in memory may grow by less: there may be room


@pytest.mark.soak
@pytest.mark.parametrize("workers", [0, 2])
def test_tens_of_thousands_of_steps_leave_nothing_behind(tiny, tmp_path, workers):
    steps = 500 if workers else 2000
    objects, *megabytes = trained(tiny, tmp_path, epochs=20, steps=steps, workers=workers)
    assert objects < 400
    assert max(megabytes) < 8

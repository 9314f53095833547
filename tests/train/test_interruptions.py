"""Proof 3: a signal in an epoch, in validation or in a save, once or twice; workers killed."""

import os
import random
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from siamlearn.data.samplers import PairSampler
from siamlearn.train import checkpoint
from siamlearn.train.callbacks import Callback
from siamlearn.train.keeping import Checkpoint

EPOCHS = 2
SIGNALS = [signal.SIGINT, signal.SIGTERM]
# A signal after the last save leaves nothing to do.
pytestmark = pytest.mark.filterwarnings("ignore:nothing is left to train")


class Validation:
    """Batches; at the given one of all that are read, somebody presses Ctrl-C, once or twice."""

    def __init__(self, *presses: signal.Signals, at: int = -1) -> None:
        self.presses, self.at, self.read = presses, at, 0

    def __iter__(self):
        for shift in range(3):
            if self.read == self.at:
                for press in self.presses:
                    signal.raise_signal(press)
            self.read += 1
            yield torch.linspace(0, 1 + shift, 288).view(8, 1, 6, 6), torch.arange(8) % 4


class InEpoch(Callback):
    """Two signals in one step."""

    def __init__(self, *presses: signal.Signals) -> None:
        self.presses = presses

    def on_step_end(self, trainer):
        if trainer.step == 4:
            for press in self.presses:
                signal.raise_signal(press)


def run(tiny, folder, *, validation=None, passing=None, callbacks=()):
    """Two epochs of three steps, saved after every second step, of which one is kept."""
    keeping = Checkpoint(folder, steps=2, keep=1, best="val_loss")
    if passing is not None:
        keeping._passing = passing
    trainer = tiny.trainer(tiny.adamw, [keeping, *callbacks], average=0.5)
    resume = folder if checkpoint.checkpoints(folder) else None
    return trainer.fit(
        tiny.batches(number=3),
        epochs=EPOCHS,
        validation=validation or Validation(),
        resume=resume,
    )


@pytest.fixture
def whole(tiny, tmp_path):
    """The digest of a run that nothing happens to, and the points that its saves pass."""
    points = []
    trainer = run(tiny, tmp_path / "whole", passing=points.append)
    return tiny.digest(trainer), points


def resumed_is_whole(tiny, folder: Path, digest: str) -> None:
    """What is visible is whole, and what is left behind does not matter."""
    assert all(map(checkpoint.is_whole, checkpoint.checkpoints(folder)))
    assert tiny.digest(run(tiny, folder)) == digest
    assert sorted(folder.iterdir(), reverse=True) == checkpoint.checkpoints(folder)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("at", range(6))
def test_a_signal_in_validation_finishes_it_saves_and_returns(tiny, tmp_path, whole, number, at):
    before = signal.getsignal(number)
    trainer = run(tiny, tmp_path / "run", validation=Validation(number, at=at))

    assert trainer.stopped == number.name
    assert (trainer.epoch, trainer.step) == ((1, 3) if at < 3 else (2, 6))
    assert "val_loss" in trainer.log[-1]
    assert signal.getsignal(number) is before
    newest = checkpoint.checkpoints(tmp_path / "run")[0]
    assert newest == checkpoint.place_of(tmp_path / "run", trainer.step)
    resumed_is_whole(tiny, tmp_path / "run", whole[0])


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_at_any_point_of_any_save_lets_it_finish(tiny, tmp_path, whole, number):
    digest, points = whole
    assert {"before state.json", "after the rename", "in the middle of a deletion"} <= {*points}
    for fatal, point in enumerate(points):
        folder, passed = tmp_path / f"stopped {fatal}", []

        def passing(name, fatal=fatal, passed=passed):
            passed.append(name)
            if len(passed) == fatal + 1:
                signal.raise_signal(number)

        trainer = run(tiny, folder, passing=passing)
        assert trainer.stopped == number.name, point
        assert passed[fatal] == point
        newest = checkpoint.checkpoints(folder)[0]
        assert newest == checkpoint.place_of(folder, trainer.step), point
        resumed_is_whole(tiny, folder, digest)


@pytest.mark.parametrize(
    ("second", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_second_signal_ends_a_save_where_it_is_and_loses_nothing(
    tiny, tmp_path, whole, second, raised
):
    digest, points = whole
    for fatal, point in enumerate(points):
        folder, passed = tmp_path / f"stopped {fatal}", []

        def passing(name, fatal=fatal, passed=passed):
            passed.append(name)
            if len(passed) == fatal + 1:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(second)

        with pytest.raises(raised):
            run(tiny, folder, passing=passing)
        assert passed[-1] == point  # nothing of the save came after it
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        resumed_is_whole(tiny, folder, digest)


@pytest.mark.parametrize("where", ["epoch", "validation"])
@pytest.mark.parametrize("first", SIGNALS)
def test_a_second_signal_anywhere_ends_at_once_and_loses_nothing(
    tiny, tmp_path, whole, where, first
):
    presses = (first, signal.SIGINT)
    validation = Validation(*presses, at=4) if where == "validation" else None
    callbacks = [InEpoch(*presses)] if where == "epoch" else []
    with pytest.raises(KeyboardInterrupt):
        run(tiny, tmp_path / "run", validation=validation, callbacks=callbacks)
    assert signal.getsignal(first) in (signal.default_int_handler, signal.SIG_DFL)
    resumed_is_whole(tiny, tmp_path / "run", whole[0])


class Deadly(Dataset):
    """Pictures, of which one ends the process that reads it while a file says so."""

    def __init__(self, images: Dataset, armed: Path, picture: int = 5) -> None:
        self.images, self.armed, self.picture = images, armed, picture

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index):
        if index == self.picture and self.armed.exists():
            self.armed.rename(self.armed.with_name("killed"))
            os.kill(os.getpid(), signal.SIGKILL)
        return self.images[index]


class Arm(Callback):
    """From the end of the first epoch on, a file says so."""

    def __init__(self, armed: Path | None = None) -> None:
        self.armed = armed

    def on_epoch_end(self, trainer):
        if self.armed is not None:
            self.armed.touch()


def test_a_worker_that_is_killed_is_an_error_and_loses_nothing(tiny, tmp_path):
    folder = tmp_path / "run"

    def run(folder, armed=None, resume=None):
        jittered = Deadly(tiny.batches().dataset, tmp_path / "armed")
        sampler = PairSampler(tiny.pictures().labels, pairs=4, batches=7)
        loader = DataLoader(jittered, batch_sampler=sampler, num_workers=2)
        trainer = tiny.trainer(callbacks=[Arm(armed), Checkpoint(folder, steps=1)])
        return trainer.fit(loader, epochs=3, resume=resume)

    def work():
        # In a process of its own: torch looks after its workers with a handler that it leaves.
        with pytest.raises(RuntimeError, match=r"worker .*(killed|exited unexpectedly)"):
            run(folder, armed=tmp_path / "armed")

    _, status = os.waitpid(tiny.in_child(work), 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert (tmp_path / "killed").exists(), "no worker was killed"
    newest = checkpoint.checkpoints(folder)[0]
    assert checkpoint.is_whole(newest)
    assert newest.name >= checkpoint.place_of(folder, 7).name
    (tmp_path / "armed").unlink(missing_ok=True)
    assert tiny.digest(run(folder, resume=folder)) == tiny.digest(run(tmp_path / "whole"))


@pytest.mark.soak
@pytest.mark.parametrize("number", SIGNALS)
def test_signals_at_hundreds_of_moments_lose_nothing(tiny, tmp_path, whole, number):
    # From outside, as a scheduler or a user sends them, at any instruction of a slow run.
    digest, draws, stopped = whole[0], random.Random(0), 0
    for turn in range(300):
        folder = tmp_path / f"stopped {turn}"

        def life(folder=folder):
            trainer = run(tiny, folder)
            os._exit(0 if trainer.stopped is None else 3)

        child = tiny.in_child(partial(life))
        while not checkpoint.checkpoints(folder) and not _is_over(child):
            time.sleep(0.0005)
        time.sleep(draws.uniform(0, 0.03))
        os.kill(child, number)
        _, status = os.waitpid(child, 0)
        stopped += os.WIFEXITED(status) and os.WEXITSTATUS(status) == 3
        resumed_is_whole(tiny, folder, digest)
    assert stopped >= 20


def _is_over(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

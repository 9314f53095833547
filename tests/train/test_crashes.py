"""Proof 2: killed at any point of any save, a run is taken up again and ends with the same bits."""

import os
import random
import shutil
import signal
import time

import pytest

from siamlearn.train import checkpoint
from siamlearn.train.callbacks import Callback
from siamlearn.train.keeping import Checkpoint

EPOCHS = 2
# A kill after the last save leaves nothing to do.
pytestmark = pytest.mark.filterwarnings("ignore:nothing is left to train")


def run(tiny, folder, passing=None, callbacks=()):
    """Two epochs of three steps, saved every second step, of which one and the best are kept."""
    keeping = Checkpoint(folder, steps=2, keep=1, best="loss")
    if passing is not None:
        keeping._passing = passing
    trainer = tiny.trainer(tiny.adamw, [keeping, *callbacks], average=0.5)
    resume = folder if checkpoint.checkpoints(folder) else None
    return trainer.fit(tiny.batches(number=3), epochs=EPOCHS, resume=resume)


def killed(child: int) -> bool:
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


@pytest.fixture
def whole(tiny, tmp_path):
    """The digest of a run that nothing happens to, and the points that its saves pass."""
    points = []
    trainer = run(tiny, tmp_path / "whole", points.append)
    return tiny.digest(trainer), points


def test_a_kill_at_every_point_of_every_save_loses_nothing(tiny, tmp_path, whole):
    digest, points = whole
    assert set(points) == {
        "before model.safetensors",
        "before train.safetensors",
        "before state.json",
        "before MANIFEST.json",
        "before the rename",
        "after the rename",
        "before a deletion",
        "in the middle of a deletion",
    }
    for fatal, point in enumerate(points):
        folder = tmp_path / f"killed {fatal}"
        passed = iter(range(len(points)))

        def passing(name, fatal=fatal, passed=passed):
            if next(passed) == fatal:
                os.kill(os.getpid(), signal.SIGKILL)

        child = tiny.in_child(lambda folder=folder, passing=passing: run(tiny, folder, passing))
        assert killed(child), f"no kill {point}"
        assert all(map(checkpoint.is_whole, checkpoint.checkpoints(folder))), point
        assert tiny.digest(run(tiny, folder)) == digest, f"killed {point}, number {fatal}"
        assert sorted(folder.iterdir(), reverse=True) == checkpoint.checkpoints(folder), point


def again(tiny, folder, start, passing=lambda point: None):
    """The second half of the run, which saves the one step that is kept once more."""
    keeping = Checkpoint(folder, steps=2, keep=1)
    keeping._passing = passing
    trainer = tiny.trainer(tiny.adamw, [keeping], average=0.5)
    return trainer.fit(tiny.batches(number=3), epochs=EPOCHS, resume=start)


def test_a_kill_while_a_step_is_saved_again_leaves_it_there(tiny, tmp_path):
    every = Checkpoint(tmp_path / "elsewhere", steps=1, keep=None)
    whole = tiny.trainer(tiny.adamw, [every], average=0.5)
    digest = tiny.digest(whole.fit(tiny.batches(number=3), epochs=EPOCHS))
    start, end = (checkpoint.place_of(every.folder, step) for step in (4, 6))
    points = []

    def ready(name):
        folder = tmp_path / name
        shutil.copytree(end, folder / end.name)
        return folder

    again(tiny, ready("whole"), start, points.append)
    assert points == [
        *[f"before {name}.safetensors" for name in ("model", "train")],
        *["before state.json", "before MANIFEST.json"],
        *["before the old one stands aside", "before the rename", "after the rename"],
        *["before a deletion", *["in the middle of a deletion"] * 4],
    ]
    for fatal, point in enumerate(points):
        folder, passed = ready(f"killed {fatal}"), iter(range(len(points)))

        def passing(name, fatal=fatal, passed=passed):
            if next(passed) == fatal:
                os.kill(os.getpid(), signal.SIGKILL)

        child = tiny.in_child(
            lambda folder=folder, passing=passing: again(tiny, folder, start, passing)
        )
        assert killed(child), f"no kill {point}"
        assert all(map(checkpoint.is_whole, checkpoint.checkpoints(folder))), point
        trainer = again(tiny, folder, folder)
        assert tiny.digest(trainer) == digest, f"killed {point}, number {fatal}"
        assert [path.name for path in folder.iterdir()] == [end.name], point


class Slow(Callback):
    """So slow that a kill falls into the run, and not after it."""

    def on_step_end(self, trainer):
        time.sleep(0.02)


SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(1, 60))]


@pytest.mark.parametrize("seed", SEEDS)
def test_random_kills_lose_nothing(tiny, tmp_path, whole, seed):
    digest, _ = whole
    folder, draws, kills = tmp_path / "killed", random.Random(seed), 0
    for _ in range(100):
        before = checkpoint.checkpoints(folder)[:1]
        child = tiny.in_child(lambda: run(tiny, folder, callbacks=[Slow()]))
        # Each life gets to a new checkpoint, and is killed a moment later, wherever it is.
        while checkpoint.checkpoints(folder)[:1] == before and not _is_over(child):
            time.sleep(0.001)
        time.sleep(draws.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        if not killed(child):
            break
        kills += 1
        assert all(map(checkpoint.is_whole, checkpoint.checkpoints(folder)))
    assert kills >= 3
    # One callback more, which has no state, does not change what is saved but its name.
    assert tiny.digest(run(tiny, folder)) == digest


def _is_over(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

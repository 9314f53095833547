"""Proofs 1 and 5: what is beside training changes no bit of it, nor does where it is gone on."""

import hashlib
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from siamlearn.train import checkpoint
from siamlearn.train.callbacks import Callback, EarlyStopping
from siamlearn.train.doctor import Doctor
from siamlearn.train.evaluating import Evaluate, Plots
from siamlearn.train.keeping import Checkpoint
from siamlearn.train.limits import TimeLimit
from siamlearn.train.monitoring import LearningRates, PeakMemory, Throughput
from siamlearn.train.reporting import LogCSV, LogLines, Progress, Summary

EPOCHS, STEPS = 2, 5


def trained_digest(trainer) -> str:
    """Of what training makes: weights, optimizer, schedule, average, and the losses."""
    content = trainer.state_dict()
    state = {name: content["state"][name] for name in ("optimizer", "schedule", "average", "loss")}
    state["losses"] = [row["loss"] for row in trainer.log]
    found = hashlib.sha256()
    for part in checkpoint.serialized(content["model"], state).values():
        found.update(part)
    return found.hexdigest()


def fit(tiny, *callbacks, workers=0, validation=None, **options) -> str:
    trainer = tiny.trainer(tiny.adamw, callbacks, average=0.9, clip=1.0, **options)
    batches = tiny.batches(workers=workers, number=STEPS)
    return trained_digest(trainer.fit(batches, epochs=EPOCHS, validation=validation))


def held_out() -> list:
    return [(torch.linspace(0, 1, 288).view(8, 1, 6, 6), torch.arange(8) % 4)]


@pytest.fixture(scope="module")
def alone() -> dict[str, str]:
    """The digest of a run with nothing beside it, once it is known."""
    return {}


def same(tiny, alone, *callbacks, **options) -> None:
    if not alone:
        alone["digest"] = fit(tiny)
    assert fit(tiny, *callbacks, **options) == alone["digest"]


def beside(tiny, folder: Path) -> dict[str, Callback]:
    """Every callback that there is, and one that draws and reseeds."""
    images = tiny.pictures()
    return {
        "draws": tiny.Pollute(3),
        "checkpoints": Checkpoint(folder / "checkpoints", steps=2, keep=1, best="loss"),
        "progress": Progress(every=0, write=lambda text: None),
        "summary": Summary(3, write=lambda text: None),
        "lines": LogLines(folder / "metrics.jsonl"),
        "table": LogCSV(folder / "metrics.csv"),
        "rates": Evaluate(images),
        "plots": Plots(images, folder / "plots", every=EPOCHS),
        "stopping": EarlyStopping("loss", patience=EPOCHS),
        "time": TimeLimit(hours=1),
        "learning rates": LearningRates(),
        "throughput": Throughput(),
        "memory": PeakMemory(),
        "doctor": Doctor(every=1, write=lambda text: None),
    }


class Meddles(Callback):
    """Moves one weight by the least that there is."""

    def on_step_end(self, trainer):
        if trainer.step == 3:
            weight = next(trainer.net.parameters()).data.view(-1)
            weight[0] = torch.nextafter(weight[0], torch.tensor(torch.inf))


def test_another_seed_or_the_last_bit_of_one_weight_would_be_seen(tiny, alone):
    same(tiny, alone)
    assert fit(tiny, seed=6) != alone["digest"]
    assert fit(tiny, Meddles()) != alone["digest"]


def test_no_callback_changes_a_bit(tiny, alone, tmp_path):
    same(tiny, alone)
    for name, callback in beside(tiny, tmp_path / "one").items():
        assert fit(tiny, callback) == alone["digest"], name


def test_all_callbacks_validation_workers_and_a_terminal_change_no_bit(
    tiny, alone, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    callbacks = [*beside(tiny, tmp_path).values(), Progress()]
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)
    same(tiny, alone, *callbacks, workers=2, validation=held_out())
    assert f"{EPOCHS * STEPS}/{EPOCHS * STEPS}" in capsys.readouterr().err  # it was a terminal


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_changes_no_bit(tiny, alone, workers):
    same(tiny, alone, workers=workers)


def test_another_thread_changes_no_bit(tiny, alone):
    found = []
    thread = threading.Thread(target=lambda: found.append(fit(tiny)))
    thread.start()
    thread.join()
    same(tiny, alone)
    assert found == [alone["digest"]]


def test_what_was_trained_before_in_the_same_program_changes_no_bit(tiny, alone):
    fit(tiny, tiny.Pollute(1), seed=9)
    same(tiny, alone)


def whole_run(tiny, folder: Path) -> tuple[str, list[Path]]:
    """The digest of a run that is saved at every step, and its checkpoints."""
    keeping = Checkpoint(folder, steps=1, keep=None)
    trainer = tiny.trainer(tiny.adamw, [tiny.Pollute(0), keeping], average=0.9)
    digest = trained_digest(trainer.fit(tiny.batches(number=STEPS), epochs=EPOCHS))
    places = checkpoint.checkpoints(folder)
    assert len(places) == EPOCHS * STEPS
    return digest, places


@pytest.mark.parametrize("workers", [0, 2])
def test_going_on_in_another_process_from_every_step_gives_the_same_bits(tiny, tmp_path, workers):
    whole, places = whole_run(tiny, tmp_path / "whole")
    for place in places[1:]:

        def work(place=place):
            keeping = Checkpoint(tmp_path / f"from {place.name}", steps=1000)
            trainer = tiny.trainer(tiny.adamw, [tiny.Pollute(7), keeping], average=0.9, first=1)
            batches = tiny.batches(workers=workers, number=STEPS)
            assert trained_digest(trainer.fit(batches, epochs=EPOCHS, resume=place)) == whole

        _, status = os.waitpid(tiny.in_child(work), 0)
        assert os.waitstatus_to_exitcode(status) == 0, place.name


PROGRAM = """
import runpy, sys, torch
torch.set_num_threads(1)
tiny = runpy.run_path(sys.argv[1])
here = runpy.run_path(sys.argv[2])
trainer = tiny["trainer"](tiny["adamw"], [], average=0.9, first=1)
batches = tiny["batches"](number=here["STEPS"])
trainer.fit(batches, epochs=here["EPOCHS"], resume=sys.argv[3])
print(here["trained_digest"](trainer))
"""


@pytest.mark.parametrize("hashes", ["1", "2"])
def test_a_program_that_is_started_anew_gives_the_same_bits(tiny, tmp_path, hashes):
    # Sets of strings have another order in each program, and addresses are others.
    whole, places = whole_run(tiny, tmp_path)
    files = [str(Path(__file__).with_name("conftest.py")), __file__, str(places[-4])]
    run = [sys.executable, "-W", "ignore", "-c", PROGRAM, *files]
    environment = os.environ | {"PYTHONHASHSEED": hashes}
    said = subprocess.run(run, check=True, capture_output=True, text=True, env=environment).stdout
    assert said.strip() == whole

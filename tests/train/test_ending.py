"""How a run's folder tells whether a program is training in it, and how it ended."""

import json
import os
import signal
import time

import pytest

from siamlearn.train import ending
from siamlearn.train.callbacks import Callback, EarlyStopping
from siamlearn.train.ending import Ending, is_under_way, read_ending


class Once(Callback):
    """Does something after the first step."""

    def __init__(self, work):
        self.work = work

    def on_step_end(self, trainer):
        self.work(trainer)


def test_an_ending_says_how_far_a_run_came_and_why_it_ended(tiny, tmp_path):
    def ended(**options):
        return read_ending(tmp_path) if run(**options) else None

    def run(callbacks=(), epochs=2):
        return tiny.trainer(callbacks=[Ending(tmp_path), *callbacks]).fit(
            tiny.batches(number=3), epochs=epochs
        )

    done = {"epoch": 2, "epochs": 2, "step": 6, "finished": True, "stopped": None}
    assert ended() == done
    stopping = [Once(lambda trainer: trainer.stop("enough"))]
    assert ended(callbacks=stopping) == {
        **done, "epoch": 0, "step": 1, "finished": False, "stopped": "enough"
    }  # fmt: skip
    signalled = [Once(lambda trainer: signal.raise_signal(signal.SIGINT))]
    assert ended(callbacks=signalled)["stopped"] == "SIGINT"
    with pytest.raises(ZeroDivisionError):
        run(callbacks=[Once(lambda trainer: 1 / 0)])
    assert read_ending(tmp_path)["stopped"] == "ZeroDivisionError: division by zero"
    assert not read_ending(tmp_path)["finished"]


@pytest.mark.soak
def test_the_workers_of_a_killed_program_are_waited_for(tiny, tmp_path):
    def train(*callbacks):
        trainer = tiny.trainer(callbacks=[Ending(tmp_path), *callbacks])
        return trainer.fit(tiny.batches(workers=2, number=2), epochs=1)

    def kill(trainer):
        os.kill(os.getpid(), signal.SIGKILL)

    _, status = os.waitpid(tiny.in_child(lambda: train(Once(kill))), 0)

    assert os.WTERMSIG(status) == signal.SIGKILL
    assert train().epoch == 1


def test_a_run_that_more_epochs_do_not_help_is_finished(tiny, tmp_path):
    class Worse(Callback):
        def on_epoch_end(self, trainer):
            trainer.log[-1]["worse"] = trainer.epoch

    early = EarlyStopping("worse", patience=2)
    tiny.trainer(callbacks=[Ending(tmp_path), Worse(), early]).fit(tiny.batches(number=2), epochs=9)

    assert read_ending(tmp_path)["epoch"] == 3
    assert read_ending(tmp_path)["finished"]


def test_a_run_is_under_way_while_its_program_trains_and_no_longer(tiny, tmp_path):
    seen = []
    looking = Once(lambda trainer: seen.append((is_under_way(tmp_path), read_ending(tmp_path))))
    (tmp_path / "ending.json").write_text("that of an earlier part of the run")
    tiny.trainer(callbacks=[Ending(tmp_path), looking]).fit(tiny.batches(number=2), epochs=1)

    assert seen == [(True, None)] * 2
    assert not is_under_way(tmp_path)
    assert read_ending(tmp_path)["finished"]


def test_two_programs_do_not_train_in_one_folder(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(ending, "PATIENCE", 0.2)

    def sleep(trainer):
        (tmp_path / "begun").touch()
        time.sleep(60)

    def train(*callbacks):
        trainer = tiny.trainer(callbacks=[Ending(tmp_path), *callbacks])
        return trainer.fit(tiny.batches(number=2), epochs=1)

    child = tiny.in_child(lambda: train(Once(sleep)))
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    try:
        assert is_under_way(tmp_path)
        with pytest.raises(ValueError, match=r"another program is training in .*; let it end"):
            train()
        assert is_under_way(tmp_path)  # and the refused one has not taken its place
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert not is_under_way(tmp_path)
    assert read_ending(tmp_path) is None
    assert train().epoch == 1


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"epoch": 1})])
def test_an_ending_that_is_spoilt_is_refused(tmp_path, text):
    (tmp_path / "ending.json").write_text(text)
    with pytest.raises(ValueError, match=r"ending\.json cannot be read: .*delete it"):
        read_ending(tmp_path)

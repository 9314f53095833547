"""When checkpoints are saved, which are kept, and what is refused at the start."""

import pytest

from siamlearn.train.callbacks import Callback
from siamlearn.train.checkpoint import CheckpointError, checkpoints, load
from siamlearn.train.keeping import Checkpoint


def steps(folder):
    return [int(place.name[5:]) for place in reversed(checkpoints(folder))]


class Values(Callback):
    """Puts the values into the rows."""

    def __init__(self, *values):
        self.values = values

    def on_epoch_end(self, trainer):
        trainer.log[-1]["value"] = self.values[trainer.epoch - 1]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"keep": None}, [3, 6, 9, 12, 15]),
        ({}, [9, 12, 15]),
        ({"every": 2, "keep": None}, [6, 12, 15]),  # the last one is always saved
        ({"steps": 4, "keep": None}, [4, 8, 12, 15]),
        ({"keep": 1, "best": "value"}, [6, 15]),
        ({"keep": 1, "best": "value", "largest": True}, [12, 15]),
        ({"every": 5, "best": "value", "keep": None}, [3, 6, 15]),  # a best one is saved anyhow
    ],
)
def test_what_is_saved_and_kept(tiny, tmp_path, options, kept):
    keeping = Checkpoint(tmp_path, **options)
    trainer = tiny.trainer(callbacks=[keeping, Values(3, 1, 2, 4, 4)])
    trainer.fit(tiny.batches(number=3), epochs=5)
    assert steps(tmp_path) == kept
    if "best" in options:
        largest = options.get("largest", False)
        assert keeping.best_value == (4 if largest else 1)
        assert keeping.best_place == tmp_path / f"step-{12 if largest else 6:010d}"
    else:
        assert keeping.best_place is None


def test_a_checkpoint_has_what_later_callbacks_did_at_that_step(tiny, tmp_path):
    class Counts(Callback):
        def __init__(self):
            self.steps = 0

        def on_step_end(self, trainer):
            self.steps += 1

        def state_dict(self):
            return {"steps": self.steps}

    callbacks = [Checkpoint(tmp_path, steps=2), Counts()]
    tiny.trainer(callbacks=callbacks).fit(tiny.batches(number=3), epochs=1)
    for place in checkpoints(tmp_path):
        state = load(place)[1]
        assert state["callbacks"]["Counts"]["steps"] == state["step"]


def test_the_best_is_protected_after_resuming_too(tiny, tmp_path):
    def made(*values):
        return [Values(*values), Checkpoint(tmp_path, keep=1, best="value")]

    tiny.trainer(callbacks=made(3, 1, 2)).fit(tiny.batches(number=3), epochs=3)
    tiny.trainer(callbacks=made(0, 0, 0, 5, 6)).fit(
        tiny.batches(number=3), epochs=5, resume=tmp_path
    )
    assert steps(tmp_path) == [6, 15]


def test_checkpoints_after_the_one_resumed_from_are_left_alone(tiny, tmp_path):
    tiny.trainer(callbacks=[Checkpoint(tmp_path, keep=None)]).fit(tiny.batches(number=3), epochs=4)
    tiny.trainer(callbacks=[Checkpoint(tmp_path, keep=1)]).fit(
        tiny.batches(number=3), epochs=3, resume=tmp_path / "step-0000000006"
    )
    assert steps(tmp_path) == [9, 12]


def test_the_folder_of_another_run_is_refused(tiny, tmp_path):
    tiny.trainer(callbacks=[Checkpoint(tmp_path)]).fit(tiny.batches(number=3), epochs=1)
    with pytest.raises(ValueError, match=r"of another run, up to step-0000000003; pass fit\(resu"):
        tiny.trainer(callbacks=[Checkpoint(tmp_path)]).fit(tiny.batches(), epochs=1)
    assert steps(tmp_path) == [3]


def test_state_that_cannot_be_saved_is_refused_before_the_first_step(tiny, tmp_path):
    class Remembers(Callback):
        def state_dict(self):
            return {"seen": {1, 2}}

    trainer = tiny.trainer(callbacks=[Remembers(), Checkpoint(tmp_path)])
    with pytest.raises(CheckpointError, match="callbacks/Remembers/seen is a set"):
        trainer.fit(tiny.batches(), epochs=1)
    assert trainer.step == 0


def test_a_folder_that_is_none_is_refused_before_the_first_step(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    trainer = tiny.trainer(callbacks=[Checkpoint(tmp_path / "file")])
    with pytest.raises(CheckpointError, match="checkpoints cannot be kept in"):
        trainer.fit(tiny.batches(), epochs=1)
    assert trainer.step == 0


@pytest.mark.parametrize("name", ["every", "steps", "keep"])
def test_numbers_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        Checkpoint("x", **{name: 0})


def test_epochs_and_steps_at_once_are_refused():
    with pytest.raises(ValueError, match="got every=1 and steps=2"):
        Checkpoint("x", every=1, steps=2)

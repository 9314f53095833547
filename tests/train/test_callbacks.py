"""Hooks, in their order; misspelt ones refused; stopping early."""

import pytest

from siamlearn.train.callbacks import Callback, EarlyStopping

HOOKS = "on_fit_start, on_epoch_start, on_step_end, on_epoch_end, on_fit_end"


def test_a_misspelt_hook_is_refused():
    with pytest.raises(TypeError, match=f"on_epoch_ended would never be called; .* are {HOOKS}"):
        type("Typo", (Callback,), {"on_epoch_ended": lambda self, trainer: None})


def test_a_misspelt_hook_that_is_inherited_or_set_is_refused():
    mixed_in = type("Mixed", (), {"on_batch_end": lambda self, trainer: None})
    with pytest.raises(TypeError, match=r"Typo\.on_batch_end would never be called"):
        type("Typo", (mixed_in, Callback), {})
    callback = Callback()
    with pytest.raises(TypeError, match=r"Callback\.on_step would never be called"):
        callback.on_step = print
    callback.on_step_end = callback.once = print  # a hook, and anything else


def test_hooks_run_in_order(tiny):
    seen = []

    class Spy(Callback):
        def __init__(self, name):
            for hook in HOOKS.split(", "):
                setattr(self, hook, lambda trainer, hook=hook: seen.append((name, hook)))

    tiny.trainer(callbacks=[Spy("a"), Spy("b")]).fit(tiny.batches(number=2), epochs=1)
    hooks = ["fit_start", "epoch_start", "step_end", "step_end", "epoch_end", "fit_end"]
    assert seen == [(name, f"on_{hook}") for hook in hooks for name in "ab"]


def test_fit_end_comes_after_a_failure_too(tiny):
    ended = []

    class Fails(Callback):
        def on_step_end(self, trainer):
            raise ZeroDivisionError

        def on_fit_end(self, trainer):
            ended.append(trainer.step)

    with pytest.raises(ZeroDivisionError):
        tiny.trainer(callbacks=[Fails()]).fit(tiny.batches(), epochs=1)
    assert ended == [1]


class Rows(Callback):
    """Puts given values into the rows; None leaves the value out."""

    def __init__(self, *values):
        self.values = values

    def on_epoch_end(self, trainer):
        value = self.values[trainer.epoch - 1]
        if value is not None:
            trainer.log[-1]["value"] = value


@pytest.mark.parametrize(
    ("values", "largest", "epochs"),
    [
        ([3, 2, 2, 2.5, 9], False, 4),  # equal is no improvement
        ([3, 2, 2, 1, 9], False, 5),
        ([3, 2, 2, 1, 9], True, 3),
        ([3, None, None, 4, 4], False, 5),  # a row without the value is not judged
    ],
)
def test_early_stopping_by_hand(tiny, values, largest, epochs):
    stopping = EarlyStopping("value", patience=2, largest=largest)
    trainer = tiny.trainer(callbacks=[Rows(*values), stopping])
    trainer.fit(tiny.batches(number=1), epochs=5)
    assert trainer.epoch == epochs
    best = (max if largest else min)(value for value in values[:epochs] if value is not None)
    assert stopping.best == best
    if epochs < 5:
        assert trainer.stopped == f"value has not improved on {best} for 2 epochs"


def test_a_value_that_is_in_no_row_is_found_after_the_first_epoch(tiny):
    trainer = tiny.trainer(callbacks=[EarlyStopping("val_los")])
    with pytest.raises(ValueError, match="no 'val_los' in the epoch's row, which has epoch, step"):
        trainer.fit(tiny.batches(), epochs=2)
    assert trainer.epoch == 1


def test_patience_is_at_least_one():
    with pytest.raises(ValueError, match="patience must be at least 1 epoch, got 0"):
        EarlyStopping(patience=0)


@pytest.mark.parametrize("largest", [True, False])
def test_what_is_not_finite_is_never_better_and_never_the_best(tiny, largest):
    values = iter([float("nan"), 3.0, float("nan"), float("inf"), -float("inf")])

    class Values(Callback):
        def on_epoch_end(self, trainer):
            trainer.log[-1]["value"] = next(values)

    stopping = EarlyStopping("value", patience=3, largest=largest)
    trainer = tiny.trainer(callbacks=[Values(), stopping]).fit(tiny.batches(), epochs=5)

    assert stopping.best == 3.0
    assert trainer.stopped == "value has not improved on 3 for 3 epochs"

"""Training that ends by the clock, on a clock that the tests turn."""

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from siamlearn.train import limits
from siamlearn.train.callbacks import Callback
from siamlearn.train.keeping import Checkpoint
from siamlearn.train.limits import TimeLimit
from train.on_ranks import on_ranks

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class Clock(Callback):
    """Ten seconds a step, and as many as asked at the end of an epoch."""

    def __init__(self, *, ends=0.0):
        self.now, self.ends = 1000.0, ends

    def on_step_end(self, trainer):
        self.now += 10

    def on_epoch_end(self, trainer):
        self.now += self.ends


@pytest.fixture
def fit(tiny, monkeypatch):
    """Three epochs of four steps, with a clock before and callbacks after the time limit."""

    def fit(limit, *callbacks, ends=0.0, epochs=3, **options):
        clock = Clock(ends=ends)
        shown = SimpleNamespace(
            monotonic=lambda: clock.now, time=lambda: NOON.timestamp() + clock.now - 1000
        )
        monkeypatch.setattr(limits, "time", shown)
        trainer = tiny.trainer(callbacks=[clock, limit, *callbacks])
        return trainer.fit(tiny.batches(number=4), epochs=epochs, **options)

    return fit


def test_a_step_that_would_not_end_in_time_is_not_begun(fit):
    # 59 seconds: the fifth step ends after 50, the sixth would after 60.
    trainer = fit(TimeLimit(seconds=59))
    assert trainer.step == 5
    assert trainer.stopped == (
        "the time is up: 59 s of training would end before the next step does"
    )


def test_hours_minutes_and_seconds_are_added_up(fit):
    assert TimeLimit(hours=1, minutes=2, seconds=3).seconds == 3723
    trainer = fit(TimeLimit(minutes=1, seconds=1))
    assert trainer.step == 6
    assert "0:01:01 of training" in trainer.stopped


def test_training_that_ends_in_time_is_not_stopped(fit):
    # The last step ends after 120 seconds: nothing is left to be stopped.
    for seconds in (120.5, 121, 1000):
        trainer = fit(TimeLimit(seconds=seconds))
        assert (trainer.step, trainer.stopped) == (12, None)


def test_a_point_in_time_ends_training_in_any_time_zone(fit):
    abroad = NOON.astimezone(timezone(timedelta(hours=9)))
    for until in (NOON, abroad, NOON.astimezone().replace(tzinfo=None)):
        trainer = fit(TimeLimit(until=until + timedelta(seconds=35)))
        assert trainer.step == 3
        assert "the time until 2030-01-0" in trainer.stopped


def test_the_earlier_of_two_limits_holds(fit):
    assert fit(TimeLimit(seconds=45, until=NOON + timedelta(hours=1))).step == 4
    assert fit(TimeLimit(hours=1, until=NOON + timedelta(seconds=25))).step == 2


def test_nothing_is_trained_after_the_point_in_time(fit):
    trainer = fit(TimeLimit(until=NOON - timedelta(seconds=1)))
    assert trainer.step == 0
    assert trainer.stopped.startswith("the time is up")


def test_an_epoch_is_not_begun_that_would_not_end_in_time(fit):
    # An epoch takes 40 seconds and 5 for its validation or saving; two end after 90.
    assert fit(TimeLimit(seconds=100), ends=5).step == 9
    trainer = fit(TimeLimit(seconds=100, whole_epochs=True), ends=5)
    assert (trainer.epoch, trainer.step) == (2, 8)
    assert trainer.stopped.endswith("before the next epoch does")


def test_what_is_saved_after_an_epoch_is_counted_to_it(fit):
    class Saving(Callback):
        def on_epoch_end(self, trainer):
            trainer.callbacks[0].now += 50

    # The second epoch ends 90 seconds after the first one, at 130; a third would end at 220.
    limit = TimeLimit(seconds=200, whole_epochs=True)
    assert fit(limit, Saving()).step == 8


def test_a_first_epoch_that_takes_too_long_is_cut_off(fit):
    trainer = fit(TimeLimit(seconds=25, whole_epochs=True))
    assert (trainer.epoch, trainer.step) == (0, 2)


def test_a_resumed_run_has_the_whole_time_again_or_shares_it(fit, tmp_path):
    def parts(name, **options):
        folder = tmp_path / name
        first = fit(TimeLimit(seconds=35, **options), Checkpoint(folder))
        second = fit(TimeLimit(seconds=75, **options), Checkpoint(folder), resume=folder)
        return first.step, second.step

    assert parts("anew") == (3, 3 + 7)
    assert parts("shared", sum_up=True) == (3, 7)


def test_what_was_stopped_is_saved_at_that_step(fit, tmp_path):
    fit(TimeLimit(seconds=59), Checkpoint(tmp_path, keep=1))
    assert [place.name for place in tmp_path.iterdir()] == ["step-0000000005"]


@pytest.mark.parametrize("apart", [30, -30])
@pytest.mark.parametrize("until", [-1.0, 35.0, 55.0])
def test_all_ranks_stop_by_the_clock_of_the_first(fit, tmp_path, until, apart):
    # The clocks of the two computers are half a minute apart.
    def work(rank):
        limit = TimeLimit(until=NOON + timedelta(seconds=until + apart * rank))
        trainer = fit(limit)
        return trainer.step, trainer.stopped

    first, second = on_ranks(2, tmp_path, work)
    assert first == second
    assert first[0] == max(0, until // 10)


def test_all_ranks_stop_at_the_end_of_an_epoch(fit, tmp_path):
    def work(rank):
        return fit(TimeLimit(seconds=50 + 100 * rank, whole_epochs=True)).step

    assert on_ranks(2, tmp_path, work) == [4, 4]


def test_without_summing_up_no_time_gets_into_the_checkpoint(fit):
    limit, summing = TimeLimit(seconds=59), TimeLimit(seconds=59, sum_up=True)
    fit(limit)
    fit(summing)
    assert (limit.state_dict(), summing.state_dict()) == ({}, {"spent": 50.0})


@pytest.mark.parametrize("length", [{}, {"seconds": 0}, {"hours": 1, "minutes": -90}])
def test_a_limit_has_a_length(length):
    with pytest.raises(ValueError, match="a time limit must be above zero"):
        TimeLimit(**length)

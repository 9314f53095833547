"""An end to training by the clock: after so many hours, or before a point in time."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, final

from siamlearn.train.callbacks import Callback

if TYPE_CHECKING:
    from siamlearn.train.trainer import Trainer

__all__ = ["TimeLimit"]


@final
class TimeLimit(Callback):
    """Stop before training takes longer than this, or before a point in time.

    A step is not begun when one as long as the last would not end in time. With ``whole_epochs``
    an epoch is not begun either when one as long as the longest so far would not; the first one
    of a run cannot be judged, and is cut off where it is too long. A
    :class:`~siamlearn.Checkpoint` saves afterwards: leave room for it.

    Each call of ``fit`` has the whole time, as each job of a cluster has; with ``sum_up`` all
    parts of a run share it, up to the checkpoint that each was resumed from.

    Args:
        hours, minutes, seconds: of training, added up.
        until: a point in time; that of this computer's clock where it has no time zone.
        whole_epochs: rather stop at the end of an epoch than within the next one.
        sum_up: count what a resumed run has had before.

    Raises:
        ValueError: when there is no limit, or a length of time that is not above zero.

    Example:
        >>> TimeLimit(hours=1, minutes=30).seconds
        5400.0
    """

    def __init__(
        self,
        *,
        hours: float = 0.0,
        minutes: float = 0.0,
        seconds: float = 0.0,
        until: datetime | None = None,
        whole_epochs: bool = False,
        sum_up: bool = False,
    ) -> None:
        length = 3600.0 * hours + 60.0 * minutes + seconds
        if length < 0 or (length == 0 and until is None):
            msg = (
                f"a time limit must be above zero, got {length:g} seconds; "
                f"pass hours, minutes, seconds or until"
            )
            raise ValueError(msg)
        self.seconds = length if length > 0 else None
        self.until, self.whole_epochs, self.sum_up = until, whole_epochs, sum_up
        self._before = 0.0
        self._begun: float | None = None
        self._end = self._last = float("inf")
        self._epoch: float | None = None
        self._longest = 0.0

    @property
    def spent(self) -> float:
        """Seconds of training that count."""
        now = 0.0 if self._begun is None else time.monotonic() - self._begun
        return self._before + now

    def on_fit_start(self, trainer: Trainer) -> None:
        self._before = self._before if self.sum_up else 0.0
        self._begun = self._last = time.monotonic()
        self._epoch, self._longest = None, 0.0
        self._end = float("inf")
        if self.seconds is not None:
            self._end = self._begun + self.seconds - self._before
        if self.until is not None:
            self._end = min(self._end, self._begun + self.until.timestamp() - time.time())
        self._stop_unless(0.0, "step", trainer)

    def on_epoch_start(self, trainer: Trainer) -> None:
        if self._epoch is None:  # later ones count from end to end, and with them what is saved
            self._epoch = time.monotonic()
        self._last = time.monotonic()

    def on_step_end(self, trainer: Trainer) -> None:
        now = time.monotonic()
        took, self._last = now - self._last, now
        if trainer.steps is None or trainer.step < trainer.steps * trainer.epochs:
            self._stop_unless(took, "step", trainer)

    def on_epoch_end(self, trainer: Trainer) -> None:
        now = time.monotonic()
        if self._epoch is not None:
            self._longest = max(self._longest, now - self._epoch)
        self._epoch = now
        if trainer.epoch < trainer.epochs:
            self._stop_unless(self._longest if self.whole_epochs else 0.0, "epoch", trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        self._before, self._begun = self.spent, None

    def state_dict(self) -> dict[str, Any]:
        # Only where it is asked for: otherwise two equal runs have equal checkpoints.
        return {"spent": self.spent} if self.sum_up else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._before = state.get("spent", 0.0)

    def _stop_unless(self, needed: float, what: str, trainer: Trainer) -> None:
        # One clock decides for all ranks.
        if trainer.stopped is not None or not trainer.first:
            return
        if time.monotonic() + needed >= self._end:
            trainer.stop(f"the time is up: {self._limit()} would end before the next {what} does")

    def _limit(self) -> str:
        parts = [] if self.seconds is None else [f"{_clock(self.seconds)} of training"]
        if self.until is not None:
            parts.append(f"the time until {self.until:%Y-%m-%d %H:%M:%S}")
        return " or ".join(parts)


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"

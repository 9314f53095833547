"""The callback that saves: when, how many, and which one is the best."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from siamlearn.train import checkpoint
from siamlearn.train.callbacks import Callback, better, logged

if TYPE_CHECKING:
    from siamlearn.train.trainer import Trainer

__all__ = ["Checkpoint"]


@final
class Checkpoint(Callback):
    """Save everything that a run needs to be taken up again, to the last bit.

    Saved is after ``every`` epochs or ``steps`` steps, at the end, when training is stopped, and
    when an epoch is the best so far. The trainer serves this callback last, wherever it stands,
    so that what the others did at that step is saved too. ``trainer.fit(resume=folder)`` goes on.

    Args:
        folder: where; made if it is not there.
        every: epochs from one checkpoint to the next.
        steps: optimizer steps from one to the next, instead of ``every``.
        keep: how many of the newest ones to keep; None keeps all of them.
        best: a value in the epoch's row, such as ``"val_loss"``; the checkpoint of the epoch
            that has the best one is kept as well.
        largest: the largest value is the best one (``"auc"``), and not the smallest.

    Raises:
        ValueError: when a number is below 1, or the folder holds checkpoints of another run.
        CheckpointError: at the start, when the folder cannot be written to, or when something
            in the state of the net, the optimizer or a callback cannot be saved.

    Example:
        >>> Checkpoint("runs/checkpoints", steps=500, keep=2, best="val_loss").keep
        2
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        every: int | None = None,
        steps: int | None = None,
        keep: int | None = 3,
        best: str | None = None,
        largest: bool = False,
    ) -> None:
        for name, number in (("every", every), ("steps", steps), ("keep", keep)):
            if number is not None and number < 1:
                msg = f"{name} must be at least 1, got {number}"
                raise ValueError(msg)
        if every is not None and steps is not None:
            msg = f"a checkpoint is due after epochs or after steps: got every={every} and {steps=}"
            raise ValueError(msg)
        self.folder = Path(folder)
        self.every = 1 if every is None and steps is None else every
        self.steps, self.keep, self.best, self.largest = steps, keep, best, largest
        self.best_value: float | None = None
        self.best_step: int | None = None
        self.saved_step: int | None = None
        self._passing: Callable[[str], None] = lambda point: None

    @property
    def best_place(self) -> Path | None:
        """The checkpoint of the best epoch so far."""
        return None if self.best_step is None else checkpoint.place_of(self.folder, self.best_step)

    @property
    def last_place(self) -> Path | None:
        """The newest whole checkpoint up to the last one that was saved or resumed from."""
        return next(filter(checkpoint.is_whole, self._ours()), None)

    def on_fit_start(self, trainer: Trainer) -> None:
        there = checkpoint.checkpoints(self.folder)
        if there and trainer.step == 0:
            msg = (
                f"{self.folder} holds checkpoints of another run, up to {there[0].name}; pass "
                f"fit(resume={str(self.folder)!r}) to go on with it, or another folder"
            )
            raise ValueError(msg)
        if trainer.first:
            checkpoint.sweep(self.folder)
        self.saved_step = trainer.step
        checkpoint.serialized(**trainer.state_dict())  # what cannot be saved is refused now

    def save_if_due(self, trainer: Trainer, *, epoch_ended: bool, last: bool) -> None:
        """Save, if it is time to. The trainer calls this after all hooks of a step or epoch."""
        improved = epoch_ended and self._improved(trainer)
        due = last or improved
        if self.steps is not None:
            due = due or trainer.step % self.steps == 0
        elif self.every is not None:
            due = due or (epoch_ended and trainer.epoch % self.every == 0)
        if not due or trainer.step == self.saved_step:
            return
        if trainer.first:  # all ranks have the same to save
            files = checkpoint.serialized(**trainer.state_dict())
            checkpoint.save(self.folder, trainer.step, files, passing=self._passing)
        self.saved_step = trainer.step
        if trainer.first:
            self._retire()

    def state_dict(self) -> dict[str, Any]:
        if self.best is None:
            return {}
        return {"best_value": self.best_value, "best_step": self.best_step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best_value, self.best_step = state.get("best_value"), state.get("best_step")

    def _improved(self, trainer: Trainer) -> bool:
        now = None if self.best is None else logged(trainer, self.best)
        if now is None or not better(now, self.best_value, largest=self.largest):
            return False
        self.best_value, self.best_step = now, trainer.step
        return True

    def _retire(self) -> None:
        if self.keep is None:
            return
        for place in self._ours()[self.keep :]:
            if place != self.best_place:
                checkpoint.discard(place, passing=self._passing)

    def _ours(self) -> list[Path]:
        """This run's checkpoints, the newest first."""
        if self.saved_step is None:
            return []
        newest = checkpoint.place_of(self.folder, self.saved_step).name
        # Later ones belong to a run that was taken up again before them; they are not ours.
        return [place for place in checkpoint.checkpoints(self.folder) if place.name <= newest]

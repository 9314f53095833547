"""Hooks into the training loop. A callback reads the trainer; it never replaces its work."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from siamlearn.train.trainer import Trainer

__all__ = ["Callback", "EarlyStopping", "better", "due", "logged"]

HOOKS = ("on_fit_start", "on_epoch_start", "on_step_end", "on_epoch_end", "on_fit_end")


def _refuse_misspelt(owner: str, name: str) -> None:
    if name.startswith("on_") and name not in HOOKS:
        msg = f"{owner}.{name} would never be called; the hooks are {', '.join(HOOKS)}"
        raise TypeError(msg)


class Callback:
    """Something that happens beside training: override the hooks you need.

    Callbacks run in the order in which they were given. ``on_fit_end`` runs even when training
    fails. A hook with another name is refused, since it would never be called.

    Example:
        >>> class Shout(Callback):
        ...     def on_epoch_ended(self, trainer): ...
        Traceback (most recent call last):
        TypeError: Shout.on_epoch_ended would never be called; the hooks are on_fit_start, \
on_epoch_start, on_step_end, on_epoch_end, on_fit_end
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in dir(cls):
            _refuse_misspelt(cls.__name__, name)

    def __setattr__(self, name: str, value: object) -> None:
        _refuse_misspelt(type(self).__name__, name)
        super().__setattr__(name, value)

    def on_fit_start(self, trainer: Trainer) -> None:
        """Before the first step; a resumed run has its state back by now."""

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Before the first step of an epoch, or the first one after resuming within it."""

    def on_step_end(self, trainer: Trainer) -> None:
        """After the update; ``trainer.loss`` is this step's loss."""

    def on_epoch_end(self, trainer: Trainer) -> None:
        """After validation; ``trainer.log[-1]`` is the epoch's row, and may be added to."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """When training has ended, was stopped, or failed."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: numbers, strings, tensors, lists and dicts of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave."""


@final
class EarlyStopping(Callback):
    """Stop when a value of the epoch's row has not improved for ``patience`` epochs.

    Args:
        value: its name in ``trainer.log``, such as ``"val_loss"``.
        patience: epochs without a better value that are tolerated.
        largest: the largest value is the best one (``"auc"``), and not the smallest.

    Raises:
        ValueError: while training, if the first epoch's row has no such value.

    Example:
        >>> EarlyStopping("auc", patience=3, largest=True).patience
        3
    """

    def __init__(
        self, value: str = "val_loss", *, patience: int = 5, largest: bool = False
    ) -> None:
        if patience < 1:
            msg = f"patience must be at least 1 epoch, got {patience}"
            raise ValueError(msg)
        self.value, self.patience, self.largest = value, patience, largest
        self.best: float | None = None
        self.since = 0

    def on_epoch_end(self, trainer: Trainer) -> None:
        now = logged(trainer, self.value)
        if now is None:
            return
        improved = better(now, self.best, largest=self.largest)
        self.best, self.since = (now, 0) if improved else (self.best, self.since + 1)
        if self.since >= self.patience:
            best = "nan" if self.best is None else f"{self.best:.4g}"
            trainer.stop(f"{self.value} has not improved on {best} for {self.since} epochs")

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "since": self.since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.since = state["best"], state["since"]


def better(now: float, best: float | None, *, largest: bool) -> bool:
    """Whether a value is better than the best so far; what is not finite never is.

    Example:
        >>> better(0.5, None, largest=False), better(float("nan"), 0.5, largest=False)
        (True, False)
    """
    if not math.isfinite(now):
        return False
    return best is None or (now > best if largest else now < best)


def due(trainer: Trainer, every: int) -> bool:
    """Whether this epoch is the first one, the last one, or one of every so many.

    Example:
        >>> from types import SimpleNamespace
        >>> epochs = [SimpleNamespace(epoch=e, epochs=7) for e in range(1, 8)]
        >>> [trainer.epoch for trainer in epochs if due(trainer, 3)]
        [1, 3, 6, 7]
    """
    # Not the epoch in which training is stopped: a resumed run would not have had it.
    return trainer.epoch in (1, trainer.epochs) or trainer.epoch % every == 0


def logged(trainer: Trainer, value: str) -> float | None:
    """A value of the last row; None where this row lacks it but an earlier one had it.

    A name that no row ever had is a mistake, and found after the first epoch, not the last.

    Raises:
        ValueError: when no row has it.

    Example:
        >>> from types import SimpleNamespace
        >>> logged(SimpleNamespace(log=[{"loss": 0.5}]), "loss")
        0.5
    """
    if value in trainer.log[-1]:
        return trainer.log[-1][value]
    if any(value in row for row in trainer.log):
        return None
    msg = (
        f"there is no {value!r} in the epoch's row, which has {', '.join(trainer.log[-1])}; "
        f"val_loss needs fit(validation=...), and auc needs Evaluate before this callback"
    )
    raise ValueError(msg)

"""Which learning rate to train with, found by trying all of them for a moment."""

from __future__ import annotations

import copy
import math
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from siamlearn.train.callbacks import Callback

if TYPE_CHECKING:
    from siamlearn.train.trainer import Trainer

__all__ = ["RangeTest", "find_learning_rate"]

BLUR = 0.03  # standard deviation of the smoothing, as a share of the rates tried
NOISE = 4.0  # the loss falls where it does by so many standard errors: the lowest of many is low
FLAT = 10  # in so many steps the lowest rates change little: batches differ by what these differ
DIVERGED = (
    3.0  # the loss has exploded where it is by so many times itself above the highest of them
)


@final
@dataclass(frozen=True, eq=False)
class RangeTest:
    """The loss after a step with each of many learning rates, one after the other.

    Args:
        rates: those that were tried, rising by a constant factor.
        losses: of the batch after the step with each of them.
        before: the loss before the first step.

    Example:
        >>> rates = [10 ** (k / 20 - 5) for k in range(80)]
        >>> losses = [1 / (1 + rate / 1e-3) + 10 * rate for rate in rates]
        >>> RangeTest(rates, losses, before=1.0)
        RangeTest(80 rates to 0.089, suggestion=0.00089, lowest=0.0089)
    """

    rates: list[float]
    losses: list[float]
    before: float

    @cached_property
    def smoothed(self) -> list[float]:
        """The losses, each averaged with its neighbours, so that batches matter less.

        Where the loss explodes, it counts as a little higher than at the start.
        """
        return (self._weights() @ self._bounded()).tolist()

    @property
    def lowest(self) -> float:
        """The rate at which the smoothed loss is lowest: from there on it does harm."""
        return self.rates[self._bottom()]

    @property
    def suggestion(self) -> float | None:
        """The rate at which the smoothed loss falls fastest; None where it does not fall.

        A fall counts where it is larger than what batches differ by. Where the schedule warms up,
        take the suggestion as its highest rate. It is rather low: try three times as much, too
        (``benchmarks/learning_rate.py`` tries parts and multiples).

        Source:
            Smith: Cyclical Learning Rates for Training Neural Networks, WACV 2017, section 3.3,
            for the test; there the rates rise by a constant difference and are read off the
            accuracy. The steepest fall over the logarithm of the rate is what has been read off
            the loss since, in fastai and in other libraries.
        """
        smoothed, bottom = torch.tensor(self.smoothed, dtype=torch.float64), self._bottom()
        scatter = (self._bounded() - smoothed)[: bottom + 1].square().mean().sqrt()
        error = scatter * self._weights()[[0, bottom]].square().sum().sqrt()
        if bottom < 2 or smoothed[0] - smoothed[bottom] <= NOISE * error:
            return None
        fall = smoothed[:bottom] - smoothed[1 : bottom + 1]
        steepest = int((fall[1:] + fall[:-1]).argmax()) + 1
        return self.rates[steepest]

    def __repr__(self) -> str:
        said = "no suggestion" if self.suggestion is None else f"suggestion={self.suggestion:.2g}"
        tried = f"{len(self.rates)} rates to {self.rates[-1]:.2g}"
        return f"RangeTest({tried}, {said}, lowest={self.lowest:.2g})"

    def _bottom(self) -> int:
        return min(range(len(self.rates)), key=self.smoothed.__getitem__)

    def _bounded(self) -> Tensor:
        # One loss of 1e30 would be all that its neighbours' averages know of.
        highest = max(self.losses[:FLAT])
        ceiling = 2 * highest - min(self.losses)
        return torch.tensor(self.losses, dtype=torch.float64).clamp(max=ceiling)

    def _weights(self) -> Tensor:
        place = torch.arange(len(self.losses), dtype=torch.float64)
        away = (place[:, None] - place) / max(1.0, BLUR * len(self.losses))
        return torch.softmax(-away.square() / 2, dim=1)


def find_learning_rate(
    trainer: Trainer,
    batches: Iterable[Any],
    *,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 100,
) -> RangeTest:
    """Train for a moment with rising learning rates, and see at which one the loss falls fastest.

    This is done with a copy: net, loss, optimizer, schedule, callbacks and generators of the
    trainer are left as they are, to the last bit, so memory for a second net is needed. The copy
    begins where the trainer stands, takes the batches that it would take, and makes its steps,
    with its augmentation, precision and clipping. It ends early where the loss explodes.

    Args:
        trainer: which is about to train; with new weights, or in the middle.
        batches: as for ``fit``; an iterator is used up.
        lowest, highest: the rates of the first and of the last step. They are those of the
            optimizer's first group; others keep their proportion to it.
        steps: rates to try, spaced evenly on a logarithmic scale.

    Raises:
        ValueError: when the rates do not rise from above zero, or there are fewer than 10.
        FloatingPointError: when the loss is not finite before the first rate was tried.

    Example:
        >>> from siamlearn.nn.losses import ContrastiveLoss
        >>> from siamlearn.train.trainer import Trainer
        >>> net = torch.nn.Linear(3, 2)
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> batches = [(torch.eye(3), torch.tensor([0, 0, 1]))]
        >>> trainer = Trainer(net, ContrastiveLoss(), optimizer, callbacks=())
        >>> found = find_learning_rate(trainer, batches, steps=50)
        >>> 1e-3 < found.suggestion < 10, trainer.step
        (True, 0)
    """
    if not 0 < lowest < highest or not math.isfinite(highest):
        msg = f"rates must rise from above zero, got lowest={lowest} and highest={highest}"
        raise ValueError(msg)
    if steps < 10:
        msg = f"a curve needs at least 10 rates, got steps={steps}; try 100"
        raise ValueError(msg)
    factor = (highest / lowest) ** (1 / (steps - 1))
    sweep = _Sweep([lowest * factor**k for k in range(steps)])
    twin = _copied(trainer, sweep)
    # Each rate is judged by the loss of the step after it; an epoch has a step or more.
    try:
        twin.fit(_apart(batches), epochs=trainer.epoch + steps + 2)
    except FloatingPointError:
        if len(sweep.losses) < 2:
            raise
    if not sweep.done and (twin.stopped or "") in signal.Signals.__members__:
        # Ctrl-C was noted by the copy, and is for whoever called.
        signal.raise_signal(signal.Signals[str(twin.stopped)])
    before, *losses = sweep.losses
    return RangeTest(sweep.rates[: len(losses)], losses, before)


@final
class _Sweep(Callback):
    """Raise the learning rate after each step, and note the loss of each."""

    def __init__(self, rates: list[float]) -> None:
        self.rates = rates
        self.losses: list[float] = []
        self.shares: list[float] = []
        self.done = False

    def on_fit_start(self, trainer: Trainer) -> None:
        groups = trainer.optimizer.param_groups
        # A schedule may just be at nothing: its rates begin with the initial one.
        begun = [float(group.get("initial_lr", group["lr"])) for group in groups]
        self.shares = [rate / begun[0] if begun[0] else 1.0 for rate in begun]
        self._set(trainer)

    def on_step_end(self, trainer: Trainer) -> None:
        self.losses.append(trainer.loss)
        if len(self.losses) > len(self.rates) or self._exploded():
            self.done = True
            trainer.stop("all rates were tried")
        else:
            self._set(trainer)

    def _exploded(self) -> bool:
        # Twice in a row: a single batch may just be a hard one.
        highest, last = max(self.losses[:FLAT]), min(self.losses[-2:])
        return last > highest + DIVERGED * abs(highest)

    def _set(self, trainer: Trainer) -> None:
        rate = self.rates[min(len(self.losses), len(self.rates) - 1)]
        for group, share in zip(trainer.optimizer.param_groups, self.shares, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * share)
            else:
                group["lr"] = rate * share


def _copied(trainer: Trainer, sweep: Callback) -> Trainer:
    """A trainer that stands where this one does, and shares nothing that training changes."""
    bare = copy.copy(trainer)
    bare.callbacks, bare.schedule, bare.feed, bare.log = (), None, None, []
    twin = copy.deepcopy(bare)
    twin.callbacks = (sweep,)
    return twin


def _apart(batches: Iterable[Any]) -> Iterable[Any]:
    """A loader whose sampler and generators are its own; the pictures are shared."""
    if not isinstance(batches, DataLoader):
        return batches
    return copy.deepcopy(batches, {id(batches.dataset): batches.dataset})

"""Losses added up, each with its weight."""

import math
from abc import ABC
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

__all__ = ["SumLoss", "Summand"]

AnyLoss = Callable[..., Tensor]


class Summand(nn.Module, ABC):
    """What may be added to other losses and multiplied by a weight.

    Example:
        >>> class Length(Summand):
        ...     def forward(self, embeddings, labels):
        ...         return embeddings.norm(dim=1).mean()
        >>> twice = Length() + 1.0 * Length()
        >>> twice(torch.tensor([[3.0, 4.0]]), torch.tensor([7]))
        tensor(10.)
    """

    def __add__(self, other: AnyLoss) -> "SumLoss":
        return SumLoss([self, other]) if callable(other) else NotImplemented

    def __radd__(self, other: AnyLoss | int) -> "SumLoss":
        if isinstance(other, int) and other == 0:  # where sum() starts
            return SumLoss([self])
        return SumLoss([other, self]) if callable(other) else NotImplemented

    def __mul__(self, weight: float) -> "SumLoss":
        if isinstance(weight, int | float):
            return SumLoss([self], [weight])
        return NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, number: float) -> "SumLoss":
        return self * (1 / number) if isinstance(number, int | float) else NotImplemented


@final
class SumLoss(Summand):
    """The weighted sum of several losses of one batch.

    ``ContrastiveLoss() + 0.5 * TripletLoss()`` is the short way to write it, and ``sum(losses)``
    another. What the losses learn, they go on learning: it is found in ``parameters()`` and saved.

    Args:
        losses: anything that takes embeddings and labels to a number: modules or functions.
        weights: a number for each, 1 if left out.

    Raises:
        ValueError: where there is no loss, or not one finite weight for each.

    Example:
        >>> from siamlearn.nn.losses import ContrastiveLoss, TripletLoss
        >>> loss = ContrastiveLoss() + 0.5 * TripletLoss(margin=3.0)
        >>> loss(torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 0, 1]))
        tensor(1.0833)
        >>> loss.weights
        (1.0, 0.5)
    """

    def __init__(self, losses: Sequence[AnyLoss], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        weights = [1.0] * len(losses) if weights is None else weights
        if not losses or len(weights) != len(losses) or not all(map(math.isfinite, weights)):
            msg = (
                f"a sum needs at least one loss and a finite weight for each, got {len(losses)} "
                f"losses and weights {[*weights]}"
            )
            raise ValueError(msg)
        flat = [
            (part, weight * inner)
            for loss, weight in zip(losses, weights, strict=True)
            for part, inner in _parts(loss)
        ]
        self.losses = nn.ModuleList([part for part, _ in flat])
        self.weights = tuple(float(weight) for _, weight in flat)

    def forward(self, *batch: Any, **how: Any) -> Tensor:
        """The sum; every loss is called with all that is given."""
        each = [
            weight * loss(*batch, **how)
            for loss, weight in zip(self.losses, self.weights, strict=True)
        ]
        return torch.stack(each).sum()

    def __repr__(self) -> str:
        pairs = zip(self.losses, self.weights, strict=True)
        return " + ".join(f"{'' if w == 1 else f'{w:g} * '}{loss!r}" for loss, w in pairs)


@final
class _Function(nn.Module):
    """A loss that is no module."""

    def __init__(self, function: AnyLoss) -> None:
        super().__init__()
        self.function = function

    def forward(self, *batch: Any, **how: Any) -> Tensor:
        return self.function(*batch, **how)

    def __repr__(self) -> str:
        return getattr(self.function, "__name__", repr(self.function))


def _parts(loss: AnyLoss) -> list[tuple[nn.Module, float]]:
    """A sum within a sum is taken apart."""
    if isinstance(loss, SumLoss):
        return [*zip(loss.losses, loss.weights, strict=True)]
    return [(loss if isinstance(loss, nn.Module) else _Function(loss), 1.0)]

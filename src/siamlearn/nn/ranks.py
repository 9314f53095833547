"""Several processes as one batch, with the gradient that one process would have.

Each process, a rank, holds a part of the batch, of any size. Its rows are compared with the rows
of all ranks, and what the rows of all ranks cost is added up, so that the loss and its gradient
are those of one process that holds the whole batch, in the order of the ranks.

Axes: n pictures of the batch of this rank, m of all ranks together, d embedding dimensions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, final

import torch
import torch.distributed as dist
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from siamlearn.functional.pairings import References
from siamlearn.functional.pairs import Terms
from siamlearn.functional.vectors import full_precision
from siamlearn.ranks import alone, lengths, rows_of_all, total, world

__all__ = ["Ranks", "in_order", "share_of_gradient", "summed"]

# Where the rows of this rank stand in the batch of all, if they do not stand in one piece.
_places: ContextVar[tuple[Tensor, int] | None] = ContextVar("places", default=None)


@final
class Ranks:
    """All ranks, for the time of one loss.

    Every rank must take part in every step, in its forward and in its backward pass, if only with
    an empty batch: the others wait for it.

    The gradient that reaches the embeddings of a rank is that of the loss of all ranks. Parameters
    that all ranks hold a copy of (the net, proxies, what a loss learns) get the share of this
    rank, and the *sum* of the shares is their gradient. ``DistributedDataParallel`` takes the mean
    instead: multiply the loss by the number of ranks there.

    Example:
        >>> # One rank of one; the others would bring rows of their own.
        >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        >>> ranks = Ranks()
        >>> everyone, names, own = ranks(torch.zeros(2, 3), torch.tensor([7, 8]))
        >>> names, own
        (tensor([7, 8]), tensor([0, 1]))
        >>> ranks.sum(Terms(torch.tensor(3.0), torch.tensor(2))).mean()
        tensor(1.5000)
        >>> dist.destroy_process_group()
    """

    def __init__(self) -> None:
        self.gathered: list[Tensor] = []
        self.everyone: Tensor | None = None  # the batch that was gathered last

    def __len__(self) -> int:
        """How many there are."""
        return dist.get_world_size()

    def __call__(
        self, embeddings: Float[Tensor, "n d"], labels: Shaped[Tensor, "n *k"]
    ) -> References:
        """The batch of all ranks, in their order, and where that of this rank stands in it."""
        sizes = lengths(embeddings)
        start = sum(sizes[: dist.get_rank()])
        everyone: Tensor = _Gather.apply(full_precision(embeddings), sizes, start)
        if everyone.requires_grad:
            self.gathered.append(everyone)
        self.everyone = everyone
        own = torch.arange(start, start + len(embeddings), device=labels.device)
        # Not every kind of whole number can be sent; these two can, and lose nothing.
        kind = torch.uint8 if labels.dtype == torch.bool else torch.int64
        names = rows_of_all(labels.to(kind), sizes).to(labels.dtype)
        places, whole = _places.get() or (own, 0)
        if whole == len(names):  # and not one of two towers
            order = rows_of_all(places.to(labels.device), sizes).argsort()
            everyone, names, own = everyone[order], names[order], order.argsort()[own]
            self.everyone = everyone
        return References(everyone, names, own)

    def sum(self, terms: Terms) -> Terms:
        """What the rows of all ranks cost; the gradient goes to those of this rank."""
        return Terms(_Sum.apply(terms.total, *self.gathered), total(terms.count))


@contextmanager
def in_order(places: Int[Tensor, " n"] | None, whole: int | None) -> Iterator[None]:
    """Within, the batch of all ranks has the order of one process, whatever each rank has of it.

    Without it, the rows of each rank stand behind those of the ranks before it.

    Args:
        places: where the rows of this rank stand in the whole batch.
        whole: how many rows that has.

    Example:
        >>> with in_order(torch.tensor([0, 2]), 4):
        ...     pass
    """
    token = _places.set(None if places is None or whole is None else (places, whole))
    try:
        yield
    finally:
        _places.reset(token)


def share_of_gradient(value: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """The same value with this rank's equal share of its gradient, for what all ranks compute.

    Example:
        >>> share_of_gradient(torch.tensor(3.0))
        tensor(3.)
    """
    share = value / world()[1]
    return share + (value - share).detach()


def summed(rows: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """The sum over ranks, and going backward the sum of what all ranks say of it.

    Example:
        >>> summed(torch.tensor([1.0, 2.0]))
        tensor([1., 2.])
    """
    if alone():
        return rows
    total: Tensor = _SumBothWays.apply(rows)
    return total


class _Gather(torch.autograd.Function):
    """The rows of all ranks; going backward, what all ranks say of the rows of this one."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor, sizes: list[int], start: int) -> Tensor:
        ctx.rows = slice(start, start + len(mine))
        return rows_of_all(mine, sizes)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return total(gradient)[ctx.rows], None, None


class _Sum(torch.autograd.Function):
    """The sum over ranks. Each rank goes back from it on its own, to its own share.

    What was gathered is an end too, that gets nothing from here: where a rank has no pairs, its
    loss does not depend on it, but it must still take part when gradients are gathered.
    """

    @staticmethod
    def forward(ctx: Any, mine: Tensor, *gathered: Tensor) -> Tensor:
        ctx.others = len(gathered)
        return total(mine)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient, *[None] * ctx.others


class _SumBothWays(torch.autograd.Function):
    """The sum over ranks of what every rank goes on with, such as a mean of the batch of all."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        return total(mine)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return total(gradient)

"""Several processes as one batch: the only place that knows ``torch.distributed``.

Each process, a rank, holds a part of the batch, of any size. Its rows are compared with the rows
of all ranks, and what the rows of all ranks cost is added up, so that the loss and its gradient
are those of one process that holds the whole batch, in the order of the ranks.

Axes: n pictures of the batch of this rank, m of all ranks together, d embedding dimensions.
"""

from typing import Any, final

import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
from torch import Tensor

from siamlearn.functional.pairings import References
from siamlearn.functional.pairs import Terms
from siamlearn.functional.vectors import full_precision

__all__ = ["Ranks", "alone"]


def alone() -> bool:
    """Whether this process trains on its own, and not as one rank of several.

    Example:
        >>> alone()
        True
    """
    return not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1)


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
        sizes = _sizes(embeddings)
        start = sum(sizes[: dist.get_rank()])
        everyone: Tensor = _Gather.apply(full_precision(embeddings), sizes, start)
        if everyone.requires_grad:
            self.gathered.append(everyone)
        self.everyone = everyone
        own = torch.arange(start, start + len(embeddings), device=labels.device)
        # Not every kind of whole number can be sent; these two can, and lose nothing.
        kind = torch.uint8 if labels.dtype == torch.bool else torch.int64
        return References(everyone, _gathered(labels.to(kind), sizes).to(labels.dtype), own)

    def sum(self, terms: Terms) -> Terms:
        """What the rows of all ranks cost; the gradient goes to those of this rank."""
        return Terms(_Sum.apply(terms.total, *self.gathered), _sum(terms.count))


class _Gather(torch.autograd.Function):
    """The rows of all ranks; going backward, what all ranks say of the rows of this one."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor, sizes: list[int], start: int) -> Tensor:
        ctx.rows = slice(start, start + len(mine))
        return _gathered(mine, sizes)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _sum(gradient)[ctx.rows], None, None


class _Sum(torch.autograd.Function):
    """The sum over ranks. Each rank goes back from it on its own, to its own share.

    What was gathered is an end too, that gets nothing from here: where a rank has no pairs, its
    loss does not depend on it, but it must still take part when gradients are gathered.
    """

    @staticmethod
    def forward(ctx: Any, mine: Tensor, *gathered: Tensor) -> Tensor:
        ctx.others = len(gathered)
        return _sum(mine)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient, *[None] * ctx.others


def _sizes(rows: Tensor) -> list[int]:
    """How many rows each rank has."""
    mine = torch.tensor([len(rows)], device=rows.device)
    sizes = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, mine)
    return [int(size) for size in sizes]


def _gathered(mine: Tensor, sizes: list[int]) -> Tensor:
    longest = max(sizes)  # all must send as much
    padded = mine.new_zeros(longest, *mine.shape[1:])
    padded[: len(mine)] = mine
    all_ = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(all_, padded)
    return torch.cat([rows[:size] for rows, size in zip(all_, sizes, strict=True)])


def _sum(mine: Tensor) -> Tensor:
    total = mine.detach().clone().contiguous()
    dist.all_reduce(total)
    return total

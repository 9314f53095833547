"""Several processes as one batch: the only place that knows ``torch.distributed``.

Each process, a rank, holds a part of the batch, of any size. Its rows are compared with the rows
of all ranks, and what the rows of all ranks cost is added up, so that the loss and its gradient
are those of one process that holds the whole batch, in the order of the ranks.

Axes: n pictures of the batch of this rank, m of all ranks together, d embedding dimensions.
"""

import atexit
import os
from collections.abc import Iterable, Iterator, Sequence
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

__all__ = [
    "Ranks",
    "add_up",
    "agreed",
    "alone",
    "first",
    "gathered",
    "in_order",
    "joined",
    "said",
    "share_of_gradient",
    "sum_gradients",
    "summed",
    "take_over",
    "told",
    "world",
]

# Where the rows of this rank stand in the batch of all, if they do not stand in one piece.
_places: ContextVar[Tensor | None] = ContextVar("places", default=None)


def alone() -> bool:
    """Whether this process trains on its own, and not as one rank of several.

    Example:
        >>> alone()
        True
    """
    return not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1)


def world() -> tuple[int, int]:
    """Which rank this process is, counted from zero, and of how many.

    Example:
        >>> world()
        (0, 1)
    """
    return (0, 1) if alone() else (dist.get_rank(), dist.get_world_size())


def first() -> bool:
    """Whether this process is the one that writes files and speaks.

    Example:
        >>> first()
        True
    """
    return world()[0] == 0


def joined(device: str | torch.device | None = None) -> torch.device:
    """The device of this process, which has joined the others if ``torchrun`` started several.

    Left out, it is a GPU if there is one: each rank takes its own. Ranks talk through NCCL on
    GPUs and through gloo on CPUs. Outside of ``torchrun``, or where the group is there already,
    nothing is started.

    Example:
        >>> joined("cpu")
        device(type='cpu')
    """
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ
    if chosen.type == "cuda" and chosen.index is None and several:
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if several and dist.is_available() and not dist.is_initialized():
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        atexit.register(_leave)
    return chosen


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
        names = _gathered(labels.to(kind), sizes).to(labels.dtype)
        places = _places.get()
        if places is not None:
            order = _gathered(places.to(labels.device), sizes).argsort()
            everyone, names, own = everyone[order], names[order], order.argsort()[own]
            self.everyone = everyone
        return References(everyone, names, own)

    def sum(self, terms: Terms) -> Terms:
        """What the rows of all ranks cost; the gradient goes to those of this rank."""
        return Terms(_Sum.apply(terms.total, *self.gathered), _sum(terms.count))


@contextmanager
def in_order(places: Int[Tensor, " n"] | None) -> Iterator[None]:
    """Within, the batch of all ranks has the order of one process, whatever each rank has of it.

    Without it, the rows of each rank stand behind those of the ranks before it.

    Args:
        places: where the rows of this rank stand in the whole batch.

    Example:
        >>> with in_order(torch.tensor([0, 2])):
        ...     pass
    """
    token = _places.set(places)
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


def gathered(rows: Shaped[Tensor, "n *d"]) -> Shaped[Tensor, "m *d"]:
    """The rows of all ranks, in their order, without gradient; each may have any number.

    Example:
        >>> gathered(torch.tensor([1, 2]))
        tensor([1, 2])
    """
    if alone():
        return rows
    there = rows.to(_device())
    return _gathered(there, _sizes(there)).to(rows.device)


def add_up(tensors: Iterable[Tensor], *, mean: bool = False) -> None:
    """Put into each of these tensors the sum, or mean, over ranks of what is in it.

    They are sent together: a message takes its time, however short.

    Example:
        >>> numbers = torch.ones(2)
        >>> add_up([numbers])
        >>> numbers
        tensor([1., 1.])
    """
    kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for alike in [] if alone() else kinds.values():
        total = _sum(torch.cat([tensor.detach().flatten() for tensor in alike]))
        total = total / dist.get_world_size() if mean else total
        parts = torch.split(total, [t.numel() for t in alike])
        for tensor, part in zip(alike, parts, strict=True):
            tensor.detach().copy_(part.view(tensor.shape))


def sum_gradients(parameters: Sequence[Tensor]) -> None:
    """Put into each ``grad`` the sum over ranks; where no rank has one, there stays none.

    Example:
        >>> weight = torch.zeros(2, requires_grad=True)
        >>> sum_gradients([weight])
        >>> weight.grad is None
        True
    """
    if alone():
        return
    mine = [p.grad for p in parameters]
    flags = agreed(
        *[gradient is not None for gradient in mine],
        *[gradient is not None and gradient.is_sparse for gradient in mine],
    )
    dense = []
    for parameter, some, scattered in zip(
        parameters, flags[: len(mine)], flags[len(mine) :], strict=True
    ):
        if scattered:
            parameter.grad = _sum_of_sparse(parameter)
        elif some:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dense.append(parameter.grad)
    add_up(dense)


def take_over(tensors: Iterable[Tensor]) -> None:
    """Put into each of these tensors what the first rank has in it.

    Example:
        >>> take_over([torch.ones(2)])
    """
    for tensor in [] if alone() else tensors:
        # Yes and no cannot be sent.
        theirs = (
            tensor.detach().to(torch.uint8 if tensor.dtype == torch.bool else None).contiguous()
        )
        dist.broadcast(theirs, src=0)
        tensor.detach().copy_(theirs)


def agreed(*flags: bool) -> list[bool]:
    """For each flag, whether any rank has it set.

    Example:
        >>> agreed(False, True)
        [False, True]
    """
    if alone():
        return [*flags]
    return (_sum(torch.tensor(flags, device=_device()).int()) > 0).tolist()


def said(text: str) -> list[str]:
    """What each rank says, in their order.

    Example:
        >>> said("Ctrl-C")
        ['Ctrl-C']
    """
    if alone():
        return [text]
    letters = torch.tensor([*text.encode()], dtype=torch.uint8, device=_device())
    sizes = _sizes(letters)
    everything = torch.split(_gathered(letters, sizes).cpu(), sizes)
    return [bytes(part.tolist()).decode() for part in everything]


def told(text: str) -> str:
    """What the first rank says, for all to go by.

    Example:
        >>> told("runs/faces")
        'runs/faces'
    """
    return said(text)[0]


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


class _SumBothWays(torch.autograd.Function):
    """The sum over ranks of what every rank goes on with, such as a mean of the batch of all."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        return _sum(mine)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _sum(gradient)


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


def _sum_of_sparse(parameter: Tensor) -> Tensor:
    """The sum of the sparse gradients, of which each rank touches rows of its own."""
    mine = parameter.grad
    if mine is None:
        mine = torch.zeros_like(parameter.detach()).to_sparse(1)
    mine = mine.coalesce()
    rows, values = mine.indices()[0], mine.values().reshape(-1, *parameter.shape[1:])
    sizes = _sizes(rows)
    place, change = _gathered(rows, sizes)[None], _gathered(values, sizes)
    # Of whole tensors nothing needs checking; unsaid, torch warns.
    return torch.sparse_coo_tensor(
        place, change, parameter.shape, check_invariants=False
    ).coalesce()


def _device() -> torch.device:
    """Where messages between ranks lie."""
    nccl = dist.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if nccl else torch.device("cpu")


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()

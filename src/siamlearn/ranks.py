"""Several processes that train together, each a rank: the only place that starts and asks them.

What is said here has no gradient; that of a loss on all ranks is in ``nn/ranks.py``.

Axes: n rows of this rank, m of all ranks together.
"""

import atexit
import os
from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from siamlearn.meeting import met

__all__ = [
    "add_up",
    "agreed",
    "alone",
    "first",
    "gathered",
    "joined",
    "lengths",
    "rows_of_all",
    "said",
    "sum_gradients",
    "take_over",
    "told",
    "total",
    "world",
]


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
        _meet("nccl" if chosen.type == "cuda" else "gloo")
        atexit.register(_leave)
    return chosen


def _meet(backend: str) -> None:
    """Start the process group with those who live now, and not with whom they were before."""
    store, rank, count = next(rendezvous("env://"))
    dist.init_process_group(
        backend, store=met(store, rank=rank, ranks=count), rank=rank, world_size=count
    )


def said(text: str) -> list[str]:
    """What each rank says, in their order.

    Example:
        >>> said("Ctrl-C")
        ['Ctrl-C']
    """
    if alone():
        return [text]
    letters = torch.tensor([*text.encode()], dtype=torch.uint8, device=_device())
    sizes = lengths(letters)
    everything = torch.split(rows_of_all(letters, sizes).cpu(), sizes)
    return [bytes(part.tolist()).decode() for part in everything]


def told(text: str) -> str:
    """What the first rank says, for all to go by.

    Example:
        >>> told("runs/faces")
        'runs/faces'
    """
    return said(text)[0]


def agreed(*flags: bool) -> list[bool]:
    """For each flag, whether any rank has it set.

    Example:
        >>> agreed(False, True)
        [False, True]
    """
    if alone():
        return [*flags]
    return (total(torch.tensor(flags, device=_device()).int()) > 0).tolist()


def gathered(rows: Shaped[Tensor, "n *d"]) -> Shaped[Tensor, "m *d"]:
    """The rows of all ranks, in their order, without gradient; each may have any number.

    Example:
        >>> gathered(torch.tensor([1, 2]))
        tensor([1, 2])
    """
    if alone():
        return rows
    there = rows.to(_device())
    return rows_of_all(there, lengths(there)).to(rows.device)


def rows_of_all(rows: Shaped[Tensor, "n *d"], sizes: list[int]) -> Shaped[Tensor, "m *d"]:
    """The same, where it is known how many rows each rank has.

    Example:
        >>> rows_of_all(torch.tensor([1, 2]), [2])
        tensor([1, 2])
    """
    if alone():
        return rows
    longest = max(sizes)  # all must send as much
    padded = rows.new_zeros(longest, *rows.shape[1:])
    padded[: len(rows)] = rows
    all_ = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(all_, padded)
    return torch.cat([part[:size] for part, size in zip(all_, sizes, strict=True)])


def lengths(rows: Tensor) -> list[int]:
    """How many rows each rank has.

    Example:
        >>> lengths(torch.zeros(3, 2))
        [3]
    """
    if alone():
        return [len(rows)]
    mine = torch.tensor([len(rows)], device=rows.device)
    sizes = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, mine)
    return [int(size) for size in sizes]


def total(numbers: Shaped[Tensor, "*n"]) -> Shaped[Tensor, "*n"]:
    """The sum over ranks of each of these numbers.

    Example:
        >>> total(torch.tensor([1, 2]))
        tensor([1, 2])
    """
    summed = numbers.detach().clone().contiguous()
    if not alone():
        dist.all_reduce(summed)
    return summed


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
        whole = total(torch.cat([tensor.detach().flatten() for tensor in alike]))
        whole = whole / dist.get_world_size() if mean else whole
        parts = torch.split(whole, [tensor.numel() for tensor in alike])
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
        # Yes and no cannot be sent, but zeros and ones can.
        kind = torch.uint8 if tensor.dtype == torch.bool else tensor.dtype
        theirs = tensor.detach().to(kind).contiguous()
        dist.broadcast(theirs, src=0)
        tensor.detach().copy_(theirs)


def _sum_of_sparse(parameter: Tensor) -> Tensor:
    """The sum of the sparse gradients, of which each rank touches rows of its own."""
    mine = parameter.grad
    if mine is None:
        mine = torch.zeros_like(parameter.detach()).to_sparse(1)
    mine = mine.coalesce()
    rows, values = mine.indices()[0], mine.values().reshape(-1, *parameter.shape[1:])
    sizes = lengths(rows)
    place, change = rows_of_all(rows, sizes)[None], rows_of_all(values, sizes)
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

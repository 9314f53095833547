"""How well a search puts the right references before the wrong ones.

All follows from places: the place of a right reference is how many references one has looked at
when one comes to it, from 1. A tie never flatters: a wrong reference at the same distance comes
before it. Right ones at the same distance follow each other, in whichever order: they are
counted, not told apart. A query without any right reference has no value, and gets NaN, never 0
or 1: whoever takes a mean has to say what becomes of it.

Axes: q queries (probes), r references (gallery), m right references a query has at most, k ranks.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "average_precision",
    "map_at_r",
    "ndcg",
    "not_farther",
    "places",
    "r_precision",
    "within",
]

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

# Up to so many right references, comparing all wrong ones with each is quicker than sorting them.
FEW = 16


def not_farther(
    right: Float[Tensor, "q m"],
    wrong: Float[Tensor, "q r"],
    *,
    scratch: Bool[Tensor, "q r"] | None = None,
) -> Int[Tensor, "q m"]:
    """How many wrong references are at most as far as each right one; a NaN is.

    Args:
        right: distances of the right references, not NaN.
        wrong: distances of the wrong references, infinity in the columns that are none.
        scratch: memory to compute in; allocated if left out, which takes longer than what is
            computed in it.

    Example:
        >>> not_farther(torch.tensor([[0.1, 0.5]]), torch.tensor([[0.3, 0.5, 0.9]]))
        tensor([[0, 2]])
    """
    right, wrong = right.detach(), wrong.detach()
    if wrong.device.type != "cpu":
        known = torch.nan_to_num(wrong, -torch.inf, posinf=torch.inf, neginf=-torch.inf)
        return torch.searchsorted(known.sort(dim=1).values, right.contiguous(), right=True)
    scratch = torch.empty_like(wrong, dtype=torch.bool) if scratch is None else scratch
    count = _by_comparing if right.shape[1] <= FEW else _by_sorting
    return torch.from_numpy(count(right.numpy(), wrong.numpy(), scratch.numpy()))


def places(
    right: Float[Tensor, "q m"],
    before: Int[Tensor, "q m"],
    *,
    relevant: Int[Tensor, " q"],
    others: Int[Tensor, " q"],
) -> Int[Tensor, "q m"]:
    """Where the right references of each query stand among all; 0 for nobody.

    Args:
        right: distances of the right references, ascending; infinity fills the row.
        before: how many wrong references are not farther than each, see :func:`not_farther`.
        relevant: how many right references there are.
        others: how many wrong ones: all of them are before a right one that is infinitely far.

    Example:
        >>> right, before = torch.tensor([[0.1, 0.5]]), torch.tensor([[0, 2]])
        >>> places(right, before, relevant=torch.tensor([2]), others=torch.tensor([3]))
        tensor([[1, 4]])
    """
    number = torch.arange(1, right.shape[1] + 1, device=right.device)
    before = torch.where(right == torch.inf, others[:, None], before)
    return torch.where(number <= relevant[:, None], before + number, 0)


def within(place: Int[Tensor, "q m"], longest: int) -> Int[Tensor, "q k"]:
    """How many right references are among the first 1, 2, … ``longest``.

    Example:
        >>> within(torch.tensor([[1, 4], [3, 0]]), longest=4)
        tensor([[1, 1, 1, 2],
                [0, 0, 1, 1]], dtype=torch.int32)
    """
    nobody = torch.iinfo(place.dtype).max
    ascending = place.masked_fill(place == 0, nobody).contiguous()
    first = torch.arange(1, longest + 1, device=place.device).expand(len(place), -1)
    return torch.searchsorted(ascending, first.contiguous(), right=True, out_int32=True)


def average_precision(place: Int[Tensor, "q m"]) -> Float[Tensor, " q"]:
    """Mean, over the right references, of the precision at the place of each; its mean is mAP.

    All references count, however far down they are. scikit-learn takes references at the same
    distance together, right and wrong; here the wrong ones come first, which is never better.

    Example:
        >>> average_precision(torch.tensor([[1, 4], [3, 0]]))
        tensor([0.7500, 0.3333], dtype=torch.float64)

    Source:
        Manning, Raghavan, Schütze: Introduction to Information Retrieval, 2008, sec. 8.4.
    """
    return _precisions(place).sum(dim=1) / _relevant(place)


def r_precision(place: Int[Tensor, "q m"]) -> Float[Tensor, " q"]:
    """Share of right ones among the first R references, where R is how many right ones there are.

    Example:
        >>> r_precision(torch.tensor([[1, 4], [3, 0]]))
        tensor([0.5000, 0.0000], dtype=torch.float64)

    Source:
        Manning, Raghavan, Schütze: Introduction to Information Retrieval, 2008, sec. 8.4.
    """
    among = (place > 0) & (place <= _relevant(place)[:, None])
    return among.sum(dim=1).double() / _relevant(place)


def map_at_r(place: Int[Tensor, "q m"]) -> Float[Tensor, " q"]:
    """Average precision that ends at place R, where R is how many right references there are.

    Right references beyond place R count as 0. Its mean is MAP@R.

    Example:
        >>> map_at_r(torch.tensor([[1, 4], [2, 0]]))
        tensor([0.5000, 0.0000], dtype=torch.float64)

    Source:
        Musgrave, Belongie, Lim: A Metric Learning Reality Check, ECCV 2020, eq. 4 and 5.
    """
    near = torch.where(place <= _relevant(place)[:, None], _precisions(place), 0)
    return near.sum(dim=1) / _relevant(place)


def ndcg(place: Int[Tensor, "q m"]) -> Float[Tensor, " q"]:
    """Normalised discounted cumulative gain of the whole list, a right reference gaining 1.

    The gain at place i is divided by log2(1 + i), and the sum by that of the best order.

    Example:
        >>> ndcg(torch.tensor([[1, 2], [3, 0]]))
        tensor([1.0000, 0.5000], dtype=torch.float64)

    Source:
        Järvelin, Kekäläinen: Cumulated Gain-Based Evaluation of IR Techniques, ACM TOIS 20, 2002;
        the discount log2(1 + i), which counts from the first place on, from Burges et al.:
        Learning to Rank Using Gradient Descent, ICML 2005, sec. 5.
    """
    best = torch.arange(1, place.shape[1] + 1, device=place.device).expand_as(place)
    best = torch.where(place > 0, best, 0)
    return _discounted(place).sum(dim=1) / _discounted(best).sum(dim=1)


# Both in numpy, which compares, counts and sorts with wide registers: comparing and counting take
# half of the time that torch takes, sorting a fiftieth. And both ask what is farther, not what is
# nearer or equal: a NaN then counts against the net.


def _by_comparing(right: Floats, wrong: Floats, scratch: Flags) -> Integers:
    """All wrong ones compared with each right one."""
    before = np.empty(right.shape, dtype=np.int64)
    for number, one in enumerate(right.T):
        np.greater(wrong, one[:, None], out=scratch)
        before[:, number] = [wrong.shape[1] - np.count_nonzero(row) for row in scratch]
    return before


def _by_sorting(right: Floats, wrong: Floats, scratch: Flags) -> Integers:
    """All right ones looked for among the wrong ones up to the farthest of them, sorted."""
    # Infinity only fills a row, and is behind all: that needs no sorting.
    farthest = np.where(right < np.inf, right, -np.inf).max(axis=1, initial=-np.inf)
    near = np.logical_not(np.greater(wrong, farthest[:, None], out=scratch), out=scratch)
    before = np.empty(right.shape, dtype=np.int64)
    for row, asked, values, chosen in zip(before, right, wrong, near, strict=True):
        # Half of the time of values[chosen].
        ascending = np.sort(values.take(np.flatnonzero(chosen)))
        unknown = np.count_nonzero(np.isnan(ascending))  # they are at its end
        row[:] = ascending.searchsorted(asked, side="right") + unknown
    before[right == np.inf] = wrong.shape[1]
    return before


def _relevant(place: Int[Tensor, "q m"]) -> Int[Tensor, " q"]:
    return (place > 0).sum(dim=1)


def _precisions(place: Int[Tensor, "q m"]) -> Float[Tensor, "q m"]:
    """The precision at the place of each right reference."""
    number = torch.arange(1, place.shape[1] + 1, device=place.device)
    return torch.where(place > 0, number / place.double(), 0)


def _discounted(place: Int[Tensor, "q m"]) -> Float[Tensor, "q m"]:
    return torch.where(place > 0, 1 / torch.log2(1 + place.double()), 0)

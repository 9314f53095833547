"""Distances and their gradients block by block, as matrix products.

The distances of :mod:`~siamlearn.functional.distances` are prepared once for many blocks, and the
gradient of a block goes back by two products, without autograd. Any other function of queries and
references is taken as it is.

Axes: n queries and m references in all, q and r of them in a block, d embedding dimensions.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from siamlearn.functional.distances import (
    LEAST_SIGNAL,
    cosine,
    euclidean,
    signal_to_noise,
    squared_euclidean,
)
from siamlearn.functional.pairs import Distance
from siamlearn.functional.squares import Squares
from siamlearn.functional.vectors import centred, levelled, measured_by_squares, polar

__all__ = ["Products", "Sum", "ends_of", "products"]


@dataclass(frozen=True)
class Sum:
    """What blocks have said so far of one side, the queries or the references.

    Attributes:
        pull: for each vector the sum over its partners, each times its weight.
        weight: the sum of these weights.
        others: the gradient by what the distance itself learns, if it does; kept with the queries.

    Example:
        >>> Sum.over(torch.ones(2, 3)).weight
        tensor([0., 0.])
    """

    pull: Float[Tensor, "n d"]
    weight: Float[Tensor, " n"]
    others: dict[Tensor, Tensor] = field(default_factory=dict)

    @classmethod
    def over(cls, vectors: Float[Tensor, "n d"]) -> "Sum":
        """Nothing said yet of these vectors."""
        return cls(torch.zeros_like(vectors), vectors.new_zeros(len(vectors)))


class Products(ABC):
    """All queries and references, ready to be compared block by block.

    Attributes:
        symmetric: whether a is as far from b as b from a.

    Example:
        >>> x = torch.eye(2)
        >>> products(cosine, x, x).distance(slice(0, 1), slice(0, 2))
        tensor([[0., 1.]])
    """

    symmetric = True

    def __init__(self, queries: Float[Tensor, "n d"], references: Float[Tensor, "m d"]) -> None:
        self.queries, self.references = queries, references

    @abstractmethod
    def distance(self, rows: slice, columns: slice) -> Float[Tensor, "q r"]:
        """The distances of a block."""

    @abstractmethod
    def pull(
        self, slope: Float[Tensor, "q r"], rows: slice, columns: slice, sums: tuple[Sum, Sum]
    ) -> None:
        """Add what the slope of a loss, by the distances of the last block, says of both sides.

        The slope may be overwritten.
        """

    def pull_few(
        self,
        slope: Float[Tensor, "q k"],
        partners: Int[Tensor, "q k"],
        rows: slice,
        columns: slice,
        sums: tuple[Sum, Sum],
    ) -> None:
        """The same where only some columns of each row, counted from the first, have a slope."""
        whole = slope.new_zeros(len(slope), len(self.references[columns]))
        self.pull(whole.scatter_add_(1, partners, slope), rows, columns, sums)

    @abstractmethod
    def gradients(self, sums: tuple[Sum, Sum]) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
        """Of the whole, by queries and by references."""


def products(
    distance: Distance, queries: Float[Tensor, "n d"], references: Float[Tensor, "m d"]
) -> Products:
    """How to take this distance block by block.

    Example:
        >>> x = torch.eye(2)
        >>> products(torch.cdist, x, x).symmetric
        False
    """
    if distance is cosine:
        return _Cosine(queries, references)
    if distance is euclidean or distance is squared_euclidean:
        return _Lengths(queries, references, squared=distance is squared_euclidean)
    if distance is signal_to_noise:
        return _SignalToNoise(queries, references)
    return _Plain(queries, references, distance)


@final
class _Cosine(Products):
    """1 - uv, of unit vectors u and v."""

    def __init__(self, queries: Tensor, references: Tensor) -> None:
        here = polar(queries)
        there = here if queries is references else polar(references)
        super().__init__(here[0], there[0])
        self.lengths = here[1], there[1]

    def distance(self, rows: slice, columns: slice) -> Tensor:
        product = self.queries[rows] @ self.references[columns].mT
        return product.neg_().add_(1).clamp_(0, 2)

    def pull(self, slope: Tensor, rows: slice, columns: slice, sums: tuple[Sum, Sum]) -> None:
        _pull(slope, (self.queries[rows], self.references[columns]), rows, columns, sums, by=-1)

    def pull_few(
        self,
        slope: Tensor,
        partners: Tensor,
        rows: slice,
        columns: slice,
        sums: tuple[Sum, Sum],
    ) -> None:
        sides = self.queries[rows], self.references[columns]
        _pull_few(slope, partners, sides, (sums[0].pull[rows], sums[1].pull[columns]), by=-1)

    def gradients(self, sums: tuple[Sum, Sum]) -> tuple[Tensor, Tensor]:
        here = _across(sums[0].pull, self.queries, self.lengths[0])
        if sums[0] is sums[1]:  # a batch beside itself, turned in place already
            return here, here
        return here, _across(sums[1].pull, self.references, self.lengths[1])


@final
class _Lengths(Products):
    """|x - y| or its square: the gradient by x is a weight times x - y."""

    def __init__(self, queries: Tensor, references: Tensor, *, squared: bool) -> None:
        self.squared = squared
        self.squares = Squares(queries, references) if measured_by_squares(queries) else None
        if self.squares is None:
            super().__init__(*centred(queries, references))
        else:
            super().__init__(self.squares.queries, self.squares.references)

    def distance(self, rows: slice, columns: slice) -> Tensor:
        if self.squares is not None:
            self.square = self.squares.block(rows, columns)
            self.last = self.square if self.squared else self.square.sqrt()
        else:
            sides = self.queries[rows], self.references[columns]
            distance = torch.cdist(*sides, compute_mode="donot_use_mm_for_euclid_dist")
            self.square = distance.square()
            self.last = self.square if self.squared else distance
        return self.last

    def pull(self, slope: Tensor, rows: slice, columns: slice, sums: tuple[Sum, Sum]) -> None:
        by, slope = self._weight(slope, self.last, self.square)
        sums[0].weight[rows] += by * slope.sum(dim=1)
        sums[1].weight[columns] += by * slope.sum(dim=0)
        _pull(slope, (self.queries[rows], self.references[columns]), rows, columns, sums, by=-by)

    def pull_few(
        self,
        slope: Tensor,
        partners: Tensor,
        rows: slice,
        columns: slice,
        sums: tuple[Sum, Sum],
    ) -> None:
        by, slope = self._weight(
            slope, self.last.gather(1, partners), self.square.gather(1, partners)
        )
        sums[0].weight[rows] += by * slope.sum(dim=1)
        sums[1].weight[columns].index_add_(0, partners.flatten(), slope.flatten(), alpha=by)
        sides = self.queries[rows], self.references[columns]
        _pull_few(slope, partners, sides, (sums[0].pull[rows], sums[1].pull[columns]), by=-by)

    def _weight(self, slope: Tensor, distance: Tensor, square: Tensor) -> tuple[int, Tensor]:
        """What the differences of a block are multiplied by: a number, times a weight each."""
        if self.squared:
            return 2, slope
        # By d / d² instead of 1 / d, because at distance 0 there is no direction to move in: the
        # subgradient is 0. Comparing every distance with 0 would take ten times as long.
        tiny = torch.finfo(square.dtype).tiny
        return 1, slope.mul_(distance).div_(square.clamp_(min=tiny))

    def gradients(self, sums: tuple[Sum, Sum]) -> tuple[Tensor, Tensor]:
        here, there = sums
        return (
            here.pull + here.weight[:, None] * self.queries,
            there.pull + there.weight[:, None] * self.references,
        )


@final
class _SignalToNoise(Products):
    """|x - y|² by |x|², of vectors less the mean of their own dimensions."""

    symmetric = False

    def __init__(self, queries: Tensor, references: Tensor) -> None:
        here = levelled(queries)
        there = here if queries is references else levelled(references)
        self.noise = _Lengths(here, there, squared=True)
        super().__init__(self.noise.queries, self.noise.references)
        variance = here.square().mean(dim=1)
        self.signal = variance.clamp(min=LEAST_SIGNAL) * queries.shape[1]
        # The least signal there is does not change, and has no gradient.
        self.rising = here.where((variance >= LEAST_SIGNAL)[:, None], 0)

    def distance(self, rows: slice, columns: slice) -> Tensor:
        self.last = self.noise.distance(rows, columns).div_(self.signal[rows, None])
        return self.last

    def pull(self, slope: Tensor, rows: slice, columns: slice, sums: tuple[Sum, Sum]) -> None:
        self._pull_signal(slope, self.last, rows, sums)
        self.noise.pull(slope.div_(self.signal[rows, None]), rows, columns, sums)

    def pull_few(
        self,
        slope: Tensor,
        partners: Tensor,
        rows: slice,
        columns: slice,
        sums: tuple[Sum, Sum],
    ) -> None:
        self._pull_signal(slope, self.last.gather(1, partners), rows, sums)
        slope = slope.div_(self.signal[rows, None])
        self.noise.pull_few(slope, partners, rows, columns, sums)

    def _pull_signal(self, slope: Tensor, by: Tensor, rows: slice, sums: tuple[Sum, Sum]) -> None:
        fall = -2 * (slope * by).sum(dim=1) / self.signal[rows]
        sums[0].pull[rows] += fall[:, None] * self.rising[rows]

    def gradients(self, sums: tuple[Sum, Sum]) -> tuple[Tensor, Tensor]:
        here, there = self.noise.gradients(sums)
        return levelled(here), levelled(there)


@final
class _Plain(Products):
    """Any function of queries and references, left to autograd."""

    symmetric = False  # as far as is known

    def __init__(self, queries: Tensor, references: Tensor, function: Distance) -> None:
        super().__init__(queries, references)
        self.function = function

    def distance(self, rows: slice, columns: slice) -> Tensor:
        self.ends = [
            side[cut].detach().requires_grad_()
            for side, cut in ((self.queries, rows), (self.references, columns))
        ]
        with torch.enable_grad():
            self.made = self.function(*self.ends)
        return self.made.detach()

    def pull(self, slope: Tensor, rows: slice, columns: slice, sums: tuple[Sum, Sum]) -> None:
        learned = [end for end in ends_of(self.made) if all(end is not side for side in self.ends)]
        here, there, *others = torch.autograd.grad(
            self.made, [*self.ends, *learned], slope, retain_graph=True, materialize_grads=True
        )
        sums[0].pull[rows] += here
        sums[1].pull[columns] += there
        for end, its in zip(learned, others, strict=True):
            sums[0].others[end] = sums[0].others[end] + its if end in sums[0].others else its

    def gradients(self, sums: tuple[Sum, Sum]) -> tuple[Tensor, Tensor]:
        return sums[0].pull, sums[1].pull


def _across(pull: Tensor, unit_: Tensor, length: Tensor) -> Tensor:
    """From the gradient by a unit vector to that by the vector: only its direction counts."""
    length = length.where(length > 0, 1)[:, None]
    # In place, and a few rows at once: proxies may be as large as all else.
    rows = max(1, 2**17 // max(pull.shape[1], 1))
    for start in range(0, len(pull), rows):
        here, there = (each[start : start + rows] for each in (pull, unit_))
        along = (here * there).sum(dim=1, keepdim=True)
        here.addcmul_(along, there, value=-1).div_(length[start : start + rows])
    return pull


def _pull(
    weight: Tensor,
    sides: tuple[Tensor, Tensor],
    rows: slice,
    columns: slice,
    sums: tuple[Sum, Sum],
    *,
    by: int,
) -> None:
    """Add to both sides what the pairs of a block say, each as much as it weighs."""
    (here, there), (mine, theirs) = sums, sides
    if here is there and len(mine) == len(theirs) == len(here.pull):
        # A batch beside itself in one block: both ways at once, by one product instead of two.
        here.pull.addmm_(weight.mT.contiguous().add_(weight), theirs, alpha=by)
        return
    here.pull[rows].addmm_(weight, theirs, alpha=by)
    there.pull[columns].addmm_(weight.mT, mine, alpha=by)


def _pull_few(
    weight: Tensor,
    partners: Tensor,
    sides: tuple[Tensor, Tensor],
    sums: tuple[Tensor, Tensor],
    *,
    by: int,
) -> None:
    """Add to both sides what some pairs of each row say, without products of whole matrices."""
    (here, there), dimensions = sides, sides[0].shape[1]
    # A few columns at once, so that their vectors are no more numbers than the block has.
    width = max(1, len(there) // max(dimensions, 1))
    for start in range(0, weight.shape[1], width):
        one, other = (each[:, start : start + width] for each in (weight, partners))
        # Gathered, weighed and summed in one go, by what is made for that.
        said = F.embedding_bag(other, there, per_sample_weights=one, mode="sum")
        sums[0].add_(said, alpha=by)
        said = (one[:, :, None] * here[:, None]).flatten(0, 1)
        sums[1].index_add_(0, other.flatten(), said, alpha=by)


def ends_of(made: Tensor) -> list[Tensor]:
    """Where the gradient of a tensor ends: what it was made from that learns.

    Example:
        >>> x = torch.ones(2, requires_grad=True)
        >>> [end is x for end in ends_of((2 * x).sum())]
        [True]
    """
    waiting, seen, ends = [made.grad_fn], set(), []
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            ends.append(node.variable)
        waiting.extend(parent for parent, _ in node.next_functions)
    return ends

"""Billions of pairs, counted by distance in bounded memory, with a stated error.

The bins are those of floating-point numbers: a distance is known by its leading binary digits.
So there are no bounds to choose, small and large distances are told apart equally well, any two
histograms can be added, and every count at the end of a bin is exact.

Axes: g genuine and i impostor pairs; any shape where it says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, final, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from siamlearn.functional.accepted import Accepted, accepted

__all__ = ["Bounds", "Histogram", "PairCounter", "bounds"]

Integers = NDArray[np.integer[Any]]

MANTISSA = 23  # binary digits of a float32 after the point
INFINITY = 0x7F800000  # its bits
CHUNK = 2**16  # keys that stay in the cache
NEARBY = 2**16  # bins that do
EXACTLY = 2**25  # pairs: 134 MB


@runtime_checkable
class Block(Protocol):
    """Pairs to be counted, such as a :class:`~siamlearn.comparison.Strip`."""

    @property
    def distance(self) -> Tensor: ...
    @property
    def same(self) -> Tensor: ...
    @property
    def once(self) -> Tensor: ...


B = TypeVar("B", bound=Block)


@final
class Histogram:
    """How many pairs of each kind there are at about which distance.

    Pairs are added block by block. What comes out has exact counts at the end of every bin;
    :func:`bounds` tells what that leaves open.

    Args:
        digits: leading binary digits of a distance that are told apart, 1 to 16: 14 part
            distances that differ by 1 / 16,384 of their size. All bins would take 134 MB, and
            twice as much with every further digit, but those without a pair take none.

    Raises:
        ValueError: the digits are out of range.

    Example:
        >>> histogram = Histogram()
        >>> histogram.add(torch.tensor([0.2, 0.6]), torch.tensor([True, True]))
        >>> histogram.add(torch.tensor([0.6, 0.9]), torch.tensor([False, False]))
        >>> histogram.pairs, histogram.accepted().auc().item()
        ((2, 2), 0.875)
    """

    def __init__(self, *, digits: int = 14) -> None:
        if not 1 <= digits <= 16:
            msg = f"digits must be from 1 to 16, got {digits}; 14 are 4 decimal ones"
            raise ValueError(msg)
        self.digits = digits
        # One place for every sign, exponent and leading digits; the positive ones are the second
        # half. Memory that was never written to is not really taken.
        self.counts = np.zeros((2, 2 << (8 + digits)), dtype=np.int64)
        self.used = range(0)

    def add(
        self,
        distance: Float[Tensor, "*n"],
        same: Bool[Tensor, "*n"],
        once: Bool[Tensor, "*n"] | None = None,
    ) -> None:
        """Count these pairs, too.

        Args:
            distance: between the two of each pair; it is taken as float32.
            same: whether they are one person.
            once: which of them to count; all, if left out.

        Raises:
            ValueError: a distance is NaN.
        """
        values, match = _values(distance), same.cpu().numpy()
        genuine, impostor = self.counts
        if once is None:
            self._count(values[match], genuine)
            self._count(values[~match], impostor)
            return
        chosen = once.cpu().numpy()
        if chosen.ndim == 2:
            # Where all pictures are compared with each other, the first columns were seen before.
            first = int(chosen.any(axis=0).argmax())
            values, match, chosen = values[:, first:], match[:, first:], chosen[:, first:]
        # Genuine pairs and pairs left out are few: count all, and take them away again.
        few = values[match & chosen]
        self._count(few, genuine)
        self._count(values, impostor)
        self._count(few, impostor, -1)
        self._count(values[~chosen], impostor, -1)

    def __add__(self, other: Histogram) -> Histogram:
        """The pairs of both; in any order and division it is the same.

        Example:
            >>> one = Histogram()
            >>> one.add(torch.tensor([0.5]), torch.tensor([True]))
            >>> (one + one).pairs
            (2, 0)
        """
        if self.digits != other.digits:
            msg = (
                f"histograms must have the same bins to be added, got {self.digits} and "
                f"{other.digits} digits; make both with the same"
            )
            raise ValueError(msg)
        both = Histogram(digits=self.digits)
        for part in (self, other):
            filled = part._filled()
            both.counts[:, filled] += part.counts[:, filled]
            both._use(part.used)
        return both

    @property
    def pairs(self) -> tuple[int, int]:
        """How many genuine and impostor pairs were counted."""
        used = slice(self.used.start, self.used.stop)
        genuine, impostor = self.counts[:, used].sum(axis=1).tolist()
        return genuine, impostor

    def accepted(self) -> Accepted:
        """How many pairs of each kind are accepted at the end of each bin that holds any."""
        filled = self._filled()
        counts = self.counts[:, filled].cumsum(axis=1)
        places = (filled - self.counts.shape[1] // 2) << (MANTISSA - self.digits)
        least, most = (_float(places + add) for add in (0, (1 << MANTISSA - self.digits) - 1))
        threshold, nearest = (
            torch.from_numpy(np.append(np.float32(-np.inf), value)) for value in (most, least)
        )
        genuine, impostor = (torch.from_numpy(np.append(0, count)) for count in counts)
        return Accepted(threshold, genuine, impostor, nearest)

    def _filled(self) -> Integers:
        """Which bins hold any pair."""
        used = slice(self.used.start, self.used.stop)
        return np.flatnonzero(self.counts[:, used].any(axis=0)) + self.used.start

    def _use(self, places: range) -> None:
        """Look for pairs there, too."""
        parts = [part for part in (self.used, places) if part]
        if parts:
            self.used = range(min(p.start for p in parts), max(p.stop for p in parts))

    def _count(self, values: NDArray[np.float32], counts: Integers, sign: int = 1) -> None:
        """Add so many for each value to the count of its bin."""
        bits = np.ascontiguousarray(values).reshape(-1).view(np.int32)
        half, shift = len(counts) // 2, MANTISSA - self.digits
        for start in range(0, len(bits), CHUNK):
            places = bits[start : start + CHUNK]
            if places.min() < 0:
                places = _ordered(places)
            keys = np.right_shift(places, shift, dtype=np.int64)
            self._use(range(half + int(keys.min()), half + int(keys.max()) + 1))
            # Bins near the largest stay in the cache; pictures beside their copies are far below.
            least = max(int(keys.max()) - NEARBY, int(keys.min()))
            far = keys < least
            if far.any():
                np.add.at(counts, half + keys[far], sign)
                keys = keys[~far]
            found = np.bincount(keys - least)
            counts[half + least : half + least + len(found)] += sign * found


@final
class PairCounter:
    """Counts pairs exactly as long as they are few, and in bins once they are many.

    Args:
        exactly: so many pairs are kept, in four bytes each; with more, all go into a
            :class:`Histogram`.
        digits: of the histogram.

    Example:
        >>> counter = PairCounter(exactly=3)
        >>> for distance in (0.2, 0.6, 0.9):
        ...     counter.add(torch.tensor([distance]), torch.tensor([distance < 0.5]))
        >>> counter.accepted().exact
        True
        >>> counter.add(torch.tensor([0.7]), torch.tensor([True]))
        >>> counter.accepted().exact, counter.pairs
        (False, (2, 2))
    """

    def __init__(self, *, exactly: int = EXACTLY, digits: int = 14) -> None:
        self.exactly = exactly
        self.histogram: Histogram | None = None
        self.digits = digits
        self.kept: tuple[list[Tensor], list[Tensor]] = ([], [])

    @property
    def pairs(self) -> tuple[int, int]:
        """How many genuine and impostor pairs were counted."""
        if self.histogram is not None:
            return self.histogram.pairs
        genuine, impostor = (sum(map(len, kept)) for kept in self.kept)
        return genuine, impostor

    def add(
        self,
        distance: Float[Tensor, "*n"],
        same: Bool[Tensor, "*n"],
        once: Bool[Tensor, "*n"] | None = None,
    ) -> None:
        """Count these pairs, too; see :meth:`Histogram.add`."""
        if self.histogram is not None:
            self.histogram.add(distance, same, once)
            return
        values, match = _values(distance), same.cpu().numpy()
        chosen = np.ones_like(match) if once is None else once.cpu().numpy()
        for kept, of_kind in zip(self.kept, (match, ~match), strict=True):
            kept.append(torch.from_numpy(values[of_kind & chosen]))
        if sum(self.pairs) > self.exactly:
            self.histogram = Histogram(digits=self.digits)
            for kept, kind in zip(self.kept, (True, False), strict=True):
                for part in kept:
                    self.histogram.add(part, torch.full_like(part, kind, dtype=torch.bool))
                kept.clear()

    def watching(self, blocks: Iterable[B]) -> Iterator[B]:
        """The same blocks, one after the other, each counted as it passes.

        Example:
            >>> counter = PairCounter()
            >>> list(counter.watching([])), counter.pairs
            ([], (0, 0))
        """
        for block in blocks:
            self.add(block.distance, block.same, block.once)
            yield block

    def accepted(self) -> Accepted:
        """How many pairs of each kind are accepted at every threshold."""
        if self.histogram is not None:
            return self.histogram.accepted()
        return accepted(*(torch.cat([torch.empty(0), *kept]) for kept in self.kept))


@final
@dataclass(frozen=True)
class Bounds:
    """Between what the numbers of all the distances lie, where these were counted in bins.

    Args:
        auc: lowest and highest value that the same counts leave possible.
        eer: the same of the equal error rate.
        balanced_accuracy: of the best balanced accuracy.
        average_precision: of the average precision.
        fnmr_at: of the FNMR at each FMR.

    Example:
        >>> print(bounds(accepted(torch.tensor([0.2, 0.6]), torch.tensor([0.6, 0.9]))))
        exact
    """

    auc: tuple[float, float]
    eer: tuple[float, float]
    balanced_accuracy: tuple[float, float]
    average_precision: tuple[float, float]
    fnmr_at: dict[float, tuple[float, float]]

    @property
    def widest(self) -> float:
        """The largest of all these ranges: no number is further off than that."""
        ranges = (self.auc, self.eer, self.balanced_accuracy, self.average_precision)
        return max(high - low for low, high in (*ranges, *self.fnmr_at.values()))

    def __str__(self) -> str:
        return f"within {self.widest:.1g}" if self.widest else "exact"


def bounds(counted: Accepted, *, fmr: Iterable[float] = (0.01, 0.001)) -> Bounds:
    """How far numbers read off bins may be from those of the distances themselves.

    Within a bin the pairs may lie in any order: all genuine ones first, all impostors first, or
    all at one distance. Nothing is assumed, so that these are bounds and no estimates.

    Args:
        counted: without leading axes.
        fmr: at which false match rates the FNMR is asked for.

    Example:
        >>> histogram = Histogram(digits=1)  # 0.5, 0.75, 1, 1.5, 2 … begin a bin
        >>> histogram.add(torch.tensor([0.5, 0.7, 0.6]), torch.tensor([True, True, False]))
        >>> bounds(histogram.accepted()).auc
        (0.0, 1.0)
    """
    if counted.exact:
        values = counted.auc(), counted.eer()[0], counted.best()[0], counted.average_precision()
        auc, eer, best, precision = ((float(value), float(value)) for value in values)
        lost = {rate: float(counted.fnmr_at(rate)) for rate in fmr}
        return Bounds(auc, eer, best, precision, {rate: (it, it) for rate, it in lost.items()})
    false, missed = counted.fmr, counted.fnmr
    area, tied = float(counted.auc()), float((false.diff() * -missed.diff()).sum()) / 2
    cross = int((missed > false).sum().clamp(min=1))
    equal = float(false[cross - 1].max(missed[cross])), float(false[cross].min(missed[cross - 1]))
    highest = float((1 - (false[:-1] + missed[1:]) / 2).max())
    last = {rate: int((false <= rate).sum()) - 1 for rate in fmr}
    end = len(false) - 1
    return Bounds(
        (area - tied, area + tied),
        equal,
        (float(counted.best()[0]), highest),
        _precisions(counted),
        {rate: (float(missed[min(k + 1, end)]), float(missed[k])) for rate, k in last.items()},
    )


def _precisions(counted: Accepted) -> tuple[float, float]:
    """Average precision with the impostors of each bin before its genuine pairs, and after."""
    right, wrong = counted.genuine.double(), counted.impostor.double()
    added = right.diff() / right[-1]
    first = (right[:-1] + 1).min(right[1:])
    low = added * first / (first + wrong[1:]).clamp(min=1)
    high = added * right[1:] / (right[1:] + wrong[:-1]).clamp(min=1)
    return float(low.sum()), float(high.sum())


def _values(distance: Tensor) -> NDArray[np.float32]:
    values = distance.detach().float().cpu().numpy()
    if values.size and np.isnan(values.max()):
        msg = f"distances must be numbers, got NaN for {np.isnan(values).sum():,} of the pairs"
        raise ValueError(msg)
    return values


def _ordered(bits: NDArray[np.int32]) -> NDArray[np.int32]:
    """Whole numbers that are ordered as the numbers of these bits are, below zero too."""
    bits = (bits.view(np.float32) + np.float32(0)).view(np.int32)  # -0.0 is 0.0
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _float(places: Integers) -> NDArray[np.float32]:
    """The numbers at these places in the order of all."""
    # No distance is at -0.0, which is 0.0: the bin before it ends with the number before that.
    places = np.where(places == -1, -2, places)
    places = places.clip(~INFINITY, INFINITY).astype(np.int32)
    return (places ^ ((places >> 31) & 0x7FFFFFFF)).view(np.float32)

"""How many pairs of each kind are accepted at every threshold: all of verification is read off it.

A pair is accepted where distance <= threshold. The counts may come from sorted distances, from a
histogram of billions of pairs, or from people drawn anew for an interval: what is read off them is
the same. Open-set identification is counted so, too: FNIR at FPIR.

Axes: m genuine pairs, n impostor pairs, t thresholds; b any axes before, such as resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Accepted", "accepted"]


@final
@dataclass(frozen=True, eq=False)
class Accepted:
    """How many pairs of each kind are accepted at every threshold that makes a difference.

    Args:
        threshold: ascending, in units of distance: -inf, where everything is rejected, then
            distances up to the largest, where everything is accepted.
        genuine: pairs of one person at or below each threshold; whole numbers, or float64
            where pairs count more or less than once.
        impostor: pairs of two persons at or below each threshold.
        nearest: where pairs were counted in bins, the least distance of the bin that ends at each
            threshold; None where a threshold is the very distance of the pairs that it adds.

    Example:
        >>> seen = accepted(torch.tensor([0.2, 0.6]), torch.tensor([0.6, 0.9]))
        >>> seen.genuine.tolist(), seen.impostor.tolist()
        ([0, 1, 2, 2], [0, 0, 1, 2])
        >>> seen.auc().item()
        0.875
    """

    threshold: Float[Tensor, " t"]
    genuine: Shaped[Tensor, "*b t"]
    impostor: Shaped[Tensor, "*b t"]
    nearest: Float[Tensor, " t"] | None = None

    @property
    def exact(self) -> bool:
        """Whether the distances themselves were counted, not bins of them."""
        return self.nearest is None

    @property
    def pairs(self) -> tuple[int, int]:
        """How many genuine and how many impostor pairs there are, where they are counted once."""
        return int(self.genuine[..., -1]), int(self.impostor[..., -1])

    @property
    def fmr(self) -> Float[Tensor, "*b t"]:
        """False match rate at each threshold: the share of the impostor pairs accepted."""
        return self.impostor.double() / self.impostor[..., -1:]

    @property
    def fnmr(self) -> Float[Tensor, "*b t"]:
        """False non-match rate at each threshold: the share of the genuine pairs rejected."""
        return (self.genuine[..., -1:] - self.genuine).double() / self.genuine[..., -1:]

    @property
    def accuracy(self) -> Float[Tensor, "*b t"]:
        """Share of all pairs that each threshold tells right; it leans to the kind with more."""
        right = self.genuine + (self.impostor[..., -1:] - self.impostor)
        return right.double() / (self.genuine[..., -1:] + self.impostor[..., -1:])

    @property
    def balanced_accuracy(self) -> Float[Tensor, "*b t"]:
        """Mean of the shares of genuine and of impostor pairs told right; chance is 0.5."""
        return 1 - (self.fmr + self.fnmr) / 2

    @property
    def precision(self) -> Float[Tensor, "*b t"]:
        """Share of genuine pairs among the accepted ones; 1 where nothing is accepted."""
        right, taken = self.genuine.double(), (self.genuine + self.impostor).double()
        return torch.where(taken > 0, right / taken.clamp(min=1e-300), 1)

    @property
    def recall(self) -> Float[Tensor, "*b t"]:
        """Share of the genuine pairs that each threshold accepts: 1 - FNMR."""
        return self.genuine.double() / self.genuine[..., -1:]

    def f_beta(self, beta: float = 1.0) -> Float[Tensor, "*b t"]:
        """Harmonic mean of precision and recall at each threshold, recall beta times as important.

        Args:
            beta: above 1 a lost genuine pair weighs more, below 1 a false match does.

        Example:
            >>> seen = accepted(torch.tensor([0.2, 0.6]), torch.tensor([0.6, 0.9]))
            >>> seen.f_beta().tolist()[2]  # both genuine pairs, and one impostor: 2/3 and 1
            0.8

        Source:
            Van Rijsbergen: Information Retrieval, 2nd ed. 1979, ch. 7: 1 - E.
        """
        right, square = self.genuine.double(), beta**2
        taken = right + self.impostor
        return (1 + square) * right / (square * right[..., -1:] + taken)

    def at(
        self, threshold: float | Float[Tensor, ""]
    ) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
        """FMR and FNMR at one threshold, which need not be one of those counted at.

        Example:
            >>> seen = accepted(torch.tensor([0.2, 0.6]), torch.tensor([0.6, 0.9]))
            >>> [rate.item() for rate in seen.at(0.5)]
            [0.0, 0.5]
        """
        here = self.only(threshold)
        return here.fmr[..., 0], here.fnmr[..., 0]

    def only(self, threshold: float | Float[Tensor, ""]) -> Accepted:
        """The counts at one threshold, and the totals: whatever is to be said of it alone.

        Example:
            >>> seen = accepted(torch.tensor([0.2, 0.6]), torch.tensor([0.6, 0.9]))
            >>> here = seen.only(0.7)
            >>> here.accuracy[0].item(), here.recall[0].item(), here.f_beta()[0].item()
            (0.75, 1.0, 0.8)
        """
        value = torch.as_tensor(threshold, dtype=torch.float64, device=self.threshold.device)
        index = torch.searchsorted(self.threshold.double(), value, right=True) - 1
        both = torch.stack([index, torch.full_like(index, len(self.threshold) - 1)])
        nearest = None if self.nearest is None else self.nearest[both]
        return Accepted(
            self.threshold[both], self.genuine[..., both], self.impostor[..., both], nearest
        )

    def at_prior(self, prior: float) -> Accepted:
        """The same pairs, counted in shares, of which so large a one is genuine.

        Rates stay as they are; precision, F-beta and accuracy become those of such a mixture.

        Args:
            prior: the share of genuine pairs where the net is used, above 0 and below 1.

        Example:
            >>> seen = accepted(torch.tensor([0.2, 0.6]), torch.tensor([0.6, 0.9]))
            >>> seen.precision[2].item() < 0.7, round(seen.at_prior(0.01).precision[2].item(), 4)
            (True, 0.0198)
        """
        genuine, impostor = prior * self.recall, (1 - prior) * self.fmr
        return Accepted(self.threshold, genuine, impostor, self.nearest)

    def auc(self) -> Float[Tensor, "*b"]:
        """Chance that a genuine pair is closer than an impostor pair; a tie counts half.

        Where pairs are counted in whole numbers it is exact.

        Source:
            Hanley, McNeil: The Meaning and Use of the Area under a ROC Curve, Radiology 143, 1982.
        """
        right, wrong = self._countable()
        # Each genuine pair has won against the impostors beyond its own distance, and half won
        # against those at it: twice that is a whole number.
        farther = 2 * wrong[..., -1:] - wrong[..., 1:] - wrong[..., :-1]
        won = (right.diff(dim=-1) * farther).sum(dim=-1).double()
        return won / (2 * right[..., -1] * wrong[..., -1])

    def partial_auc(self, fmr: float, *, standardised: bool = True) -> Float[Tensor, "*b"]:
        """Area under the ROC curve up to this false match rate.

        Standardised it is 0.5 for a constant scorer and 1 for a perfect one, whatever the rate;
        otherwise it is the area itself, from 0 to ``fmr``.

        Example:
            >>> seen = accepted(torch.tensor([0.2, 0.6]), torch.tensor([0.6, 0.9]))
            >>> seen.partial_auc(0.5, standardised=False).item()  # from 1/2 up to 1, over 1/2
            0.375

        Source:
            McClish: Analyzing a Portion of the ROC Curve, Medical Decision Making 9, 1989.
        """
        across, up = self.fmr, self.recall
        inside = across.clamp(max=fmr)
        width, step = inside.diff(dim=-1), across.diff(dim=-1)
        # The last piece is cut where it crosses the rate.
        rise = up.diff(dim=-1) * torch.where(step > 0, width / step.clamp(min=1e-300), 0)
        area = (width * (up[..., :-1] + rise / 2)).sum(dim=-1)
        if not standardised:
            return area
        chance = fmr**2 / 2
        return 0.5 + (area - chance) / (2 * (fmr - chance))

    def eer(self) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
        """The rate at which FMR and FNMR are equal, and the threshold that comes nearest to it.

        The points of the curve are joined by straight lines: see
        :func:`~siamlearn.functional.verification.equal_error_rate`.
        """
        fmr, fnmr = self.fmr, self.fnmr
        # The gap shrinks at every distance that was seen, from 1 down to -1.
        gap = fnmr - fmr
        # Where people drawn anew have no pairs of a kind, all of it is NaN.
        after = (gap > 0).sum(dim=-1, keepdim=True).clamp(min=1)
        before = after - 1
        over, under = gap.gather(-1, before), gap.gather(-1, after)
        low, high = fmr.gather(-1, before), fmr.gather(-1, after)
        rate = low + over / (over - under) * (high - low)
        nearer = torch.where((over <= under.abs()) & (before > 0), before, after)
        return rate.squeeze(-1), self.midway(nearer.squeeze(-1))

    def fnmr_at(self, fmr: float) -> Float[Tensor, "*b"]:
        """The lowest FNMR of any threshold at which at most this share of impostors passes.

        Example:
            >>> seen = accepted(torch.tensor([1.0, 50.0]), torch.arange(100.0))
            >>> seen.fnmr_at(0.05).item()
            0.5
        """
        last = self._last(self.fmr <= fmr)[..., None]
        rate = self.fnmr.gather(-1, last).squeeze(-1)
        return torch.where(self.impostor[..., -1] > 0, rate, torch.nan)

    def threshold_at(self, fmr: float) -> Float[Tensor, "*b"]:
        """The threshold of :meth:`fnmr_at`, midway to the next distance that was seen."""
        return self.midway(self._last(self.fmr <= fmr))

    def threshold_at_precision(
        self, precision: float, *, limit: float = torch.inf
    ) -> Float[Tensor, "*b"]:
        """The largest threshold at which at least this share of the accepted pairs is genuine.

        Below all distances where no threshold reaches it.

        Args:
            limit: the largest threshold that may be taken.

        Example:
            >>> seen = accepted(torch.tensor([0.25, 0.75]), torch.tensor([0.5, 1.0]))
            >>> seen.threshold_at_precision(0.6).item()
            0.875
        """
        enough = (self.precision >= precision) & (self.threshold.double() <= limit)
        places = torch.arange(enough.shape[-1], device=enough.device)
        return self.midway(torch.where(enough, places, 0).amax(dim=-1)).clamp(max=limit)

    def best(self) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
        """The best balanced accuracy of any threshold, and the strictest such threshold.

        It is that of the very pairs on which the threshold was chosen: an upper bound.
        """
        right, wrong = self._countable()
        # In whole numbers, so that equal accuracies tie. The first point, where all are rejected,
        # is no better than the last, where all are accepted, and its threshold is of no use.
        gain = (right * wrong[..., -1:] - wrong * right[..., -1:])[..., 1:]
        best = gain.argmax(dim=-1, keepdim=True)
        most = gain.gather(-1, best).squeeze(-1).double()
        accuracy = 0.5 + most / (2 * right[..., -1] * wrong[..., -1])
        return accuracy, self.midway(best.squeeze(-1) + 1)

    def best_accuracy(self) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
        """The best share of all pairs told right, and the strictest such threshold."""
        return self._best_of(self.accuracy)

    def best_f_beta(self, beta: float = 1.0) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
        """The best :meth:`f_beta` of any threshold, and the strictest such threshold."""
        return self._best_of(self.f_beta(beta))

    def average_precision(self) -> Float[Tensor, "*b"]:
        """Precision of the accepted pairs, averaged over the recall that each threshold adds.

        Source:
            Manning, Raghavan, Schütze: Introduction to Information Retrieval, 2008, sec. 8.4.
        """
        return (self.recall.diff(dim=-1) * self.precision[..., 1:]).sum(dim=-1)

    def d_prime(self) -> Float[Tensor, "*b"]:
        """How far the mean impostor pair is beyond the mean genuine one, in standard deviations.

        Source:
            Green, Swets: Signal Detection Theory and Psychophysics, 1966; of two spreads the mean
            square, as by Daugman: How Iris Recognition Works, IEEE TCSVT 14, 2004.
        """
        seen = self.threshold[1:].double()
        if self.nearest is not None:
            seen = (seen + self.nearest[1:].double()) / 2
        (near, narrow), (far, wide) = (_moments(c, seen) for c in (self.genuine, self.impostor))
        return (far - near) / ((narrow + wide) / 2).sqrt()

    def midway(self, index: Int[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """Between this threshold and the next one seen, never so near that it takes that in."""
        here = self.threshold[index]
        seen = self.threshold if self.nearest is None else self.nearest
        after = (index + 1).clamp(max=len(seen) - 1)
        following = torch.where(after > index, seen[after], here)
        middle = here + (following - here) / 2
        lowest = torch.where(here.isinf(), following.nextafter(here), here)
        return torch.where((here < middle) & (middle < following), middle, lowest)

    def _best_of(
        self, value: Float[Tensor, "*b t"]
    ) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
        best = value[..., 1:].argmax(dim=-1, keepdim=True) + 1
        # Where impostors are many it may be best to reject all; as good as the best is not enough,
        # as that threshold is of no use.
        best = torch.where(value[..., :1] > value.gather(-1, best), 0, best)
        return value.gather(-1, best).squeeze(-1), self.midway(best.squeeze(-1))

    def _last(self, holds: Bool[Tensor, "*b t"]) -> Int[Tensor, "*b"]:
        """The last place of those at the beginning at which it holds."""
        return (holds.sum(dim=-1) - 1).clamp(min=0)

    def _countable(self) -> tuple[Tensor, Tensor]:
        """The counts in whole numbers, unless a product of them would not fit into 64 bits."""
        most = 2 * float(self.genuine[..., -1].max()) * float(self.impostor[..., -1].max())
        if most < 2**62:
            return self.genuine, self.impostor
        return self.genuine.double(), self.impostor.double()


def accepted(genuine: Float[Tensor, " m"], impostor: Float[Tensor, " n"]) -> Accepted:
    """Count the accepted pairs at every distance that was seen, exactly; ties go together.

    33 million pairs in float32 take three seconds and, besides the two lists, 0.8 GB; up to twice
    as much where no two are equal. For more see
    :class:`~siamlearn.functional.histogram.PairCounter`.

    Args:
        genuine: distances of pairs of one person, in any order.
        impostor: distances of pairs of two persons, in any order.

    Example:
        >>> accepted(torch.tensor([0.2, 0.6]), torch.tensor([0.6, 0.9])).fnmr
        tensor([1.0000, 0.5000, 0.0000, 0.0000], dtype=torch.float64)
    """
    dtype = torch.promote_types(genuine.dtype, impostor.dtype)
    fewer, more = sorted((_ascending(genuine, dtype), _ascending(impostor, dtype)), key=len)
    # The fewer are put where they belong among the more: one pass, and no second sort.
    place = np.searchsorted(more, fewer, side="right") + np.arange(len(fewer))
    is_fewer = np.zeros(len(fewer) + len(more), dtype=bool)
    is_fewer[place] = True
    both = np.empty(len(is_fewer), dtype=more.dtype)
    both[is_fewer], both[~is_fewer] = fewer, more
    # Of equal distances only the last one: a threshold takes all of them or none.
    last = np.ones(len(both), dtype=bool)
    np.not_equal(both[1:], both[:-1], out=last[:-1])
    ends = np.flatnonzero(last)
    threshold = np.append(both.dtype.type(-np.inf), both[ends])
    of_fewer = np.append(0, is_fewer.cumsum()[ends])
    of_more = np.append(0, ends + 1) - of_fewer
    right, wrong = (of_fewer, of_more) if len(genuine) == len(fewer) else (of_more, of_fewer)
    values = (torch.from_numpy(value).to(genuine.device) for value in (threshold, right, wrong))
    return Accepted(next(values).to(dtype), *values)


def _ascending(distances: Float[Tensor, " n"], dtype: torch.dtype) -> NDArray[np.floating[Any]]:
    # NumPy sorts values alone, and in vector registers: some 20 times as fast as torch, which
    # always sorts their places along. It knows no bfloat16.
    wide = torch.promote_types(dtype, torch.float32)
    return np.sort(distances.detach().to("cpu", wide).numpy())


def _moments(
    counts: Shaped[Tensor, "*b t"], distance: Float[Tensor, " t-1"]
) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
    """Mean and variance of the distances whose counts grow so."""
    share = counts.double().diff(dim=-1) / counts[..., -1:]
    mean = (share * distance).sum(dim=-1)
    return mean, (share * (distance - mean[..., None]).square()).sum(dim=-1)

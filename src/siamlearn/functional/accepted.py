"""How many pairs of each kind are accepted at every threshold: all of verification is read off it.

A pair is accepted where distance <= threshold. The counts may come from sorted distances, from a
histogram of billions of pairs, or from people drawn anew for an interval: what is read off them is
the same. Open-set identification is counted so, too: FNIR at FPIR.

Axes: m genuine pairs, n impostor pairs, t thresholds; b any axes before, such as resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int, Shaped
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

    def at(
        self, threshold: float | Float[Tensor, ""]
    ) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
        """FMR and FNMR at one threshold, which need not be one of those counted at.

        Example:
            >>> seen = accepted(torch.tensor([0.2, 0.6]), torch.tensor([0.6, 0.9]))
            >>> [rate.item() for rate in seen.at(0.5)]
            [0.0, 0.5]
        """
        value = torch.as_tensor(threshold, dtype=torch.float64, device=self.threshold.device)
        index = torch.searchsorted(self.threshold.double(), value, right=True) - 1
        return self.fmr[..., index], self.fnmr[..., index]

    def auc(self) -> Float[Tensor, "*b"]:
        """Chance that a genuine pair is closer than an impostor pair; a tie counts half.

        Where pairs are counted in whole numbers it is exact.

        Source:
            Hanley, McNeil: The Meaning and Use of the Area under a ROC Curve, Radiology 143, 1982.
        """
        right, wrong = self.genuine, self.impostor
        # Each genuine pair has won against the impostors beyond its own distance, and half won
        # against those at it: twice that is a whole number.
        farther = 2 * wrong[..., -1:] - wrong[..., 1:] - wrong[..., :-1]
        won = (right.diff(dim=-1) * farther).sum(dim=-1).double()
        return won / (2 * right[..., -1] * wrong[..., -1])

    def eer(self) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
        """The rate at which FMR and FNMR are equal, and the threshold that comes nearest to it.

        The points of the curve are joined by straight lines: see
        :func:`~siamlearn.functional.verification.equal_error_rate`.
        """
        fmr, fnmr = self.fmr, self.fnmr
        # The gap shrinks at every distance that was seen, from 1 down to -1.
        gap = fnmr - fmr
        after = (gap > 0).sum(dim=-1, keepdim=True)
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
        last = (self.fmr <= fmr).sum(dim=-1, keepdim=True) - 1
        return self.fnmr.gather(-1, last).squeeze(-1)

    def threshold_at(self, fmr: float) -> Float[Tensor, "*b"]:
        """The threshold of :meth:`fnmr_at`, midway to the next distance that was seen."""
        return self.midway((self.fmr <= fmr).sum(dim=-1) - 1)

    def best(self) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
        """The best balanced accuracy of any threshold, and the strictest such threshold.

        It is that of the very pairs on which the threshold was chosen: an upper bound.
        """
        right, wrong = self.genuine, self.impostor
        # In whole numbers, so that equal accuracies tie. The first point, where all are rejected,
        # is no better than the last, where all are accepted, and its threshold is of no use.
        gain = (right * wrong[..., -1:] - wrong * right[..., -1:])[..., 1:]
        best = gain.argmax(dim=-1, keepdim=True)
        most = gain.gather(-1, best).squeeze(-1).double()
        accuracy = 0.5 + most / (2 * right[..., -1] * wrong[..., -1])
        return accuracy, self.midway(best.squeeze(-1) + 1)

    def average_precision(self) -> Float[Tensor, "*b"]:
        """Precision of the accepted pairs, averaged over the recall that each threshold adds.

        Source:
            Manning, Raghavan, Schütze: Introduction to Information Retrieval, 2008, sec. 8.4.
        """
        right, wrong = self.genuine.double(), self.impostor.double()
        taken = right + wrong
        precision = torch.where(taken > 0, right / taken.clamp(min=1e-300), 1)
        return (right.diff(dim=-1) * precision[..., 1:]).sum(dim=-1) / right[..., -1]

    def d_prime(self) -> Float[Tensor, "*b"]:
        """How far the mean impostor pair is beyond the mean genuine one, in standard deviations.

        Source:
            Green, Swets: Signal Detection Theory and Psychophysics, 1966; of two spreads the mean
            square, as by Daugman: How Iris Recognition Works, IEEE TCSVT 14, 2004.
        """
        (near, narrow), (far, wide) = (_moments(self.threshold, c) for c in self._kinds)
        return (far - near) / ((narrow + wide) / 2).sqrt()

    @property
    def _kinds(self) -> tuple[Tensor, Tensor]:
        return self.genuine, self.impostor

    def midway(self, index: Int[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """Between this threshold and the next one seen, never so near that it takes that in."""
        here = self.threshold[index]
        following = self.threshold[(index + 1).clamp(max=len(self.threshold) - 1)]
        middle = here + (following - here) / 2
        lowest = torch.where(here.isinf(), following.nextafter(here), here)
        return torch.where((here < middle) & (middle < following), middle, lowest)


def accepted(genuine: Float[Tensor, " m"], impostor: Float[Tensor, " n"]) -> Accepted:
    """Count the accepted pairs at every distance that was seen, exactly; ties go together.

    Args:
        genuine: distances of pairs of one person, in any order.
        impostor: distances of pairs of two persons, in any order.

    Example:
        >>> accepted(torch.tensor([0.2, 0.6]), torch.tensor([0.6, 0.9])).fnmr
        tensor([1.0000, 0.5000, 0.0000, 0.0000], dtype=torch.float64)
    """
    kinds = genuine.sort().values, impostor.sort().values
    both = torch.cat(kinds).sort().values
    # Of equal distances only one: a threshold takes all of them or none.
    threshold = torch.cat([both.new_full((1,), -torch.inf), torch.unique_consecutive(both)])
    right, wrong = (torch.searchsorted(kind, threshold, right=True) for kind in kinds)
    return Accepted(threshold, right, wrong)


def _moments(
    threshold: Float[Tensor, " t"], counts: Shaped[Tensor, "*b t"]
) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
    """Mean and variance of the distances whose counts grow so."""
    share = counts.double().diff(dim=-1) / counts[..., -1:]
    distance = threshold[1:].double()
    mean = (share * distance).sum(dim=-1)
    return mean, (share * (distance - mean[..., None]).square()).sum(dim=-1)

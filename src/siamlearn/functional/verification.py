"""How well a distance tells genuine pairs from impostor pairs.

A pair is accepted where distance <= threshold. Genuine pairs are two pictures of one person,
impostor pairs of two. Every rate is exact under ties, and a tie never flatters: where genuine
and impostor distances are equal, no threshold can part them.

Axes: m genuine pairs, n impostor pairs, t thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = [
    "PrecisionRecall",
    "Rates",
    "average_precision",
    "best_threshold",
    "d_prime",
    "equal_error_rate",
    "fnmr_at_fmr",
    "precision_recall",
    "rates",
    "rates_at",
    "roc_auc",
    "threshold_at_fmr",
]


@dataclass(frozen=True)
class Rates:
    """Both error rates of a comparison at every threshold that makes a difference.

    Attributes:
        threshold: ascending, in units of distance: -inf, where everything is rejected, then
            every distinct distance that was seen.
        fmr: false match rate, the share of impostor pairs at or below the threshold.
        fnmr: false non-match rate, the share of genuine pairs above the threshold.

    Example:
        >>> rates(torch.tensor([0.2, 0.6]), torch.tensor([0.6, 0.9])).fmr
        tensor([0.0000, 0.0000, 0.5000, 1.0000], dtype=torch.float64)
    """

    threshold: Float[Tensor, " t"]
    fmr: Float[Tensor, " t"]
    fnmr: Float[Tensor, " t"]

    @property
    def balanced_accuracy(self) -> Float[Tensor, " t"]:
        """Mean share of right decisions over genuine and over impostor pairs; chance is 0.5."""
        return 1 - (self.fmr + self.fnmr) / 2


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision and recall of the accepted pairs at every threshold of :class:`Rates`.

    Attributes:
        threshold: ascending, in units of distance, from -inf, where nothing is accepted.
        precision: share of genuine pairs among the accepted; 1 where none is accepted.
        recall: share of the genuine pairs that are accepted.

    Example:
        >>> precision_recall(torch.tensor([0.2, 0.6]), torch.tensor([0.6, 0.9])).recall
        tensor([0.0000, 0.5000, 1.0000, 1.0000], dtype=torch.float64)
    """

    threshold: Float[Tensor, " t"]
    precision: Float[Tensor, " t"]
    recall: Float[Tensor, " t"]


def rates(genuine: Float[Tensor, " m"], impostor: Float[Tensor, " n"]) -> Rates:
    """Both error rates at every distance that was seen.

    Args:
        genuine: distances of pairs of one person, in any order.
        impostor: distances of pairs of two persons, in any order.

    Raises:
        ValueError: where one of the two is empty or holds NaN.

    Example:
        >>> rates(torch.tensor([0.2, 0.6]), torch.tensor([0.6, 0.9])).fnmr
        tensor([1.0000, 0.5000, 0.0000, 0.0000], dtype=torch.float64)

    Source:
        ISO/IEC 19795-1:2021, false match rate and false non-match rate.
    """
    genuine, impostor = _sorted(genuine, "genuine"), _sorted(impostor, "impostor")
    threshold = _thresholds(genuine, impostor)
    rejected = len(genuine) - _accepted(genuine, threshold)
    fmr = _accepted(impostor, threshold).double() / len(impostor)
    return Rates(threshold, fmr, rejected.double() / len(genuine))


def rates_at(
    genuine: Float[Tensor, " m"],
    impostor: Float[Tensor, " n"],
    threshold: Float[Tensor, ""] | float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """False match rate and false non-match rate at one threshold.

    Example:
        >>> fmr, fnmr = rates_at(torch.tensor([0.2, 0.6]), torch.tensor([0.6, 0.9]), 0.5)
        >>> fmr.item(), fnmr.item()
        (0.0, 0.5)
    """
    genuine, impostor = _sorted(genuine, "genuine"), _sorted(impostor, "impostor")
    return (impostor <= threshold).double().mean(), (genuine > threshold).double().mean()


def roc_auc(genuine: Float[Tensor, " m"], impostor: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Chance that a genuine pair is closer than an impostor pair; a tie counts half.

    Example:
        >>> roc_auc(torch.tensor([0.2, 0.6]), torch.tensor([0.6, 0.9])).item()
        0.875
    """
    genuine, impostor = _sorted(genuine, "genuine"), _sorted(impostor, "impostor")
    closer = torch.searchsorted(impostor, genuine)
    closer_or_tied = torch.searchsorted(impostor, genuine, right=True)
    # Whole numbers until the last division: exact for any number of pairs that fits a memory.
    half_wins = (2 * len(impostor) - closer - closer_or_tied).sum()
    return half_wins.double() / (2 * len(genuine) * len(impostor))


def equal_error_rate(
    genuine: Float[Tensor, " m"], impostor: Float[Tensor, " n"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The rate at which FMR and FNMR are equal, and the threshold that comes nearest to it.

    Example:
        >>> rate, threshold = equal_error_rate(torch.tensor([0.2, 0.6]), torch.tensor([0.6, 0.9]))
        >>> round(rate.item(), 4), round(threshold.item(), 4)
        (0.25, 0.4)
    """
    curve = rates(genuine, impostor)
    gap = curve.fnmr - curve.fmr
    after = (gap > 0).sum()
    before = after - 1
    share = gap[before] / (gap[before] - gap[after])
    rate = curve.fmr[before] + share * (curve.fmr[after] - curve.fmr[before])
    nearer = torch.where((gap[before] <= gap[after].abs()) & (before > 0), before, after)
    return rate, _midway(curve.threshold, nearer)


def threshold_at_fmr(impostor: Float[Tensor, " n"], fmr: float) -> Float[Tensor, ""]:
    """The largest threshold at which at most this share of the impostor pairs is accepted.

    Example:
        >>> threshold_at_fmr(torch.arange(100.0), 0.05)
        tensor(4.5000)
    """
    impostor = _sorted(impostor, "impostor")
    resolved = 3 / len(impostor)
    if not resolved <= fmr < 1:
        msg = (
            f"FMR {fmr:g} cannot be read from {len(impostor):,} impostor pairs, which resolve "
            f"{resolved:.2g} at best (rule of three); use more identities or a higher FMR"
        )
        raise ValueError(msg)
    threshold = _thresholds(impostor)
    # The same division as in `rates`, so that its result at this threshold is within `fmr`.
    last = (_accepted(impostor, threshold).double() / len(impostor) <= fmr).sum() - 1
    return _midway(threshold, last)


def fnmr_at_fmr(
    genuine: Float[Tensor, " m"], impostor: Float[Tensor, " n"], fmr: float
) -> Float[Tensor, ""]:
    """Share of the genuine pairs that are lost where at most ``fmr`` of the impostors pass.

    Example:
        >>> fnmr_at_fmr(torch.tensor([1.0, 50.0]), torch.arange(100.0), 0.05).item()
        0.5
    """
    return rates_at(genuine, impostor, threshold_at_fmr(impostor, fmr))[1]


def best_threshold(
    genuine: Float[Tensor, " m"], impostor: Float[Tensor, " n"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The best balanced accuracy that any threshold reaches, and the smallest such threshold.

    Example:
        >>> accuracy, threshold = best_threshold(torch.tensor([0.2, 0.4]), torch.tensor([0.6]))
        >>> accuracy.item(), threshold.item()
        (1.0, 0.5)
    """
    curve = rates(genuine, impostor)
    # Without the first point, -inf: the last one, where all are accepted, is as good.
    best = curve.balanced_accuracy[1:].argmax() + 1
    return curve.balanced_accuracy[best], _midway(curve.threshold, best)


def precision_recall(
    genuine: Float[Tensor, " m"], impostor: Float[Tensor, " n"]
) -> PrecisionRecall:
    """Precision and recall of the accepted pairs at every distance that was seen.

    Example:
        >>> precision_recall(torch.tensor([0.2, 0.6]), torch.tensor([0.6, 0.9])).precision
        tensor([1.0000, 1.0000, 0.6667, 0.5000], dtype=torch.float64)
    """
    genuine, impostor = _sorted(genuine, "genuine"), _sorted(impostor, "impostor")
    threshold = _thresholds(genuine, impostor)
    right = _accepted(genuine, threshold).double()
    every = right + _accepted(impostor, threshold)
    precision = torch.where(every > 0, right / every.clamp(min=1), 1)
    return PrecisionRecall(threshold, precision, right / len(genuine))


def average_precision(
    genuine: Float[Tensor, " m"], impostor: Float[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Precision averaged over the recall that each threshold adds.

    Example:
        >>> average_precision(torch.tensor([0.2, 0.4]), torch.tensor([0.3, 0.9])).item()
        0.8333333333333333
    """
    curve = precision_recall(genuine, impostor)
    return (curve.recall.diff() * curve.precision[1:]).sum()


def d_prime(genuine: Float[Tensor, " m"], impostor: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Distance between the mean impostor and the mean genuine pair in standard deviations.

    Example:
        >>> d_prime(torch.tensor([0.0, 2.0]), torch.tensor([4.0, 6.0])).item()
        4.0
    """
    genuine, impostor = genuine.double(), impostor.double()
    spread = (genuine.var(correction=0) + impostor.var(correction=0)) / 2
    return (impostor.mean() - genuine.mean()) / spread.sqrt()


def _sorted(distances: Float[Tensor, " k"], kind: str) -> Float[Tensor, " k"]:
    if len(distances) == 0:
        msg = f"rates need at least one {kind} pair, got none"
        raise ValueError(msg)
    if distances.isnan().any():
        msg = f"distances must be numbers, got {int(distances.isnan().sum()):,} NaN {kind} pairs"
        raise ValueError(msg)
    return distances.sort().values


def _thresholds(*distances: Float[Tensor, " _"]) -> Float[Tensor, " t"]:
    """Every distinct distance, ascending, after -inf, where everything is rejected."""
    seen = torch.cat(distances)
    return torch.cat([seen.new_full((1,), -torch.inf), seen.unique()])


def _accepted(ascending: Float[Tensor, " k"], threshold: Float[Tensor, " t"]) -> Int[Tensor, " t"]:
    """How many of the distances are at or below each threshold."""
    return torch.searchsorted(ascending, threshold, right=True)


def _midway(threshold: Float[Tensor, " t"], index: Tensor) -> Float[Tensor, ""]:
    """Between this threshold and the next one seen, and never so near that it takes it in."""
    here = threshold[index]
    following = threshold[(index + 1).clamp(max=len(threshold) - 1)]
    middle = here + (following - here) / 2
    below = torch.where(here.isinf(), following.nextafter(here), here)
    return torch.where((here < middle) & (middle < following), middle, below)

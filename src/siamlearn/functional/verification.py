"""How well a distance tells genuine pairs from impostor pairs.

A pair is accepted where distance <= threshold. Genuine pairs are two pictures of one person,
impostor pairs of two. Every rate is exact under ties, and a tie never flatters: where genuine
and impostor distances are equal, no threshold can part them.

Axes: m genuine pairs, n impostor pairs, k pairs of either kind.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from siamlearn.functional.accepted import Accepted, accepted
from siamlearn.functional.intervals import trials_needed

__all__ = [
    "accuracy_at",
    "average_precision",
    "best_threshold",
    "d_prime",
    "equal_error_rate",
    "fnmr_at_fmr",
    "partial_auc",
    "precision_recall_at",
    "rates",
    "rates_at",
    "resolves",
    "roc_auc",
    "threshold_at_fmr",
]


def rates(genuine: Float[Tensor, " m"], impostor: Float[Tensor, " n"]) -> Accepted:
    """Both error rates, precision and recall at every distance that was seen.

    Precision depends on how many impostors there are to each genuine pair; the rates do not.

    Args:
        genuine: distances of pairs of one person, in any order.
        impostor: distances of pairs of two persons, in any order.

    Raises:
        ValueError: where one of the two is empty or holds NaN.

    Example:
        >>> seen = rates(torch.tensor([0.2, 0.6]), torch.tensor([0.6, 0.9]))
        >>> seen.fnmr
        tensor([1.0000, 0.5000, 0.0000, 0.0000], dtype=torch.float64)
        >>> seen.precision
        tensor([1.0000, 1.0000, 0.6667, 0.5000], dtype=torch.float64)

    Source:
        ISO/IEC 19795-1:2021, false match rate and false non-match rate.
    """
    _check(genuine=genuine, impostor=impostor)
    return accepted(genuine, impostor)


def rates_at(
    genuine: Float[Tensor, " m"],
    impostor: Float[Tensor, " n"],
    threshold: Float[Tensor, ""] | float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """False match rate and false non-match rate at one threshold.

    Args:
        threshold: in units of distance; at or below it a pair is accepted.

    Raises:
        ValueError: where one of the two is empty or holds NaN.

    Example:
        >>> fmr, fnmr = rates_at(torch.tensor([0.2, 0.6]), torch.tensor([0.6, 0.9]), 0.5)
        >>> fmr.item(), fnmr.item()
        (0.0, 0.5)
    """
    _check(genuine=genuine, impostor=impostor)
    false, missed = _passes(impostor, threshold), ~_passes(genuine, threshold)
    return false.double().mean(), missed.double().mean()


def roc_auc(genuine: Float[Tensor, " m"], impostor: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Chance that a genuine pair is closer than an impostor pair; a tie counts half.

    This is the area under the ROC curve. It is counted in whole numbers, and exact for any number
    of pairs that fits into memory.

    Raises:
        ValueError: where one of the two is empty or holds NaN.

    Example:
        >>> roc_auc(torch.tensor([0.2, 0.6]), torch.tensor([0.6, 0.9])).item()
        0.875

    Source:
        Hanley, McNeil: The Meaning and Use of the Area under a ROC Curve, Radiology 143, 1982.
    """
    _check(genuine=genuine, impostor=impostor)
    return accepted(genuine, impostor).auc()


def partial_auc(
    genuine: Float[Tensor, " m"],
    impostor: Float[Tensor, " n"],
    fmr: float,
    *,
    standardised: bool = True,
) -> Float[Tensor, ""]:
    """Area under the ROC curve up to a false match rate, 0.5 at chance and 1 at best.

    Args:
        fmr: up to which, above 0 and at most 1.
        standardised: False gives the area itself, from 0 to ``fmr``.

    Raises:
        ValueError: where one of the two is empty or holds NaN, or the rate is no share.

    Example:
        >>> partial_auc(torch.tensor([0.2, 0.6]), torch.tensor([0.6, 0.9]), 1.0).item()
        0.875

    Source:
        McClish: Analyzing a Portion of the ROC Curve, Medical Decision Making 9, 1989.
    """
    _check(genuine=genuine, impostor=impostor)
    if not 0 < fmr <= 1:
        msg = f"a partial AUC goes up to an FMR above 0 and at most 1, got {fmr:g}; 0.01 is usual"
        raise ValueError(msg)
    return accepted(genuine, impostor).partial_auc(fmr, standardised=standardised)


def equal_error_rate(
    genuine: Float[Tensor, " m"], impostor: Float[Tensor, " n"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The rate at which FMR and FNMR are equal, and the threshold that comes nearest to it.

    Few sets of pairs have a threshold at which both rates are the same, so the points of the ROC
    curve are joined by straight lines, as they are for the area under it. A constant scorer,
    whose curve is the diagonal, gets 0.5. At the threshold itself one rate may be above and the
    other below; where two thresholds are equally near, it is the stricter one.

    Raises:
        ValueError: where one of the two is empty or holds NaN.

    Example:
        >>> rate, threshold = equal_error_rate(torch.tensor([0.2, 0.6]), torch.tensor([0.6, 0.9]))
        >>> round(rate.item(), 4), round(threshold.item(), 4)
        (0.25, 0.4)

    Source:
        The rates: ISO/IEC 19795-1:2021. The straight lines: Fawcett: An introduction to ROC
        analysis, Pattern Recognition Letters 27, 2006, on equally scored instances.
    """
    _check(genuine=genuine, impostor=impostor)
    return accepted(genuine, impostor).eer()


def best_threshold(
    genuine: Float[Tensor, " m"], impostor: Float[Tensor, " n"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The best balanced accuracy that any threshold reaches, and the strictest such threshold.

    The accuracy is that of the very pairs on which the threshold was chosen: quote it as the
    best that could be had, not as what to expect of other people.

    Raises:
        ValueError: where one of the two is empty or holds NaN.

    Example:
        >>> accuracy, threshold = best_threshold(torch.tensor([0.2, 0.4]), torch.tensor([0.6]))
        >>> accuracy.item(), threshold.item()
        (1.0, 0.5)
    """
    _check(genuine=genuine, impostor=impostor)
    return accepted(genuine, impostor).best()


def resolves(fmr: float, impostors: int) -> bool:
    """Whether so many impostor pairs can show a false match rate as low as this.

    With n impostor pairs none of which is accepted, the true rate may still be 3 / n (at 95 %
    confidence).

    Args:
        fmr: the false match rate, between 0 and 1.
        impostors: how many impostor pairs there are, one or more.

    Example:
        >>> resolves(0.01, 300), resolves(0.01, 299)
        (True, False)

    Source:
        The rule of three: Hanley, Lippman-Hand: If Nothing Goes Wrong, Is Everything All Right?,
        JAMA 249, 1983; ISO/IEC 19795-1:2021 uses it for the size of a test.
    """
    # A quotient is rounded to the nearest float, as a written 0.0048 is: equal numbers are equal.
    # The product 0.0048 * 625 is a little below 3.
    return fmr >= 3 / impostors


def threshold_at_fmr(impostor: Float[Tensor, " n"], fmr: float) -> Float[Tensor, ""]:
    """The largest threshold at which at most this share of the impostor pairs is accepted.

    It lies midway between the last impostor distance that it accepts and the next.

    Args:
        fmr: the false match rate that is asked for, between 0 and 1.

    Raises:
        ValueError: where ``fmr`` is below what so many pairs can show, as :func:`resolves` says.

    Example:
        >>> threshold_at_fmr(torch.arange(100.0), 0.05)
        tensor(4.5000)
    """
    _check(impostor=impostor)
    if not 0 < fmr < 1:
        msg = f"an FMR is a share between 0 and 1, got {fmr:g}; 0.01 and 0.001 are usual"
        raise ValueError(msg)
    if not resolves(fmr, len(impostor)):
        msg = (
            f"FMR {fmr:g} cannot be read from {len(impostor):,} impostor pairs, which resolve "
            f"{3 / len(impostor):.2g} at best (rule of three); use more identities or a higher "
            f"FMR: {trials_needed(fmr):,} pairs are needed"
        )
        raise ValueError(msg)
    return accepted(impostor[:0], impostor).threshold_at(fmr)


def fnmr_at_fmr(
    genuine: Float[Tensor, " m"], impostor: Float[Tensor, " n"], fmr: float
) -> Float[Tensor, ""]:
    """Share of the genuine pairs that are lost where at most ``fmr`` of the impostors pass.

    This is how a result is quoted: "FNMR at FMR 0.001". The threshold is that of
    :func:`threshold_at_fmr`, which does not look at the genuine pairs that it is to judge.

    Raises:
        ValueError: where ``fmr`` is below what so many pairs can show.

    Example:
        >>> fnmr_at_fmr(torch.tensor([1.0, 50.0]), torch.arange(100.0), 0.05).item()
        0.5
    """
    return rates_at(genuine, impostor, threshold_at_fmr(impostor, fmr))[1]


def accuracy_at(
    genuine: Float[Tensor, " m"],
    impostor: Float[Tensor, " n"],
    threshold: Float[Tensor, ""] | float,
) -> Float[Tensor, ""]:
    """Share of all pairs that a threshold tells right; it leans to the kind with more pairs.

    Raises:
        ValueError: where one of the two is empty or holds NaN.

    Example:
        >>> accuracy_at(torch.tensor([0.2, 0.6]), torch.tensor([0.6, 0.9]), 0.5).item()
        0.75
    """
    _check(genuine=genuine, impostor=impostor)
    right = _passes(genuine, threshold).sum() + (~_passes(impostor, threshold)).sum()
    return right.double() / (len(genuine) + len(impostor))


def precision_recall_at(
    genuine: Float[Tensor, " m"],
    impostor: Float[Tensor, " n"],
    threshold: Float[Tensor, ""] | float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Share of genuine pairs among the accepted (1 where none is), and of these the accepted.

    Raises:
        ValueError: where one of the two is empty or holds NaN.

    Example:
        >>> at = precision_recall_at(torch.tensor([0.2, 0.6]), torch.tensor([0.5, 0.9]), 0.5)
        >>> [share.item() for share in at]
        [0.5, 0.5]
    """
    _check(genuine=genuine, impostor=impostor)
    right, wrong = (_passes(kind, threshold).sum() for kind in (genuine, impostor))
    taken = (right + wrong).double()
    precision = torch.where(taken > 0, right / taken.clamp(min=1), 1)
    return precision, right.double() / len(genuine)


def average_precision(
    genuine: Float[Tensor, " m"], impostor: Float[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Precision averaged over the recall that each threshold adds.

    Raises:
        ValueError: where one of the two is empty or holds NaN.

    Example:
        >>> round(average_precision(torch.tensor([0.2, 0.4]), torch.tensor([0.3])).item(), 4)
        0.8333

    Source:
        Manning, Raghavan, Schütze: Introduction to Information Retrieval, 2008, sec. 8.4.
    """
    _check(genuine=genuine, impostor=impostor)
    return accepted(genuine, impostor).average_precision()


def d_prime(genuine: Float[Tensor, " m"], impostor: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """How far the mean impostor pair is beyond the mean genuine pair, in standard deviations.

    Raises:
        ValueError: where one of the two is empty or holds NaN.

    Example:
        >>> d_prime(torch.tensor([0.0, 2.0]), torch.tensor([4.0, 6.0])).item()
        4.0

    Source:
        Green, Swets: Signal Detection Theory and Psychophysics, 1966; with two spreads, their
        mean square is taken, as by Daugman: How Iris Recognition Works, IEEE TCSVT 14, 2004.
    """
    _check(genuine=genuine, impostor=impostor)
    return accepted(genuine, impostor).d_prime()


def _passes(distance: Float[Tensor, " k"], threshold: Float[Tensor, ""] | float) -> Tensor:
    # In float64 on both sides, as everywhere: beside float32 distances a Python number would be
    # rounded to float32 first, and 0.1 then takes in a distance that is a little farther.
    return distance.double() <= threshold


def _check(**kinds: Float[Tensor, " _"]) -> None:
    for kind, distances in kinds.items():
        if len(distances) == 0:
            whose = "one person" if kind == "genuine" else "two people"
            msg = (
                f"rates need at least one {kind} pair, got none; compare two pictures of {whose}, "
                f"or more"
            )
            raise ValueError(msg)
        unknown = int(distances.isnan().sum())
        if unknown:
            msg = (
                f"distances must be numbers, got NaN for {unknown:,} of the {len(distances):,} "
                f"{kind} pairs; look for embeddings that are not finite, or of length 0"
            )
            raise ValueError(msg)

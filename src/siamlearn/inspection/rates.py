"""How surely the curves of a report are known: error rates with bands over people.

Axes: b resamples of people, t thresholds, f false match rates, k bins.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, log10
from typing import TYPE_CHECKING, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from siamlearn.evaluation.measuring import trials_of
from siamlearn.evaluation.reports import require_reports
from siamlearn.functional.accepted import Accepted
from siamlearn.functional.intervals import effective, interval
from siamlearn.functional.reliability import Reliability
from siamlearn.functional.resampling import draws

if TYPE_CHECKING:
    from siamlearn.evaluation import Report

__all__ = ["Bands", "bands", "reliability"]

STEPS = 100  # false match rates of the ROC's band, on either kind of axis


@final
@dataclass(frozen=True, eq=False)
class Bands:
    """Both error rates at each threshold, and FNMR at each FMR, with intervals over people.

    Each interval holds for its own threshold, or its own FMR: that a whole curve lies within all
    of them is less likely.

    Args:
        threshold: ascending, in units of distance; the first accepts nothing.
        fmr: false match rate at each threshold.
        fmr_low: the lower end of its interval.
        fmr_high: the upper end.
        fnmr: false non-match rate at each threshold.
        fnmr_low: the lower end of its interval.
        fnmr_high: the upper end.
        at_fmr: false match rates, ascending.
        fnmr_at: the lowest FNMR of any threshold with at most that FMR.
        fnmr_at_low: the lower end of its interval.
        fnmr_at_high: the upper end.
        level: how often such an interval is to hold the true rate.

    Example:
        >>> one = torch.ones(1, dtype=torch.float64)
        >>> Bands(*(11 * [one]), level=0.95).level
        0.95
    """

    threshold: Float[Tensor, " t"]
    fmr: Float[Tensor, " t"]
    fmr_low: Float[Tensor, " t"]
    fmr_high: Float[Tensor, " t"]
    fnmr: Float[Tensor, " t"]
    fnmr_low: Float[Tensor, " t"]
    fnmr_high: Float[Tensor, " t"]
    at_fmr: Float[Tensor, " f"]
    fnmr_at: Float[Tensor, " f"]
    fnmr_at_low: Float[Tensor, " f"]
    fnmr_at_high: Float[Tensor, " f"]
    level: float


def bands(report: Report, *, level: float = 0.95, resamples: int = 1000, seed: int = 0) -> Bands:
    """Intervals of the error rates at every threshold, had other people been asked.

    Args:
        level: how often an interval is to hold the true rate.
        resamples: how often people are drawn anew.
        seed: of that draw.

    Example:
        >>> import siamlearn as sl
        >>> found = sl.embed(torch.nn.Flatten(), sl.DrawnFaces(4, 3))
        >>> seen = bands(sl.evaluate(found, baselines=False))
        >>> bool((seen.fmr_low <= seen.fmr).all() and (seen.fmr <= seen.fmr_high).all())
        True

    Source:
        :func:`siamlearn.functional.intervals.interval`, at each threshold by itself. The band of
        the ROC is vertical averaging: Fawcett: An introduction to ROC analysis, Pattern
        Recognition Letters 27, 2006.
    """
    require_reports(report)
    cells = report.cells
    seen, drawn = cells.accepted(), cells.resampled(draws(cells.units, resamples, seed))
    trials = trials_of(report.embeddings, report.gallery, report.found)
    mated = effective(cells.genuine[:, -1])
    least = 1 / max(1, report.impostor)
    even = torch.linspace(0, 1, STEPS + 1, dtype=torch.float64)
    low = torch.logspace(log10(least), 0, STEPS, dtype=torch.float64)
    at = torch.unique(torch.cat([even, low]))

    def ends(value: Tensor, resampled: Tensor, most: int, units: float) -> tuple[Tensor, Tensor]:
        return interval(value, resampled, units=units, trials=most, level=level)

    fnmr_at = _fnmr_at(seen, at)
    fmr_low, fmr_high = ends(seen.fmr, drawn.fmr, trials.impostor, cells.units)
    fnmr_low, fnmr_high = ends(seen.fnmr, drawn.fnmr, trials.genuine, mated)
    at_low, at_high = ends(fnmr_at, _fnmr_at(drawn, at), trials.genuine, mated)
    return Bands(
        threshold=cells.threshold,
        fmr=seen.fmr,
        fmr_low=fmr_low,
        fmr_high=fmr_high,
        fnmr=seen.fnmr,
        fnmr_low=fnmr_low,
        fnmr_high=fnmr_high,
        at_fmr=at,
        fnmr_at=fnmr_at,
        fnmr_at_low=at_low,
        fnmr_at_high=at_high,
        level=level,
    )


def _fnmr_at(seen: Accepted, fmr: Float[Tensor, " f"]) -> Float[Tensor, "*b f"]:
    """:meth:`Accepted.fnmr_at` for many rates at once."""
    rates = seen.fmr.contiguous()
    wanted = fmr.expand(*rates.shape[:-1], len(fmr)).contiguous()
    last = torch.searchsorted(rates, wanted, right=True) - 1
    # Where people drawn anew have no impostor pairs it is not known.
    return torch.where(seen.impostor[..., -1:] > 0, seen.fnmr.gather(-1, last), torch.nan)


def reliability(report: Report, *, prior: float = 0.5, bins: int = 15) -> Reliability:
    """How often pairs are of one person, beside how often the operating point says they are.

    It is read off the counts of the report, so that billions of pairs are no more than a thousand.
    The interval of the error draws people anew, as those of the report do. Each bin of few people
    is off by chance, and the error too high for it: the interval lies around it less this bias.

    Args:
        report: with an operating point that has a calibration; the first is taken.
        prior: the share that genuine pairs count as, and that probabilities are made for.
        bins: of equal weight, into which pairs are sorted; equal distances share one.

    Raises:
        ValueError: no operating point of the report says how likely a pair is.

    Example:
        >>> import siamlearn as sl
        >>> others, people = sl.DrawnFaces(12, 4, size=(28, 23)).split_identities(held_out=5)
        >>> point = sl.OperatingPoint.fit(sl.pixels(others), fmr=0.1)
        >>> found = reliability(sl.evaluate(sl.pixels(people), point, baselines=False), bins=4)
        >>> round(found.share.sum().item(), 6), bool((found.predicted.diff() > 0).all())
        (1.0, True)
    """
    require_reports(report)
    calibrated = [each.point.calibration for each in report.points if each.point.calibration]
    if not calibrated:
        msg = (
            f"reliability is of probabilities, and none of the {len(report.points)} operating "
            f"points of the report has a calibration; evaluate with a point that was fitted on "
            f"genuine and impostor pairs"
        )
        raise ValueError(msg)
    calibration, seen = calibrated[0], report.accepted
    said = calibration.probability(seen.threshold[1:].double(), prior).flip(0)
    # From the farthest to the nearest, so that probabilities ascend.
    genuine, impostor = (kind.diff().flip(0).double() for kind in (seen.genuine, seen.impostor))
    right = prior * genuine / genuine.sum()
    weight = right + (1 - prior) * impostor / impostor.sum()
    place = ((weight.cumsum(0) - weight / 2) * bins).long().clamp(0, bins - 1)
    share = place.bincount(weight, minlength=bins)
    count = place.bincount(genuine + impostor, minlength=bins).long()
    filled = count > 0
    predicted, observed = (
        (place.bincount(values, minlength=bins) / share)[filled]
        for values in (weight * said, right)
    )
    found = Reliability(predicted, observed, share[filled], count[filled])
    if not report.resamples:
        return found
    cells = report.cells
    counted = cells.threshold[1:].double()
    # The bin of each threshold of the cells: of the first distance that is no nearer.
    first = torch.searchsorted(seen.threshold[1:].double(), counted).clamp(max=len(place) - 1)
    drawn = _errors(
        cells.resampled(draws(cells.units, report.resamples)),
        calibration.probability(counted, prior),
        F.one_hot(place.flip(0)[first], bins).double(),
        prior,
    )
    units, level = effective(cells.genuine[:, -1]), report.auc.level
    low, high = interval(found.error, drawn, units=units, bounds=(0, inf), level=level)
    return replace(found, error_ends=(float(low), float(high)))


def _errors(
    seen: Accepted, said: Float[Tensor, " t"], bins: Float[Tensor, "t k"], prior: float
) -> Float[Tensor, "*b"]:
    """The expected calibration error of each resample, in bins that stay as they are."""
    genuine, impostor = (
        kind.diff().double() / kind[..., -1:] for kind in (seen.genuine, seen.impostor)
    )
    right = prior * genuine
    weight = right + (1 - prior) * impostor
    return ((weight * said - right) @ bins).abs().sum(dim=-1)

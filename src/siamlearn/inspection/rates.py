"""How surely the curves of a report are known: error rates with bands over people.

Axes: b resamples of people, t thresholds, f false match rates.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log10
from typing import TYPE_CHECKING, final

import torch
from jaxtyping import Float
from torch import Tensor

from siamlearn.functional.accepted import Accepted
from siamlearn.functional.intervals import Trials, interval
from siamlearn.functional.resampling import draws

if TYPE_CHECKING:
    from siamlearn.reports import Report

__all__ = ["Bands", "bands"]

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
    cells = report.cells
    seen, drawn = cells.accepted(), cells.resampled(draws(cells.units, resamples, seed))
    trials = Trials(report.people, report.pictures)
    least = 1 / max(1, report.impostor)
    even = torch.linspace(0, 1, STEPS + 1, dtype=torch.float64)
    low = torch.logspace(log10(least), 0, STEPS, dtype=torch.float64)
    at = torch.unique(torch.cat([even, low]))

    def ends(value: Tensor, resampled: Tensor, most: int) -> tuple[Tensor, Tensor]:
        return interval(value, resampled, units=cells.units, trials=most, level=level)

    fnmr_at = _fnmr_at(seen, at)
    fmr_low, fmr_high = ends(seen.fmr, drawn.fmr, trials.impostor)
    fnmr_low, fnmr_high = ends(seen.fnmr, drawn.fnmr, trials.genuine)
    at_low, at_high = ends(fnmr_at, _fnmr_at(drawn, at), trials.genuine)
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
    return seen.fnmr.gather(-1, last)

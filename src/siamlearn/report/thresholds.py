"""What the slider of a page moves over: thresholds, and how many pairs each accepts.

Axes: t thresholds of the slider.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float64
from torch import Tensor

from siamlearn.inspection import bands

if TYPE_CHECKING:
    from siamlearn.evaluation import Report

__all__ = ["named_thresholds", "slider", "thresholds"]

EVEN = 100  # thresholds in even steps, beside those between which the rates change


def thresholds(report: Report) -> Float64[Tensor, " t"]:
    """Some thousand distances at which the rates are told exactly, ascending.

    Those at which the intervals were made, some in even steps so that the slider moves on where
    there are no pairs, and those that have a name.

    Example:
        >>> import siamlearn as sl
        >>> report = sl.evaluate(sl.pixels(sl.DrawnFaces(3, 4)), baselines=False)
        >>> places = thresholds(report)
        >>> bool((places.diff() > 0).all()), bool((places == report.eer_threshold).any())
        (True, True)
    """
    seen = report.accepted.threshold.double()
    seen = seen[seen.isfinite()]
    low, high = seen[0].item(), seen[-1].item()
    # One step below the smallest distance, where everybody is rejected.
    room = (high - low) / EVEN or abs(high) / EVEN or 1.0
    named = [value for _, value, _ in named_thresholds(report) if math.isfinite(value)]
    even = torch.linspace(low - room, high, EVEN + 2, dtype=torch.float64)
    asked = torch.tensor([*named, high], dtype=torch.float64)
    counted = report.cells.threshold
    every: Tensor = torch.unique(torch.cat([counted[counted.isfinite()], even, asked]))
    return every


def named_thresholds(report: Report) -> Iterator[tuple[str, float, bool]]:
    """Name, threshold, and whether it was chosen on other people than those of the report.

    Example:
        >>> import siamlearn as sl
        >>> report = sl.evaluate(sl.pixels(sl.DrawnFaces(3, 4)), baselines=False, fmrs=(0.1,))
        >>> [(name, elsewhere) for name, _, elsewhere in named_thresholds(report)]
        [('FMR 10 % here', False), ('EER here', False), ('best accuracy here', False)]
    """
    for each in report.points:
        yield each.point.name, each.point.threshold, True
    for fmr, rate in report.fnmr_at.items():
        threshold = float(report.accepted.threshold_at(fmr))
        if rate is not None and math.isfinite(threshold):
            yield f"FMR {100 * fmr:g} % here", threshold, False
    yield "EER here", report.eer_threshold, False
    yield "best accuracy here", report.best_threshold, False


def slider(report: Report) -> dict[str, Any]:
    """Everything that the slider of a page needs, ready for JSON.

    Example:
        >>> import siamlearn as sl
        >>> report = sl.evaluate(sl.pixels(sl.DrawnFaces(3, 4)), baselines=False)
        >>> values = slider(report)
        >>> values["genuine"][-1], values["impostor"][-1]  # beyond the last, all are accepted
        (18, 48)
    """
    places = thresholds(report)
    counts = report.accepted
    index = torch.searchsorted(counts.threshold.double(), places, right=True) - 1
    names = [
        {"name": name, "at": int(torch.searchsorted(places, value)), "elsewhere": elsewhere}
        for name, value, elsewhere in named_thresholds(report)
        if math.isfinite(value)
    ]
    eer = next(each["at"] for each in names if each["name"] == "EER here")
    return {
        "threshold": places.tolist(),
        "genuine": counts.genuine[index].tolist(),
        "impostor": counts.impostor[index].tolist(),
        "names": names,
        "start": names[0]["at"] if report.points else eer,
        "bands": _bands(report),
    }


def _bands(report: Report) -> dict[str, Any] | None:
    """Intervals of both rates at some thresholds, where intervals were asked for."""
    if not report.auc.known:
        return None
    known = bands(report, level=report.auc.level)
    ends = (known.fmr_low, known.fmr_high, known.fnmr_low, known.fnmr_high)
    finite = known.threshold.isfinite()
    values = [[float(f"{value:.4g}") for value in end[finite].tolist()] for end in ends]
    return {
        "threshold": known.threshold[finite].tolist(),
        "fmr": {"low": values[0], "high": values[1]},
        "fnmr": {"low": values[2], "high": values[3]},
    }

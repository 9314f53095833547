"""The curves of a report: one error against the other, ranks, reliability.

The report itself is a thick line, with a band where one is given, its baselines are thin and
dashed, and its operating points are marked the same in every figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from siamlearn.estimates import Estimate, shown
from siamlearn.evaluation import Report
from siamlearn.functional.reliability import Reliability
from siamlearn.plots.canvas import (
    FAINT,
    GENUINE,
    INK,
    NAME,
    OTHERS,
    POINTS,
    canvas,
    dressed,
    legend,
    require,
    short,
    thinned,
    whole,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

    from siamlearn.functional.accepted import Accepted
    from siamlearn.inspection.rates import Bands

__all__ = ["cmc", "det", "precision_recall", "reliability", "roc"]

# In per cent; those that stand first are written first where there is not room for all.
TICKS = (50, 10, 1, 0.1, 0.01, 0.001, 1e-4, 90, 99, 99.9, 5, 20, 2, 0.5, 0.2, 40, 60, 80, 95, 98)


def roc(
    report: Report, *, bands: Bands | None = None, log: bool = False, ax: Axes | None = None
) -> Axes:
    """How many true matches are found for how many false ones, with the area under the curve.

    Args:
        bands: intervals of the true match rate at each false match rate.
        log: a logarithmic axis of false matches, which shows the rates that one would run at.

    Example:
        >>> import siamlearn as sl
        >>> found = sl.embed(torch.nn.Flatten(), sl.DrawnFaces(3, 4))
        >>> report = sl.evaluate(found, baselines=False)
        >>> roc(report, log=True).get_xscale()
        'log'
    """
    require(report, Report, "evaluate(…)")
    ax = canvas(ax, size=_size(report))
    for each, style in _rows(report):
        x, y = thinned(each.accepted.fmr, 1 - each.accepted.fnmr, log=log)
        steps = "steps-post" if log else "default"
        label = f"{short(each.name, NAME)}, AUC {_value(each.auc, style)}"
        ax.plot(x, y, drawstyle=steps, label=label, **style)
    if bands is not None:
        _band(ax, bands.at_fmr, 1 - bands.fnmr_at_high, 1 - bands.fnmr_at_low)
    _points(ax, report, lost=False)
    if log:
        ax.set_xscale("log")
        ax.set_xlim(min(0.1, 1 / report.impostor), 1)
    else:
        ax.plot([0, 1], [0, 1], color=FAINT, lw=0.8, zorder=0)
        ax.set_xlim(-0.01, 1)
    ax.set_ylim(0, 1.01)
    legend(ax)
    return dressed(ax, "ROC", "false match rate", "true match rate")


def det(
    report: Report, *, bands: Bands | None = None, log: bool = False, ax: Axes | None = None
) -> Axes:
    """Which false non-match rate is paid for which false match rate.

    The axes are normal deviates: where both kinds of distances are normal, the curve is straight.
    Along the dotted line the two rates are equal. Rates of zero lie outside.

    Args:
        bands: intervals of the false non-match rate at each false match rate.
        log: logarithmic axes instead, for very small rates.

    Example:
        >>> import siamlearn as sl
        >>> found = sl.embed(torch.nn.Flatten(), sl.DrawnFaces(3, 4))
        >>> report = sl.evaluate(found, baselines=False)
        >>> det(report).get_title(), det(report, log=True).get_yscale()
        ('DET', 'log')

    Source:
        Martin, Doddington, Kamm, Ordowski, Przybocki: The DET Curve in Assessment of Detection
        Task Performance, Eurospeech 1997; ISO/IEC 19795-1.
    """
    require(report, Report, "evaluate(…)")
    ax = canvas(ax, size=_size(report))
    for each, style in _rows(report):
        x, y = thinned(each.accepted.fmr, each.accepted.fnmr, log=True)
        label = f"{short(each.name, NAME)}, EER {_value(each.eer, style, percent=True)}"
        ax.plot(x, y, drawstyle="steps-post", label=label, **style)
    if bands is not None:
        _band(ax, bands.at_fmr, bands.fnmr_at_low, bands.fnmr_at_high)
    _points(ax, report, lost=True)
    largest = max([2 * report.eer, *(max(seen.fmr, seen.fnmr) for seen in report.points)])
    top = 1.0 if log else 0.6 if largest < 0.6 else 0.995
    left, low = _least(report, top)
    if log:
        ax.set_xscale("log")
        ax.set_yscale("log")
    else:
        _normal_deviates(ax, "x", (left, top))
        _normal_deviates(ax, "y", (low, top))
    if not _crosses(report.accepted, left, low, top):
        ax.text(0.5, 0.5, "the curve lies outside", transform=ax.transAxes, color=INK, ha="center")
    both = torch.logspace(-8, 0, 200)
    ax.plot(both, both, ":", color=FAINT, lw=1, zorder=0)
    ax.set_xlim(left, top)
    ax.set_ylim(low, top)
    legend(ax)
    unit = "" if log else ", %"
    return dressed(ax, "DET", f"false match rate{unit}", f"false non-match rate{unit}")


def precision_recall(report: Report, *, ax: Axes | None = None) -> Axes:
    """Which share of the accepted pairs is genuine, for each share of the genuine accepted.

    The dotted line is what accepting every pair would give: the share of genuine among all.

    Example:
        >>> import siamlearn as sl
        >>> found = sl.embed(torch.nn.Flatten(), sl.DrawnFaces(3, 4))
        >>> report = sl.evaluate(found, baselines=False)
        >>> precision_recall(report).get_ylabel()
        'precision'
    """
    require(report, Report, "evaluate(…)")
    ax = canvas(ax, size=_size(report))
    for each, style in _rows(report):
        x, y = thinned(each.accepted.recall, each.accepted.precision)
        # As in the average: what recall a threshold adds, it adds at its own precision.
        label = f"{short(each.name, NAME)}, mean {_value(each.average_precision, style)}"
        ax.plot(x, y, drawstyle="steps-pre", label=label, **style)
    share = report.genuine / (report.genuine + report.impostor)
    ax.axhline(share, color=FAINT, lw=1.2, ls=":", label=f"every pair accepted, {share:.3f}")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1.02)
    legend(ax)
    return dressed(ax, "Precision and recall", "recall (true match rate)", "precision")


def cmc(report: Report, *, ax: Axes | None = None) -> Axes:
    """How often the right person is among the nearest one, two, three ... of the gallery.

    Bars are the intervals of the report's own rates.

    Example:
        >>> import siamlearn as sl
        >>> found = sl.embed(torch.nn.Flatten(), sl.DrawnFaces(3, 4))
        >>> report = sl.evaluate(found, baselines=False)
        >>> cmc(report).get_xlabel()
        'rank'
    """
    require(report, Report, "evaluate(…)")
    ax = canvas(ax, size=_size(report))
    for each, style in _rows(report):
        rank = range(1, len(each.cmc) + 1)
        label = f"{short(each.name, NAME)}, rank 1: {_value(each.rank1, style, percent=True)}"
        ax.plot(rank, each.cmc, marker="o", ms=3, label=label, **style)
    lowest = min(float(each.rank1) for each, _ in _rows(report))
    if report.rank1.known:
        rank = range(1, len(report.cmc) + 1)
        ends = [rate.low for rate in report.cmc], [rate.high for rate in report.cmc]
        ax.vlines(rank, *ends, color=GENUINE, lw=1, alpha=0.6)
        lowest = min(lowest, *ends[0])
    whole(ax)
    ax.set_ylim(max(0.0, min(0.95, lowest - 0.02)), 1.005)
    legend(ax)
    return dressed(ax, "Identification (CMC)", "rank", "right person by this rank")


def reliability(found: Reliability, *, ax: Axes | None = None) -> Axes:
    """How often pairs are of one person, beside how often they were said to be.

    On the line, probabilities mean what they say; below it they promise too much. The larger a
    dot, the more pairs it stands for.

    Example:
        >>> from siamlearn.functional.reliability import reliability as measured
        >>> same = torch.tensor([False, True, True])
        >>> found = measured(torch.tensor([0.2, 0.4, 0.9]).double(), same, bins=2)
        >>> reliability(found).get_title()
        'Reliability'
    """
    require(found, Reliability, "inspection.reliability(report)")
    ax = canvas(ax, size=(4.4, 4.2))
    ax.plot([0, 1], [0, 1], color=FAINT, lw=1, zorder=0)
    error = Estimate(float(found.error), *(found.error_ends or ()))
    label = f"expected calibration error {shown(error, digits='.3f')}"
    ax.plot(found.predicted, found.observed, color=GENUINE, lw=1.2, label=label)
    sizes = 12 + 250 * found.share
    ax.scatter(found.predicted, found.observed, s=sizes, color=GENUINE, alpha=0.6, linewidths=0)
    ax.set_xlim(-0.03, 1.03)
    ax.set_ylim(-0.03, 1.03)
    legend(ax, "upper left")
    return dressed(ax, "Reliability", "said to be one person", "are one person")


def _rows(report: Report) -> list[tuple[Report, dict[str, Any]]]:
    """The report and its baselines, each with the style of its curve; the report is on top."""
    rows: list[tuple[Report, dict[str, Any]]] = [
        (report, {"color": GENUINE, "lw": 1.8, "zorder": 3})
    ]
    for number, baseline in enumerate(report.baselines):
        colour = OTHERS[number % len(OTHERS)]
        rows.append((baseline, {"color": colour, "lw": 1.0, "ls": "--"}))
    return rows


def _size(report: Report) -> tuple[float, float]:
    """Of a new figure, with room for the names."""
    return 5.0, 4.0 + 0.17 * (1 + len(report.baselines) + len(report.points))


def _value(value: Estimate, style: dict[str, Any], *, percent: bool = False) -> str:
    """The report's value with its interval, those of its baselines without."""
    told = float(value) if "ls" in style else value
    return shown(told, percent=percent, digits=".1f" if percent else ".3f")


def _band(ax: Axes, x: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> None:
    ax.fill_between(x, low, high, step="post", color=GENUINE, alpha=0.15, linewidth=0, zorder=1)


def _points(ax: Axes, report: Report, *, lost: bool) -> None:
    """The operating points, with the intervals of both rates."""
    for number, seen in enumerate(report.points):
        low, here, high = seen.fnmr.low, float(seen.fnmr), seen.fnmr.high
        if not lost:
            low, here, high = 1 - low, 1 - here, 1 - high
        mark = POINTS[number % len(POINTS)]
        rates = f"FMR {100 * seen.fmr:.2g} %, FNMR {100 * seen.fnmr:.2g} %"
        label = f"at {short(seen.point.name, NAME)}: {rates}"
        ax.plot([seen.fmr], [here], mark, ms=5, color=INK, zorder=5, label=label)
        if seen.fmr.known and seen.fnmr.known:
            ax.plot([seen.fmr.low, seen.fmr.high], [here, here], color=INK, lw=0.8, zorder=4)
            ax.plot([seen.fmr, seen.fmr], [low, high], color=INK, lw=0.8, zorder=4)


def _least(report: Report, top: float) -> tuple[float, float]:
    """The smallest FMR and FNMR to show: that of a pair, or where the other rate is too high."""
    counts = [each.accepted for each, _ in _rows(report)]
    ends = []
    for pairs, rates in (
        (report.impostor, [(seen.fmr, seen.fnmr) for seen in counts]),
        (report.genuine, [(seen.fnmr, seen.fmr) for seen in counts]),
    ):
        shown = [float(own[other < top].min()) for own, other in rates if (other < top).any()]
        ends.append(min(0.1, max([0.7 / pairs, 0.6 * min(shown, default=0)])))
    return ends[0], ends[1]


def _crosses(seen: Accepted, left: float, low: float, top: float) -> bool:
    """Whether any of the steps of a curve goes through these limits."""
    (x, after), (y, below) = ((rate[:-1], rate[1:]) for rate in (seen.fmr, seen.fnmr))
    across = (low < y) & (y < top) & (x < top) & (left < after)
    down = (left < after) & (after < top) & (low < y) & (below < top)
    return bool((across | down).any())


def _normal_deviates(ax: Axes, axis: str, limits: tuple[float, float]) -> None:
    """An axis of rates on which a normal distribution is a straight line, labelled in per cent."""
    from matplotlib.scale import FuncScale
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
    from scipy.special import ndtr, ndtri

    which: Axis = getattr(ax, f"{axis}axis")

    def deviate(rate: Any) -> Any:
        return ndtri(torch.as_tensor(rate, dtype=torch.float64).clamp(1e-9, 1 - 1e-9).numpy())

    getattr(ax, f"set_{axis}scale")(FuncScale(which, (deviate, ndtr)))
    low, high = (float(deviate(limit)) for limit in limits)
    shown: dict[float, float] = {}
    for percent in TICKS:
        place = float(deviate(percent / 100))
        free = all(abs(place - other) > (high - low) / 11 for other in shown.values())
        if low <= place <= high and free:
            shown[percent] = place
    which.set_major_locator(FixedLocator([percent / 100 for percent in shown]))
    which.set_major_formatter(FixedFormatter([f"{percent:g}" for percent in shown]))
    which.set_minor_locator(NullLocator())

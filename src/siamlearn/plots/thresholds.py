"""What a threshold does: distances of both kinds of pairs, and the errors at each threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from siamlearn.estimates import shown
from siamlearn.evaluation import Report
from siamlearn.plots.canvas import (
    GENUINE,
    IMPOSTOR,
    INK,
    NAME,
    POINTS,
    canvas,
    dressed,
    legend,
    require,
    short,
    thinned,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from siamlearn.functional.accepted import Accepted
    from siamlearn.inspection.rates import Bands

__all__ = ["accuracy", "distance_histogram", "error_rates"]


def distance_histogram(report: Report, *, bins: int | None = None, ax: Axes | None = None) -> Axes:
    """How far apart two pictures of one person are, beside pictures of two people.

    Both are densities, so that the few genuine pairs are seen beside the many impostors. The
    lines are the thresholds of the operating points or, without one, that of the equal error rate.

    Args:
        bins: how many, over the range of all distances; up to 60, fewer for fewer genuine pairs,
            if left out.

    Example:
        >>> import siamlearn as sl
        >>> found = sl.embed(torch.nn.Flatten(), sl.DrawnFaces(3, 4))
        >>> report = sl.evaluate(found, baselines=False)
        >>> distance_histogram(report).get_title()
        'Distances of pairs'
    """
    require(report, Report, "evaluate(…)")
    ax = canvas(ax, size=(5.0, 4.5))
    seen = report.accepted
    edges = _edges(seen, bins or min(60, max(12, round(2 * report.genuine**0.5))))
    place = torch.searchsorted(seen.threshold.double(), edges, right=True) - 1
    place[0] = 0  # the nearest pair of all is in the first bin, not before it
    for name, counts, colour in (
        ("genuine", seen.genuine, GENUINE),
        ("impostor", seen.impostor, IMPOSTOR),
    ):
        density = counts[place].double().diff() / counts[-1] / edges.diff()
        pairs = int(counts[-1])
        label = f"{name} ({pairs:,} pair{'' if pairs == 1 else 's'})"
        look: dict[str, Any] = {"facecolor": colour + "66", "edgecolor": colour, "label": label}
        ax.stairs(density.numpy(), edges.numpy(), fill=True, **look)
    _thresholds(ax, report)
    ax.set_ylim(bottom=0)
    legend(ax)
    return dressed(ax, "Distances of pairs", "distance", "density")


def error_rates(
    report: Report, *, bands: Bands | None = None, log: bool = False, ax: Axes | None = None
) -> Axes:
    """Both error rates at every threshold: a stricter one trades false matches for lost ones.

    Args:
        bands: intervals of both rates at each threshold.
        log: a logarithmic axis of rates, which shows the small ones that one would run at.

    Example:
        >>> import siamlearn as sl
        >>> found = sl.embed(torch.nn.Flatten(), sl.DrawnFaces(3, 4))
        >>> report = sl.evaluate(found, baselines=False)
        >>> [line.get_label() for line in error_rates(report).lines[:2]]
        ['false match rate', 'false non-match rate']
    """
    require(report, Report, "evaluate(…)")
    ax = canvas(ax, size=(5.0, 4.5))
    threshold = _drawable(report.accepted.threshold)
    for name, rate, colour in (
        ("false match rate", report.accepted.fmr, IMPOSTOR),
        ("false non-match rate", report.accepted.fnmr, GENUINE),
    ):
        x, y = thinned(threshold, rate, log=log)
        ax.plot(x, y, drawstyle="steps-post", lw=1.6, color=colour, label=name)
    if bands is not None:
        x = _drawable(bands.threshold)
        look: dict[str, Any] = {"step": "post", "alpha": 0.18, "linewidth": 0}
        ax.fill_between(x, bands.fmr_low, bands.fmr_high, color=IMPOSTOR, **look)
        ax.fill_between(x, bands.fnmr_low, bands.fnmr_high, color=GENUINE, **look)
    _thresholds(ax, report)
    ax.set_xlim(float(threshold[0]), float(threshold[-1] + (threshold[1] - threshold[0])))
    if log:
        ax.set_yscale("log")
        ax.set_ylim(min(0.05, 0.7 / max(report.impostor, report.genuine)), 1.3)
    else:
        ax.set_ylim(0, 1.02)
    legend(ax)
    return dressed(ax, "Error rates", "threshold", "error rate")


def accuracy(report: Report, *, ax: Axes | None = None) -> Axes:
    """How many pairs are judged rightly at each threshold, and the best threshold for these.

    Accuracy counts all pairs alike, and most are impostors; balanced accuracy gives genuine and
    impostor pairs half the weight each. The best threshold of these pairs flatters: on other
    people it will do less well.

    Example:
        >>> import siamlearn as sl
        >>> found = sl.embed(torch.nn.Flatten(), sl.DrawnFaces(3, 4))
        >>> report = sl.evaluate(found, baselines=False)
        >>> accuracy(report).get_xlabel()
        'threshold'
    """
    require(report, Report, "evaluate(…)")
    ax = canvas(ax, size=(5.0, 4.5))
    seen = report.accepted
    threshold = _drawable(seen.threshold)
    accurate = report.best_accuracy_threshold, report.best_accuracy
    balanced = report.best_threshold, float(report.balanced_accuracy)
    for name, y, (place, value), colour, mark in (
        ("accuracy", seen.accuracy, accurate, IMPOSTOR, "s"),
        ("balanced", seen.balanced_accuracy, balanced, GENUINE, "o"),
    ):
        ax.plot(*thinned(threshold, y), drawstyle="steps-post", lw=1.5, color=colour)
        label = f"{name}, best {value:.3f} at {place:.4g}"
        ax.plot([place], [value], "-" + mark, ms=6, color=colour, label=label)
    ax.axvline(report.best_threshold, color=INK, lw=0.8, ls="--")
    ax.set_ylim(0, 1.02)
    legend(ax)
    return dressed(ax, "Accuracy", "threshold", "pairs judged rightly")


def _thresholds(ax: Axes, report: Report) -> None:
    """A line at the threshold of each operating point, with its mark on top."""
    named = [(short(seen.point.name, NAME), seen.point.threshold) for seen in report.points]
    if not named:
        named = [(f"equal error rate {shown(report.eer, digits='.3f')}", report.eer_threshold)]
    for number, (name, threshold) in enumerate(named):
        ax.plot(
            [threshold, threshold],
            [0, 0.985],
            transform=ax.get_xaxis_transform(),
            color=INK,
            lw=0.9,
            ls="--",
            marker=POINTS[number % len(POINTS)],
            markevery=[1],
            ms=4.5,
            label=f"{name}, at {threshold:.4g}",
        )


def _edges(seen: Accepted, bins: int) -> Float[Tensor, " e"]:
    least = seen.threshold if seen.nearest is None else seen.nearest
    low, high = float(least[1]), float(seen.threshold[-1])
    if low == high:
        low, high = low - 0.5, high + 0.5
    return torch.linspace(low, high, bins + 1, dtype=torch.float64)


def _drawable(threshold: Float[Tensor, " t"]) -> Float[Tensor, " t"]:
    """The first one, where nothing is accepted, is -inf: drawn a little below the rest."""
    span = float(threshold[-1] - threshold[1]) or 1.0
    return torch.cat([threshold[1:2] - 0.02 * span, threshold[1:]])

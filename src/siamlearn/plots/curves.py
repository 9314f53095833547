"""The curves of a training and of a report: losses, error rates, ranks.

Each takes the numbers as they are and works out only the rates that it draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from siamlearn.evaluation import Report
from siamlearn.functional import verification
from siamlearn.plots.canvas import (
    FAINT,
    GENUINE,
    IMPOSTOR,
    INK,
    OTHERS,
    PEOPLE,
    canvas,
    dressed,
    legend,
    thinned,
    whole,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "accuracy",
    "cmc",
    "det",
    "distance_histogram",
    "precision_recall",
    "roc",
    "training_curves",
]


def training_curves(
    log: Sequence[Mapping[str, Any]],
    *,
    values: Sequence[str] = ("loss", "val_loss"),
    ax: Axes | None = None,
) -> Axes:
    """How the loss fell, epoch by epoch, on the training and on the validation pictures.

    The lowest validation loss is marked. A row without a value is left out of that value's curve.

    Args:
        log: the trainer's log: one row an epoch, with "epoch" and the values to draw.
        values: which columns of the log.

    Raises:
        ValueError: if no row has any of the values.

    Example:
        >>> log = [{"epoch": 1, "loss": 0.9, "val_loss": 1.0}, {"epoch": 2, "loss": 0.5}]
        >>> [line.get_label() for line in training_curves(log).lines]
        ['training', 'validation', 'lowest, epoch 1']
    """
    curves = {v: [(r["epoch"], r[v]) for r in log if r.get(v) is not None] for v in values}
    if not any(curves.values()):
        msg = (
            f"a curve needs a row with {' or '.join(values)}, but none of the {len(log)} rows of "
            "the log has one; train for an epoch, or name other values"
        )
        raise ValueError(msg)
    ax = canvas(ax)
    names = {"loss": "training", "val_loss": "validation"}
    for (value, points), colour in zip(curves.items(), (GENUINE, IMPOSTOR, *PEOPLE), strict=False):
        if points:
            style = "o-" if len(points) < 30 else "-"
            name = names.get(value, value)
            ax.plot(*zip(*points, strict=True), style, ms=3, lw=1.5, color=colour, label=name)
    if curves.get("val_loss"):
        epoch, lowest = min(curves["val_loss"], key=lambda point: point[1])
        ax.plot(
            [epoch],
            [lowest],
            "*",
            ms=10,
            color=IMPOSTOR,
            clip_on=False,
            label=f"lowest, epoch {epoch}",
        )
    whole(ax)
    if all(y >= 0 for points in curves.values() for _, y in points):
        ax.set_ylim(bottom=0)
    legend(ax, "upper right")
    return dressed(ax, "Training", "epoch", "loss" if "loss" in values else "value")


def distance_histogram(report: Report, *, bins: int = 60, ax: Axes | None = None) -> Axes:
    """How far apart two pictures of one person are, beside pictures of two people.

    Both are densities, so that the few genuine pairs are seen beside the many impostors. The line
    is the operating point's threshold or, without one, that of the equal error rate.

    Args:
        bins: how many, over the range of all distances.

    Example:
        >>> import siamlearn as sl
        >>> found = sl.embed(torch.nn.Flatten(), sl.DrawnFaces(3, 4))
        >>> report = sl.evaluate(found, baselines=False)
        >>> distance_histogram(report).get_title()
        'Distances of pairs'
    """
    ax = canvas(ax)
    both = torch.cat([report.genuine, report.impostor])
    span = (both.min().item(), both.max().item())
    for name, distance, colour in (
        ("genuine", report.genuine, GENUINE),
        ("impostor", report.impostor, IMPOSTOR),
    ):
        ax.hist(
            distance.numpy(),
            bins=bins,
            range=span,
            density=True,
            histtype="stepfilled",
            facecolor=colour + "66",
            edgecolor=colour,
            label=f"{name} ({len(distance):,})",
        )
    name, threshold = _threshold(report)
    ax.axvline(threshold, color=INK, lw=1, ls="--", label=f"{name}, {threshold:.3g}")
    ax.set_ylim(top=1.3 * ax.get_ylim()[1])  # room for the legend
    legend(ax, "upper right")
    return dressed(ax, "Distances of pairs", "distance", "density")


def roc(report: Report, *, log: bool = False, ax: Axes | None = None) -> Axes:
    """How many true matches are found for how many false ones, with the area under the curve.

    The report's baselines are thin and dashed; its operating point, if it has one, is a dot.

    Args:
        log: a logarithmic axis of false matches, which shows the rates that one would run at.

    Example:
        >>> import siamlearn as sl
        >>> found = sl.embed(torch.nn.Flatten(), sl.DrawnFaces(3, 4))
        >>> report = sl.evaluate(found, baselines=False)
        >>> roc(report, log=True).get_xscale()
        'log'
    """
    ax = canvas(ax)
    for each, style in _rows(report):
        seen = verification.rates(each.genuine, each.impostor)
        x, y = thinned(seen.fmr, 1 - seen.fnmr, log=log)
        steps = "steps-post" if log else "default"
        ax.plot(x, y, drawstyle=steps, label=f"{each.name}, AUC {each.auc:.3f}", **style)
    if report.fmr is not None and report.fnmr is not None:
        ax.plot([report.fmr], [1 - report.fnmr], "o", ms=5, color=INK, label="operating point")
    if log:
        ax.set_xscale("log")
        ax.set_xlim(min(0.1, 1 / len(report.impostor)), 1)
    else:
        ax.plot([0, 1], [0, 1], color=FAINT, lw=0.8, zorder=0)
        ax.set_xlim(-0.01, 1)
    ax.set_ylim(0, 1.01)
    legend(ax, "lower right")
    return dressed(ax, "ROC", "false match rate", "true match rate")


def det(report: Report, *, ax: Axes | None = None) -> Axes:
    """Which false non-match rate is paid for which false match rate, both logarithmic.

    Along the dotted line the two are equal. Rates of zero lie outside.

    Example:
        >>> import siamlearn as sl
        >>> found = sl.embed(torch.nn.Flatten(), sl.DrawnFaces(3, 4))
        >>> report = sl.evaluate(found, baselines=False)
        >>> det(report).get_yscale()
        'log'

    Source:
        ISO/IEC 19795-1, the detection error trade-off, on the axes of NIST's face reports.
    """
    ax = canvas(ax)
    for each, style in _rows(report):
        seen = verification.rates(each.genuine, each.impostor)
        x, y = thinned(seen.fmr, seen.fnmr, log=True)
        ax.plot(x, y, drawstyle="steps-post", label=f"{each.name}, EER {each.eer:.3f}", **style)
    left, low = 1 / len(report.impostor), 1 / len(report.genuine)
    ax.plot([min(left, low), 1], [min(left, low), 1], ":", color=FAINT, lw=0.8, zorder=0)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(min(0.1, left), 1)
    ax.set_ylim(min(0.1, low), 1)
    legend(ax, "lower left")
    return dressed(ax, "DET", "false match rate", "false non-match rate")


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
    ax = canvas(ax)
    for each, style in _rows(report):
        seen = verification.precision_recall(each.genuine, each.impostor)
        area = verification.average_precision(each.genuine, each.impostor)
        x, y = thinned(seen.recall, seen.precision)
        # As in the average: what recall a threshold adds, it adds at its own precision.
        ax.plot(x, y, drawstyle="steps-pre", label=f"{each.name}, mean {area:.3f}", **style)
    share = _genuine_share(report)
    ax.axhline(share, color=FAINT, lw=1.2, ls=":", label=f"every pair accepted, {share:.3f}")
    ax.set_xlim(0, 1.01)
    ax.set_ylim(0, 1.02)
    legend(ax, "lower left")
    return dressed(ax, "Precision and recall", "recall (true match rate)", "precision")


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
    ax = canvas(ax)
    seen = verification.rates(report.genuine, report.impostor)
    threshold = seen.threshold.clone()
    # The first one, where nothing is accepted, is -inf: drawn a little below the rest.
    threshold[0] = threshold[1] - 0.02 * (threshold[-1] - threshold[1])
    share = _genuine_share(report)
    right = 1 - share * seen.fnmr - (1 - share) * seen.fmr
    top = int(right.argmax())
    best = float(threshold[top : top + 2].mean()), float(right[top])
    for name, y, (at, value), colour, mark in (
        ("accuracy", right, best, IMPOSTOR, "s"),
        (
            "balanced",
            seen.balanced_accuracy,
            (report.best_threshold, report.balanced_accuracy),
            GENUINE,
            "o",
        ),
    ):
        ax.plot(*thinned(threshold, y), drawstyle="steps-post", lw=1.5, color=colour)
        label = f"{name}, best {value:.3f} at {at:.3g}"
        ax.plot([at], [value], "-" + mark, ms=6, color=colour, label=label)
    ax.axvline(report.best_threshold, color=INK, lw=0.8, ls="--")
    ax.set_ylim(0, 1.02)
    legend(ax, "lower left")
    return dressed(ax, "Accuracy", "threshold", "pairs judged rightly")


def cmc(report: Report, *, ax: Axes | None = None) -> Axes:
    """How often the right person is among the nearest one, two, three ... of the gallery.

    Example:
        >>> import siamlearn as sl
        >>> found = sl.embed(torch.nn.Flatten(), sl.DrawnFaces(3, 4))
        >>> report = sl.evaluate(found, baselines=False)
        >>> cmc(report).get_xlabel()
        'rank'
    """
    ax = canvas(ax)
    for each, style in _rows(report):
        rank = range(1, len(each.cmc) + 1)
        label = f"{each.name}, rank 1: {each.rank1:.1%}"
        ax.plot(rank, each.cmc, marker="o", ms=3, label=label, **style)
    whole(ax)
    lowest = min(each.rank1 for each, _ in _rows(report))
    ax.set_ylim(min(0.95, lowest - 0.02), 1.002)
    legend(ax, "lower right")
    return dressed(ax, "Identification (CMC)", "rank", "right person by this rank")


def _rows(report: Report) -> list[tuple[Report, dict[str, Any]]]:
    """The report and its baselines, each with the style of its curve; the report is on top."""
    rows: list[tuple[Report, dict[str, Any]]] = [
        (report, {"color": GENUINE, "lw": 1.8, "zorder": 3})
    ]
    for baseline, colour in zip(report.baselines, OTHERS, strict=False):
        rows.append((baseline, {"color": colour, "lw": 1.0, "ls": "--"}))
    return rows


def _genuine_share(report: Report) -> float:
    return len(report.genuine) / (len(report.genuine) + len(report.impostor))


def _threshold(report: Report) -> tuple[str, float]:
    """What the threshold of a report is called, and its value."""
    if report.point is None:
        return "equal error rate", report.eer_threshold
    return "operating point", report.point.threshold

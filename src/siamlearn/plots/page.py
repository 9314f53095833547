"""One page with everything: what one would put in a paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from siamlearn.embeddings import Embeddings
from siamlearn.evaluation import Report
from siamlearn.plots.canvas import INK, new_figure, require, short
from siamlearn.plots.curves import cmc, precision_recall, roc
from siamlearn.plots.maps import embedding_map
from siamlearn.plots.thresholds import accuracy, distance_histogram
from siamlearn.plots.training import training_curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["overview"]


def overview(
    report: Report,
    embeddings: Embeddings | None = None,
    log: Sequence[Mapping[str, Any]] | None = None,
) -> Figure:
    """A whole result on one page: training, embeddings, distances, error rates, ranks.

    Args:
        report: the rates to draw.
        embeddings: what was reported on; drawn along their first two principal axes.
        log: the trainer's log, for the curves of the loss.

    Example:
        >>> import torch
        >>> import siamlearn as sl
        >>> found = sl.embed(torch.nn.Flatten(), sl.DrawnFaces(3, 4))
        >>> report = sl.evaluate(found, baselines=False)
        >>> [ax.get_title(loc="left").split()[-1] for ax in overview(report).axes]
        ['pairs', 'ROC', 'Accuracy', '(CMC)']
    """
    require(report, Report, "evaluate(…)")
    panels: list[Callable[..., Axes]] = []
    if log:
        panels.append(partial(training_curves, log))
    if embeddings is not None:
        panels.append(partial(embedding_map, embeddings, None))
    panels += [partial(draw, report) for draw in (distance_histogram, roc, accuracy, cmc)]
    if len(panels) % 2:
        panels.insert(-1, partial(precision_recall, report))
    columns = len(panels) // 2
    figure = new_figure((4.2 * columns, 9.0))
    for place, draw in enumerate(panels, start=1):
        ax = draw(ax=figure.add_subplot(2, columns, place))
        title = rf"$\bf{{{'abcdef'[place - 1]}}}$   {ax.get_title()}"
        ax.set_title("")
        ax.set_title(title, loc="left", fontsize=10, color=INK)
    headline = f"{short(report.name, 60)}: {report.pictures:,} pictures of {report.people:,} people"
    figure.suptitle(headline, fontsize=11, color=INK)
    return figure

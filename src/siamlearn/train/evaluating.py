"""Callbacks that try the net on people it is not trained on: as numbers, and as figures."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, final

from siamlearn import plots
from siamlearn.data.image_set import ImageSet
from siamlearn.embeddings import embed
from siamlearn.evaluation import evaluate
from siamlearn.functional.distances import euclidean
from siamlearn.functional.pairs import Distance
from siamlearn.train.callbacks import Callback, due

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from siamlearn.train.trainer import Trainer

__all__ = ["Evaluate", "Plots"]


@final
class Evaluate(Callback):
    """Add what the net is worth on pictures to the epoch's row: auc, eer and rank1.

    This is done after the first epoch, every so many epochs, and after the last one. Callbacks
    that read these values, or write the row, stand after this one.

    Args:
        images: people that are not trained on; all pairs of their pictures are compared.
        every: epochs from one evaluation to the next.
        distance: how far apart two embeddings are.

    Raises:
        ValueError: when ``every`` is below 1.

    Example:
        >>> from siamlearn.data.drawn import DrawnFaces
        >>> Evaluate(DrawnFaces(3, 2), every=5).every
        5
    """

    def __init__(self, images: ImageSet, *, every: int = 1, distance: Distance = euclidean) -> None:
        self.images, self.every, self.distance = images, _at_least_one(every), distance

    def on_epoch_end(self, trainer: Trainer) -> None:
        if due(trainer, self.every):
            found = embed(trainer.net, self.images, distance=self.distance, progress=False)
            report = evaluate(found, baselines=False, audit=False, resamples=0, progress=False)
            values = {"auc": report.auc, "eer": report.eer, "rank1": report.rank1}
            trainer.log[-1].update({name: float(value) for name, value in values.items()})


@final
class Plots(Callback):
    """Draw how training goes: losses, embeddings, distances and error rates on these pictures.

    Drawn are the curves of the loss, the embeddings two dimensions at a time, the histograms of
    genuine and impostor distances, ROC, precision against recall, and accuracy against the
    threshold, after the first epoch, every so many epochs, and after the last one.

    Args:
        images: people that are not trained on, ``validation``.
        folder: where pictures are saved, as ``epoch-0003/roc.png``; nowhere if left out.
        every: epochs from one set of pictures to the next.
        show: also show them, in a notebook.
        distance: how far apart two embeddings are.

    Raises:
        ModuleNotFoundError: when matplotlib is not installed, with the pip command to run.
        ValueError: when ``every`` is below 1, when the figures would be neither saved nor shown,
            or when they are to be shown outside of a notebook.

    Example:
        >>> from siamlearn.data.drawn import DrawnFaces
        >>> Plots(DrawnFaces(3, 2), "runs/plots", every=5).every
        5
    """

    def __init__(
        self,
        images: ImageSet,
        folder: str | Path | None = None,
        *,
        every: int = 1,
        show: bool = False,
        distance: Distance = euclidean,
    ) -> None:
        if folder is None and not show:
            msg = "the plots would be neither saved nor shown; pass a folder, or show=True"
            raise ValueError(msg)
        plots.canvas.new_figure((1, 1))  # a missing matplotlib is found now, not after an epoch
        self.images, self.every, self.distance = images, _at_least_one(every), distance
        self.folder = None if folder is None else Path(folder)
        self._show = _notebook_display() if show else None

    def on_epoch_end(self, trainer: Trainer) -> None:
        if not due(trainer, self.every):
            return
        # All ranks embed, each a share, but one draws.
        found = embed(trainer.net, self.images, distance=self.distance, progress=False)
        if not trainer.first:
            return
        report = evaluate(found, baselines=False, audit=False, progress=False)
        figures: dict[str, Figure | Axes] = {
            "loss": plots.training_curves(trainer.log),
            "embeddings": plots.embedding_maps(found),
            "distances": plots.distance_histogram(report),
            "roc": plots.roc(report),
            "precision_recall": plots.precision_recall(report),
            "accuracy": plots.accuracy(report),
        }
        for name, figure in figures.items():
            if self.folder is not None:
                plots.save(figure, self.folder / f"epoch-{trainer.epoch:04d}" / f"{name}.png")
            if self._show is not None:
                self._show(getattr(figure, "figure", figure))


def _notebook_display() -> Callable[[object], object]:
    shell = sys.modules.get("IPython")
    if shell is None or shell.get_ipython() is None:
        msg = "show=True shows figures in a notebook, and this is none; pass a folder instead"
        raise ValueError(msg)
    display: Callable[[object], object] = shell.display.display
    return display


def _at_least_one(every: int) -> int:
    if every < 1:
        msg = f"every must be at least 1 epoch, got {every}"
        raise ValueError(msg)
    return every

"""How a training went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from siamlearn.plots.canvas import FAINT, GENUINE, IMPOSTOR, PEOPLE, canvas, dressed, legend, whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["range_test", "training_curves"]


class RatesTried(Protocol):
    """What a range test found: see :class:`siamlearn.RangeTest`."""

    @property
    def rates(self) -> Sequence[float]: ...
    @property
    def losses(self) -> Sequence[float]: ...
    @property
    def smoothed(self) -> Sequence[float]: ...
    @property
    def suggestion(self) -> float | None: ...


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
        TypeError: the log has no rows, as a tensor has none.
        ValueError: if no row has any of the values.

    Example:
        >>> log = [{"epoch": 1, "loss": 0.9, "val_loss": 1.0}, {"epoch": 2, "loss": 0.5}]
        >>> [line.get_label() for line in training_curves(log).lines]
        ['training', 'validation', 'lowest, epoch 1']
    """
    if isinstance(log, str) or not isinstance(log, Sequence):
        msg = f"training curves are of rows, as trainer.log has them, got {type(log).__name__}"
        raise TypeError(msg)
    for row in log:
        if not isinstance(row, Mapping):
            msg = f"each row of a log names its values, as in trainer.log, got {type(row).__name__}"
            raise TypeError(msg)
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
    legend(ax)
    return dressed(ax, "Training", "epoch", "loss" if "loss" in values else "value")


def range_test(found: RatesTried, *, ax: Axes | None = None) -> Axes:
    """The loss at each learning rate that was tried, and the one that is suggested.

    Args:
        found: what :func:`siamlearn.find_learning_rate` gave.

    Example:
        >>> from types import SimpleNamespace
        >>> curve = dict(rates=[0.01, 0.1, 1.0], losses=[1.0, 0.7, 0.9], smoothed=[1.0, 0.8, 0.8])
        >>> range_test(SimpleNamespace(**curve, suggestion=0.1)).get_xscale()
        'log'
    """
    ax = canvas(ax)
    ax.plot(found.rates, found.losses, lw=1, color=FAINT, label="each step")
    ax.plot(found.rates, found.smoothed, lw=1.5, color=GENUINE, label="smoothed")
    if found.suggestion is not None:
        label = f"suggested, {found.suggestion:.2g}"
        ax.axvline(found.suggestion, ls="--", lw=1, color=IMPOSTOR, label=label)
    ax.set_xscale("log")
    legend(ax, "upper left")
    return dressed(ax, "Which learning rate", "learning rate", "loss after the step")

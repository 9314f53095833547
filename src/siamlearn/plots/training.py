"""How a training went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from siamlearn.plots.canvas import GENUINE, IMPOSTOR, PEOPLE, canvas, dressed, legend, whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["training_curves"]


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

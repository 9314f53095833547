"""How several trainings went, beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

from siamlearn.plots.canvas import GENUINE, IMPOSTOR, OTHERS, canvas, dressed, legend, short, whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["training_compared"]

NAMES = {"loss": "training", "val_loss": "validation"}
LINES = ("-", "--", ":", "-.")


def training_compared(
    logs: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    values: Sequence[str] = ("loss", "val_loss"),
    ax: Axes | None = None,
) -> Axes:
    """How several trainings went: a colour for each, a kind of line for each value.

    Args:
        logs: the log of each run, under its name.
        values: which columns of the logs; up to four.

    Raises:
        ValueError: if no run has any of the values, or there are more values than kinds of line.

    Example:
        >>> logs = {"one": [{"epoch": 1, "loss": 0.9}], "two": [{"epoch": 1, "loss": 0.7}]}
        >>> [line.get_label() for line in training_compared(logs).lines]
        ['one, training', 'two, training']
    """
    if len(values) > len(LINES):
        msg = f"curves of up to {len(LINES)} values can be told apart, got {len(values)}"
        raise ValueError(msg)
    curves = {
        (run, value): [(r["epoch"], r[value]) for r in log if r.get(value) is not None]
        for run, log in logs.items()
        for value in values
    }
    if not any(curves.values()):
        msg = (
            f"a curve needs a row with {' or '.join(values)}, but none of the {len(logs)} logs "
            "has one; name other values"
        )
        raise ValueError(msg)
    ax = canvas(ax)
    colours = dict(zip(logs, cycle((GENUINE, IMPOSTOR, *OTHERS)), strict=False))
    lines = dict(zip(values, LINES, strict=False))
    for (run, value), points in curves.items():
        if not points:
            continue
        ax.plot(
            *zip(*points, strict=True),
            ls=lines[value],
            marker="o" if len(points) < 30 else "",
            ms=3,
            lw=1.5,
            color=colours[run],
            label=f"{short(run, 30)}, {NAMES.get(value, value)}",
        )
    whole(ax)
    if all(y >= 0 for points in curves.values() for _, y in points):
        ax.set_ylim(bottom=0)
    legend(ax)
    return dressed(ax, "Training", "epoch", "loss" if "loss" in values else "value")

"""Words and pictures at points, so that none covers another.

Where they stand is measured in points (1/72 inch), which do not change with the resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from siamlearn.plots.canvas import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["labelled", "pictured", "settled", "spread", "widened"]


def settled(ax: Axes) -> None:
    """Let the layout have its way, so that places on the page are known.

    Example:
        >>> from siamlearn.plots.canvas import canvas
        >>> ax = canvas(None)
        >>> before = ax.get_position().x0
        >>> settled(ax)
        >>> bool(ax.get_position().x0 == before)
        False
    """
    from matplotlib.figure import Figure

    figure = ax.get_figure()
    while figure is not None and not isinstance(figure, Figure):
        figure = figure.get_figure()
    if figure is not None:
        figure.draw_without_rendering()


def widened(ax: Axes, size: tuple[float, float]) -> None:
    """Widen the limits until a picture in the middle of any point that is drawn is within them.

    Args:
        size: width and height of a picture, in points (1/72 inch).

    Example:
        >>> from siamlearn.plots.canvas import canvas
        >>> ax = canvas(None)
        >>> dots = ax.scatter([0, 1], [0, 1])
        >>> widened(ax, (20, 20))
        >>> bool(ax.get_xlim()[0] < -0.05)
        True
    """
    settled(ax)
    inside = ax.get_window_extent()
    wide, high = (72 * length / _dots_per_inch(ax) for length in (inside.width, inside.height))
    # Margins are parts of what is drawn, not of the axes.
    parts = (min(0.8, side / length) for side, length in zip(size, (wide, high), strict=True))
    x, y = (0.03 + part / 2 / (1 - part) for part in parts)
    ax.margins(x, y)


def spread(
    ax: Axes, points: Float[Tensor, "n 2"], size: tuple[float, float], *, order: Sequence[int]
) -> list[int]:
    """Which pictures can stand at their points with none over another.

    Args:
        points: in the units of the axes.
        size: width and height of a picture, in points (1/72 inch).
        order: whose turn it is; who comes first takes the place.

    Example:
        >>> from siamlearn.plots.canvas import canvas
        >>> points = torch.tensor([[0.5, 0.5], [0.5, 0.51], [0.1, 0.1]])
        >>> spread(canvas(None), points, (10, 10), order=range(3))
        [0, 2]
    """
    place = torch.from_numpy(ax.transData.transform(points.numpy()))
    place = place * 72 / _dots_per_inch(ax)
    taken: list[int] = []
    for k in order:
        apart = (place[taken] - place[k]).abs() >= torch.tensor(size)
        if bool(apart.any(dim=1).all()):
            taken.append(k)
    return taken


def pictured(
    ax: Axes, pixels: UInt8[Tensor, "c h w"], at: tuple[float, float], *, tall: float, colour: str
) -> None:
    """A small picture with a coloured frame, its middle at a point.

    Args:
        tall: its height, in points (1/72 inch).

    Example:
        >>> from siamlearn.plots.canvas import canvas
        >>> ax = canvas(None)
        >>> pictured(ax, torch.zeros(1, 4, 4).byte(), (0.5, 0.5), tall=20, colour="red")
        >>> len(ax.artists)
        1
    """
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    rows = pixels.movedim(0, -1).expand(-1, -1, 3)
    picture = OffsetImage(rows.numpy(), zoom=tall / pixels.shape[1])
    box = AnnotationBbox(
        picture,
        at,
        pad=0.08,
        bboxprops={"edgecolor": colour, "linewidth": 1.4, "facecolor": colour},
    )
    box.set_in_layout(False)
    ax.add_artist(box)


def labelled(
    ax: Axes,
    points: Float[Tensor, "n 2"],
    names: Sequence[str],
    *,
    around: Float[Tensor, "m 2"] | None = None,
    most: int | None = None,
) -> list[str]:
    """Write names beside their points, those that come first before the others.

    A name for which there is no room, with no point and no other name under it, is left out.

    Args:
        points: in the units of the axes, finite.
        names: as many.
        around: all points that are drawn, where they are more.
        most: at most so many names.

    Returns:
        The names that were written.

    Example:
        >>> from siamlearn.plots.canvas import canvas
        >>> points = torch.tensor([[0.2, 0.2], [0.8, 0.8]])
        >>> labelled(canvas(None), points, ["anna", "bob"])
        ['anna', 'bob']
    """
    from matplotlib.transforms import Bbox

    settled(ax)
    inch = _dots_per_inch(ax)
    inside = ax.get_window_extent()
    taken = [
        Bbox.from_extents(x - inch / 36, y - inch / 36, x + inch / 36, y + inch / 36)
        for x, y in ax.transData.transform((points if around is None else around).numpy())
    ]
    written: list[str] = []
    for (x, y), name in zip(points.tolist(), names, strict=True):
        if len(written) == most:
            break
        text = ax.annotate(
            name, (x, y), (0, 0), textcoords="offset points", fontsize=7, color=INK, zorder=5
        )
        text.set_in_layout(False)
        for far, (across, up) in product((5, 12), PLACES):
            text.set(ha=SIDES[across], va=HEIGHTS[up], position=(far * across, far * up))
            box = text.get_window_extent()
            free = inside.x0 <= box.x0 and box.x1 <= inside.x1
            free = free and inside.y0 <= box.y0 and box.y1 <= inside.y1
            if free and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                written.append(name)
                break
        else:
            text.remove()
    return written


PLACES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
SIDES = {1: "left", 0: "center", -1: "right"}
HEIGHTS = {1: "bottom", 0: "center", -1: "top"}


def _dots_per_inch(ax: Axes) -> float:
    figure = ax.get_figure()
    return 72.0 if figure is None else float(figure.dpi)

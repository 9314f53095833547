"""Maps of embeddings: a dot or a picture for each, a colour for each identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from siamlearn.embeddings import Embeddings
from siamlearn.inspection.maps import Directions, Map, directions, pca_map
from siamlearn.plots.canvas import INK, MARKERS, PEOPLE, canvas, dressed, new_figure, require, short
from siamlearn.plots.placing import pictured, spread, widened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["embedding_map", "embedding_maps"]

NAMED = 60  # beyond so many people, a legend helps nobody and colours with markers come again


def embedding_map(
    embeddings: Embeddings | Map,
    dimensions: tuple[int, int] | None = None,
    *,
    pictures: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Embeddings in the plane: a dot for each picture, a colour for each identity.

    Args:
        embeddings: themselves, or laid out by :func:`siamlearn.inspection.tsne_map` and the like.
        dimensions: which two, counted from 0, instead of the first two principal axes.
        pictures: how tall the pictures are drawn, in points (24 is a third of an inch), framed in
            the colour of their person; None draws none. So many are drawn as do not cover each
            other, of each person one before any second; the others stay dots.

    Raises:
        TypeError: something else is to be drawn.
        ValueError: pictures are asked for, and the embeddings have none.

    Example:
        >>> import siamlearn as sl
        >>> people = sl.embed(torch.nn.Flatten(), sl.DrawnFaces(3, 4))
        >>> embedding_map(people, (0, 5)).get_ylabel()
        'dimension 6'
    """
    if not isinstance(embeddings, Map):
        require(embeddings, Embeddings, "embed(net, images)")
    ax = canvas(ax, size=(5.6, 4.2) if pictures is None else (8.0, 6.4))
    if isinstance(embeddings, Map):
        laid_out, title = embeddings, f", by {embeddings.name}"
    elif dimensions is None:
        laid_out, title = pca_map(embeddings), ""
    else:
        names = [f"dimension {d + 1}" for d in dimensions]
        points = embeddings.vectors[:, list(dimensions)]
        laid_out, title = Map(points, (names[0], names[1]), "dimensions", embeddings), ""
    shown = laid_out.embeddings
    _dots(ax, laid_out.points, shown, size=16 if pictures is None else 13)
    handles, names = ax.get_legend_handles_labels()
    if names:
        ax.legend(
            handles,
            names,
            frameon=False,
            fontsize=7,
            ncols=-(-len(names) // 20),
            loc="upper left",
            bbox_to_anchor=(1.0, 1.02),
            handletextpad=0.1,
            columnspacing=0.8,
        )
    dressed(ax, _headline(shown) + title, *laid_out.axes)
    if not any(laid_out.axes):  # places along axes that mean nothing
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    if pictures is not None:
        _portraits(ax, laid_out, pictures)
    return ax


def embedding_maps(embeddings: Embeddings | Directions, *, panels: int = 6) -> Figure:
    """All dimensions of the embeddings, two at a time, with one legend.

    Where that would take too many panels, the first principal axes are drawn instead, and each
    says which share of the variance lies along it.

    Args:
        embeddings: themselves, or what :func:`siamlearn.inspection.directions` made of them.
        panels: at most so many maps.

    Example:
        >>> import siamlearn as sl
        >>> people = sl.embed(torch.nn.Flatten(), sl.DrawnFaces(3, 4))
        >>> [ax.get_ylabel()[:16] for ax in embedding_maps(people, panels=2).axes]
        ['principal axis 2', 'principal axis 4']
    """
    if not isinstance(embeddings, Directions):
        require(embeddings, Embeddings, "embed(net, images)")
        embeddings = directions(embeddings, most=2 * panels)
    points, axes, shown = embeddings.points, embeddings.axes, embeddings.embeddings
    last = min(2 * panels, len(axes)) - 1
    # An odd last dimension is drawn beside the one before it.
    pairs = [(i, i + 1) if i < last else (max(0, i - 1), i) for i in range(0, last + 1, 2)]
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    figure = new_figure((3.1 * columns + 1.2, 2.8 * rows + 0.3))
    for place, (i, j) in enumerate(pairs, start=1):
        ax = figure.add_subplot(rows, columns, place)
        _dots(ax, points[:, [i, j]], shown)
        dressed(ax, "", axes[i], axes[j])
    handles, names = figure.axes[0].get_legend_handles_labels()
    if names:
        figure.legend(
            handles,
            names,
            loc="outside right upper",
            frameon=False,
            fontsize=7,
            ncols=-(-len(names) // (18 * rows)),
            handletextpad=0.1,
            columnspacing=0.8,
        )
    figure.suptitle(_headline(shown), fontsize=10, color=INK)
    return figure


def _portraits(ax: Axes, laid_out: Map, tall: float) -> None:
    """The pictures at their points, as many as there is room for."""
    images = laid_out.embeddings.images
    if images is None:
        msg = (
            "pictures can be drawn only where the embeddings have their images, got "
            f"{laid_out.embeddings} without; embed(net, images) keeps them"
        )
        raise ValueError(msg)
    _, height, width = images.shape
    size = (tall * width / height + 3, tall + 3)
    widened(ax, size)
    present, person = torch.unique(laid_out.embeddings.labels, return_inverse=True)
    # Everybody's first picture, then everybody's second, and so on.
    turn = torch.zeros_like(person)
    for who in range(len(present)):
        turn[person == who] = torch.arange(int((person == who).sum()))
    order = (turn * len(present) + person).argsort().tolist()
    for k in spread(ax, laid_out.points, size, order=order):
        x, y = laid_out.points[k].tolist()
        colour = PEOPLE[int(person[k]) % len(PEOPLE)]
        pictured(ax, images.pixels[k], (x, y), tall=tall, colour=colour)


def _dots(
    ax: Axes, points: Float[Tensor, "n 2"], embeddings: Embeddings, *, size: float = 16
) -> None:
    """A dot for each picture; identities take turns with nine colours and seven markers."""
    present, order = torch.unique(embeddings.labels, return_inverse=True)
    kinds = len(PEOPLE) * len(MARKERS)
    for kind in range(min(kinds, len(present))):
        x, y = points[order % kinds == kind].T
        ax.scatter(
            x,
            y,
            s=size,
            color=PEOPLE[kind % len(PEOPLE)],
            marker=MARKERS[kind % len(MARKERS)],
            alpha=0.85,
            linewidths=0,
            label=short(embeddings.identities[int(present[kind])], 24)
            if len(present) <= NAMED
            else None,
        )


def _headline(embeddings: Embeddings) -> str:
    return f"Embeddings of {len(embeddings):,} pictures of {len(embeddings.people):,} people"

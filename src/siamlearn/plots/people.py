"""The pictures and the people on them: contact sheets, maps of embeddings, answers of a gallery."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from siamlearn.data.image_set import ImageSet
from siamlearn.embeddings import Embeddings
from siamlearn.plots.canvas import INK, MARKERS, PEOPLE, RIGHT, WRONG, canvas, dressed, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from siamlearn.gallery import Match

__all__ = ["embedding_map", "embedding_maps", "faces", "matches"]

NAMED = 60  # beyond so many people, a legend helps nobody and colours with markers come again


def faces(
    images: ImageSet, *, people: int = 10, pictures: int = 10, ax: Axes | None = None
) -> Axes:
    """A contact sheet: a row for each person, with their pictures side by side.

    Args:
        people: at most so many rows, from the first identity on.
        pictures: at most so many pictures in a row.

    Example:
        >>> import siamlearn as sl
        >>> sheet = faces(sl.DrawnFaces(identities=4, pictures=3), people=2)
        >>> [name.get_text() for name in sheet.get_yticklabels()]
        ['s1', 's2']
    """
    labels = torch.unique(images.labels)[:people]
    rows = [(images.labels == label).nonzero().flatten()[:pictures] for label in labels]
    channels, height, width = images.shape
    down, across = height + height // 20, width + width // 20
    columns = max(map(len, rows))
    shape = (len(rows) * down, columns * across, channels)
    sheet = torch.full(shape, 255, dtype=torch.uint8)
    for top, row in zip(range(0, shape[0], down), rows, strict=True):
        for left, picture in zip(range(0, shape[1], across), row, strict=False):
            pixels = images.pixels[picture].movedim(0, -1)
            sheet[top : top + height, left : left + width] = pixels
    ax = canvas(ax, size=(0.6 * columns + 0.5, 0.6 * len(rows) * height / width))
    _show(ax, sheet)
    middle = [top + height / 2 for top in range(0, shape[0], down)]
    names = [images.identities[label] for label in labels.tolist()]
    ax.set_yticks(middle, names, fontsize=8, color=INK)
    ax.tick_params(length=0)
    return ax


def embedding_map(
    embeddings: Embeddings,
    dimensions: tuple[int, int] | None = (0, 1),
    *,
    ax: Axes | None = None,
) -> Axes:
    """Two dimensions of the embeddings: a dot for each picture, a colour for each identity.

    Args:
        dimensions: which two, counted from 0; None for the first two principal axes.

    Example:
        >>> import siamlearn as sl
        >>> people = sl.embed(torch.nn.Flatten(), sl.DrawnFaces(3, 4))
        >>> embedding_map(people, (0, 5)).get_ylabel()
        'dimension 6'
    """
    ax = canvas(ax, size=(5.6, 4.2))
    points, axes = _axes_of(embeddings, most=0 if dimensions is None else None)
    x, y = dimensions or (0, min(1, len(axes) - 1))
    _dots(ax, points[:, [x, y]], embeddings)
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
    return dressed(ax, _headline(embeddings), axes[x], axes[y])


def embedding_maps(embeddings: Embeddings, *, panels: int = 6) -> Figure:
    """All dimensions of the embeddings, two at a time, with one legend.

    Where that would take too many panels, the first principal axes are drawn instead, and each
    says which share of the variance lies along it.

    Args:
        panels: at most so many maps.

    Example:
        >>> import siamlearn as sl
        >>> people = sl.embed(torch.nn.Flatten(), sl.DrawnFaces(3, 4))
        >>> [ax.get_ylabel()[:16] for ax in embedding_maps(people, panels=2).axes]
        ['principal axis 2', 'principal axis 4']
    """
    points, axes = _axes_of(embeddings, most=2 * panels)
    last = min(2 * panels, len(axes)) - 1
    # An odd last dimension is drawn beside the one before it.
    pairs = [(i, i + 1) if i < last else (max(0, i - 1), i) for i in range(0, last + 1, 2)]
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    figure = new_figure((3.1 * columns + 1.2, 2.8 * rows + 0.3))
    for place, (i, j) in enumerate(pairs, start=1):
        ax = figure.add_subplot(rows, columns, place)
        _dots(ax, points[:, [i, j]], embeddings)
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
    figure.suptitle(_headline(embeddings), fontsize=10, color=INK)
    return figure


def matches(
    probes: ImageSet, found: Sequence[Match], enrolled: ImageSet, *, columns: int = 2
) -> Figure:
    """Each probe beside the person whom the gallery named, and the runner-up.

    A green tick is a right answer, a red cross a wrong one; for somebody who is not enrolled,
    "nobody" is the right answer. People are shown by their first enrolled picture; who was
    nearest, but not near enough, is faint.

    Args:
        probes: the pictures asked about, with whom they truly show.
        found: the gallery's answer for each probe.
        enrolled: pictures of the people in the gallery.
        columns: how many answers stand side by side.

    Raises:
        ValueError: if there is not one answer for each probe.

    Example:
        >>> import siamlearn as sl
        >>> from siamlearn.gallery import Match
        >>> people = sl.DrawnFaces(identities=2, pictures=2)
        >>> match = Match("s1", 0.1, "s2", 0.9, threshold=0.4, nearest="s1")
        >>> [ax.get_title() for ax in matches(people.subset([1]), [match], people).axes]
        ['who is this?\\ns1/2', '✓ s1\\n0.10 ≤ 0.40', 'next: s2\\n0.90']
    """
    if len(found) != len(probes):
        msg = (
            f"each probe must have one answer, got {len(found)} for {len(probes)} probes; "
            "identify every probe, in order"
        )
        raise ValueError(msg)
    rows = -(-len(probes) // columns)
    _, height, width = probes.shape
    figure = new_figure((3.9 * columns, rows * (1.15 * height / width + 0.5)))
    blocks = figure.subfigures(rows, columns, squeeze=False, wspace=0.04, hspace=0.04).flatten()
    for block, k in zip(blocks, range(len(probes)), strict=False):
        truth = probes.identities[int(probes.labels[k])]
        _answer(block, probes.pixels[k], probes.names[k], truth, found[k], enrolled)
    return figure


def _answer(
    block: SubFigure, probe: Tensor, name: str, truth: str, match: Match, enrolled: ImageSet
) -> None:
    """One answer: the probe, the one it was taken for with a tick or a cross, the runner-up."""
    right = match.name == (truth if truth in enrolled.people else None)
    colour, sign = (RIGHT, "✓") if right else (WRONG, "✗")
    block.set_facecolor("#F6F6F6")
    asked, best, second = block.subplots(1, 3)
    _picture(asked, probe, f"who is this?\n{name}", INK)
    distance, limit = f"{match.distance:.2f}", f"{match.threshold:.2f}"
    if match.name is None:
        far = f"{match.nearest}: {distance} > {limit}" if match.nearest else f"{distance} > {limit}"
        _picture(
            best, _portrait(enrolled, match.nearest), f"{sign} nobody\n{far}", colour, faint=True
        )
    else:
        near = f"{sign} {match.name}\n{distance} ≤ {limit}"
        _picture(best, _portrait(enrolled, match.name), near, colour)
    for side in best.spines.values():
        side.set(visible=True, color=colour, linewidth=2.5)
    if match.runner_up is not None:
        text = f"next: {match.runner_up}\n{match.runner_up_distance:.2f}"
        _picture(second, _portrait(enrolled, match.runner_up), text, "#777777")
    else:
        second.set_axis_off()


def _portrait(images: ImageSet, name: str | None) -> Tensor:
    """The first picture of a person, or an empty one where there is none."""
    if name not in images.people:
        return torch.full_like(images.pixels[0], 245)
    return images.pixels[int((images.labels == images.identities.index(name)).nonzero()[0])]


def _picture(ax: Axes, pixels: Tensor, text: str, colour: str, *, faint: bool = False) -> None:
    """A picture with words above it; faint and with a question mark where it is not an answer."""
    _show(ax, pixels.movedim(0, -1), alpha=0.25 if faint else 1)
    if faint:
        question = ax.text(0.5, 0.5, "?", fontsize=32, color=colour, transform=ax.transAxes)
        question.set(ha="center", va="center")
    ax.set_yticks([])
    ax.set_title(text, fontsize=8, color=colour)


def _show(ax: Axes, pixels: UInt8[Tensor, "h w c"], *, alpha: float = 1) -> None:
    ax.imshow(pixels.numpy(), cmap="gray", vmin=0, vmax=255, alpha=alpha)
    ax.set_xticks([])
    ax.spines[:].set_visible(False)


def _dots(ax: Axes, points: Float[Tensor, "n 2"], embeddings: Embeddings) -> None:
    """A dot for each picture; identities take turns with nine colours and seven markers."""
    present, order = torch.unique(embeddings.labels, return_inverse=True)
    kinds = len(PEOPLE) * len(MARKERS)
    for kind in range(min(kinds, len(present))):
        x, y = points[order % kinds == kind].T
        ax.scatter(
            x,
            y,
            s=16,
            color=PEOPLE[kind % len(PEOPLE)],
            marker=MARKERS[kind % len(MARKERS)],
            alpha=0.85,
            linewidths=0,
            label=embeddings.identities[int(present[kind])] if len(present) <= NAMED else None,
        )


def _axes_of(embeddings: Embeddings, *, most: int | None) -> tuple[Tensor, list[str]]:
    """The dimensions themselves or, where they are more than that, all principal axes."""
    vectors = embeddings.vectors
    if most is None or vectors.shape[1] <= most:
        return vectors, [f"dimension {d + 1}" for d in range(vectors.shape[1])]
    left, scale, _ = torch.linalg.svd(vectors - vectors.mean(dim=0), full_matrices=False)
    share = scale.square() / scale.square().sum().clamp(min=1e-12)
    share = share[: max(1, len(vectors) - 1)]  # n points span n - 1 axes
    return left * scale, [f"principal axis {d + 1} ({part:.0%})" for d, part in enumerate(share)]


def _headline(embeddings: Embeddings) -> str:
    return f"Embeddings of {len(embeddings):,} pictures of {len(embeddings.people):,} people"

"""The pictures and the people on them: contact sheets, and answers of a gallery."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import UInt8
from torch import Tensor

from siamlearn.data.image_set import ImageSet
from siamlearn.plots.canvas import INK, RIGHT, WRONG, canvas, new_figure, require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from siamlearn.answers import Match

__all__ = ["faces", "matches", "portrait"]


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
    require(images, ImageSet, "from_folder(…)")
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
        >>> from siamlearn.answers import Match
        >>> people = sl.DrawnFaces(identities=2, pictures=2)
        >>> match = Match("s1", 0.1, "s2", 0.9, threshold=0.4, nearest="s1")
        >>> [ax.get_title() for ax in matches(people.subset([1]), [match], people).axes]
        ['who is this?\\ns1/2', '✓ s1\\n0.10 ≤ 0.40', 'next: s2\\n0.90']
    """
    require(probes, ImageSet, "from_folder(…)")
    require(enrolled, ImageSet, "from_folder(…)")
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
            best, portrait(enrolled, match.nearest), f"{sign} nobody\n{far}", colour, faint=True
        )
    else:
        near = f"{sign} {match.name}\n{distance} ≤ {limit}"
        _picture(best, portrait(enrolled, match.name), near, colour)
    for side in best.spines.values():
        side.set(visible=True, color=colour, linewidth=2.5)
    if match.runner_up is not None:
        text = f"next: {match.runner_up}\n{match.runner_up_distance:.2f}"
        _picture(second, portrait(enrolled, match.runner_up), text, "#777777")
    else:
        second.set_axis_off()


def portrait(images: ImageSet, name: str | None) -> Tensor:
    """The first picture of a person, or an empty one where there is none.

    Example:
        >>> from siamlearn.data.drawn import DrawnFaces
        >>> portrait(DrawnFaces(2, 2, size=(28, 23)), "nobody").unique()
        tensor([245], dtype=torch.uint8)
    """
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

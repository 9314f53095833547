"""Who is told wrongly: the worst pairs, the zoo, people taken for each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from siamlearn.data.image_set import ImageSet
from siamlearn.inspection.pairs import Pair, WorstPairs
from siamlearn.inspection.people import PeopleDistances, Zoo
from siamlearn.plots.canvas import (
    FAINT,
    GENUINE,
    IMPOSTOR,
    INK,
    RIGHT,
    WRONG,
    canvas,
    dressed,
    require,
    short,
)
from siamlearn.plots.people import portrait
from siamlearn.plots.placing import labelled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["confusions", "people_distances", "worst_pairs", "zoo"]

# Colour and marker of each kind of people; the marker says it, too.
KINDS = {
    "sheep": ("#999999", "o"),
    "dove": (RIGHT, "^"),
    "phantom": ("#AA4499", "s"),
    "chameleon": ("#56B4E9", "D"),
    "worm": (WRONG, "v"),
}
NARROWEST = 4.2  # inches, for a title to fit
NAMED = 45  # people whose names can be read beside a matrix


def worst_pairs(found: WorstPairs, *, columns: int = 2, ax: Axes | None = None) -> Axes:
    """The genuine pairs farthest apart on the left, the nearest impostor pairs on the right.

    Above each pair stand the people and the distance, below each picture its name.

    Args:
        columns: how many pairs of either kind stand side by side.

    Raises:
        ValueError: the embeddings have no pictures, or there is no pair at all.

    Example:
        >>> import siamlearn as sl
        >>> people = sl.embed(torch.nn.Flatten(), sl.DrawnFaces(3, 4))
        >>> report = sl.evaluate(people, baselines=False)
        >>> len(worst_pairs(sl.inspection.worst_pairs(report, count=2)).images)
        8
    """
    require(found, WorstPairs, "inspection.worst_pairs(report)")
    images = found.probes.images, found.references.images
    if images[0] is None or images[1] is None:
        msg = (
            "pairs can be shown only where the embeddings have their images, got none for "
            f"{found.probes if images[0] is None else found.references}; embed(net, images) "
            f"keeps them"
        )
        raise ValueError(msg)
    pairs = found.genuine, found.impostor
    if not any(pairs):
        msg = "there must be at least one pair to show, got none; inspect a report with pairs"
        raise ValueError(msg)
    rows = -(-max(map(len, pairs)) // columns)
    _, height, width = images[0].shape
    wide, tall = 2 * width / height + 0.3, 1.5
    gap = 0.35
    across = 2 * columns * wide + gap
    ax = canvas(ax, size=(across * 0.82, 0.5 + rows * tall * 0.82))
    for kind, (colour, start) in zip(
        pairs, ((GENUINE, 0.0), (IMPOSTOR, columns * wide + gap)), strict=True
    ):
        for place, pair in enumerate(kind):
            left, top = start + place % columns * wide, -(place // columns) * tall
            _pair(ax, found, pair, (left, top), colour)
    _bare(ax, (-0.1, across - 0.1), (-rows * tall + 0.1, 0.45))
    for start, title in (
        (0.0, "one person, farthest apart"),
        (columns * wide + gap, "two people, nearest"),
    ):
        ax.text(start, 0.2, title, fontsize=9, color=INK, fontweight="bold", va="bottom")
    return ax


def _pair(
    ax: Axes, found: WorstPairs, pair: Pair, corner: tuple[float, float], colour: str
) -> None:
    left, top = corner
    names = []
    ends = (found.probes, pair.probe), (found.references, pair.reference)
    for side, (embeddings, place) in enumerate(ends):
        images = embeddings.images
        assert images is not None
        pixels = images.pixels[place]
        wide = pixels.shape[2] / pixels.shape[1]
        x = left + side * (wide + 0.04)
        _tile(ax, pixels, (x, x + wide, top - 1.22, top - 0.22), colour)
        names.append(embeddings.identities[int(embeddings.labels[place])])
        name = short(embeddings.names[place], 15)
        ax.text(x + wide / 2, top - 1.25, name, fontsize=5.5, color=INK, ha="center", va="top")
    people = " | ".join(short(name, 12) for name in dict.fromkeys(names))
    text = f"{people}  {_three(pair.distance)}"
    ax.text(left, top - 0.19, text, fontsize=7, color=INK, va="bottom")


def _corners(ax: Axes) -> None:
    """The names of the four kinds in the corners where they are."""
    corners = {"doves": (0, 1), "phantoms": (1, 1), "chameleons": (0, 0), "worms": (1, 0)}
    for kind, (x, y) in corners.items():
        place: dict[str, Any] = {"ha": "right" if x else "left", "va": "top" if y else "bottom"}
        at = (0.985 if x else 0.015, 0.985 if y else 0.015)
        ax.text(
            *at, kind, transform=ax.transAxes, color="#888888", fontsize=9, style="italic", **place
        )


def _named(ax: Axes, seen: Zoo, known: Tensor, names: int) -> None:
    """The names of people with most errors, and of those who are outstanding."""
    errors = (seen.fnmr + seen.fmr).where(known, -1)
    plain = torch.tensor([kind == "sheep" for kind in seen.kinds])
    order = errors.argsort(descending=True, stable=True)
    order = order[known[order] & ((errors > 0) | ~plain)[order]][: 3 * names]
    points = torch.stack([seen.genuine, seen.impostor], dim=1)
    labels = [short(seen.names[p], 20) for p in order.tolist()]
    labelled(ax, points[order], labels, around=points[known], most=names)


def _room(values: Float[Tensor, " p"]) -> tuple[float, float]:
    """Limits with room around, also where all are equal."""
    low, high = values.min().item(), values.max().item()
    room = 0.12 * (high - low) if high - low > 1e-6 * abs(high) else 0.5 * (abs(high) or 1)
    return low - room, high + room


def _three(distance: float) -> str:
    return f"{distance:#.3g}".rstrip(".")


def zoo(seen: Zoo, *, names: int = 12, ax: Axes | None = None) -> Axes:
    """Each person by how far they are from their own pictures, and from other people.

    Down and to the right it gets worse. The lines part the quarters that make somebody a dove,
    a chameleon, a phantom or a worm: see :func:`siamlearn.inspection.zoo`.

    Args:
        names: of how many people the names are written, those with most errors first, as far as
            there is room.

    Raises:
        ValueError: nobody has both a genuine and an impostor pair.

    Example:
        >>> import siamlearn as sl
        >>> people = sl.embed(torch.nn.Flatten(), sl.DrawnFaces(5, 3))
        >>> report = sl.evaluate(people, baselines=False)
        >>> zoo(sl.inspection.zoo(report)).get_xlabel()
        'mean distance of own pictures'
    """
    require(seen, Zoo, "inspection.zoo(report)")
    known = torch.tensor([kind != "unknown" for kind in seen.kinds])
    if not known.any():
        msg = (
            "a place in the zoo needs a person with two pictures, beside other people; "
            f"got none among {len(seen.names)}"
        )
        raise ValueError(msg)
    ax = canvas(ax, size=(6.4, 5.0))
    for kind, (colour, marker) in KINDS.items():
        who = [p for p, own in enumerate(seen.kinds) if own == kind]
        if who:
            look: dict[str, Any] = {
                "color": colour,
                "marker": marker,
                "linewidths": 0,
                "alpha": 0.85,
            }
            label = f"{len(who)} {kind if kind == 'sheep' or len(who) == 1 else kind + 's'}"
            ax.scatter(seen.genuine[who], seen.impostor[who], s=30, label=label, **look)
    for draw, ends in ((ax.axvline, seen.genuine_quarters), (ax.axhline, seen.impostor_quarters)):
        for end in ends:
            draw(end, color=FAINT, lw=0.8, ls=":", zorder=0)
    ax.set(xlim=_room(seen.genuine[known]), ylim=_room(seen.impostor[known]))
    _corners(ax)
    title = "Who is hard to recognise, who is taken for others"
    dressed(ax, title, "mean distance of own pictures", "mean distance to other people")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8, labelcolor=INK, frameon=False)
    _named(ax, seen, known, names)
    return ax


def people_distances(
    found: PeopleDistances, *, nearest: bool = False, ax: Axes | None = None
) -> Axes:
    """A matrix of how far people are from each other: groups who look alike are dark blocks.

    On the diagonal is how far people are from themselves; people with one picture are blank.

    Args:
        nearest: the smallest distance between two people, instead of the mean one.

    Example:
        >>> import siamlearn as sl
        >>> people = sl.embed(torch.nn.Flatten(), sl.DrawnFaces(3, 4))
        >>> report = sl.evaluate(people, baselines=False)
        >>> people_distances(sl.inspection.people_distances(report)).get_title()
        'Mean distance between people'
    """
    require(found, PeopleDistances, "inspection.people_distances(report)")
    ax = canvas(ax, size=(6.2, 5.2))
    shown = ax.imshow((found.nearest if nearest else found.mean).numpy(), cmap="viridis")
    people = len(found.names)
    if people <= NAMED:
        size = min(8.0, 260 / people)
        names = [short(name, 14) for name in found.names]
        ax.set_xticks(range(people), names, fontsize=size, rotation=90)
        ax.set_yticks(range(people), names, fontsize=size)
    else:
        ax.set(xticks=[], yticks=[])
    ax.tick_params(length=0, labelcolor=INK)
    ax.spines[:].set_visible(False)
    figure = ax.get_figure()
    if figure is not None:
        bar = figure.colorbar(shown, ax=ax, shrink=0.8)
        bar.set_label("distance", fontsize=9, color=INK)
        bar.ax.tick_params(labelsize=8, colors=INK)
        bar.outline.set_visible(False)
    title = "Smallest" if nearest else "Mean"
    ax.set_title(f"{title} distance between people", fontsize=10, color=INK)
    return ax


def confusions(
    groups: Sequence[Sequence[str]],
    images: ImageSet,
    *,
    rows: int = 8,
    columns: int = 8,
    ax: Axes | None = None,
) -> Axes:
    """People who pass for each other, a row for each group, a picture of each person.

    Single pairs may pass where there is no group: see :func:`worst_pairs`.

    Args:
        groups: names of people, as :func:`siamlearn.inspection.confusions` finds them.
        images: where to find a picture of each.
        rows: at most so many groups.
        columns: at most so many people of a group.

    Example:
        >>> import siamlearn as sl
        >>> faces = sl.DrawnFaces(identities=4, pictures=2)
        >>> ax = confusions([("s1", "s3")], faces)
        >>> [text.get_text() for text in ax.texts]
        ['s1', 's3']
    """
    require(images, ImageSet, "from_folder(…)")
    _, height, width = images.shape
    wide, tall = width / height + 0.12, 1.28
    shown = groups[:rows]
    most = max((min(len(group), columns) for group in shown), default=3)
    more = any(len(group) > columns for group in shown)
    across = (most + more) * wide
    down = max(1, len(shown)) * tall
    ax = canvas(ax, size=(max(NARROWEST, across * 0.8), 0.5 + down * 0.8))
    for row, group in enumerate(shown):
        top = -row * tall
        for column, name in enumerate(group[:columns]):
            x = column * wide
            _tile(ax, portrait(images, name), (x, x + width / height, top - 1, top), WRONG)
            middle = x + width / height / 2
            ax.text(
                middle, top - 1.03, short(name, 12), fontsize=7, color=INK, ha="center", va="top"
            )
        if len(group) > columns:
            rest = f"and {len(group) - columns}\nmore"
            ax.text(columns * wide, top - 0.5, rest, fontsize=8, color=INK, va="center")
    _bare(ax, (-0.1, max(across, NARROWEST / 0.8)), (-down, 0.1))
    title = (
        f"{len(groups)} group{'' if len(groups) == 1 else 's'} of people who pass for each other"
    )
    if len(groups) > rows:
        title += f", the largest {rows}"
    if not groups:
        title = "Of no two people enough pairs pass"
    ax.set_title(title, fontsize=10, color=INK, loc="left")
    return ax


def _tile(
    ax: Axes,
    pixels: UInt8[Tensor, "c h w"],
    extent: tuple[float, float, float, float],
    colour: str,
) -> None:
    """A picture with a frame, from left to right and from bottom to top."""
    from matplotlib.patches import Rectangle

    rows = pixels.movedim(0, -1).expand(-1, -1, 3)
    ax.imshow(rows.numpy(), extent=extent, aspect="equal")
    left, right, bottom, top = extent
    frame = Rectangle((left, bottom), right - left, top - bottom, fill=False, ec=colour, lw=1.2)
    ax.add_patch(frame)


def _bare(ax: Axes, x: tuple[float, float], y: tuple[float, float]) -> None:
    ax.set(xlim=x, ylim=y, xticks=[], yticks=[])
    ax.spines[:].set_visible(False)

"""Checks of pixels: the same picture twice, re-encoded, resized, brightened or mirrored.

Pictures are compared by the fine detail of small grey versions of them: what is left when the
mean of its surroundings is taken from every pixel. Two shots of one person in one pose are alike in
their shades, not in their detail; a copy keeps it.

On the AT&T faces s1 to s31 (112x92) two different pictures correlate to 0.944 at most, copies
through JPEG at quality 50, half the size, another brightness, contrast or gamma to 0.992 at least.

In small pictures it is just this detail that JPEG writes anew. There a coarser one tells, in which
the finest is smoothed away: different pictures of these people correlate to 0.991 at most, at
112x92 as at 28x23; copies of 46x38 through JPEG at quality 50 to 0.998 at least, of 28x23 at
quality 90 to 0.999. What lost more cannot be told from another shot: :func:`not_found` says so.

Axes: n pictures of all parts, q of them at a time beside r others, s pixels of a side, k pairs as
they are and l mirrored ones.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from siamlearn.auditing.copies import across, inside, ordered
from siamlearn.auditing.findings import Finding
from siamlearn.auditing.parts import Part
from siamlearn.data.images import ImageSet

__all__ = ["near_copies", "not_found"]

ALIKE = 0.97  # correlation of the fine detail from which two pictures are one
COARSELY = 0.994  # the same of the coarse detail
SMALL = 100  # pixels of the longer side of a picture, below which its coarse detail is asked too
FAINT = 0.5  # grey values of detail below which a picture shows nothing
BLOCK = 2**22  # correlations held at once
ENOUGH = 2**20  # pairs after which no more are looked for
# Copies that are not found in pictures whose shorter side has fewer pixels than this: tried on
# the AT&T faces and on drawn ones, of which at least 95 in 100 of the others are found.
LOST = {16: "saved as JPEG", 32: "of JPEG quality below 90", 60: "of JPEG quality below 50"}


@dataclass(frozen=True)
class Scale:
    """Which detail is looked at, in pixels of a version of so many of a side."""

    side: int
    around: int  # the surroundings whose mean is taken away
    smooth: int = 1  # what is averaged before


FINE, COARSE = Scale(32, 5), Scale(24, 7, 3)


def near_copies(parts: Mapping[str, Part]) -> Iterator[Finding]:
    """Pictures that are there twice, not byte for byte but to the eye, or mirrored.

    Every picture is compared with every other, in strips, so that memory stays bounded.

    Example:
        >>> import siamlearn as sl
        >>> from siamlearn.auditing.parts import part_of
        >>> faces = sl.DrawnFaces(3, 2)
        >>> turned = sl.from_arrays(faces.pixels[4:5].flip(3), ["s3"])
        >>> parts = {"train": part_of("train", faces), "test": part_of("test", turned)}
        >>> [found] = near_copies(parts)
        >>> found.kind, found.examples
        ('mirrored-pictures', ('train s3/1 = test s3/1',))
    """
    chosen = [part for part in ordered(parts) if part.images is not None]
    if not chosen:
        return
    digests = [digest for part in chosen for digest in part.digests]
    numbers = {digest: number for number, digest in enumerate(dict.fromkeys(digests))}
    content = torch.tensor([numbers[digest] for digest in digests])
    sets = [part.images for part in chosen if part.images is not None]
    ends = [*accumulate(map(len, chosen))]
    for how, pairs in zip(("near-identical", "mirrored"), alike(sets, content), strict=True):
        found: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for left, right in pairs.tolist():
            one, other = bisect_right(ends, left), bisect_right(ends, right)
            places = left - ends[one] + len(chosen[one]), right - ends[other] + len(chosen[other])
            found.setdefault((one, other), []).append(places)
        for (one, other), both in sorted(found.items()):
            if one == other:
                yield from inside(how, chosen[one], both)
            else:
                yield from across(how, chosen[one], chosen[other], both)


def not_found(parts: Iterable[Part]) -> Iterator[str]:
    """Which copies cannot be told from other shots, as the pictures are too small for it.

    Example:
        >>> import siamlearn as sl
        >>> from siamlearn.auditing.parts import part_of
        >>> [*not_found([part_of("test", sl.DrawnFaces(2, 2, size=(46, 38)))])]
        ['copies of JPEG quality below 50, as small as the pictures of test are']
    """
    where: dict[str, list[str]] = {}
    for part in parts:
        shorter = min(part.images.shape[1:]) if part.images is not None else SMALL
        lost = next((how for side, how in LOST.items() if shorter < side), None)
        if lost is not None:
            where.setdefault(lost, []).append(part.role)
    for lost, roles in where.items():
        yield f"copies {lost}, as small as the pictures of {', '.join(roles)} are"


def detail(images: ImageSet, scale: Scale = FINE) -> Float[Tensor, "n s s"]:
    """The detail of each picture, of length 1; zero where there is none."""
    rows = []
    for part in torch.split(images.pixels.cpu(), 256):
        grey = part.float().mean(dim=1, keepdim=True)
        small = F.interpolate(grey, (scale.side, scale.side), mode="bilinear", antialias=True)
        fine = averaged(small, scale.smooth) - averaged(small, scale.around)
        fine = (fine - fine.mean(dim=(-2, -1), keepdim=True)).squeeze(1)
        length = fine.flatten(1).norm(dim=1)[:, None, None]
        rows.append(torch.where(length > FAINT * scale.side, fine / length.clamp(min=FAINT), 0))
    return torch.cat(rows)


def averaged(small: Float[Tensor, "n 1 s s"], around: int) -> Float[Tensor, "n 1 s s"]:
    return F.avg_pool2d(small, around, stride=1, padding=around // 2, count_include_pad=False)


def alike(
    sets: Sequence[ImageSet], content: Int[Tensor, " n"]
) -> tuple[Int[Tensor, "k 2"], Int[Tensor, "l 2"]]:
    """Pairs that show one picture but are not equal: as it is, and mirrored. Each pair once."""
    fine = torch.cat([detail(images) for images in sets])
    shapes = torch.tensor([images.shape[1:] for images in sets for _ in images.names])
    # Pictures of fewer pixels do not have that detail.
    fine[shapes.amin(dim=1) < FINE.side] = 0
    small = shapes.amax(dim=1) < SMALL
    coarse = torch.cat([detail(images, COARSE) for images in sets]) if small.any() else None

    def similar(rows: Tensor, start: int, *, mirrored: bool) -> Bool[Tensor, "q r"]:
        def correlation(detail: Float[Tensor, "n s s"]) -> Float[Tensor, "q r"]:
            asked = detail[rows].flip(2) if mirrored else detail[rows]
            return asked.flatten(1) @ detail[start:].flatten(1).mT

        hits = correlation(fine) >= ALIKE
        if coarse is not None:
            hits |= (correlation(coarse) >= COARSELY) & (small[rows][:, None] | small[start:])
        return hits

    plain: list[Tensor] = []
    turned: list[Tensor] = []
    order = torch.arange(len(content))
    start, kept = 0, 0
    while start < len(content) and kept < ENOUGH:
        rows = order[start : start + max(1, BLOCK // (len(content) - start))]
        right = order[start:]
        later = (right > rows[:, None]) & (content[right] != content[rows][:, None])
        straight = similar(rows, start, mirrored=False)
        plain.append(places(later & straight, start))
        turned.append(places(later & similar(rows, start, mirrored=True) & ~straight, start))
        kept += len(plain[-1]) + len(turned[-1])
        start += len(rows)
    return torch.cat(plain), torch.cat(turned)


def places(hits: Bool[Tensor, "q r"], start: int) -> Int[Tensor, "k 2"]:
    return hits.nonzero() + start

"""Checks of pixels: the same picture twice, re-encoded, resized, brightened or mirrored.

Pictures are compared by the fine detail of small grey versions of them: what is left when the
mean of its surroundings is taken from every pixel. Two shots of one person in one pose are alike in
their shades, not in their detail; a copy keeps it.

On the AT&T faces s1 to s31 (112x92) two different pictures correlate to 0.944 at most, copies
through JPEG at quality 50, half the size, another brightness, contrast or gamma to 0.992 at least.
In pictures of 28x23 that is 0.961, and 0.984 for JPEG at quality 90: so small, a copy that lost
more cannot be told from another shot, and is not found.

Axes: n pictures of all parts, q of them at a time beside r others, s pixels of a side, k pairs as
they are and l mirrored ones.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from itertools import accumulate

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from siamlearn.auditing.copies import across, inside, ordered
from siamlearn.auditing.findings import Finding
from siamlearn.auditing.parts import Part
from siamlearn.data.images import ImageSet

__all__ = ["near_copies"]

SIDE = 32  # pixels of the small versions
AROUND = 5  # pixels of the surroundings
ALIKE = 0.97  # correlation from which two pictures are one
FAINT = 0.5  # grey values of detail below which a picture shows nothing
BLOCK = 2**22  # correlations held at once
ENOUGH = 2**20  # pairs after which no more are looked for


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
    small = torch.cat([detail(part.images) for part in chosen if part.images is not None])
    ends = [*accumulate(map(len, chosen))]
    for how, pairs in zip(("near-identical", "mirrored"), alike(small, content), strict=True):
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


def detail(images: ImageSet) -> Float[Tensor, "n s s"]:
    """The fine detail of each picture, of length 1; zero where there is none."""
    rows = []
    for part in torch.split(images.pixels.cpu(), 256):
        grey = part.float().mean(dim=1, keepdim=True)
        small = F.interpolate(grey, (SIDE, SIDE), mode="bilinear", antialias=True)
        surroundings = F.avg_pool2d(
            small, AROUND, stride=1, padding=AROUND // 2, count_include_pad=False
        )
        fine = small - surroundings
        fine = (fine - fine.mean(dim=(-2, -1), keepdim=True)).squeeze(1)
        length = fine.flatten(1).norm(dim=1)[:, None, None]
        rows.append(torch.where(length > FAINT * SIDE, fine / length.clamp(min=FAINT), 0))
    return torch.cat(rows)


def alike(
    small: Float[Tensor, "n s s"], content: Int[Tensor, " n"]
) -> tuple[Int[Tensor, "k 2"], Int[Tensor, "l 2"]]:
    """Pairs that show one picture but are not equal: as it is, and mirrored. Each pair once."""
    plain: list[Tensor] = []
    mirrored: list[Tensor] = []
    columns = small.flatten(1)
    order = torch.arange(len(small))
    start, kept = 0, 0
    while start < len(small) and kept < ENOUGH:
        rows = order[start : start + max(1, BLOCK // (len(small) - start))]
        right = order[start:]
        later = (right > rows[:, None]) & (content[right] != content[rows][:, None])
        straight = small[rows].flatten(1) @ columns[start:].mT
        flipped = small[rows].flip(2).flatten(1) @ columns[start:].mT
        plain.append(places(later & (straight >= ALIKE), start))
        mirrored.append(places(later & (flipped >= ALIKE) & (straight < ALIKE), start))
        kept += len(plain[-1]) + len(mirrored[-1])
        start += len(rows)
    return torch.cat(plain), torch.cat(mirrored)


def places(hits: Bool[Tensor, "q r"], start: int) -> Int[Tensor, "k 2"]:
    return hits.nonzero() + start

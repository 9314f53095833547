"""The parts of an experiment: what was trained, calibrated, enrolled and tested with.

Axes: n pictures of a part.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import final

import torch
from torch import Tensor

from siamlearn.data.image_set import ImageSet
from siamlearn.embeddings import Embeddings

__all__ = ["Part", "part_of"]


@final
@dataclass(frozen=True, eq=False)
class Part:
    """The pictures of a part, and who is on them by name.

    Two parts may number their identities differently, so only names are compared.

    Args:
        role: "train", "calibration", "gallery", "test" or "images".
        names: what each picture is called.
        who: the name of the person on each picture.
        images: the pictures, where they are at hand.
        embeddings: their embeddings, where they are at hand.
        sessions: when or by which camera each was taken, where that matters.

    Example:
        >>> part = Part("test", ("1.png", "2.png"), ("anna", "anna"))
        >>> part.people, part.counts["anna"]
        (('anna',), 2)
    """

    role: str
    names: tuple[str, ...]
    who: tuple[str, ...]
    images: ImageSet | None = None
    embeddings: Embeddings | None = None
    sessions: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def counts(self) -> Counter[str]:
        """How many pictures each person has."""
        return Counter(self.who)

    @property
    def people(self) -> tuple[str, ...]:
        """Everybody on at least one picture."""
        return tuple(self.counts)

    @cached_property
    def digests(self) -> tuple[bytes, ...]:
        """A hash of the bytes of each picture, or of its embedding where there is no picture.

        Equal bytes of another shape are another picture.
        """
        if self.images is not None:
            key, rows = repr(self.images.shape), self.images.pixels
        elif self.embeddings is not None:
            key, rows = "vectors", self.vectors
        else:
            return (b"",) * len(self)
        block = rows.cpu().contiguous().numpy()
        return tuple(blake2b(row.data, digest_size=16, key=key.encode()).digest() for row in block)

    @property
    def vectors(self) -> Tensor:
        """The embeddings, on the processor and in single precision or double; none at hand: (0, 0).

        Example:
            >>> Part("test", ("1.png",), ("anna",)).vectors.shape
            torch.Size([0, 0])
        """
        if self.embeddings is None:
            return torch.empty(0, 0)
        vectors = self.embeddings.vectors.detach().cpu()
        return vectors if vectors.dtype == torch.float64 else vectors.float()

    @cached_property
    def keys(self) -> tuple[tuple[str, bytes], ...]:
        """By which a picture is known again in another part: its name and its bytes."""
        return tuple(zip(self.names, self.digests, strict=True))

    def picture(self, index: int) -> str:
        """A picture as an example shows it."""
        return f"{self.role} {self.names[index]}"

    def within(self, other: Part) -> bool:
        """Whether every picture of this part is known, by its bytes, to be one of the other's."""
        return self.images is not None and set(self.digests) <= set(other.digests)


def part_of(role: str, given: ImageSet | Embeddings) -> Part:
    """The part that an argument of ``audit`` describes.

    Raises:
        TypeError: it is neither pictures nor embeddings.
        ValueError: there are no pictures in it.

    Example:
        >>> from siamlearn.data.drawn import DrawnFaces
        >>> part_of("train", DrawnFaces(2, 1, size=(8, 6))).who
        ('s1', 's2')
    """
    if not isinstance(given, ImageSet | Embeddings):
        msg = (
            f"{role} must be an ImageSet or Embeddings, got {type(given).__name__}; make them "
            f"with from_folder, from_arrays, or embed(net, images)"
        )
        raise TypeError(msg)
    if not len(given):
        msg = f"{role} must hold a picture or more, got none; leave out {role}= instead"
        raise ValueError(msg)
    images = given if isinstance(given, ImageSet) else given.images
    embeddings = given if isinstance(given, Embeddings) else None
    who = tuple(given.identities[label] for label in given.labels.tolist())
    sessions = None if embeddings is None else embeddings.sessions
    return Part(role, given.names, who, images, embeddings, sessions)

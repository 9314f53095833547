"""Published ways to divide the AT&T faces into what is learned from and what is tested on.

Each protocol takes an `ImageSet` and gives its splits one after the other, so that only one is
in memory at a time. What is trained on a split's ``train`` is judged on its ``probes``.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from siamlearn.data.image_set import ImageSet
from siamlearn.data.randomness import address

__all__ = [
    "Split",
    "bob_atnt",
    "closed_set",
    "compared",
    "content",
    "leave_one_out",
    "notebook",
    "repeated_disjoint",
]

WORLD = (1, 2, 5, 6, 10, 11, 12, 14, 16, 17, 20, 21, 24, 26, 27, 29, 33, 34, 36, 39)
ENROL = (2, 4, 5, 7, 9)


@dataclass(frozen=True)
class Split:
    """What to learn from and what to be judged on.

    Attributes:
        name: the protocol and, where it has several splits, which of them.
        train: the pictures to learn from.
        probes: the pictures that are asked with.
        gallery: the pictures they are compared with; None where each is compared with all the
            other probes: all pairs.

    Example:
        >>> from siamlearn.data.drawn import DrawnFaces
        >>> (split,) = notebook(DrawnFaces(size=(14, 12)))
        >>> split.name, len(split.train), len(split.probes), split.gallery
        ('notebook', 300, 90, None)
    """

    name: str
    train: ImageSet
    probes: ImageSet
    gallery: ImageSet | None = None

    @property
    def digest(self) -> str:
        """A SHA-256 of which pictures, by their names, are in which part.

        The same for the same division, whatever the pictures look like and how large they are.

        Example:
            >>> from siamlearn.data.drawn import DrawnFaces
            >>> small, large = DrawnFaces(size=(14, 12), seed=0), DrawnFaces(size=(28, 23), seed=1)
            >>> next(notebook(small)).digest == next(notebook(large)).digest
            True
        """
        parts = (self.train, self.probes, self.gallery)
        names = [None if part is None else part.names for part in parts]
        return hashlib.sha256(repr((self.name, names)).encode()).hexdigest()

    @property
    def compared(self) -> str:
        """The hash in the report of ``evaluate``, which is of probes and gallery alone."""
        return compared(self.probes, self.gallery)


@runtime_checkable
class Pictures(Protocol):
    """An `ImageSet`, or what was embedded of one."""

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def labels(self) -> Tensor: ...
    @property
    def identities(self) -> tuple[str, ...]: ...


def compared(probes: Pictures, gallery: Pictures | None = None) -> str:
    """A SHA-256 of exactly which pictures of whom are compared, in whatever order they stand.

    Two results can be compared if they agree in it: the reports of ``evaluate`` carry it as
    ``report.protocol.digest``.

    Example:
        >>> from siamlearn.data.drawn import DrawnFaces
        >>> faces = DrawnFaces(3, 2, size=(14, 12))
        >>> compared(faces) == compared(faces.subset(range(5, -1, -1)))
        True
        >>> compared(faces) == compared(faces, faces)
        False
    """
    text = repr([None if part is None else _listed(part) for part in (probes, gallery)])
    return hashlib.sha256(text.encode()).hexdigest()


def content(probes: Pictures, gallery: Pictures | None = None) -> str | None:
    """A SHA-256 of what the compared pictures show, byte for byte; None where they are not at hand.

    Two results of one protocol need not agree in it: the same pictures may have been made smaller.
    Where nobody changed them, a difference says that files were exchanged under their names.

    Example:
        >>> from siamlearn.data.drawn import DrawnFaces
        >>> faces, others = DrawnFaces(3, 2, size=(14, 12)), DrawnFaces(3, 2, size=(14, 12), seed=1)
        >>> compared(faces) == compared(others), content(faces) == content(others)
        (True, False)
    """
    parts = [_hashes(part) for part in (probes, gallery) if part is not None]
    return None if None in parts else hashlib.sha256(repr(parts).encode()).hexdigest()


def _hashes(pictures: Pictures) -> list[tuple[str, str]] | None:
    """Each picture's name and hash, in an order that does not matter."""
    pixels = getattr(getattr(pictures, "images", pictures), "pixels", None)
    if pixels is None:
        return None
    rows = pixels.cpu().contiguous().numpy()
    digests = [hashlib.sha256(row.data).hexdigest() for row in rows]
    return sorted(zip(pictures.names, digests, strict=True))


def _listed(pictures: Pictures) -> list[tuple[str, ...]]:
    """Each picture's name, identity and session, in an order that does not matter."""
    who = [pictures.identities[label] for label in pictures.labels.tolist()]
    sessions = getattr(pictures, "sessions", None) or ("",) * len(who)
    return sorted(zip(pictures.names, who, sessions, strict=True))


def notebook(images: ImageSet) -> Iterator[Split]:
    """One split: learn from the people s2 to s31, test all pairs of s32 to s40.

    The split of the notebook "Face Identification using PyTorch on the AT&T faces", which leaves
    s1 out.

    Raises:
        ValueError: when people and pictures are not called as those of the AT&T faces are.

    Example:
        >>> from siamlearn.data.drawn import DrawnFaces
        >>> (split,) = notebook(DrawnFaces(size=(14, 12)))
        >>> split.train.people[0], split.probes.people[0]
        ('s2', 's32')
    """
    _require_att(images)
    train, test = (images.only(_people(numbers)) for numbers in (range(2, 32), range(32, 41)))
    return iter([Split("notebook", train, test)])


def repeated_disjoint(
    images: ImageSet, *, repeats: int = 20, held_out: float = 9, seed: int = 0
) -> Iterator[Split]:
    """Many splits by identity, each drawn anew: test all pairs of people nobody has learned from.

    Args:
        images: pictures of anyone.
        held_out: how many people are tested, or their share if below 1.

    Raises:
        ValueError: when there are too few people.

    Example:
        >>> from siamlearn.data.drawn import DrawnFaces
        >>> splits = repeated_disjoint(DrawnFaces(size=(14, 12)), repeats=2)
        >>> [(split.name, len(split.train.people), len(split.probes.people)) for split in splits]
        [('disjoint 1', 31, 9), ('disjoint 2', 31, 9)]
    """

    def split(number: int) -> Split:
        draw = address("repeated_disjoint", seed, number)
        train, test = images.split_identities(held_out=held_out, seed=draw)
        return Split(f"disjoint {number}", train, test)

    return _each(split, range(1, repeats + 1))


def closed_set(
    images: ImageSet, *, gallery: int = 5, repeats: int = 10, seed: int = 0
) -> Iterator[Split]:
    """Many splits of each person's pictures: learn and enrol from some, identify the others.

    Args:
        images: pictures of anyone.
        gallery: how many pictures of each person are drawn, to learn from and to enrol.

    Raises:
        ValueError: when somebody has too few pictures.

    Example:
        >>> from siamlearn.data.drawn import DrawnFaces
        >>> split = next(closed_set(DrawnFaces(size=(14, 12))))
        >>> split.name, len(split.train), len(split.probes)
        ('closed set 1', 200, 200)
    """

    def split(number: int) -> Split:
        draw = address("closed_set", seed, number)
        known, probes = images.split_gallery(pictures=gallery, seed=draw)
        return Split(f"closed set {number}", known, probes, known)

    return _each(split, range(1, repeats + 1))


def leave_one_out(images: ImageSet) -> Iterator[Split]:
    """Ten splits: picture k of everybody is identified by the other nine.

    Raises:
        ValueError: when people and pictures are not called as those of the AT&T faces are.

    Example:
        >>> from siamlearn.data.drawn import DrawnFaces
        >>> split = next(leave_one_out(DrawnFaces(size=(14, 12))))
        >>> split.name, split.probes.names[:2]
        ('without picture 1', ('s1/1', 's2/1'))
    """
    _require_att(images)

    def split(number: int) -> Split:
        probes, known = _by_picture(images, (number,))
        return Split(f"without picture {number}", known, probes, known)

    return _each(split, range(1, 11))


def bob_atnt(images: ImageSet) -> Iterator[Split]:
    """One split: the verification protocol of bob.db.atnt.

    Learn from 20 people, its "world"; of the 20 others enrol five pictures and ask with five.

    Raises:
        ValueError: when people and pictures are not called as those of the AT&T faces are.

    Example:
        >>> from siamlearn.data.drawn import DrawnFaces
        >>> (split,) = bob_atnt(DrawnFaces(size=(14, 12)))
        >>> [len(part) for part in (split.train, split.gallery, split.probes)]
        [200, 100, 100]

    Source:
        bob.db.atnt, https://www.idiap.ch/software/bob: client ids and picture numbers.
    """
    _require_att(images)
    others = images.only(_people(set(range(1, 41)) - set(WORLD)))
    gallery, probes = _by_picture(others, ENROL)
    return iter([Split("bob.db.atnt", images.only(_people(WORLD)), probes, gallery)])


def _each(split: Callable[[int], Split], numbers: range) -> Iterator[Split]:
    if not numbers:
        msg = "repeats must be 1 or more, got none: there would be nothing to test"
        raise ValueError(msg)
    first = split(numbers[0])  # so that bad input is told at once, not when the splits are used
    return chain([first], map(split, numbers[1:]))


def _people(numbers: Iterable[int]) -> list[str]:
    return [f"s{number}" for number in numbers]


def _by_picture(images: ImageSet, numbers: Iterable[int]) -> tuple[ImageSet, ImageSet]:
    """The pictures with these numbers, of everybody, and the others."""
    wanted = {str(number) for number in numbers}
    chosen = torch.tensor([_stem(name).split("/")[1] in wanted for name in images.names])
    return images.subset(torch.where(chosen)[0]), images.subset(torch.where(~chosen)[0])


def _stem(name: str) -> str:
    return name.split(".")[0]


def _require_att(images: ImageSet) -> None:
    expected = [f"{person}/{number}" for person in _people(range(1, 41)) for number in range(1, 11)]
    present = [_stem(name) for name in images.names]
    if sorted(present) != sorted(expected):
        missing = [name for name in expected if name not in set(present)]
        what = f"there is no {missing[0]}" if missing else f"these are {len(images)}"
        msg = (
            "this protocol is of the 400 AT&T faces, or others called s1/1 to s40/10, "
            f"but {what}; for other pictures take repeated_disjoint or closed_set"
        )
        raise ValueError(msg)

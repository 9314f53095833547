"""Published lists of pairs: which pictures are compared, and in which fold.

Axes: n pictures, p pairs.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

__all__ = ["PairList", "read_pairs"]

Line = tuple[str, str, bool, int, str]  # two pictures, same, fold, and where that is written
SAME = {"1": True, "true": True, "yes": True, "same": True, "genuine": True}
SAME |= {"0": False, "false": False, "no": False, "different": False, "impostor": False}


@final
@dataclass(frozen=True, eq=False)
class PairList:
    """Which pictures are compared, and in which fold.

    Args:
        name: what to call the list.
        names: of all pictures that ``left`` and ``right`` point into.
        left: one picture of each pair, as an index.
        right: the other.
        same: whether the two are one person.
        fold: of each pair, from 0.

    Raises:
        ValueError: a picture is paired with itself, or there are no pairs.

    Example:
        >>> pairs = PairList("mine", ("1", "2"), *torch.tensor([[0], [1]]),
        ...     torch.tensor([True]), torch.tensor([0]))
        >>> len(pairs), pairs.folds
        (1, 1)
    """

    name: str
    names: tuple[str, ...]
    left: Int[Tensor, " p"]
    right: Int[Tensor, " p"]
    same: Bool[Tensor, " p"]
    fold: Int[Tensor, " p"]

    def __post_init__(self) -> None:
        if not len(self.left) == len(self.right) == len(self.same) == len(self.fold) > 0:
            sizes = [len(part) for part in (self.left, self.right, self.same, self.fold)]
            msg = f"a list needs a pair or more, each with same and fold: got lengths {sizes}"
            raise ValueError(msg)
        alone = (self.left == self.right).nonzero().flatten().tolist()
        if alone:
            msg = (
                f"a pair must be of two pictures, but {len(alone)} of {len(self)} pair a picture "
                f"with itself (the first is {self.names[int(self.left[alone[0]])]}); leave them out"
            )
            raise ValueError(msg)

    def __len__(self) -> int:
        return len(self.left)

    def __repr__(self) -> str:
        genuine = int(self.same.sum())
        return (
            f"PairList({self.name}: {genuine:,} genuine and {len(self) - genuine:,} impostor "
            f"pairs in {self.folds} fold{'s' if self.folds > 1 else ''})"
        )

    @property
    def folds(self) -> int:
        """How many folds there are."""
        return len(set(self.fold.tolist()))

    @property
    def digest(self) -> str:
        """A SHA-256 of the pairs, by the names of their pictures, in whatever order they stand."""
        names = [
            sorted((self.names[one], self.names[other]))
            for one, other in zip(self.left.tolist(), self.right.tolist(), strict=True)
        ]
        rest = zip(names, self.same.tolist(), self.fold.tolist(), strict=True)
        return sha256(
            repr(sorted((*pair, same, fold) for pair, same, fold in rest)).encode()
        ).hexdigest()


@runtime_checkable
class Pictures(Protocol):
    """An `ImageSet`, or what was embedded of one."""

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def labels(self) -> Tensor: ...


def read_pairs(
    file: str | PathLike[str], pictures: Pictures, *, name: str | None = None
) -> PairList:
    """Read a list of pairs: that of Labeled Faces in the Wild, or a CSV file.

    In ``pairs.txt`` the first line has the number of folds and of pairs of each kind in a fold,
    and then come lines such as ``Abel_Pacheco 1 4`` (two pictures of one person) and
    ``Abdel_Madi_Shabneh 1 Dean_Barker 1`` (of two). A CSV file has the columns ``left`` and
    ``right``, the names of two pictures, ``same``, which is 1 or 0, and perhaps ``fold``.

    A picture is found by its name, with or without folders before it and its ending:
    ``Abel_Pacheco 4`` is ``Abel_Pacheco/Abel_Pacheco_0004.jpg``, or ``Abel_Pacheco/4.pgm``.

    Args:
        file: the list.
        pictures: where its pictures are, or their embeddings.
        name: what to call it; after the file, if left out.

    Raises:
        ValueError: a line cannot be read, a picture is not there, is meant by two names or is
            paired with itself, or the list calls two pictures of one person different.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "pairs.txt"
        >>> _ = path.write_text("1 1\\ns1 1 3\\ns1 1 s2 7\\n")
        >>> from siamlearn.data.drawn import DrawnFaces
        >>> read_pairs(path, DrawnFaces(2, 10, size=(14, 12)))
        PairList(pairs: 1 genuine and 1 impostor pairs in 1 fold)
    """
    path = Path(file)
    text = path.read_text(encoding="utf-8-sig").splitlines()
    if not text:
        msg = f"a list needs a pair or more, but {path} is empty"
        raise ValueError(msg)
    lines = list(_csv(text, path) if "," in text[0] else _lfw(text, path))
    find = _finder(pictures.names, path)
    ends = [(find(one, where), find(other, where)) for one, other, _, _, where in lines]
    for (one, other), (*_, same, _, where) in zip(ends, lines, strict=True):
        if same != bool(pictures.labels[one] == pictures.labels[other]):
            told = "one person" if same else "two people"
            msg = (
                f"list and pictures must agree on who is who, but {where} says that "
                f"{pictures.names[one]} and {pictures.names[other]} show {told}"
            )
            raise ValueError(msg)
    left, right = torch.tensor(ends, dtype=torch.int64).reshape(-1, 2).T
    same_, fold = (torch.tensor([line[column] for line in lines]) for column in (2, 3))
    return PairList(name or path.stem, tuple(pictures.names), left, right, same_, fold)


def _lfw(text: Sequence[str], path: Path) -> Iterator[Line]:
    head = text[0].split()
    rows = [(number, line.split()) for number, line in enumerate(text[1:], 2) if line.strip()]
    if not 1 <= len(head) <= 2 or not all(number.isdecimal() for number in head):
        msg = (
            f"the first line must have the number of folds and of pairs of each kind in one, such "
            f"as '10 300', or be the header of a CSV file, but in {path} it is {text[0]!r}"
        )
        raise ValueError(msg)
    folds, each = (int(number) for number in (["1", *head])[-2:])
    if len(rows) != 2 * folds * each:
        msg = (
            f"{path} promises {folds} folds of {each} genuine and {each} impostor pairs, "
            f"{2 * folds * each:,} in all, but has {len(rows):,}"
        )
        raise ValueError(msg)
    for place, (number, row) in enumerate(rows):
        where = f"line {number} of {path}"
        numbers = row[1:3] if len(row) == 3 else row[1::2]
        if len(row) not in (3, 4) or not all(part.isdecimal() for part in numbers):
            msg = (
                f"a pair must be 'name 1 4' or 'name 1 other_name 2', but {where} is "
                f"{' '.join(row)!r}"
            )
            raise ValueError(msg)
        one, other = (row[0], row[1]), (row[0], row[2]) if len(row) == 3 else (row[2], row[3])
        yield "\t".join(one), "\t".join(other), len(row) == 3, place // (2 * each), where


def _csv(text: Sequence[str], path: Path) -> Iterator[Line]:
    rows = csv.DictReader(text)
    has = [column.strip() for column in rows.fieldnames or ()]
    rows.fieldnames = has
    if not {"left", "right", "same"} <= set(has):
        msg = f"a list needs the columns left, right and same, but {path} has {', '.join(has)}"
        raise ValueError(msg)
    folds: dict[str, int] = {}
    for number, row in enumerate(rows, 2):
        where = f"line {number} of {path}"
        same = SAME.get((row["same"] or "").strip().lower())
        if same is None or not row["left"] or not row["right"]:
            msg = (
                f"a pair needs left, right, and same = 1 or 0, but {where} is {list(row.values())}"
            )
            raise ValueError(msg)
        fold = folds.setdefault((row.get("fold") or "").strip(), len(folds))
        yield row["left"].strip(), row["right"].strip(), same, fold, where


def _finder(names: Sequence[str], path: Path) -> Callable[[str, str], int]:
    """From what a list calls a picture to its place among all."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        parts = PurePosixPath(name).parts
        for start in range(len(parts)):
            tail = "/".join(parts[start:])
            for called in {tail, str(PurePosixPath(tail).with_suffix(""))}:
                places.setdefault(called, []).append(place)

    times = Counter(names)
    exactly = {name: place for place, name in enumerate(names) if times[name] == 1}

    def find(called: str, where: str) -> int:
        if called in exactly:
            return exactly[called]
        person, _, number = called.partition("\t")
        asked = [called]
        if number:
            own = f"{person}_{int(number):04d}"
            asked = [f"{person}/{own}", own, f"{person}/{int(number)}"]
        found = next((places[way] for way in asked if way in places), [])
        if len(found) == 1:
            return found[0]
        what = "is not there" if not found else f"may be {names[found[0]]} or {names[found[1]]}"
        msg = (
            f"every picture of a list must be among the pictures, once, but {asked[0]} of {where} "
            f"{what}; the {len(names):,} pictures are called such as {', '.join(names[:2])}"
        )
        raise ValueError(msg)

    return find

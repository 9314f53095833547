"""Pictures beside each other: all pairs in strips that are used and thrown away.

Axes: n probes, q probes of a strip, r references, m right references and h left out a probe has at
most, k of them that are kept, g genuine and i impostor pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm import tqdm

from siamlearn.data.protocols import compared, content
from siamlearn.embeddings import Embeddings
from siamlearn.functional.prepared import prepared

__all__ = ["BLOCK", "Comparison", "Protocol", "Strip", "called", "compare", "people_of", "strips"]

# Distances that a strip may hold at once: 8 MiB of float32.
BLOCK = 2**21


@final
@dataclass(frozen=True)
class Protocol:
    """What is compared with what: a name for people, and a hash that two results must share.

    Args:
        name: such as "notebook" or "all pairs".
        digest: SHA-256 of exactly which pictures of whom are probes and gallery, by their names.
        pictures: SHA-256 of what these pictures show; None where only embeddings are at hand.

    Example:
        >>> line, labels = torch.tensor([[0.0], [5.0]]), torch.tensor([0, 1])
        >>> one = Embeddings(line, labels, ("anna", "bob"), ("1.png", "2.png"))
        >>> print(Protocol.of(one))
        all pairs (dce1fc20)
        >>> Protocol.of(one).digest == Protocol.of(one, one).digest
        False
    """

    name: str
    digest: str
    pictures: str | None = None

    @classmethod
    def of(
        cls, probes: Embeddings, gallery: Embeddings | None = None, name: str | None = None
    ) -> Protocol:
        """The protocol of comparing these, called so, or after how they are compared."""
        usual = "all pairs" if gallery is None else "probes against a gallery"
        return cls(name or usual, compared(probes, gallery), content(probes, gallery))

    def __str__(self) -> str:
        return f"{self.name} ({self.digest[:8]})"

    def to_dict(self) -> dict[str, str]:
        """Plain texts, ready for JSON."""
        known = {} if self.pictures is None else {"pictures": self.pictures}
        return {"name": self.name, "digest": self.digest, **known}


@final
@dataclass(frozen=True, eq=False)
class Strip:
    """Some probes beside all pictures that they are compared with.

    Args:
        rows: which probes these are.
        distance: how far apart each two are.
        who: the person on each probe, as a number.
        reference_who: the person on each reference.
        right: for each probe the references of its person that it is compared with, then r.
        left_out: those that it is not compared with at all, then r: a picture is never compared
            with itself, nor with another picture of its identity from its own session.
        itself: whether all pictures are compared with each other, so that each pair stands at
            two places, (1, 2) and (2, 1).

    Example:
        >>> who, own = torch.tensor([7, 7]), torch.tensor([[0], [1]])
        >>> strip = Strip(slice(0, 2), torch.zeros(2, 2), who, who, own.flip(0), own, itself=True)
        >>> strip.genuine.tolist(), strip.impostor.tolist()
        ([0.0], [])
    """

    rows: slice
    distance: Float[Tensor, "q r"]
    who: Int[Tensor, " q"]
    reference_who: Int[Tensor, " r"]
    right: Int[Tensor, "q m"]
    left_out: Int[Tensor, "q h"]
    itself: bool = False

    # Made when asked for: they are as large as the distances, and a search does without.
    @cached_property
    def same(self) -> Bool[Tensor, "q r"]:
        """Whether they show one identity."""
        return self.who[:, None] == self.reference_who

    @cached_property
    def valid(self) -> Bool[Tensor, "q r"]:
        """Whether they may be compared at all."""
        valid = torch.ones_like(self.same)
        row, place = (self.left_out < valid.shape[1]).nonzero(as_tuple=True)
        valid[row, self.left_out[row, place]] = False
        return valid

    @property
    def once(self) -> Bool[Tensor, "q r"]:
        """Of the valid pairs each at one of its places."""
        return self.valid.triu(self.rows.start + 1) if self.itself else self.valid

    @property
    def genuine(self) -> Float[Tensor, " g"]:
        """Distances of the pairs of one identity."""
        return self.distance[self.same & self.once]

    @property
    def impostor(self) -> Float[Tensor, " i"]:
        """Distances of the pairs of two identities."""
        return self.distance[~self.same & self.once]


def strips(
    probes: Embeddings,
    gallery: Embeddings | None = None,
    *,
    height: int | None = None,
    progress: bool | None = None,
) -> Iterator[Strip]:
    """Compare all pictures with each other, or all probes with a gallery, some probes at a time.

    A picture that is a probe and in the gallery too (the same name and the same pixels) is never
    compared with itself. Where the embeddings know their sessions, two pictures of one identity
    from the same session are left out, as by Zheng et al. (Scalable Person Re-identification: A
    Benchmark, ICCV 2015); pictures of two identities are compared all the same.

    Args:
        height: how many probes at once; as many as make 2 million pairs if left out.
        progress: True shows a progress bar, False none, None one at a terminal if it takes long.

    Raises:
        ValueError: probes and gallery differ in the length of their embeddings or in distance, or
            only one of them knows its sessions.

    Example:
        >>> line, labels = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([0, 0, 1])
        >>> embeddings = Embeddings(line, labels, ("anna", "bob"), ("1.png", "2.png", "3.png"))
        >>> [strip.impostor.tolist() for strip in strips(embeddings, height=1)]
        [[5.0], [4.0], []]
    """
    references = probes if gallery is None else gallery
    check_comparable(probes, references)
    return _strips(probes, gallery, references, height, progress)


def _strips(
    probes: Embeddings,
    gallery: Embeddings | None,
    references: Embeddings,
    height: int | None,
    progress: bool | None,
) -> Iterator[Strip]:
    # Half as long numbers are compared in half the time.
    who, reference_who = (side.int() for side in people_of(probes, gallery)[:2])
    columns = columns_by_probe(probes, gallery, who, reference_who)
    apart = prepared(probes.distance, references.vectors)
    height = height or max(1, BLOCK // max(1, len(references)))
    for start in tqdm(
        range(0, len(probes), height),
        desc="compare",
        leave=False,
        delay=0 if progress else 2,  # seconds: what is done at once needs no bar
        disable=None if progress is None else not progress,
    ):
        rows = slice(start, min(start + height, len(probes)))
        distance = apart(probes.vectors[rows]).float()
        right, left_out = columns(rows)
        yield Strip(
            rows, distance, who[rows], reference_who, right, left_out, itself=gallery is None
        )


@final
@dataclass(frozen=True, eq=False)
class Comparison:
    """The distances of all pairs.

    Args:
        genuine: between two pictures of one identity.
        impostor: between pictures of two identities.

    Example:
        >>> found = Comparison(torch.tensor([0.1]), torch.tensor([0.8, 0.9]))
        >>> len(found.genuine), len(found.impostor)
        (1, 2)
    """

    genuine: Float[Tensor, " g"]
    impostor: Float[Tensor, " i"]


def compare(probes: Embeddings, gallery: Embeddings | None = None) -> Comparison:
    """The distances of all pairs of pictures, each pair once, or of all probes and a gallery.

    All distances are kept, in four bytes each: 5,000 pictures among themselves need 50 MB,
    20,000 need 800 MB. See :func:`strips` for what is compared.

    Raises:
        ValueError: probes and gallery cannot be compared.

    Example:
        >>> line, labels = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([0, 0, 1])
        >>> embeddings = Embeddings(line, labels, ("anna", "bob"), ("1.png", "2.png", "3.png"))
        >>> found = compare(embeddings)
        >>> found.genuine.tolist(), found.impostor.tolist()
        ([1.0], [5.0, 4.0])
    """
    parts = [(strip.genuine, strip.impostor) for strip in strips(probes, gallery)]
    nothing = torch.empty(0)
    genuine, impostor = (torch.cat([nothing, *kind]) for kind in zip(*parts, strict=True))
    return Comparison(genuine, impostor)


def people_of(
    probes: Embeddings, gallery: Embeddings | None = None
) -> tuple[Int[Tensor, " q"], Int[Tensor, " r"], tuple[str, ...]]:
    """Who is on each probe and on each reference, as places in one list of names.

    Example:
        >>> labels, names = torch.tensor([0, 1]), ("1.png", "2.png")
        >>> one = Embeddings(torch.eye(2), labels, ("anna", "bob"), names)
        >>> other = Embeddings(torch.eye(2), labels, ("bob", "carl"), names)
        >>> people_of(one, other)
        (tensor([0, 1]), tensor([1, 2]), ('anna', 'bob', 'carl'))
    """
    references = probes if gallery is None else gallery
    # In the order of their names: however labels are numbered, intervals are the same.
    names = tuple(sorted({*probes.people, *references.people}))
    number = {name: place for place, name in enumerate(names)}
    who, reference_who = (
        torch.tensor([number.get(name, -1) for name in e.identities], dtype=torch.int64)[e.labels]
        for e in (probes, references)
    )
    return who, reference_who, names


def called(distance: object) -> str:
    """The name of a distance, for a message.

    Example:
        >>> from siamlearn.functional.distances import cosine
        >>> called(cosine)
        'cosine'
    """
    return str(getattr(distance, "__name__", distance))


def check_comparable(probes: Embeddings, references: Embeddings) -> None:
    lengths = probes.vectors.shape[1], references.vectors.shape[1]
    if lengths[0] != lengths[1] or probes.distance is not references.distance:
        msg = (
            f"probes and gallery must be embedded by one net and compared by one distance: got "
            f"embeddings of length {lengths[0]} and {lengths[1]}, distances "
            f"{called(probes.distance)} and {called(references.distance)}"
        )
        raise ValueError(msg)
    if (probes.sessions is None) != (references.sessions is None):
        msg = (
            "either both probes and gallery say of which session a picture is, or none does: got "
            f"sessions for the {'gallery' if probes.sessions is None else 'probes'} only"
        )
        raise ValueError(msg)


def columns_by_probe(
    probes: Embeddings,
    gallery: Embeddings | None,
    who: Int[Tensor, " n"],
    reference_who: Int[Tensor, " r"],
) -> Callable[[slice], tuple[Int[Tensor, "q m"], Int[Tensor, "q h"]]]:
    """The columns of the right references of some probes, and of those left out; see Strip."""
    picture, reference_picture = picture_numbers(probes, gallery)
    session, reference_session = session_numbers(probes, probes if gallery is None else gallery)
    of_person, of_picture = columns_by_number(reference_who), columns_by_number(reference_picture)
    nobody = len(reference_who)
    # What column r, which fills the rows, is looked up as.
    pictures = F.pad(reference_picture, (0, 1), value=-1)
    sessions = None if reference_session is None else F.pad(reference_session, (0, 1), value=-1)

    def columns(rows: slice) -> tuple[Tensor, Tensor]:
        same, itself = of_person(who[rows]), of_picture(picture[rows])
        others = pictures[same] != picture[rows, None]
        if session is None or sessions is None:
            return chosen(same, others, nobody), itself
        apart = sessions[same] != session[rows, None]
        left_out = torch.cat([itself, same.where(others & ~apart, nobody)], dim=1)
        return chosen(same, others & apart, nobody), chosen(left_out, left_out < nobody, nobody)

    return columns


def columns_by_number(
    numbers: Int[Tensor, " r"],
) -> Callable[[Int[Tensor, " q"]], Int[Tensor, "q m"]]:
    """For each number asked for the columns in which it stands, then r to fill the row."""
    ascending, order = numbers.sort(stable=True)

    def columns(asked: Int[Tensor, " q"]) -> Int[Tensor, "q m"]:
        first, last = (torch.searchsorted(ascending, asked, right=end) for end in (False, True))
        longest = int((last - first).max()) if len(asked) else 0
        place = first[:, None] + torch.arange(longest)
        return order[place.clamp(max=len(order) - 1)].where(place < last[:, None], len(order))

    return columns


def chosen(
    columns: Int[Tensor, "q m"], these: Bool[Tensor, "q m"], nobody: int
) -> Int[Tensor, "q k"]:
    """Only these columns, ascending, and no wider than the longest row of them."""
    ascending = columns.where(these, nobody).sort(dim=1).values
    most = int((ascending < nobody).sum(dim=1).max()) if len(ascending) else 0
    return ascending[:, :most]


def picture_numbers(probes: Embeddings, gallery: Embeddings | None) -> tuple[Tensor, Tensor]:
    """A number for each picture of both; two have the same one where they are one picture."""
    if gallery is None:
        # Two pictures of one set are two pictures, even when their bytes are the same.
        return torch.arange(len(probes)), torch.arange(len(probes))
    numbers: dict[tuple[str, bytes], int] = {}
    with_pixels = probes.images is not None and gallery.images is not None

    def number(embeddings: Embeddings) -> Tensor:
        images = embeddings.images
        content = images.pixels if with_pixels and images is not None else embeddings.vectors
        digests = (blake2b(row.numpy().tobytes()).digest() for row in content)
        keys = zip(embeddings.names, digests, strict=True)
        return torch.tensor([numbers.setdefault(key, len(numbers)) for key in keys])

    return number(probes), number(gallery)


def session_numbers(
    probes: Embeddings, references: Embeddings
) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """A number for the session of each picture, the same for sessions of the same name."""
    if probes.sessions is None or references.sessions is None:
        return None, None
    numbers: dict[str, int] = {}
    first, second = (
        torch.tensor([numbers.setdefault(name, len(numbers)) for name in names])
        for names in (probes.sessions, references.sessions)
    )
    return first, second

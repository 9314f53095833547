"""Checks of content: the same picture twice, byte for byte, and what to say where one is.

`near_copies` looks for those that were re-encoded or mirrored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import combinations

from siamlearn.auditing.findings import Finding, Severity, some
from siamlearn.auditing.parts import Part
from siamlearn.auditing.people import enrolled_from, has

__all__ = ["across", "copies", "inside", "ordered"]

# Of two parts that share a picture the later one is judged by it.
ORDER = ("images", "train", "calibration", "gallery", "test")
LOOK = "look at them, and "
Found = Sequence[tuple[int, int]]


def ordered(parts: Mapping[str, Part]) -> list[Part]:
    """The parts, the one that is judged last.

    Example:
        >>> both = {role: Part(role, ("1",), ("anna",)) for role in ("test", "train")}
        >>> [part.role for part in ordered(both)]
        ['train', 'test']
    """
    chosen = [parts[role] for role in ORDER if role in parts]
    # In closed-set identification the gallery is a part of what was learned from.
    return [part for part in chosen if not (part.role == "gallery" and enrolled_from(parts))]


def copies(parts: Mapping[str, Part]) -> Iterator[Finding]:
    """Pictures that are there twice: in two parts, or in one, perhaps under two people.

    Where there are embeddings only, those are compared.

    Example:
        >>> import siamlearn as sl
        >>> from siamlearn.auditing.parts import part_of
        >>> faces = sl.DrawnFaces(3, 2, size=(28, 23))
        >>> parts = {"train": part_of("train", faces), "test": part_of("test", faces.subset([4]))}
        >>> [found] = copies(parts)
        >>> found.kind, found.where, found.examples
        ('identical-pictures', ('train', 'test'), ('train s3/1 = test s3/1',))
    """
    chosen = ordered(parts)
    for one, other in combinations(chosen, 2):
        with_pixels = one.images is not None and other.images is not None
        if with_pixels:
            yield from across("identical", one, other, equal(one.digests, other.digests))
        elif one.embeddings is not None and other.embeddings is not None:
            found = equal(vector_digests(one), vector_digests(other))
            yield from across("identical", one, other, found)
    for part in chosen:
        if part.images is not None:
            yield from inside("identical", part, repeated(part))


def equal(one: Sequence[bytes], other: Sequence[bytes]) -> Found:
    """For each of the second that is among the first, where it is there and here."""
    first = {digest: index for index, digest in reversed([*enumerate(one)]) if digest}
    return [(first[digest], index) for index, digest in enumerate(other) if digest in first]


def repeated(part: Part) -> Found:
    """Each picture that was there before, after the first like it."""
    first: dict[bytes, int] = {}
    places = [(first.setdefault(digest, index), index) for index, digest in enumerate(part.digests)]
    return [pair for pair in places if pair[0] != pair[1]]


def vector_digests(part: Part) -> list[bytes]:
    """A hash of each embedding; nothing for one that several pictures have, as a dead net gives."""
    if part.embeddings is None:
        return []
    # Zeros of either sign are one number, but not the same bytes.
    rows = (part.vectors.float() + 0.0).contiguous().numpy()
    digests = [blake2b(row.data, digest_size=16).digest() for row in rows]
    count = Counter(digests)
    return [digest if count[digest] == 1 else b"" for digest in digests]


def across(how: str, one: Part, other: Part, found: Found) -> Iterator[Finding]:
    """What to say where pictures of one part are in another too.

    Args:
        how: "identical", "near-identical" or "mirrored".
        found: the places of both, by which each of the other part is counted once.

    Example:
        >>> one, other = Part("train", ("1",), ("anna",)), Part("test", ("2",), ("anna",))
        >>> [finding] = across("mirrored", one, other, [(0, 0)])
        >>> finding.what
        '1 of 1 test pictures has a mirrored one in train'
    """
    if {one.role, other.role} == {"gallery", "test"}:
        # A probe that is in the gallery too is known again, and never compared with itself.
        found = [(left, right) for left, right in found if one.keys[left] != other.keys[right]]
    count = len({right for _, right in found})
    if not count:
        return
    certain = how == "identical" and {one.role, other.role} != {"train", "calibration"}
    yield Finding(
        f"{how}-pictures",
        Severity.ERROR if certain else Severity.WARNING,
        (one.role, other.role),
        f"{count:,} of {len(other):,} {other.role} pictures {has(count)} "
        f"{'an' if how == 'identical' else 'a'} {how} one in {one.role}",
        count,
        some([f"{one.picture(left)} = {other.picture(right)}" for left, right in found]),
        f"{'' if how == 'identical' else LOOK}remove copies from one side",
    )


def inside(how: str, part: Part, found: Found) -> Iterator[Finding]:
    """What to say where a picture is in one part twice.

    Args:
        how: "identical", "near-identical" or "mirrored".
        found: the places of both pictures.

    Example:
        >>> part = Part("train", ("1", "2"), ("anna", "bob"))
        >>> [finding] = inside("identical", part, [(0, 1)])
        >>> finding.kind, finding.examples
        ('one-picture-two-people', ('1 (anna) = 2 (bob)',))
    """
    conflicts = [(left, right) for left, right in found if part.who[left] != part.who[right]]
    if conflicts:
        yield Finding(
            "one-picture-two-people",
            Severity.ERROR if how == "identical" else Severity.WARNING,
            (part.role,),
            f"{len(conflicts):,} {how} pair{'s' * (len(conflicts) > 1)} of pictures "
            f"{has(len(conflicts))} two people's names",
            len(conflicts),
            some(
                [
                    " = ".join(f"{part.names[place]} ({part.who[place]})" for place in pair)
                    for pair in conflicts
                ]
            ),
            f"{LOOK}correct the wrong label of each",
        )
    agreeing = [(left, right) for left, right in found if part.who[left] == part.who[right]]
    if agreeing:
        judged = part.role in ("calibration", "gallery", "test")
        yield Finding(
            f"{how}-pictures",
            Severity.WARNING if judged else Severity.NOTE,
            (part.role,),
            f"{len(agreeing):,} {how} pair{'s' * (len(agreeing) > 1)} of pictures of one person"
            + (": genuine pairs that are too easy" if judged else ""),
            len(agreeing),
            some([f"{part.names[left]} = {part.names[right]}" for left, right in agreeing]),
            f"{'' if how == 'identical' else LOOK}keep one of each",
        )

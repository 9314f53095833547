"""Checks of names: who is in which part, who is never used, which queries have no answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from siamlearn.auditing.findings import Finding, Severity, some
from siamlearn.auditing.parts import Part
from siamlearn.operating import OperatingPoint

__all__ = [
    "answers",
    "left_out",
    "names_twice",
    "seen_by_threshold",
    "shared",
    "single_pictures",
    "without_answer",
]

SAME_NAME = "give people names of their own if these are others of the same name"


def shared(parts: Mapping[str, Part]) -> Iterator[Finding]:
    """People who are in two parts that must not share any.

    Who is tested may not have been learned from, nor have chosen the threshold. Where the whole
    gallery was learned from, as in closed-set identification, that is meant, and only noted.

    Example:
        >>> train, test = Part("train", ("1",), ("anna",)), Part("test", ("2",), ("anna",))
        >>> [found] = shared({"train": train, "test": test})
        >>> found.kind, found.what
        ('people-in-train-and-test', '1 of 1 tested people is in train too')
    """
    tested = [parts[role] for role in ("test", "gallery") if role in parts]
    people = dict.fromkeys(person for part in tested for person in part.people)
    for role in ("train", "calibration"):
        both = (
            [person for person in people if person in parts[role].counts] if role in parts else []
        )
        if not both:
            continue
        closed = role == "train" and enrolled_from(parts)
        where = [part.role for part in tested if any(person in part.counts for person in both)]
        yield Finding(
            f"people-in-{role}-and-test",
            Severity.NOTE if closed else Severity.ERROR,
            (role, *where),
            f"{len(both)} of {len(people)} tested people {are(len(both))} in {role} too",
            len(both),
            some(both),
            "the gallery was learned from, so this is closed-set identification: its numbers "
            "hold for these people only"
            if closed
            else f"split by people, as images.split_identities() does; {SAME_NAME}",
        )
    both = [*in_both(parts.get("train"), parts.get("calibration"))]
    if both:
        yield Finding(
            "people-in-train-and-calibration",
            Severity.WARNING,
            ("train", "calibration"),
            f"{len(both)} of {len(parts['calibration'].people)} people that the threshold is "
            f"chosen on {are(len(both))} in train too, and their distances come out too small",
            len(both),
            some(both),
            f"hold people out for the threshold; {SAME_NAME}",
        )


def seen_by_threshold(point: OperatingPoint, parts: Mapping[str, Part]) -> Iterator[Finding]:
    """Tested people, or people learned from, on whom the threshold was chosen.

    Example:
        >>> import torch
        >>> from siamlearn.embeddings import Embeddings
        >>> people = torch.arange(4), ("anna", "bob", "carl", "dan"), ("1", "2", "3", "4")
        >>> point = OperatingPoint.fit(Embeddings(torch.eye(4), *people), fmr=0.5)
        >>> test = Part("test", ("5", "6"), ("dan", "eve"))
        >>> [found] = seen_by_threshold(point, {"test": test})
        >>> found.kind, found.examples
        ('threshold-chosen-on-test', ('dan',))
    """
    tested = [parts[role] for role in ("test", "gallery") if role in parts]
    seen = point.seen(dict.fromkeys(person for part in tested for person in part.people))
    if seen:
        where = [part.role for part in tested if any(person in part.counts for person in seen)]
        yield Finding(
            "threshold-chosen-on-test",
            Severity.ERROR,
            ("point", *where),
            f"the threshold {point.name!r} was chosen on {len(seen)} of the tested people, so "
            f"their error rates at it come out too low",
            len(seen),
            some(seen),
            "fit the point on people of their own, from images.split_identities()",
        )
    seen = point.seen(parts["train"].people) if "train" in parts else ()
    if seen:
        yield Finding(
            "threshold-chosen-on-train",
            Severity.WARNING,
            ("point", "train"),
            f"the threshold {point.name!r} was chosen on {len(seen)} people who were learned "
            f"from, and whose distances come out too small",
            len(seen),
            some(seen),
            "fit the point on people that were held out of the training",
        )


def left_out(images: Part, parts: Iterable[Part]) -> Iterator[Finding]:
    """People of whom there are pictures, but none in any part.

    Example:
        >>> everybody = Part("images", ("1", "2"), ("anna", "bob"))
        >>> [found] = left_out(everybody, [Part("train", ("2",), ("bob",))])
        >>> found.kind, found.examples
        ('people-never-used', ('anna',))
    """
    used = {person for part in parts for person in part.people}
    unused = [person for person in images.people if person not in used]
    if unused:
        yield Finding(
            "people-never-used",
            Severity.WARNING,
            ("images",),
            f"{len(unused)} of {len(images.people)} people {are(len(unused))} in no part",
            len(unused),
            some(unused),
            "look for an off-by-one where the parts are made, or say that they are left out",
        )


def single_pictures(part: Part) -> Iterator[Finding]:
    """People with one picture, who are in no genuine pair.

    Example:
        >>> [found] = single_pictures(Part("train", ("1", "2", "3"), ("anna", "bob", "bob")))
        >>> found.what
        '1 of 2 people has one picture and is in no genuine pair'
    """
    alone = [person for person, count in part.counts.items() if count == 1]
    if alone:
        has = "has one picture and is" if len(alone) == 1 else "have one picture and are"
        yield Finding(
            "single-pictures",
            Severity.NOTE,
            (part.role,),
            f"{len(alone)} of {len(part.people)} people {has} in no genuine pair",
            len(alone),
            some(alone),
            "add pictures of them, or say that they are only ever compared with others",
        )


def without_answer(probes: Part, gallery: Part | None) -> Iterator[Finding]:
    """Queries whose person is on no other picture of those that are searched.

    Example:
        >>> probes, gallery = Part("test", ("1",), ("anna",)), Part("gallery", ("2",), ("bob",))
        >>> [found] = without_answer(probes, gallery)
        >>> found.what, found.examples
        ('1 of 1 queries has no right answer in the gallery', ('1',))
    """
    right, _ = answers(probes, gallery)
    missing = [name for name, count in zip(probes.names, right, strict=True) if not count]
    if missing:
        searched = "among the others" if gallery is None else "in the gallery"
        yield Finding(
            "no-answer",
            Severity.NOTE,
            (probes.role,) if gallery is None else (probes.role, gallery.role),
            f"{len(missing):,} of {len(probes):,} queries {has(len(missing))} no right answer "
            f"{searched}",
            len(missing),
            some(missing),
            "rank-1 and the CMC are of the other queries only: say how many, or quote FNIR at FPIR",
        )


def answers(probes: Part, gallery: Part | None) -> tuple[list[int], list[int]]:
    """How many right and how many wrong answers each query has, as ``evaluate`` compares them.

    A picture is no answer to itself, nor is another of its person from its session.

    Example:
        >>> answers(Part("test", ("1", "2", "3"), ("anna", "anna", "bob")), None)
        ([1, 1, 0], [1, 1, 2])
    """
    references = probes if gallery is None else gallery
    # Two pictures of one part are two, even where they have one name and the same bytes.
    place = {key: index for index, key in enumerate(references.keys)}
    itself = [*range(len(probes))] if gallery is None else [*map(place.get, probes.keys)]
    sessions = references.sessions if probes.sessions is not None else None
    together = Counter(zip(references.who, sessions or (), strict=False))
    right, wrong = [], []
    for index, (person, own) in enumerate(zip(probes.who, itself, strict=True)):
        session = probes.sessions[index] if probes.sessions is not None else None
        count = references.counts[person] - together[person, session or ""]
        same = own is not None and references.who[own] == person
        left_out = same and own is not None and sessions is not None and sessions[own] == session
        right.append(count - (same and not left_out))
        others = len(references) - references.counts[person]
        wrong.append(others - (own is not None and not same))
    return right, wrong


def names_twice(part: Part) -> Iterator[Finding]:
    """Pictures that are called alike.

    Example:
        >>> [found] = names_twice(Part("test", ("1.png", "1.png"), ("anna", "bob")))
        >>> found.count, found.examples
        (1, ('1.png',))
    """
    twice = [name for name, count in Counter(part.names).items() if count > 1]
    if twice:
        yield Finding(
            "names-twice",
            Severity.WARNING,
            (part.role,),
            f"{len(twice):,} names stand for two pictures or more",
            len(twice),
            some(twice),
            "name a picture by its folder and its file, as from_folder does: pictures are known "
            "again by name",
        )


def enrolled_from(parts: Mapping[str, Part]) -> bool:
    """Whether the gallery is some of the pictures that were learned from."""
    return "gallery" in parts and "train" in parts and parts["gallery"].within(parts["train"])


def in_both(one: Part | None, other: Part | None) -> Sequence[str]:
    if one is None or other is None:
        return ()
    return [person for person in other.people if person in one.counts]


def are(count: int) -> str:
    return "is" if count == 1 else "are"


def has(count: int) -> str:
    return "has" if count == 1 else "have"

"""One call that asks all checks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from siamlearn.auditing.copies import copies, ordered
from siamlearn.auditing.findings import Audit, Finding, Severity
from siamlearn.auditing.labels import wrong_labels
from siamlearn.auditing.near_copies import near_copies, not_found
from siamlearn.auditing.pairs import GivenPairs, Paired, paired, pairs_of
from siamlearn.auditing.parts import Part, part_of
from siamlearn.auditing.people import (
    left_out,
    names_twice,
    seen_by_threshold,
    shared,
    single_pictures,
    without_answer,
)
from siamlearn.auditing.scores import spread, ties, too_few
from siamlearn.data.image_set import ImageSet
from siamlearn.embeddings import Embeddings
from siamlearn.operating import OperatingPoint

__all__ = ["audit"]

Given = ImageSet | Embeddings


def audit(
    test: Given | None = None,
    *,
    train: Given | None = None,
    calibration: Given | None = None,
    gallery: Given | None = None,
    images: Given | None = None,
    point: OperatingPoint | Sequence[OperatingPoint] | None = None,
    test_pairs: GivenPairs | None = None,
    train_pairs: GivenPairs | None = None,
    fmr: float | None = None,
) -> Audit:
    """Look for what makes a result wrong, before anyone believes it.

    Give what there is; the more, the more is checked, and what was not is said. Every part is
    pictures or embeddings; embeddings that have their pictures with them are checked for both.
    People are known by name, pictures by their bytes. Nothing is trained, and nothing is drawn at
    random: pictures in another order give the same findings.

    Args:
        test: what is reported on; the probes, where there is a gallery.
        train: what was learned from.
        calibration: what the threshold was chosen on.
        gallery: what the tested pictures are compared with; with each other, if left out.
        images: all pictures there are, to find people who are in no part. Given alone, they are
            looked at for copies and wrong labels.
        point: the threshold that is reported at, or several.
        test_pairs: the tested pairs: (left, right) as places or names in ``test``, or a sampler.
        train_pairs: the same for ``train``: the pairs, or the batch sampler, learned from.
        fmr: the false match rate that is to be reported; the lowest that ``point`` was chosen
            for, if left out.

    Raises:
        TypeError: a part is neither pictures nor embeddings.
        ValueError: nothing was given, an FMR that is none, or pairs of a part that was not, or of
            pictures that it does not have.

    Example:
        >>> from siamlearn.data.drawn import DrawnFaces
        >>> faces = DrawnFaces(6, 4, size=(28, 23))
        >>> train, test = faces.only(["s1", "s2", "s3"]), faces.only(["s3", "s4", "s5"])
        >>> found = audit(test, train=train, images=faces)
        >>> found.kinds
        ('people-in-train-and-test', 'identical-pictures', 'people-never-used')
        >>> print("\\n".join(str(found).splitlines()[:4]))
        2 errors, 1 warning
        <BLANKLINE>
        ERROR    people-in-train-and-test (train, test)
                 1 of 3 tested people is in train too: s3
    """
    given = {"test": test, "train": train, "calibration": calibration, "gallery": gallery}
    if all(part is None for part in given.values()):
        given = {"images": images}
    parts = {role: part_of(role, part) for role, part in given.items() if part is not None}
    if not parts:
        msg = (
            "an audit needs something to look at, got nothing; pass what is tested, and train=, "
            "calibration=, gallery= or images="
        )
        raise ValueError(msg)
    if fmr is not None and not 0 < fmr < 1:
        msg = f"fmr must be above 0 and below 1, got {fmr:g}; 0.01 is 1 impostor pair in 100"
        raise ValueError(msg)
    lists = [
        paired(required(parts, role), pairs)
        for role, pairs in (("test", test_pairs), ("train", train_pairs))
        if pairs is not None
    ]
    everybody = part_of("images", images) if images is not None and "images" not in parts else None
    points = point if isinstance(point, Sequence) else () if point is None else (point,)
    rates = [each.fmr for each in points if each.fmr is not None]
    rate = min(rates, default=None) if fmr is None else fmr
    findings = [
        *of_people(parts, everybody, points),
        *(finding for given in lists for finding in pairs_of(given)),
        *of_pictures(parts),
        *of_scores(parts, lists, rate),
    ]
    suspects = {role: wrong_labels(part) for role, part in parts.items()}
    findings += [finding for found in suspects.values() for finding in found or ()]
    findings.sort(key=lambda finding: [*Severity].index(finding.severity))
    return Audit(
        tuple(findings),
        tuple(looked_at(parts, everybody, points, lists, rate, suspects)),
        tuple(passed_over(parts, suspects)),
    )


def required(parts: dict[str, Part], role: str) -> Part:
    if role not in parts:
        msg = f"{role}_pairs are of pictures of {role}, but there is no {role}; pass {role}= too"
        raise ValueError(msg)
    return parts[role]


def of_people(
    parts: dict[str, Part], everybody: Part | None, points: Sequence[OperatingPoint]
) -> Iterable[Finding]:
    """Who is where, by name."""
    yield from shared(parts)
    for point in points:
        yield from seen_by_threshold(point, parts)
    if everybody is not None:
        yield from left_out(everybody, parts.values())
    for role in ("train", "calibration", "images"):
        if role in parts:
            yield from single_pictures(parts[role])
    if "test" in parts:
        yield from without_answer(parts["test"], parts.get("gallery"))
    for part in parts.values():
        yield from names_twice(part)


def of_pictures(parts: dict[str, Part]) -> Iterable[Finding]:
    yield from copies(parts)
    yield from near_copies(parts)


def of_scores(parts: dict[str, Part], lists: list[Paired], rate: float | None) -> Iterable[Finding]:
    for part in parts.values():
        constant = [*spread(part)]
        yield from constant
        if all(finding.kind != "constant-embeddings" for finding in constant):
            yield from ties(part)
    if "test" in parts:
        tested = next((given for given in lists if given.part is parts["test"]), None)
        yield from too_few(parts["test"], parts.get("gallery"), tested, rate)


def looked_at(
    parts: dict[str, Part],
    everybody: Part | None,
    points: Sequence[OperatingPoint],
    lists: list[Paired],
    rate: float | None,
    suspects: dict[str, tuple[Finding, ...] | None],
) -> Iterable[str]:
    """What was checked, for people to read."""
    people = [*parts.values(), *([] if everybody is None else [everybody])]
    yield "people and names of " + listed((part.role, len(part.people)) for part in people)
    pictures = [(part.role, len(part)) for part in ordered(parts) if part.images is not None]
    if pictures:
        yield f"pictures of {listed(pictures)}: equal, re-encoded, mirrored"
    if lists:
        yield "pairs of " + listed((given.part.role, len(given.pairs)) for given in lists)
    for point in points:
        yield f"whom the threshold {point.name!r} was chosen on"
    if rate is not None and "test" in parts:
        yield f"whether there are pairs enough for FMR {rate:g}"
    scores = [(part.role, len(part)) for part in parts.values() if part.embeddings is not None]
    if scores:
        yield f"embeddings and distances of {listed(scores)}"
    judged = [(role, len(parts[role])) for role, found in suspects.items() if found is not None]
    if judged:
        yield f"labels of {listed(judged)}"


def passed_over(
    parts: dict[str, Part], suspects: dict[str, tuple[Finding, ...] | None]
) -> Iterable[str]:
    """What could not be checked, and why."""
    for role, part in parts.items():
        if part.images is None:
            yield f"pictures of {role}, which are not at hand"
    yield from not_found(ordered(parts))
    if "test" in parts and parts["test"].embeddings is None:
        yield "distances of test, which has no embeddings"
    for role, found in suspects.items():
        if found is None:
            what = "pixels" if parts[role].embeddings is None else "embeddings"
            yield f"labels of {role}: {what} confuse too many people, or too few have 3 pictures"


def listed(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{role} ({count:,})" for role, count in counts)

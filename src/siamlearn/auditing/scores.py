"""Checks of embeddings: whether they differ at all, whether distances tie, how many pairs.

Axes: n pictures, d embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from math import ceil, sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from siamlearn.auditing.findings import Finding, Severity, some
from siamlearn.auditing.pairs import Paired
from siamlearn.auditing.parts import Part
from siamlearn.auditing.people import answers, are
from siamlearn.functional.intervals import trials_needed
from siamlearn.functional.verification import resolves

__all__ = ["spread", "ties", "too_few"]

SAMPLE = 500  # pictures whose distances are looked at
TIED = 0.1  # share of pairs that have a distance together with another pair
ONE_LINE = 0.99  # share of the variance in one direction
LOOK = "look at a few rows of .vectors"


def spread(part: Part) -> Iterator[Finding]:
    """Embeddings that are all alike, or differ in one direction only, or not in all dimensions.

    Example:
        >>> from siamlearn.auditing.parts import part_of
        >>> from siamlearn.embeddings import Embeddings
        >>> who = torch.tensor([0, 1]), ("anna", "bob"), ("1", "2")
        >>> [found] = spread(part_of("test", Embeddings(torch.ones(2, 3), *who)))
        >>> found.kind, found.what
        ('constant-embeddings', 'all 2 embeddings are the same')
    """
    if part.embeddings is None or len(part) < 2:
        return
    vectors = part.vectors
    low, high = vectors.amin(dim=0), vectors.amax(dim=0)
    still = (high - low) <= 1e-6 * vectors.abs().max()
    dimensions, dead = len(still), int(still.sum())
    if dead == dimensions:
        yield Finding(
            "constant-embeddings",
            Severity.ERROR,
            (part.role,),
            f"all {len(part):,} embeddings are the same",
            len(part),
            (),
            "the net has collapsed, or its last layer is never reached: train it again, with a "
            "lower learning rate or a larger margin",
        )
        return
    if dead:
        yield Finding(
            "constant-dimensions",
            Severity.NOTE,
            (part.role,),
            f"{dead:,} of {dimensions:,} dimensions {are(dead)} the same in all embeddings",
            dead,
            some([str(index) for index in still.nonzero()[:, 0].tolist()]),
            "a ReLU before the embedding may have died; fewer dimensions would do",
        )
    share = first_share(vectors[chosen(part)].double())
    if dimensions > 2 and len(part) > 3 and share >= ONE_LINE:
        yield Finding(
            "collapsed-embeddings",
            Severity.WARNING,
            (part.role,),
            f"{100 * share:.1f} % of the variance of {dimensions:,} dimensions is in one direction",
            dimensions,
            (),
            "the net tells pictures apart by one number, such as their brightness or the length "
            "of the embedding: normalise, or train with a loss that spreads embeddings",
        )


def first_share(vectors: Float[Tensor, "n d"]) -> float:
    """The share of the variance that one direction has."""
    variances = torch.linalg.svdvals(vectors - vectors.mean(dim=0)).square()
    return float(variances[0] / variances.sum().clamp(min=torch.finfo(variances.dtype).tiny))


def chosen(part: Part) -> list[int]:
    """Places of at most ``SAMPLE`` pictures, the same ones in whatever order pictures come."""
    if len(part) <= SAMPLE:
        return [*range(len(part))]
    # Addressed by their names and bytes, not by a generator.
    key = [
        blake2b(name.encode() + digest).digest()
        for name, digest in zip(part.names, part.digests, strict=True)
    ]
    return sorted(range(len(part)), key=key.__getitem__)[:SAMPLE]


def ties(part: Part) -> Iterator[Finding]:
    """Distances that are no numbers, and distances that many pairs have in common.

    Of more than 500 pictures, some are looked at, and compared in double precision: in single
    precision a million distances tie by chance.

    Example:
        >>> from siamlearn.auditing.parts import part_of
        >>> from siamlearn.embeddings import Embeddings
        >>> who = torch.tensor([0, 0, 1]), ("anna", "bob"), ("1", "2", "3")
        >>> corners = Embeddings(torch.eye(3), *who)  # all as far apart
        >>> [found] = ties(part_of("test", corners))
        >>> found.what
        '100 % of the distances between pictures are those of another pair too'
    """
    if part.embeddings is None or len(part) < 3:
        return
    sample = chosen(part)
    vectors = part.vectors[sample].double()
    above = torch.ones(len(sample), len(sample), dtype=torch.bool).triu(1)
    distances = part.embeddings.distance(vectors, vectors)[above]
    unknown = int(distances.isnan().sum())
    if unknown:
        yield Finding(
            "distances-not-numbers",
            Severity.ERROR,
            (part.role,),
            f"{unknown:,} of {len(distances):,} distances between pictures are NaN",
            unknown,
            (),
            f"{LOOK}, and what the distance makes of them",
        )
        return
    _, count = torch.unique(distances, return_counts=True)
    tied = int(count[count > 1].sum())
    if tied > TIED * len(distances):
        yield Finding(
            "tied-distances",
            Severity.WARNING,
            (part.role,),
            f"{100 * tied / len(distances):.0f} % of the distances between pictures are those of "
            f"another pair too",
            tied,
            (),
            f"{LOOK}: they may be rounded, or clipped, and a threshold cannot part such pairs",
        )


def too_few(
    probes: Part, gallery: Part | None, given: Paired | None, fmr: float | None
) -> Iterator[Finding]:
    """Too few pairs for any rate, or too few impostor pairs for the rate that is asked for.

    Example:
        >>> part = Part("test", ("1", "2", "3"), ("anna", "anna", "bob"))
        >>> [found] = too_few(part, None, None, 0.01)
        >>> found.what
        'FMR 0.01 cannot be read from 2 impostor pairs: it takes 300 (rule of three)'
        >>> found.advice
        'test 17 people with 1.5 pictures each, or quote a higher FMR'
    """
    if given is not None:
        genuine, impostor = len(given.pairs) - given.impostors, given.impostors
    else:
        genuine, impostor = numbers(probes, gallery)
    where = (probes.role,) if gallery is None else (probes.role, gallery.role)
    for kind, count, advice in (
        ("genuine", genuine, "two pictures of one person"),
        ("impostor", impostor, "pictures of two people"),
    ):
        if not count:
            yield Finding(
                f"no-{kind}-pairs",
                Severity.ERROR,
                where,
                f"there is no {kind} pair among the {len(probes):,} pictures",
                0,
                (),
                f"test with {advice} at least",
            )
    if fmr is not None and impostor and not resolves(fmr, impostor):
        need = trials_needed(fmr)
        advice = f"list {need:,} impostor pairs" if given else asked_people(probes, gallery, need)
        yield Finding(
            "too-few-impostors",
            Severity.WARNING,
            where,
            f"FMR {fmr:g} cannot be read from {impostor:,} impostor pairs: it takes {need:,} "
            f"(rule of three)",
            impostor,
            (),
            f"{advice}, or quote a higher FMR",
        )


def asked_people(probes: Part, gallery: Part | None, need: int) -> str:
    """How many people with as many pictures as now make so many impostor pairs."""
    each = len(probes) / len(probes.people)
    against = each if gallery is None else len(gallery) / len(gallery.people)
    # People in twos: p (p - 1), each of them counted once where all are compared with all.
    twos = (2 if gallery is None else 1) * need / (each * against)
    people = ceil((1 + sqrt(1 + 4 * twos)) / 2)
    return f"test {people:,} people with {each:.3g} picture{'s' * (each != 1)} each"


def numbers(probes: Part, gallery: Part | None) -> tuple[int, int]:
    """How many genuine and impostor pairs are compared."""
    right, wrong = (sum(counts) for counts in answers(probes, gallery))
    # Where all are compared with all, each pair was counted from both sides.
    return (right, wrong) if gallery is not None else (right // 2, wrong // 2)

"""Checks of labels: pictures that look like somebody else's.

Axes: n pictures, d embedding dimensions, p people.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from hashlib import blake2b
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from siamlearn.auditing.findings import Finding, Severity, some
from siamlearn.auditing.parts import Part
from siamlearn.auditing.people import are
from siamlearn.baselines import pixels
from siamlearn.functional.pairs import Distance

__all__ = ["wrong_labels"]

FOLDS = 3
ROUNDS = 5  # other folds each time
NEARER = 1.75  # times as near to the other's centre
STRANGE = 1.75  # times as far from it as that person's own pictures are, at most
WEAK = 0.1  # share of pictures nearer to others, above which embeddings cannot judge labels
FEWEST = 3  # pictures of a person whose centre counts
BLOCK = 2**22  # distances held at once


@final
@dataclass(frozen=True, eq=False)
class Judgement:
    """How pictures lie to the centres of people; the worst of all rounds.

    Args:
        nearer: how many times as near each is to another's centre as to its own, at least.
        strange: how many times as far it is from there as that person's own pictures, at most.
        other: who that is; -1 where it was not the same person every time.
    """

    nearer: Float[Tensor, " n"]
    strange: Float[Tensor, " n"]
    other: Int[Tensor, " n"]

    @property
    def suspects(self) -> list[int]:
        """Places of the pictures that would do well for somebody else, worst first."""
        wrong = (self.nearer >= NEARER) & (self.strange <= STRANGE) & (self.other >= 0)
        places: list[int] = wrong.nonzero()[:, 0].tolist()
        return sorted(places, key=lambda place: -float(self.nearer[place]))


def wrong_labels(part: Part) -> tuple[Finding, ...] | None:
    """Pictures that are much nearer to another person's centre than to their own, in every fold.

    The pictures of each person are put in three folds, five times anew. A centre is the mean of the
    embeddings in the other two folds, so that no picture has a say in where its own label's centre
    lies. One is suspected whose own centre is 1.75 times as far as that of one and the same other
    person, every time, and which is about as near to that as that person's own pictures are. People
    with fewer than three pictures are left out.

    Where there are no embeddings, small pictures are compared pixel by pixel, and a finding is a
    note: look at it. On half of the AT&T faces s1 to s31, sixteen times anew, with PCA+LDA trained
    on the other half, no picture was suspected, and of labels changed at random 75 % (60 % where
    people have five pictures each); with pixels none and 52 % (41 %).

    Returns:
        None where labels cannot be judged: fewer than two people have three pictures, or more than
        a tenth of the pictures is nearer to another person's centre.

    Example:
        >>> import siamlearn as sl
        >>> from siamlearn.auditing.parts import part_of
        >>> line = torch.tensor([0.0, 1, 2, 3, 4, 5, 40, 41, 42, 43, 44, 2.5])[:, None]
        >>> labels, names = torch.tensor([0] * 6 + [1] * 6), tuple("abcdefghijkl")
        >>> part = part_of("test", sl.Embeddings(line, labels, ("anna", "bob"), names))
        >>> [found] = wrong_labels(part)
        >>> found.examples
        ('l (bob; anna?)',)
    """
    people = [person for person, count in part.counts.items() if count >= FEWEST]
    by_what = judging(part) if len(people) > 1 else None
    if by_what is None:
        return None
    vectors, distance = by_what
    place = {person: number for number, person in enumerate(people)}
    kept = [index for index, person in enumerate(part.who) if person in place]
    who = torch.tensor([place[part.who[index]] for index in kept])
    keys = [part.names[index].encode() + part.digests[index] for index in kept]
    found = judged(vectors[kept], who, distance, keys)
    if (found.nearer > 1).double().mean() > WEAK:
        return None
    suspects = found.suspects
    if not suspects:
        return ()
    examples = [
        f"{part.names[kept[index]]} ({part.who[kept[index]]}; {people[int(found.other[index])]}?)"
        for index in suspects
    ]
    by_net = part.embeddings is not None
    finding = Finding(
        "suspected-labels",
        Severity.WARNING if by_net else Severity.NOTE,
        (part.role,),
        f"{len(suspects):,} of {len(part):,} pictures {are(len(suspects))} much nearer to another "
        f"person's centre than to their own in every fold{'' if by_net else ', pixel by pixel'}",
        len(suspects),
        some(examples),
        "look at them, and correct the labels that are wrong",
    )
    return (finding,)


def judging(part: Part) -> tuple[Float[Tensor, "n d"], Distance] | None:
    """What labels are judged by: the embeddings, or else the pixels."""
    if part.embeddings is not None:
        return part.vectors, part.embeddings.distance
    if part.images is not None:
        small = pixels(part.images)
        return small.vectors, small.distance
    return None


def judged(
    vectors: Float[Tensor, "n d"], who: Int[Tensor, " n"], distance: Distance, keys: list[bytes]
) -> Judgement:
    """Every picture held against the centres of all people, in every fold of every round."""
    n = len(who)
    nearer, strange, other = torch.full((n,), torch.inf), torch.zeros(n), torch.full((n,), -1)
    for turn in range(ROUNDS):
        fold = folds(who, keys, turn)
        own, nearest, whose = torch.empty(n), torch.empty(n), torch.empty_like(other)
        for number in range(FOLDS):
            rows = (fold == number).nonzero()[:, 0]
            centres = means(vectors, who, fold != number)
            for block in torch.split(rows, max(1, BLOCK // len(centres))):
                distances = distance(vectors[block], centres).float()
                own[block] = distances.gather(1, who[block, None])[:, 0]
                others = distances.scatter(1, who[block, None], torch.inf)
                nearest[block], whose[block] = others.min(dim=1)
        usual = torch.zeros(len(centres)).index_add(0, who, own) / who.bincount()
        # Where both are zero there is nothing to choose.
        nearer = torch.minimum(nearer, torch.where(own > 0, own / nearest, 0))
        strange = torch.maximum(strange, torch.where(nearest > 0, nearest / usual[whose], 0))
        other = whose if turn == 0 else torch.where(other == whose, whose, -1)
    return Judgement(nearer, strange, other)


def means(
    vectors: Float[Tensor, "n d"], who: Int[Tensor, " n"], learned: Bool[Tensor, " n"]
) -> Float[Tensor, "p d"]:
    """The centre of each person over these pictures."""
    people = int(who.max()) + 1
    total = vectors.new_zeros(people, vectors.shape[1])
    total = total.index_add(0, who[learned], vectors[learned])
    return total / who[learned].bincount(minlength=people)[:, None]


def folds(who: Int[Tensor, " n"], keys: list[bytes], turn: int) -> Int[Tensor, " n"]:
    """The fold of each picture: those of a person take turns, in an order of their names."""
    order = sorted(range(len(keys)), key=lambda index: blake2b(b"%d" % turn + keys[index]).digest())
    taken: Counter[int] = Counter()
    fold = torch.empty(len(keys), dtype=torch.int64)
    labels = who.tolist()
    for index in order:
        fold[index] = taken[labels[index]] % FOLDS
        taken[labels[index]] += 1
    return fold

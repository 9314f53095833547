"""Checks of pairs: a list of them, or what a sampler draws.

Axes: m pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import Sampler

from siamlearn.auditing.findings import Finding, Severity, some
from siamlearn.auditing.parts import Part
from siamlearn.auditing.people import are
from siamlearn.data.pairing import ListedPairs
from siamlearn.data.samplers import BatchSampler
from siamlearn.data.turns import Integers

__all__ = ["GivenPairs", "Paired", "paired", "pairs_of"]

# What `audit` takes for pairs: a list of (left, right), or a sampler of batches.
GivenPairs = (
    Sequence[Sequence[int] | Sequence[str]] | Integers | Tensor | ListedPairs | Sampler[list[int]]
)
EPOCHS = 10  # of a sampler, looked at until everybody was seen


@final
@dataclass(frozen=True, eq=False)
class Paired:
    """Pairs of pictures of one part.

    Args:
        part: the pictures.
        pairs: two of them a row.

    Example:
        >>> Paired(Part("test", ("1", "2"), ("anna", "anna")), torch.tensor([[0, 1]])).impostors
        0
    """

    part: Part
    pairs: Int[Tensor, "m 2"]

    @property
    def same(self) -> list[bool]:
        """Whether a pair shows one person."""
        who = self.part.who
        return [who[left] == who[right] for left, right in self.pairs.tolist()]

    @property
    def impostors(self) -> int:
        """How many pairs show two people."""
        return len(self.pairs) - sum(self.same)


def paired(part: Part, given: GivenPairs) -> Paired:
    """The pairs that were given, as places in the part.

    Args:
        part: the pictures.
        given: (left, right) as places counted from 0, or as names; a `ListedPairs`; or a batch
            sampler, whose batches are a left and a right half. One of ours says itself how many
            parts its batches have, and the first is paired with each of the others.

    Raises:
        ValueError: there are none, they are not two each, or there is no such picture.

    Example:
        >>> part = Part("test", ("1.png", "2.png"), ("anna", "bob"))
        >>> paired(part, [("2.png", "1.png")]).pairs.tolist()
        [[1, 0]]
    """
    if isinstance(given, BatchSampler):
        pairs = drawn(given, part)
    elif isinstance(given, Sampler):
        pairs = np.concatenate([halves(batch) for batch in given])
    elif isinstance(given, ListedPairs):
        pairs = given.pairs
    else:
        pairs = listed(part, given)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not len(pairs):
        msg = f"pairs must be a list of two pictures each, got shape {pairs.shape}"
        raise ValueError(msg)
    outside = pairs[((pairs < 0) | (pairs >= len(part))).any(axis=1)]
    if len(outside):
        msg = (
            f"pairs must be of the {len(part)} pictures of {part.role}, 0 to {len(part) - 1}, "
            f"got {tuple(outside[0].tolist())}"
        )
        raise ValueError(msg)
    return Paired(part, torch.from_numpy(pairs.astype(np.int64)))


def listed(part: Part, given: Any) -> Integers:
    rows = given if isinstance(given, np.ndarray | Tensor) else [tuple(pair) for pair in given]
    if len(rows) and isinstance(rows, list) and isinstance(rows[0][0], str):
        place = {name: index for index, name in enumerate(part.names)}
        unknown = next((name for pair in rows for name in pair if name not in place), None)
        if unknown is not None:
            msg = f"pairs must be of pictures of {part.role}, which has none called {unknown!r}"
            raise ValueError(msg)
        return np.array([[place[name] for name in pair] for pair in rows])
    return np.asarray(rows)


def drawn(sampler: BatchSampler, part: Part) -> Integers:
    """The pairs of one epoch, and of further ones until everybody was seen."""
    found: list[Integers] = []
    seen: set[str] = set()
    for epoch in range(EPOCHS):
        for number in range(len(sampler)):
            parts = np.array(sampler.batch(epoch, number)).reshape(sampler.parts, -1)
            left = np.broadcast_to(parts[0], parts[1:].shape)
            found.append(np.stack([left, parts[1:]], axis=-1).reshape(-1, 2))
            seen |= {part.who[index] for index in parts.ravel() if index < len(part)}
        if len(seen) == len(part.people):
            break
    return np.concatenate(found)


def halves(batch: list[int]) -> Integers:
    if len(batch) % 2:
        msg = f"a batch must be a left and a right half of equal length, got {len(batch)} pictures"
        raise ValueError(msg)
    return np.array(batch, dtype=np.int64).reshape(2, -1).T


def pairs_of(given: Paired) -> Iterator[Finding]:
    """Pictures that are paired with themselves, and people who are in no pair.

    Example:
        >>> part = Part("test", ("1", "2", "3"), ("anna", "anna", "bob"))
        >>> [(found.kind, found.examples) for found in pairs_of(paired(part, [(0, 0), (0, 1)]))]
        [('self-pairs', ('1',)), ('people-never-paired', ('bob',))]
    """
    part, role = given.part, given.part.role
    left, right = given.pairs.T
    own = left[left == right].tolist()
    if own:
        yield Finding(
            "self-pairs",
            Severity.ERROR,
            (role,),
            f"{len(own):,} of {len(left):,} pairs {are(len(own))} of a picture with itself, at "
            f"distance 0: genuine pairs that nobody can get wrong",
            len(own),
            some([*dict.fromkeys(part.names[index] for index in own)]),
            "draw two different pictures, as PairSampler does",
        )
    in_pairs = {part.who[index] for index in places(given)}
    unused = [person for person in part.people if person not in in_pairs]
    if unused:
        yield Finding(
            "people-never-paired",
            Severity.WARNING,
            (role,),
            f"{len(unused)} of {len(part.people)} people {are(len(unused))} in no pair",
            len(unused),
            some(unused),
            "look for an off-by-one where the pairs are drawn, or leave these people out",
        )


def places(given: Paired) -> Iterable[int]:
    found: list[int] = torch.unique(given.pairs).tolist()
    return found

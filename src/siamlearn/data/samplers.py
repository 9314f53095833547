"""Samplers decide which pictures meet in a batch. They yield indices and load nothing.

A batch is a number of *parts* of equal length, one after the other; row i of each part belongs
with row i of the others: left and right of a pair; anchor, positive and negative of a triplet;
the pictures of one identity. A rank's share is a slice of the rows, so it has the same layout.

Axes: b batches, p parts, r rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import final

import numpy as np
from torch.utils.data import Sampler

from siamlearn.data.pairing import Draw, RandomNegatives, RandomPositives
from siamlearn.data.randomness import address
from siamlearn.data.turns import Identities, Integers, Labels, Turns, hashed

__all__ = ["BalancedSampler", "BatchSampler", "PairSampler", "TripletSampler"]

# Pictures planned at a time: enough to hide numpy's overhead, few enough to stay in the cache.
BLOCK = 1 << 15


class BatchSampler(Sampler[list[int]], ABC):
    """Batches as a pure function of (seed, epoch, number): for a DataLoader's ``batch_sampler``.

    Iterating gives this rank's share of the batches from ``start`` to the end of ``epoch``, and
    leaves ``epoch`` and ``start`` at the batch that follows the last one given. So a loop that
    was left early is taken up where it was left, here or by `load_state_dict` elsewhere. (A
    DataLoader with workers asks ahead: set ``epoch`` and ``start`` to what was really used.)

    Args:
        rows: rows of a batch.
        parts: pictures in a row.
        batches: batches in an epoch.
        rank: which share of every batch to give, counted from zero.
        ranks: how many shares there are; they need not be of equal size.

    Raises:
        ValueError: where a number is below its least value.

    Example:
        >>> class InOrder(BatchSampler):
        ...     def plan(self, epoch, numbers):
        ...         return numbers[:, None, None] * self.rows + np.arange(self.rows)
        >>> list(InOrder(rows=3, parts=1, batches=2, rank=1, ranks=2))
        [[1, 2], [4, 5]]
    """

    def __init__(self, *, rows: int, parts: int, batches: int, rank: int, ranks: int) -> None:
        if batches < 1:
            msg = f"batches must be at least 1, got {batches}: an epoch would have no step"
            raise ValueError(msg)
        if not 0 <= rank < ranks:
            msg = f"rank must be from 0 to ranks - 1, got rank {rank} of {ranks} ranks"
            raise ValueError(msg)
        if rows < ranks:
            msg = f"each of {ranks} ranks needs a row of the batch, but a batch has {rows}"
            raise ValueError(msg)
        self.rows, self.parts, self.batches = rows, parts, batches
        self.rank, self.ranks = rank, ranks
        self.epoch, self.start = 0, 0

    @abstractmethod
    def plan(self, epoch: int, numbers: Integers) -> Integers:
        """The global batches of these numbers, as pictures (b, p, r)."""

    def batch(self, epoch: int, number: int) -> list[int]:
        """The global batch of this number, from zero: the shares of all ranks."""
        batch: list[int] = self.plan(int(epoch), np.array([number])).ravel().tolist()
        return batch

    def share(self, epoch: int, number: int) -> list[int]:
        """What this rank has of the global batch of this number."""
        batch = self.plan(int(epoch), np.array([number]))
        share: list[int] = batch[:, :, self._mine].ravel().tolist()
        return share

    def __len__(self) -> int:
        return self.batches

    def __repr__(self) -> str:
        settings = {**self._settings(), "batches": self.batches}
        if self.ranks > 1:
            settings |= {"rank": self.rank, "ranks": self.ranks}
        shown = ", ".join(f"{name}={value}" for name, value in settings.items())
        return f"{type(self).__name__}({shown})"

    def _settings(self) -> dict[str, float]:
        """What makes the batches, for people to read."""
        return {"rows": self.rows, "parts": self.parts}

    def __iter__(self) -> Iterator[list[int]]:
        epoch, start = int(self.epoch), self.start
        for number, share in enumerate(self._planned(epoch, start, self._mine), start=start + 1):
            last = number == self.batches
            self.epoch, self.start = (epoch + 1, 0) if last else (epoch, number)
            yield share

    def from_batch(self, epoch: int, number: int) -> Iterator[list[int]]:
        """The global batches from this number to the end of the epoch: `batch` of each, quicker."""
        return self._planned(int(epoch), number, slice(None))

    def _planned(self, epoch: int, start: int, rows: slice) -> Iterator[list[int]]:
        # Many at a time, and at first only a few: somebody may be waiting for the first one.
        block, most = 1, max(1, BLOCK // (self.rows * self.parts))
        while start < self.batches:
            numbers = np.arange(start, min(start + block, self.batches))
            yield from self.plan(epoch, numbers)[:, :, rows].reshape(len(numbers), -1).tolist()
            start, block = start + block, min(4 * block, most)

    def state_dict(self) -> dict[str, int]:
        """Where the next batch is: its epoch, and its number as ``start``."""
        return {"epoch": self.epoch, "start": self.start}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from where `state_dict` was taken."""
        self.epoch, self.start = int(state["epoch"]), int(state["start"])

    @property
    def _mine(self) -> slice:
        ends = self.rows * self.rank // self.ranks, self.rows * (self.rank + 1) // self.ranks
        return slice(*ends)


@final
class PairSampler(BatchSampler):
    """Batches of pairs: row i of the first half belongs with row i of the second half.

    In every batch exactly ``round(positive * pairs)`` pairs show one identity, in two different
    pictures, and the others two identities. Both kinds are spread evenly over the rows, so that
    each rank has its portion of either to the nearest pair.

    Identities take turns. Over an epoch any two of those that have two pictures are in equally
    many positive pairs, give or take one; any two identities are in equally many negative pairs,
    give or take one. So an epoch with enough slots visits everybody. The pictures of an identity
    take turns too. A new epoch is a new draw.

    Args:
        labels: the identity of each picture: a list, an array or a tensor of any integers.
        pairs: pairs in a batch, which therefore has twice as many pictures.
        batches: batches in an epoch; by default as many as it takes to draw as many pictures as
            there are.
        positive: share of the pairs that show one identity, from 0 to 1.
        seed: the same seed and epoch give the same batches.
        rank: which share of every batch to give, counted from zero.
        ranks: how many processes share a batch.
        positives: what makes a positive pair: a function of the epoch and the slots (the numbers
            of the positive pairs in the epoch) to left and right pictures. By default
            `RandomPositives`.
        negatives: the same for negative pairs. By default `RandomNegatives`.

    Raises:
        ValueError: where the labels do not allow such pairs, or a number is out of its range;
            when iterating, where a part draws a pair of the other kind, or what is no picture.

    Example:
        >>> sampler = PairSampler([0, 0, 0, 1, 1, 2], pairs=2, seed=1)
        >>> for left, left2, right, right2 in sampler:
        ...     print((left, right), (left2, right2))
        (0, 2) (1, 5)
        (4, 3) (4, 0)
    """

    def __init__(
        self,
        labels: Labels,
        *,
        pairs: int,
        batches: int | None = None,
        positive: float = 0.5,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
        positives: Draw | None = None,
        negatives: Draw | None = None,
    ) -> None:
        _at_least_one("pairs", pairs)
        if not 0 <= positive <= 1:
            msg = f"positive must be a share of the pairs, from 0 to 1, got {positive}"
            raise ValueError(msg)
        identities = Identities.of(labels)
        self.code = identities.code
        if batches is None:
            batches = -(-len(self.code) // (2 * pairs))
        super().__init__(rows=pairs, parts=2, batches=batches, rank=rank, ranks=ranks)
        self.positive, self.seed = positive, int(seed)
        share = round(positive * pairs)
        # Row i is positive where the portion of the rows so far calls for one more.
        self.same = np.diff(-(-np.arange(pairs + 1) * share // pairs)) > 0
        self.positives = positives or (RandomPositives(identities, seed=seed) if share else None)
        self.negatives = negatives or (
            RandomNegatives(identities, seed=seed) if share < pairs else None
        )

    def plan(self, epoch: int, numbers: Integers) -> Integers:
        """The global batches of these numbers, as pictures (b, 2, pairs)."""
        planned = np.empty((len(numbers), 2, self.rows), dtype=np.int64)
        for draw, here in (self.positives, self.same), (self.negatives, ~self.same):
            columns = np.flatnonzero(here)
            if draw is not None and len(columns):
                slots = numbers[:, None] * len(columns) + np.arange(len(columns))
                for part, pictures in enumerate(draw(epoch, slots.ravel())):
                    planned[:, part, columns] = pictures.reshape(slots.shape)
        self._check(planned[:, 0], planned[:, 1])
        return planned

    def _settings(self) -> dict[str, float]:
        return {"pairs": self.rows, "positive": self.positive, "seed": self.seed}

    def _check(self, left: Integers, right: Integers) -> None:
        """Hold the parts to what was asked of them: a wrong pair would be learned in silence."""
        count = len(self.code)
        drawn = np.stack([left, right])
        outside = drawn[(drawn < 0) | (drawn >= count)]
        if len(outside):
            msg = f"pairs must be of the {count} pictures, 0 to {count - 1}, got {outside[0]}"
            raise ValueError(msg)
        same = self.code[left] == self.code[right]
        wrong = (same != self.same) | (left == right)
        if wrong.any():
            where = tuple(np.argwhere(wrong)[0])
            part = "positives" if self.same[where[1]] else "negatives"
            rule = "two pictures of one identity" if part == "positives" else "two identities"
            got = f"({left[where]}, {right[where]})"
            msg = f"{part} must draw pairs of {rule}, but drew {got}; correct that part"
            raise ValueError(msg)


@final
class TripletSampler(BatchSampler):
    """Batches of triplets, in thirds: anchors, positives of the same identity, negatives.

    The identities of the anchors take turns, as in `PairSampler`; a negative shows any of the
    other identities, each as likely.

    Args:
        labels: the identity of each picture: a list, an array or a tensor of any integers.
        triplets: triplets in a batch, which therefore has three times as many pictures.
        batches: batches in an epoch; by default as many as it takes to draw as many pictures as
            there are.
        seed: the same seed and epoch give the same batches.
        rank: which share of every batch to give, counted from zero.
        ranks: how many processes share a batch.

    Raises:
        ValueError: where the labels do not allow triplets, or a number is out of its range.

    Example:
        >>> anchor, positive, negative = TripletSampler([0, 0, 1], triplets=1).batch(0, 0)
        >>> {anchor, positive}, negative
        ({0, 1}, 2)
    """

    def __init__(
        self,
        labels: Labels,
        *,
        triplets: int,
        batches: int | None = None,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        _at_least_one("triplets", triplets)
        self.identities = Identities.of(labels)
        self.positives = RandomPositives(self.identities, seed=seed)
        if len(self.identities) == 1:
            msg = "triplets need two identities, but all labels are the same"
            raise ValueError(msg)
        if batches is None:
            batches = -(-len(self.identities.code) // (3 * triplets))
        super().__init__(rows=triplets, parts=3, batches=batches, rank=rank, ranks=ranks)
        self.seed = int(seed)

    def plan(self, epoch: int, numbers: Integers) -> Integers:
        """The global batches of these numbers, as pictures (b, 3, triplets)."""
        slots = (numbers[:, None] * self.rows + np.arange(self.rows)).ravel()
        anchor, positive = self.positives(epoch, slots)
        people = self.identities
        # Counting on from the anchor's identity by less than a full round never returns to it.
        step = hashed(address("strangers", self.seed, epoch), slots) % np.uint64(len(people) - 1)
        other = (people.code[anchor] + 1 + step.astype(np.int64)) % len(people)
        key = address("stranger pictures", self.seed, epoch)
        negative = people.pictures(key, other, slots, 1)[:, 0]
        planned = np.stack([anchor, positive, negative])
        return planned.reshape(3, len(numbers), self.rows).swapaxes(0, 1)

    def _settings(self) -> dict[str, float]:
        return {"triplets": self.rows, "seed": self.seed}


@final
class BalancedSampler(BatchSampler):
    """Batches of several pictures of several identities: what a loss over all pairs needs.

    A batch shows ``identities`` different identities in ``images`` pictures each: first one
    picture of everybody, then the next one of everybody. The identities take turns: over an
    epoch, any two are in equally many batches, give or take one. The pictures of an identity take
    turns too: none is twice in a batch if there are ``images`` of them; where there are fewer,
    each is there equally often, give or take one.

    Args:
        labels: the identity of each picture: a list, an array or a tensor of any integers.
        identities: identities in a batch (P).
        images: pictures of each (K).
        batches: batches in an epoch; by default as many as it takes to draw as many pictures as
            there are.
        seed: the same seed and epoch give the same batches.
        rank: which identities of every batch to give, counted from zero.
        ranks: how many processes share a batch.

    Raises:
        ValueError: where there are fewer identities than asked for, or a number is out of range.

    Example:
        >>> batch = BalancedSampler([0, 0, 1, 1, 2, 2], identities=2, images=2).batch(0, 0)
        >>> sorted(batch[::2]), sorted(batch[1::2])
        ([2, 3], [0, 1])
    """

    def __init__(
        self,
        labels: Labels,
        *,
        identities: int,
        images: int,
        batches: int | None = None,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        _at_least_one("identities", identities)
        _at_least_one("images", images)
        people = Identities.of(labels)
        if len(people) < identities:
            msg = (
                f"a batch was asked to show {identities} identities, but there are "
                f"{len(people)}; pass identities={len(people)} or fewer"
            )
            raise ValueError(msg)
        if batches is None:
            batches = -(-len(people.code) // (identities * images))
        super().__init__(rows=identities, parts=images, batches=batches, rank=rank, ranks=ranks)
        self.turns = Turns(people, together=identities, images=images, name="balanced", seed=seed)

    def plan(self, epoch: int, numbers: Integers) -> Integers:
        """The global batches of these numbers, as pictures (b, images, identities)."""
        places = (numbers[:, None] * self.rows + np.arange(self.rows)).ravel()
        return (
            self.turns.at(epoch, places).reshape(len(numbers), self.rows, self.parts).swapaxes(1, 2)
        )

    def _settings(self) -> dict[str, float]:
        return {"identities": self.rows, "images": self.parts, "seed": self.turns.seed}


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        msg = f"{name} must be at least 1, got {value}: a batch would be empty"
        raise ValueError(msg)

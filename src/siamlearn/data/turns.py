"""Turns: even, random orders of identities and pictures, known at any place without replay.

Every number here is a hash of its address, so that a place in an epoch can be asked for alone,
and the answer is the same with any block size, any version of numpy and on any machine.

Axes: m slots asked for together, k pictures of one identity, c cycles, n identities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import lcm
from typing import Any, final

import numpy as np
import numpy.typing as npt
from torch import Tensor

from siamlearn.data.randomness import address

__all__ = ["Identities", "Integers", "Labels", "Turns", "hashed"]

Integers = npt.NDArray[np.int64]
Labels = Sequence[int] | npt.NDArray[Any] | Tensor

# Places worked out at a time, at most: enough to hide numpy's overhead, few enough for the cache.
BLOCK = 1 << 13
# Batches worked out at a time where they are asked for one by one.
AHEAD = 16
# Mixes any two pictures of an identity beyond what a chi-squared test of 100,000 draws can tell.
ROUNDS = 12


def hashed(
    key: int | np.uint64 | npt.NDArray[np.uint64], counter: Integers
) -> npt.NDArray[np.uint64]:
    """Random 64-bit numbers, one for each counter; different counters of a key never collide.

    Example:
        >>> hashed(0, np.array([0, 1]))[0] == 0xE220A8397B1DCDAF
        np.True_

    Source:
        Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014
        (SplitMix64, by place instead of in sequence).
    """
    z = (counter + 1).view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = z + np.asarray(key, dtype=np.uint64)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def _shuffled(place: Integers, size: Integers, key: npt.NDArray[np.uint64]) -> Integers:
    """Where a random order of ``size`` things has the one asked for, each row with its own key.

    Source:
        Hoang, Morris, Rogaway: An Enciphering Scheme Based on a Card Shuffle, CRYPTO 2012
        ("swap or not"), with far fewer rounds than a secret would need.
    """
    for step in range(ROUNDS):
        # The upper half of a hash, times the size, over 2**32: far quicker than a remainder.
        pivot = (hashed(key, np.full_like(size, -1 - step)) >> np.uint64(32)).view(np.int64)
        partner = (pivot * size >> 32) - place
        partner += (partner >> 63) & size
        coin = hashed(key, np.maximum(place, partner) * ROUNDS + step)
        place = place + ((partner - place) & (coin.view(np.int64) >> 63))
    return place


@final
@dataclass(frozen=True)
class Identities:
    """The pictures of each identity, numbered from zero in the order of their labels.

    Attributes:
        code: the number of the identity that each picture shows.
        order: all pictures, those of an identity side by side.
        first: for each identity, where its pictures begin in ``order``.
        count: for each identity, how many pictures it has.

    Example:
        >>> faces = Identities.of([7, -2, 7])
        >>> faces.code, faces.count
        (array([1, 0, 1]), array([1, 2]))
    """

    code: Integers
    order: Integers
    first: Integers
    count: Integers

    @classmethod
    def of(cls, labels: Labels | Identities) -> Identities:
        """Group pictures by label; labels may be any integers.

        Raises:
            ValueError: where there are no labels, or they are not one integer a picture.

        Example:
            >>> Identities.of([7, -2, 7]).count
            array([1, 2])
        """
        if isinstance(labels, Identities):
            return labels
        values = _integers(labels)
        order = np.argsort(values, kind="stable").astype(np.int64)
        ordered = values[order]
        new = np.append(True, ordered[1:] != ordered[:-1])
        first = np.flatnonzero(new).astype(np.int64)
        code = np.empty_like(order)
        code[order] = np.cumsum(new) - 1
        return cls(code, order, first, np.diff(first, append=len(order)))

    def __len__(self) -> int:
        return len(self.first)

    def repeated(self) -> Identities:
        """Only the identities that have two pictures or more.

        Example:
            >>> len(Identities.of([7, -2, 7]).repeated())
            1
        """
        several = self.count > 1
        return replace(self, first=self.first[several], count=self.count[several])

    def pictures(self, key: int, identity: Integers, visit: Integers, k: int) -> Integers:
        """Which ``k`` pictures are shown when an identity is visited for the given time.

        They take turns: ``ceil(count / k)`` visits show every picture of the identity, in a new
        random order after that. One visit shows no picture twice unless there are fewer than
        ``k``; then each is shown ``k // count`` times or once more.

        Args:
            key: the seed.
            identity: numbers of identities (m,).
            visit: how often each of them has been visited before (m,).
            k: pictures a visit.

        Returns:
            Pictures (m, k).

        Example:
            >>> faces = Identities.of([5, 5, 5, 8])
            >>> sorted(faces.pictures(0, np.array([0, 0, 0]), np.array([0, 1, 2]), 1).ravel())
            [np.int64(0), np.int64(1), np.int64(2)]
        """
        count = self.count[identity][:, None]
        lap, turn = np.divmod(visit[:, None], -(-count // k))
        place = (turn * k + np.arange(k)) % count
        keys = hashed(hashed(key, identity[:, None]), lap)
        shown: Integers = self.order[self.first[identity][:, None] + _shuffled(place, count, keys)]
        return shown


def _integers(labels: Labels) -> npt.NDArray[Any]:
    """Labels as a one-dimensional array of integers."""
    values = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if values.ndim != 1:
        msg = f"labels must be one integer for each picture, got an array of shape {values.shape}"
        raise ValueError(msg)
    if not len(values):
        msg = "a sampler needs pictures to draw from, but there are no labels"
        raise ValueError(msg)
    if values.dtype.kind not in "iub":
        # Integers beyond 64 bits: numpy would make floats of some, and forget which is which.
        values = np.asarray(labels, dtype=object)
        if not all(isinstance(label, int) for label in values):
            msg = f"labels must be integers, got {type(values[0]).__name__}; number the identities"
            raise ValueError(msg)
    return values


@final
class Turns:
    """An endless order in which everybody has a turn before anybody has the next.

    It is one random permutation of the identities after the other. Up to any place, the numbers
    of turns of two identities differ by at most one, and each ``together`` places that follow
    each other from a multiple of ``together`` are different identities. At every turn an
    identity shows ``images`` pictures, which take turns as well: see `Identities.pictures`.

    Args:
        identities: those who take turns, with their pictures.
        together: how many are shown together; at most as many as there are.
        images: pictures shown at a turn.
        name: what the order is for; two names have nothing to do with each other.
        seed: the same seed gives the same order.

    Example:
        >>> turns = Turns(Identities.of([4, 4, 9, 9]), images=2, name="doctest")
        >>> sorted(turns.at(0, np.arange(2)).ravel().tolist())
        [0, 1, 2, 3]
    """

    def __init__(
        self,
        identities: Identities,
        *,
        together: int = 1,
        images: int = 1,
        name: str,
        seed: int = 0,
    ) -> None:
        self.identities, self.together, self.images = identities, together, images
        self.name, self.seed = name, int(seed)
        # After so many cycles a group ends where a permutation does: a round depends on nothing.
        self._cycles = lcm(len(identities), together) // len(identities)
        self._rounds = max(1, BLOCK // (len(identities) * self._cycles))
        self._orders: tuple[int, int, list[Integers]] = (-1, -1, [])
        self._blocks: dict[tuple[int, int, int], Integers] = {}

    def at(self, epoch: int, places: Integers) -> Integers:
        """The pictures (m, k) that are shown at these places of an epoch (m,).

        Example:
            >>> Turns(Identities.of([4]), name="doctest").at(0, np.array([5]))
            array([[0]])
        """
        pictures = np.empty((len(places), self.images), dtype=np.int64)
        # Whoever asks for a few places will soon ask for the next ones.
        size = min(1 << (AHEAD * len(places)).bit_length(), BLOCK)
        block, within = np.divmod(places, size)
        for number in np.unique(block):
            here = block == number
            pictures[here] = self._block(epoch, int(number), size)[within[here]]
        return pictures

    def _block(self, epoch: int, number: int, size: int) -> Integers:
        """The pictures at a block of places, remembered for whoever asks for the rest of it."""
        if (epoch, number, size) not in self._blocks:
            visit, place = np.divmod(number * size + np.arange(size), len(self.identities))
            identity = np.empty_like(place)
            rounds, cycle = np.divmod(visit, self._cycles)
            many, row = np.divmod(rounds, self._rounds)
            for m, c in sorted(set(zip(many.tolist(), cycle.tolist(), strict=True))):
                here = (many == m) & (cycle == c)
                identity[here] = self._order(epoch, m, c)[row[here], place[here]]
            key = address(self.name, "pictures", self.seed, epoch)
            # Two of them, since a batch may lie on both sides of an edge.
            self._blocks = dict([*self._blocks.items()][-1:])
            shown = self.identities.pictures(key, identity, visit, self.images)
            self._blocks[epoch, number, size] = shown
        return self._blocks[epoch, number, size]

    def _order(self, epoch: int, many: int, cycle: int) -> Integers:
        """Permutations (rounds, n): the given cycle of each of many rounds."""
        orders = self._orders[2] if self._orders[:2] == (epoch, many) else []
        rounds = many * self._rounds + np.arange(self._rounds)
        key = address(self.name, self.seed, epoch)
        people = len(self.identities)
        while len(orders) <= cycle:
            counter = (rounds * self._cycles + len(orders)) * people
            order = np.argsort(hashed(key, counter[:, None] + np.arange(people)), axis=1)
            begun = len(orders) * people % self.together
            if begun:
                order = _apart(order, orders[-1][:, -begun:], self.together - begun)
            orders.append(order)
        self._orders = (epoch, many, orders)
        return orders[cycle]


def _apart(order: Integers, last: Integers, first: int) -> Integers:
    """Permutations whose ``first`` places show none of those who were ``last`` before them."""
    taken = np.zeros(order.shape, dtype=bool)
    np.put_along_axis(taken, last, values=True, axis=1)
    free = ~np.take_along_axis(taken, order, axis=1)
    ahead = free & (np.cumsum(free, axis=1) <= first)
    return np.take_along_axis(order, np.argsort(~ahead, axis=1, kind="stable"), axis=1)

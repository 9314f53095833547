"""Which pictures make a pair: the parts of a PairSampler that one can replace.

A part is any function from an epoch and slot numbers to the left and the right picture of each
pair. It is pure: the same epoch and slot give the same pair, however many are asked for at once.

Axes: m slots, n pictures, d embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import numpy as np
import torch
from torch import Tensor

from siamlearn.data.randomness import address
from siamlearn.data.turns import Identities, Integers, Labels, Turns, hashed
from siamlearn.functional.distances import euclidean
from siamlearn.functional.pairs import Distance

__all__ = ["Draw", "HardNegatives", "ListedPairs", "RandomNegatives", "RandomPositives"]

Draw = Callable[[int, Integers], tuple[Integers, Integers]]


@final
class RandomPositives:
    """Two different pictures of one identity, whose turn it is.

    Identities with a single picture are left out. The others take turns, and so do the pictures
    of each: over an epoch the numbers of pairs of two identities differ by at most one.

    Args:
        labels: the identity of each picture: any integers.
        seed: the same seed gives the same pairs.

    Raises:
        ValueError: where no identity has two pictures.

    Example:
        >>> left, right = RandomPositives([4, 4, 9, 9])(0, np.arange(2))
        >>> sorted(left // 2) == sorted(right // 2) == [0, 1]
        True
    """

    def __init__(self, labels: Labels | Identities, *, seed: int = 0) -> None:
        identities = Identities.of(labels)
        repeated = identities.repeated()
        if not len(repeated):
            msg = (
                f"positive pairs need an identity with two pictures, but each of the "
                f"{len(identities)} identities has one; add pictures or pass positive=0"
            )
            raise ValueError(msg)
        self.turns = Turns(repeated, images=2, name="positives", seed=seed)

    def __call__(self, epoch: int, slots: Integers) -> tuple[Integers, Integers]:
        """The left and the right picture of each slot."""
        left, right = self.turns.at(epoch, slots).T
        return left, right


@final
class RandomNegatives:
    """Pictures of two identities, whose turn it is.

    All identities take turns, on either side, and so do the pictures of each: over an epoch the
    numbers of pairs in which two identities are shown differ by at most one.

    Args:
        labels: the identity of each picture: any integers.
        seed: the same seed gives the same pairs.

    Raises:
        ValueError: where there is one identity only.

    Example:
        >>> left, right = RandomNegatives([4, 4, 9, 9])(0, np.arange(2))
        >>> (left // 2 != right // 2).all()
        np.True_
    """

    def __init__(self, labels: Labels | Identities, *, seed: int = 0) -> None:
        identities = Identities.of(labels)
        _need_two(identities)
        self.turns = Turns(identities, together=2, name="negatives", seed=seed)

    def __call__(self, epoch: int, slots: Integers) -> tuple[Integers, Integers]:
        """The left and the right picture of each slot."""
        places = (2 * slots[:, None] + np.arange(2)).ravel()
        left, right = self.turns.at(epoch, places).reshape(-1, 2).T
        return left, right


@final
class HardNegatives:
    """A picture and one of those nearest to it that show somebody else.

    The left pictures take turns as in `RandomNegatives`; the right ones are where the net errs.
    Until `update` is called the pairs are those of `RandomNegatives`.

    The pairs are a pure function of the seed, the epoch, the slot *and the last vectors given*.
    So call `update` between epochs only, and keep `state_dict` beside the weights: an epoch that
    is taken up in its middle needs the neighbours that it began with.

    Args:
        labels: the identity of each picture: any integers.
        nearest: from how many neighbours of other identities the right picture is drawn.
        distance: between embeddings; smaller is closer.
        seed: the same seed gives the same pairs.

    Raises:
        ValueError: where there is one identity only, or ``nearest`` is below one.

    Example:
        >>> negatives = HardNegatives([0, 0, 1, 1], nearest=1)
        >>> negatives.update(torch.tensor([[0.0], [2.0], [3.0], [9.0]]))
        >>> left, right = negatives(0, np.arange(4))
        >>> {(int(a), int(b)) for a, b in zip(left, right)} == {(0, 2), (1, 2), (2, 1), (3, 1)}
        True
    """

    def __init__(
        self,
        labels: Labels | Identities,
        *,
        nearest: int = 10,
        distance: Distance = euclidean,
        seed: int = 0,
    ) -> None:
        self.identities = Identities.of(labels)
        _need_two(self.identities)
        if nearest < 1:
            msg = f"nearest must be at least 1, got {nearest}: no neighbour could be drawn"
            raise ValueError(msg)
        # Nobody may run out of neighbours: who has most pictures has fewest others.
        self.nearest = min(nearest, len(self.identities.code) - int(self.identities.count.max()))
        self.distance, self.seed = distance, int(seed)
        self.random = RandomNegatives(self.identities, seed=seed)
        self.turns = Turns(self.identities, name="hard negatives", seed=seed)
        self.neighbours: Tensor | None = None

    def __call__(self, epoch: int, slots: Integers) -> tuple[Integers, Integers]:
        """The left and the right picture of each slot."""
        if self.neighbours is None:
            return self.random(epoch, slots)
        left = self.turns.at(epoch, slots)[:, 0]
        choice = hashed(address("neighbours", self.seed, epoch), slots) % np.uint64(self.nearest)
        return left, self.neighbours.numpy()[left, choice.astype(np.int64)]

    def update(self, vectors: Tensor) -> None:
        """Find the neighbours of every picture, from now on, by its embedding (n, d).

        All pairs of pictures are compared once, in blocks of rows.

        Raises:
            ValueError: where there is not one finite embedding for each picture.
        """
        code = torch.from_numpy(self.identities.code).to(vectors.device)
        if vectors.ndim != 2 or len(vectors) != len(code):
            msg = (
                f"vectors must have one row for each of the {len(code)} pictures, "
                f"got shape {tuple(vectors.shape)}"
            )
            raise ValueError(msg)
        if not vectors.isfinite().all():
            msg = "vectors must be finite, got NaN or infinity: a net that diverged has no nearest"
            raise ValueError(msg)
        vectors = vectors.detach()
        blocks = []
        for rows in torch.split(torch.arange(len(code), device=code.device), 1024):
            distance = self.distance(vectors[rows], vectors)
            distance = distance.masked_fill(code[rows, None] == code, torch.inf)
            blocks.append(distance.topk(self.nearest, largest=False).indices.cpu())
        self.neighbours = torch.cat(blocks)

    def state_dict(self) -> dict[str, Tensor]:
        """The neighbours (n, nearest), or nothing before the first `update`."""
        return {} if self.neighbours is None else {"neighbours": self.neighbours}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up what `state_dict` gave."""
        self.neighbours = state.get("neighbours")


@final
class ListedPairs:
    """Pairs from a list, in a new random order each epoch, each before any comes again.

    Args:
        pairs: the left and the right picture of each pair, as indices: (n, 2).
        seed: the same seed gives the same order.

    Raises:
        ValueError: where the list is empty, not of pairs, or has an index below zero.

    Example:
        >>> left, right = ListedPairs([(0, 5), (1, 7)])(0, np.arange(2))
        >>> sorted(zip(left.tolist(), right.tolist()))
        [(0, 5), (1, 7)]
    """

    def __init__(
        self, pairs: Sequence[Sequence[int]] | Integers | Tensor, *, seed: int = 0
    ) -> None:
        self.pairs = np.asarray(pairs, dtype=np.int64)
        if self.pairs.ndim != 2 or self.pairs.shape[1] != 2 or not len(self.pairs):
            msg = f"pairs must be a list of two pictures each, got shape {self.pairs.shape}"
            raise ValueError(msg)
        below = self.pairs[(self.pairs < 0).any(axis=1)]
        if len(below):
            msg = f"pictures in pairs are counted from 0, got {tuple(below[0].tolist())}"
            raise ValueError(msg)
        self.turns = Turns(Identities.of(range(len(self.pairs))), name="listed pairs", seed=seed)

    def __call__(self, epoch: int, slots: Integers) -> tuple[Integers, Integers]:
        """The left and the right picture of each slot."""
        left, right = self.pairs[self.turns.at(epoch, slots)[:, 0]].T
        return left, right


def _need_two(identities: Identities) -> None:
    """Refuse labels that are all the same."""
    if len(identities) == 1:
        msg = "negative pairs need two identities, but all labels are the same; pass positive=1"
        raise ValueError(msg)

"""Triplets whose anchor and positive may change places.

Axes: n pictures of a batch, k identities of one picture.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from siamlearn.functional.pairings import Gather, References, itself
from siamlearn.functional.pairs import Distance, Pairs, Terms, adjacent

__all__ = ["anchor_swap"]


def anchor_swap(
    terms: Callable[[Pairs], Terms],
    embeddings: Float[Tensor, "n d"],
    labels: Shaped[Tensor, "n *k"],
    *,
    distance: Distance,
    references: References | None = None,
    rows: int | None = None,
    symmetric: bool = False,
    gather: Gather = itself,
) -> Terms:
    """Adjacent triplets in which the negative is as far as from the nearer of the other two.

    Row i of the first third of a batch beside row i of the second and of the last third, as with
    :func:`~siamlearn.functional.pairings.adjacent_triplets`; but where the negative is nearer to
    the positive than to the anchor, that is its distance. Only given triplets can be swapped: of
    all triplets of a batch, the distance of positive and negative stands in the positive's row,
    and the loss treats each row on its own. There the positive is an anchor too, so that its row
    pushes the same negative away.

    Raises:
        ValueError: where the batch has no whole thirds, or references are given.

    Example:
        >>> x, y = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([7, 7, 8])
        >>> everything = lambda pairs: Terms(pairs.distance.sum(), pairs.positive.sum())
        >>> anchor_swap(everything, x, y, distance=torch.cdist)
        Terms(total=tensor(3.), count=tensor(1), slope=None, slopes=None)

    Source:
        Balntas, Riba, Ponsa, Mikolajczyk: Learning local feature descriptors with triplets and
        shallow convolutional neural networks, BMVC 2016, the section on in-triplet hard
        negative mining with anchor swap.

    When:
        Triplets are drawn by a ``TripletSampler``, and negatives are few.
    """
    if references is not None:
        msg = "anchor_swap compares the batch with itself, got references; use pairing=all_pairs"
        raise ValueError(msg)
    pairs = adjacent(embeddings, labels, distance=distance, parts=3)
    third = len(pairs.distance)
    others = adjacent(embeddings[third:], labels[third:], distance=distance)
    near, far = pairs.distance[:, :1], pairs.distance[:, 1:]
    swappable = pairs.positive[:, :1] & pairs.negative[:, 1:] & others.negative
    far = torch.where(swappable, torch.minimum(far, others.distance), far)
    return terms(replace(pairs, distance=torch.cat([near, far], dim=1)))

"""The angular loss: a whole pair of pictures is held against each negative.

It looks at the triangle of anchor, positive and negative, of which one side, that of positive and
negative, is no pair of the anchor's row. So here a row is a *pair* of pictures, side by side in
one query of twice the width, and a reference is one picture, twice. There are a pairing that makes
them, a distance between them, and a loss of its rows, which is like any other.

Axes: b separate blocks, q pairs (queries), r references, d dimensions of one picture, w = 2 d,
n pictures of a batch, k identities of one picture.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from siamlearn.functional.blocks import accumulate
from siamlearn.functional.losses.exponentials import softplus_of_sum
from siamlearn.functional.pairings import Gather, References, itself
from siamlearn.functional.pairs import Distance, Pairs, Terms
from siamlearn.functional.vectors import full_precision, product, unit

__all__ = ["angular", "outside_angle", "pairs_beside_all"]


def angular(pairs: Pairs) -> Terms:
    """Push all negatives out of the angle that a pair of pictures allows.

    For negatives that are n outside of it, see :func:`outside_angle`, the loss of a row is
    log(1 + Σ e^(-n)); the mean runs over rows that have negatives.

    When: added to an N-pairs loss, as the paper does with twice its weight, for identities of very
    different spread: an angle does not depend on scale.

    Example:
        >>> negative = torch.tensor([[False, True, True]])
        >>> angular(Pairs(torch.tensor([[0.0, 0.0, 0.0]]), ~negative, negative)).mean()
        tensor(1.0986)

    Source:
        Wang, Zhou, Wen, Liu, Lin: Deep Metric Learning with Angular Loss, ICCV 2017,
        arXiv:1708.01682, eq. 8. Half of each batch are anchors, the other half their positives, as
        in the paper; with more pictures of an identity, each is still in one pair.
    """
    cost, slope = softplus_of_sum(-pairs.distance, pairs.negative, pairs)
    return Terms(cost.sum(), pairs.negative.any(dim=-1).sum(), slope.neg_())


def outside_angle(
    pairs: Float[Tensor, "*b q w"], references: Float[Tensor, "*b r w"], *, angle: float = 45.0
) -> Float[Tensor, "*b q r"]:
    """How far pictures lie outside of the angle at which they may see a pair of pictures.

    For a pair a, p and a picture x, all taken to unit length, 2 (1 + t) a·p - 4 t (a + p)·x with
    t the squared tangent of the angle. It may be below zero; smaller is nearer to the pair.

    Args:
        pairs: anchor and positive side by side.
        references: each picture twice, side by side; only its first half is looked at.
        angle: the paper's alpha, in degrees, between 0 and 90.

    Example:
        >>> x = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]])
        >>> outside_angle(x, x)
        tensor([[-4.,  4.],
                [ 4., -4.]])

    Source:
        The same paper, the negative of f in eq. 8.
    """
    slope = math.tan(math.radians(angle)) ** 2
    pairs, references = full_precision(pairs), full_precision(references)
    with torch.autocast(pairs.device.type, enabled=False):
        anchors, positives = (unit(half) for half in pairs.chunk(2, dim=-1))
        within = (anchors * positives).sum(dim=-1, keepdim=True)
        pictures = unit(references.chunk(2, dim=-1)[0])
        across = product(anchors + positives, pictures)
        return 2 * (1 + slope) * within - 4 * slope * across


def pairs_beside_all(
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
    """Row i of both halves of a batch, as one query of twice the width, beside all of the batch.

    A negative is of another identity than both. Rows whose two pictures are of two identities
    have no negatives, so that the batches of a ``PairSampler`` may be used too.

    Raises:
        ValueError: where the batch is odd, or has no labels.

    Example:
        >>> x, y = torch.eye(4), torch.tensor([7, 8, 7, 8])
        >>> negatives = lambda pairs: Terms(pairs.distance.sum() * 0, pairs.negative.sum())
        >>> pairs_beside_all(negatives, x, y, distance=outside_angle).count
        tensor(4)
    """
    if len(embeddings) % 2:
        msg = f"pairs_beside_all needs a batch of two equal halves, got {len(embeddings)} rows"
        raise ValueError(msg)
    others, names, _ = references or gather(embeddings, labels)
    if names is None:
        msg = "pairs_beside_all needs labels, got same=: it does not say which two are a pair"
        raise ValueError(msg)
    half = len(embeddings) // 2
    mine, theirs = labels[:half], labels[half:]
    # Both names of a row, and whether it is a pair: what is made of them is as large as a block.
    if labels.dtype == torch.bool:
        known = torch.cat([mine | theirs, (mine & theirs).any(dim=-1, keepdim=True)], dim=1)
        names = torch.cat([names, torch.zeros_like(names[:, :1])], dim=1)
    else:
        known, names = torch.stack([mine, theirs], dim=1), torch.stack([names, names], dim=1)

    def of_pairs(block: Pairs) -> Terms:
        two = block.label
        assert two is not None  # it was given
        pair = two[:, -1:] if labels.dtype == torch.bool else two[:, :1] == two[:, 1:]
        return terms(block.keep(positive=pair, negative=pair))

    pairs = torch.cat([embeddings[:half], embeddings[half:]], dim=-1)
    twice = torch.cat([others, others], dim=-1)
    return accumulate(of_pairs, pairs, known, twice, names, distance=distance, rows=rows)

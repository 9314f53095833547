"""Miners: from a block of pairs to those of them that are worth learning from.

A miner is given to a loss, ``TripletLoss(miner=hardest)``, its settings by ``functools.partial``.
Miners only ever narrow: a pair that is left out stays out, so that one may follow another,
``lambda pairs: hardest(easiest(pairs), positives=None)``. Each row is mined on its own, as in the
losses, and no gradient goes through the choice.

Pairs that are tied are chosen together, so that the order of a batch does not matter. A pair
whose distance is NaN is always chosen, so that the loss shows what went wrong: a comparison here
says what to drop, never what to keep.

Axes: q queries (anchors), r references.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from siamlearn.functional.pairs import Pairs

__all__ = [
    "distance_weighted",
    "easiest",
    "hardest",
    "multi_similarity_mining",
    "pair_margin",
    "semi_hard",
]


def multi_similarity_mining(pairs: Pairs, *, epsilon: float = 0.1) -> Pairs:
    """Choose the pairs that stand in the wrong order, or nearly.

    A negative is chosen if it is closer than its anchor's farthest positive, plus ε; a positive
    if it is farther than its anchor's nearest negative, minus ε. An anchor without positives, or
    without negatives, has nothing to be compared with, and none of its pairs is chosen.

    When: beside the multi-similarity loss, which it was made for; beside a triplet loss it leaves
    out the rows that are in order.

    Args:
        epsilon: ε; how far apart two pairs must be to be surely in order, in units of distance.

    Example:
        >>> same = torch.tensor([[True, True, False, False]])
        >>> mined = multi_similarity_mining(
        ...     Pairs(torch.tensor([[0.1, 0.4, 0.45, 0.9]]), same, ~same), epsilon=0.1
        ... )
        >>> mined.positive.int(), mined.negative.int()
        (tensor([[0, 1, 0, 0]], dtype=torch.int32), tensor([[0, 0, 1, 0]], dtype=torch.int32))

    Source:
        Wang et al.: Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning,
        CVPR 2019, eqs. 11 and 12; there of similarities S: with ``cosine``, S is 1 - distance.
    """
    distance = pairs.distance.detach()
    farthest = _greatest(distance, pairs.positive)
    nearest = -_greatest(-distance, pairs.negative)
    return pairs.keep(
        positive=~(distance <= nearest - epsilon),
        negative=~(distance >= farthest + epsilon),
    )


def hardest(pairs: Pairs, *, positives: int | None = 1, negatives: int | None = 1) -> Pairs:
    """Choose the farthest positives and the nearest negatives of each anchor.

    As it is, this is batch-hard mining, but for the mean of a loss over the triplets that cost
    something, where that of :func:`~siamlearn.functional.losses.batch_hard` is over all anchors;
    ``hardest(pairs, positives=None, negatives=10)`` leaves the positives as they are and takes the
    ten nearest negatives.

    When: where most triplets are in order already. On noisy labels the hardest pairs are the
    wrong ones: take several.

    Args:
        positives: how many of an anchor's positives, more where some are tied; all of them if None.
        negatives: the same of its negatives.

    Example:
        >>> same = torch.tensor([[True, True, False, False]])
        >>> mined = hardest(Pairs(torch.tensor([[0.1, 0.4, 0.45, 0.9]]), same, ~same))
        >>> mined.positive.int(), mined.negative.int()
        (tensor([[0, 1, 0, 0]], dtype=torch.int32), tensor([[0, 0, 1, 0]], dtype=torch.int32))

    Source:
        Hermans, Beyer, Leibe: In Defense of the Triplet Loss for Person Re-Identification,
        arXiv:1703.07737, eq. 5, for one positive and one negative.
    """
    distance = pairs.distance.detach()
    return pairs.keep(
        positive=_greatest_few(distance, pairs.positive, positives),
        negative=_greatest_few(-distance, pairs.negative, negatives),
    )


def easiest(pairs: Pairs, *, positives: int | None = 1, negatives: int | None = None) -> Pairs:
    """Choose the nearest positives of each anchor, and the farthest negatives if asked.

    As it is, this is easy-positive mining: a picture need only be near one other of its identity,
    so that an identity may have several looks. ``hardest(easiest(pairs), positives=None)`` then
    takes the nearest negative too.

    When: identities that look different from picture to picture, such as products or animals from
    several sides.

    Args:
        positives: how many of an anchor's positives, more where some are tied; all of them if None.
        negatives: the same of its negatives.

    Example:
        >>> same = torch.tensor([[True, True, False, False]])
        >>> mined = easiest(Pairs(torch.tensor([[0.1, 0.4, 0.45, 0.9]]), same, ~same))
        >>> mined.positive.int(), mined.negative.int()
        (tensor([[1, 0, 0, 0]], dtype=torch.int32), tensor([[0, 0, 1, 1]], dtype=torch.int32))

    Source:
        Xuan, Stylianou, Pless: Improved Embeddings with Easy Positive Triplet Mining, WACV 2020,
        sec. 3.2.
    """
    distance = pairs.distance.detach()
    return pairs.keep(
        positive=_greatest_few(-distance, pairs.positive, positives),
        negative=_greatest_few(distance, pairs.negative, negatives),
    )


def semi_hard(pairs: Pairs, *, margin: float = 0.2) -> Pairs:
    """Choose the pairs that stand in some semi-hard triplet.

    A triplet is semi-hard if its negative is farther than its positive, but by less than the
    margin. A positive is chosen if it is in such a triplet, and a negative if it is. A loss of
    pairs then sees them; a loss of *triplets* also combines a negative with other positives
    of its anchor, to which it may not be semi-hard. Where an identity has more than two pictures in
    a batch, take :func:`~siamlearn.functional.losses.semi_hard_triplet` instead; with one positive
    for each anchor, as ``easiest`` leaves, the two are the same.

    When: a start from a random net, where the hardest negatives pull everything into one point.

    Args:
        margin: in units of distance; infinite for all negatives beyond a positive.

    Example:
        >>> same = torch.tensor([[True, True, False, False]])
        >>> mined = semi_hard(Pairs(torch.tensor([[0.1, 0.4, 0.45, 0.9]]), same, ~same), margin=0.2)
        >>> mined.positive.int(), mined.negative.int()
        (tensor([[0, 1, 0, 0]], dtype=torch.int32), tensor([[0, 0, 1, 0]], dtype=torch.int32))

    Source:
        Schroff, Kalenichenko, Philbin: FaceNet, CVPR 2015, sec. 3.2, eq. 4 and the margin named
        below it; there of one triplet at a time, and of squared distances.
    """
    distance = pairs.distance.detach()
    return pairs.keep(
        positive=~(_gap_below(-distance, pairs.negative) >= margin),
        negative=~(_gap_below(distance, pairs.positive) >= margin),
    )


def pair_margin(
    pairs: Pairs, *, positive_margin: float = 0.2, negative_margin: float = 0.8
) -> Pairs:
    """Choose positives that are too far and negatives that are too near.

    When: losses without a margin of their own. What is chosen does not depend on the rest of the
    batch, so that in the end few pairs, or none, are left.

    Args:
        positive_margin: positives farther than this are chosen, in units of distance.
        negative_margin: negatives nearer than this are chosen.

    Example:
        >>> same = torch.tensor([[True, True, False, False]])
        >>> mined = pair_margin(Pairs(torch.tensor([[0.1, 0.4, 0.45, 0.9]]), same, ~same))
        >>> mined.positive.int(), mined.negative.int()
        (tensor([[0, 1, 0, 0]], dtype=torch.int32), tensor([[0, 0, 1, 0]], dtype=torch.int32))

    Source:
        The pairs of which a contrastive loss with two margins is not zero; the defaults are those
        of pytorch-metric-learning's ``PairMarginMiner``.
    """
    distance = pairs.distance.detach()
    return pairs.keep(
        positive=~(distance <= positive_margin), negative=~(distance >= negative_margin)
    )


def distance_weighted(
    pairs: Pairs,
    *,
    dimensions: int,
    seed: int,
    negatives: int | None = None,
    nearest: float = 0.5,
    farthest: float = 1.4,
) -> Pairs:
    """Draw negatives of all distances alike, where most are about equally far away.

    Random points on a unit sphere of many dimensions are nearly all √2 apart. A negative at
    distance d is drawn with a probability in proportion to 1 / (d^(n-2) (1 - d²/4)^((n-3)/2)), so
    that near and far ones come up alike. An anchor's negatives are drawn one after the other
    without putting back; there may be fewer than asked for. All positives stay.

    What is drawn depends on the seed, on which columns are an anchor's positives and negatives,
    and on the distances: neither on blocks nor on what was drawn before, so that a run is repeated
    exactly. Pass another seed at each step to draw anew from the same batch.

    When: the margin loss, which it was made for; a contrastive loss of many negatives.

    Args:
        dimensions: n, of the embeddings, which must be unit vectors at euclidean distances.
        negatives: how many for each anchor; as many as it has positives if None.
        nearest: negatives nearer than this are drawn as if they were that far, as there are too
            few of them for their weight: the paper's λ.
        farthest: negatives beyond this are not drawn; a margin loss does not see them.

    Example:
        >>> same = torch.tensor([[True, False, False, False]])
        >>> pairs = Pairs(torch.tensor([[0.1, 0.7, 1.2, 1.9]]), same, ~same)
        >>> distance_weighted(pairs, dimensions=16, seed=0).negative.int()
        tensor([[0, 1, 0, 0]], dtype=torch.int32)

    Source:
        Wu, Manmatha, Smola, Krähenbühl: Sampling Matters in Deep Embedding Learning, ICCV 2017,
        arXiv:1706.07567, sec. 4: the density q(d), its first equation, and the clipped weights
        min(λ, 1/q(d)), with the two cuts of the authors' code; there with putting back, one
        negative for each positive.
    """
    distance = pairs.distance.detach()
    within = pairs.negative & (distance < farthest)
    clipped = distance.clamp(min=nearest)
    half = 1 - clipped.square() / 4
    density = (dimensions - 2) * clipped.log() + (dimensions - 3) / 2 * half.clamp(min=1e-6).log()
    # Of independent exponential times with these rates, the first to come up is such a draw, and
    # those after it are the next ones. Weights overflow, their logarithms do not.
    waiting = density + _exponential(pairs, seed).log()
    if negatives is None:
        last = pairs.positive.sum(dim=-1, keepdim=True)
        order = waiting.masked_fill(~within, torch.inf).sort(dim=-1).values
        order = F.pad(order, (1, 0), value=-torch.inf)
        drawn = ~(waiting > order.gather(-1, last))
    else:
        drawn = _greatest_few(-waiting, within, negatives)
    return pairs.keep(positive=pairs.positive, negative=drawn & within | distance.isnan())


def _greatest(values: Float[Tensor, "q r"], mask: Bool[Tensor, "q r"]) -> Float[Tensor, "q 1"]:
    """Of each row, over the masked entries; minus infinity where none is, NaN where one is NaN."""
    if values.shape[-1] == 0:
        return values.new_full((len(values), 1), -torch.inf)
    return values.masked_fill(~mask, -torch.inf).amax(dim=-1, keepdim=True)


def _greatest_few(
    values: Float[Tensor, "q r"], mask: Bool[Tensor, "q r"], few: int | None
) -> Bool[Tensor, "q r"]:
    """Where a value is among the greatest few of the masked entries of its row; all if None."""
    if few is not None and few < 1:
        msg = f"a miner must keep at least 1 pair a row, got {few}; None keeps them all"
        raise ValueError(msg)
    if few is None or few >= values.shape[-1]:
        return mask
    if few == 1:
        return ~(values < _greatest(values, mask))
    last = values.masked_fill(~mask, -torch.inf).topk(few, dim=-1).values[:, -1:]
    return ~(values < last)


def _gap_below(values: Float[Tensor, "q r"], others: Bool[Tensor, "q r"]) -> Float[Tensor, "q r"]:
    """How far each value is above the greatest of the others that is smaller; infinite if none."""
    ordered = values.masked_fill(~others, torch.inf).sort(dim=-1).values
    below = F.pad(ordered, (1, 0), value=-torch.inf)
    return values - below.gather(-1, torch.searchsorted(ordered, values.contiguous()))


def _exponential(pairs: Pairs, seed: int) -> Float[Tensor, "q r"]:
    """A random number of the exponential distribution for each pair, the same in any block.

    A generator would draw in the order of the blocks. Instead, numbers are mixed from the seed,
    the column, and who is positive and who negative in the row. That tells rows apart wherever
    a batch is compared with itself, as nobody is a partner of their own; beside other references
    the rows of one identity share their numbers.
    """
    column = torch.arange(pairs.distance.shape[-1], device=pairs.distance.device)
    own = _mixed(column + (seed % 2**31 << 32))
    row = torch.where(pairs.positive, own, 0) + torch.where(pairs.negative, _mixed(own), 0)
    bits = _mixed(_mixed(row.sum(dim=-1, keepdim=True)) + own) & (2**53 - 1)
    uniform = bits.to(pairs.distance.dtype).add(0.5).div(2**53)
    # Short times count most, and they come from numbers near 0, where floats are dense.
    return -uniform.clamp(max=1 - 2**-24).neg().log1p()


def _mixed(numbers: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    """Whole numbers that look random, one for each: the finaliser of SplitMix64."""
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        numbers = (numbers ^ (numbers >> shift & (1 << 64 - shift) - 1)) * factor
    return numbers ^ (numbers >> 31 & (1 << 33) - 1)

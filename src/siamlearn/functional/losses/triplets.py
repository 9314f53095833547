"""Losses of triplets, and of lists: an anchor, its positives and its negatives.

Every loss treats each row on its own, so that a block may be cut anywhere between rows. A row
without positives, or without negatives, costs what the paper's sum over none of them says:
nothing, and its gradient is finite.

Fewer positives or negatives are the choice of a miner, before the loss: with the hardest of each
left, :func:`triplet` is the loss of the hardest. What no mask of pairs can say has a function of
its own: :func:`semi_hard_triplet`, where each positive has its own negatives, and
:func:`batch_hard`, whose mean is over anchors.

Axes: q queries (anchors), r references, k positives of a row at most, w of them at a time.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from siamlearn.functional.losses.exponentials import softplus
from siamlearn.functional.losses.positives import places
from siamlearn.functional.pairs import Pairs, Terms

__all__ = ["batch_hard", "ranked_list", "semi_hard_triplet", "soft_triplet", "triplet"]

FEW = 64
"""Up to so many positives a row it is faster to go through them than to sort the negatives."""


def triplet(pairs: Pairs, *, margin: float = 0.2) -> Terms:
    """Push every negative of an anchor a margin farther away than every positive of it.

    For a positive at distance p and a negative at distance n the loss is max(0, p - n + margin);
    the mean runs over the triplets whose loss is not zero. All q * r * r of them are summed
    without being formed. Where a row has few positives, each is held against all negatives in
    turn. Where it has many, and on a GPU or under ``torch.compile``, where nobody counts them,
    the negatives are sorted: those within reach of a positive are a prefix of the row, found by
    one look-up.

    When: the order of distances matters, their size does not, and batches are large enough for the
    non-zero triplets not to run out.

    Args:
        margin: how much farther a negative shall be than a positive, in units of distance.

    Example:
        >>> same = torch.tensor([[True, False, False]])
        >>> triplet(Pairs(torch.tensor([[0.5, 0.6, 0.9]]), same, ~same), margin=0.2).mean()
        tensor(0.1000)

    Source:
        Schroff, Kalenichenko, Philbin: FaceNet, CVPR 2015, eq. 3, on plain instead of squared
        distances (pass ``squared_euclidean`` for those); the mean over non-zero triplets:
        Hermans, Beyer, Leibe: In Defense of the Triplet Loss, arXiv:1703.07737, eq. 6 ("batch
        all") with sec. 3.4. Swapping anchor and positive, as Balntas et al. do, needs the distance
        of positive and negative, which is in another row: see
        :func:`~siamlearn.functional.pairings.anchor_swap`.
    """
    return _hinges(pairs, margin, semi_hard=False)


def semi_hard_triplet(pairs: Pairs, *, margin: float = 0.2) -> Terms:
    """Push away the negatives that are farther than a positive, but not a margin farther.

    For a positive at distance p and a negative at distance n with p < n < p + margin the loss is
    p - n + margin; the mean runs over these triplets. Negatives nearer than the positive, from
    which training may collapse to a single point, are left out.

    When: hard negatives are often wrong labels, or the first epochs collapse.

    Args:
        margin: how much farther a negative shall be than a positive, in units of distance.

    Example:
        >>> same = torch.tensor([[True, False, False]])
        >>> pairs = Pairs(torch.tensor([[0.5, 0.6, 0.4]]), same, ~same)
        >>> semi_hard_triplet(pairs, margin=0.2).mean()
        tensor(0.1000)

    Source:
        Schroff, Kalenichenko, Philbin: FaceNet, CVPR 2015, eq. 3 over the negatives of eq. 4 that
        lie inside the margin; all of them, where the paper leaves open how it chooses one.
    """
    return _hinges(pairs, margin, semi_hard=True)


def soft_triplet(pairs: Pairs, *, margin: float = 0.0) -> Terms:
    """Push every negative away from every positive, the less the farther it is already.

    For a positive at distance p and a negative at distance n the loss is
    log(1 + e^(p - n + margin)), which is never zero; the mean runs over all triplets. Sorting
    does not help here: it costs one exponential a triplet: q * r * k, with k the most
    positives that a row has; on a GPU or under ``torch.compile``, where nobody counts them,
    q * r * r. Memory grows as the block.

    When: as :func:`triplet`, where no margin suits and identities shall go on moving apart.

    Args:
        margin: how much farther a negative shall be for a loss of log 2, in units of distance.

    Example:
        >>> same = torch.tensor([[True, False, False]])
        >>> soft_triplet(Pairs(torch.tensor([[0.5, 0.5, 0.5]]), same, ~same)).mean()
        tensor(0.6931)

    Source:
        Hermans, Beyer, Leibe: In Defense of the Triplet Loss, arXiv:1703.07737, eq. 6 ("batch
        all"), with the softplus of sec. 2 ("soft-margin", without a number) for its hinge; there
        without a margin.
    """
    found = places(pairs.positive)
    where, real = (None, pairs.positive) if found is None else found
    reach = pairs.distance + margin
    reach = (reach if where is None else reach.gather(-1, where)).masked_fill(~real, -torch.inf)
    away = pairs.select(pairs.distance, pairs.negative, torch.inf)
    q, r = pairs.distance.shape
    together = 1 if where is not None else max(1, 2**24 // max(q * r, 1))
    total, by_negative, by_positive = pairs.distance.new_zeros(q), torch.zeros_like(away), []
    for some in torch.split(reach, together, dim=-1):
        lack = some[:, :, None] - away[:, None, :]
        total = total + softplus(lack).sum(dim=(1, 2))
        share = lack.detach().sigmoid()
        by_negative -= share.sum(dim=1)
        by_positive.append(share.sum(dim=2))
    count = pairs.positive.sum(dim=-1) * pairs.negative.sum(dim=-1)
    each = torch.cat(by_positive, dim=-1) if by_positive else reach.detach()
    slope = by_negative + each if where is None else by_negative.scatter_add(-1, where, each)
    return Terms(total.sum(), count.sum(), slope)


def batch_hard(
    pairs: Pairs,
    *,
    margin: float = 0.2,
    penalty: Callable[[Tensor], Tensor] = torch.relu,
) -> Terms:
    """Push the nearest negative of an anchor a margin farther away than its farthest positive.

    For the farthest positive at distance p and the nearest negative at distance n the loss of an
    anchor is penalty(p - n + margin); the mean runs over all anchors that have both, also those
    whose loss is zero.

    When: labels are clean, batches hold several pictures of each identity, and :func:`triplet` is
    left with few triplets that are not zero.

    Args:
        margin: how much farther the negative shall be than the positive, in units of distance.
        penalty: what is asked for being too near: ``torch.relu``, or
            ``torch.nn.functional.softplus`` for the paper's soft margin, with ``margin=0``.

    Example:
        >>> same = torch.tensor([[True, True, False, False]])
        >>> batch_hard(Pairs(torch.tensor([[0.1, 0.5, 0.6, 0.9]]), same, ~same)).mean()
        tensor(0.1000)

    Source:
        Hermans, Beyer, Leibe: In Defense of the Triplet Loss, arXiv:1703.07737, eq. 5, as the mean
        over anchors that sec. 2 speaks of and the equation leaves out.
    """
    distance = pairs.distance.detach()
    farthest = pairs.distance.gather(-1, _highest(distance, pairs.positive))
    nearest = pairs.distance.gather(-1, _highest(-distance, pairs.negative))
    counted = pairs.positive.any(dim=-1) & pairs.negative.any(dim=-1)
    cost = penalty(farthest - nearest + margin)
    return Terms(torch.where(counted[:, None], cost, 0).sum(), counted.sum())


def ranked_list(
    pairs: Pairs,
    *,
    margin: float = 0.4,
    boundary: float = 1.2,
    scale: float = 10.0,
    balance: float = 1.0,
) -> Terms:
    """Pull all positives of an anchor into a ball, and push all negatives a margin out of it.

    A positive at distance p costs max(0, p - (b - m)), a negative at distance n costs
    max(0, b - n). Those that cost nothing are left out. The loss of an anchor is the mean of its
    positives' costs plus λ times that of its negatives', where each negative weighs e^(T (b - n));
    the mean runs over anchors. The weights are constants: nothing is learned by changing them.

    When: identities shall keep a width of their own, and all that is on the wrong side shall teach.

    Args:
        margin: m, how much farther the negatives shall be than the positives, in units of distance.
        boundary: b, the paper's alpha, how far the negatives shall be; positives are left alone
            within b - m.
        scale: T, the paper's temperature, by which distances are multiplied: a larger one looks
            at the nearest negatives, 0 at all of them alike.
        balance: λ, what negatives count beside positives.

    Example:
        >>> same = torch.tensor([[True, True, False, False]])
        >>> ranked_list(Pairs(torch.tensor([[1.0, 0.5, 1.0, 3.0]]), same, ~same)).mean()
        tensor(0.4000)

    Source:
        Wang, Hua, Kodirov, Hu, Garnier, Robertson: Ranked List Loss for Deep Metric Learning,
        CVPR 2019, arXiv:1903.03238, eq. 8, 9 and 11 to 13 of the CVPR version, on Euclidean
        distances of unit vectors, for which the defaults are meant. References learn as well as
        anchors; the paper holds them constant.
    """
    far = torch.where(pairs.positive, pairs.distance - (boundary - margin), 0).relu()
    near = pairs.select(boundary - pairs.distance, pairs.negative, 0).relu_()
    slope = _shares(far.detach(), 0) - balance * _shares(near.detach(), scale)
    # Where the slope is above zero the pair is a positive, and below it a negative.
    counted = (pairs.positive | pairs.negative).any(dim=-1)
    return Terms((slope * (far - near)).sum(), counted.sum(), slope)


def _shares(lack: Float[Tensor, "q r"], scale: float) -> Float[Tensor, "q r"]:
    """What each lack above zero weighs in the mean of its row."""
    share = (lack > 0).to(lack.dtype)
    if scale != 0:
        share *= (scale * lack).softmax(dim=-1)
    # Where there are any, one of them has at least its part of the row.
    return share / share.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(lack.dtype).tiny)


def _highest(value: Float[Tensor, "q r"], mask: Bool[Tensor, "q r"]) -> Int[Tensor, "q k"]:
    """Where in each row, of those in the mask; a NaN is highest. No column where there is none."""
    one = min(1, value.shape[1])
    return value.masked_fill(~mask, -torch.inf).topk(one, dim=-1).indices


def _hinges(pairs: Pairs, margin: float, *, semi_hard: bool) -> Terms:
    """The sum of max(0, p - n + margin) over triplets; semi-hard: over those with p < n alone."""
    distance = pairs.distance.detach()
    away = pairs.select(distance, pairs.negative, torch.inf)
    found = places(pairs.positive)
    if found is not None and found[0].shape[1] <= FEW:
        where, real = found
        near = distance.gather(-1, where).masked_fill(~real, -torch.inf)
        terms = _in_turn(near, where, away, margin, semi_hard=semi_hard)
    else:
        near = distance.masked_fill(~pairs.positive, -torch.inf)
        terms = _by_sorting(distance, near, away, margin, semi_hard=semi_hard)
    if not pairs.distance.requires_grad:
        return terms
    assert terms.slope is not None  # both ways know it
    # The sum is linear in the distances as long as no triplet begins or ends to count.
    linear = (terms.slope * pairs.distance).sum()
    return replace(terms, total=terms.total + (linear - linear.detach()))


def _in_turn(
    near: Float[Tensor, "q k"],
    where: Int[Tensor, "q k"],
    away: Float[Tensor, "q r"],
    margin: float,
    *,
    semi_hard: bool,
) -> Terms:
    """One positive of every row after the other, against all negatives."""
    slope, lack = torch.zeros_like(away), torch.empty_like(away)
    cost, count = torch.zeros_like(near), torch.zeros_like(near)
    for k in range(near.shape[1]):
        positive = near[:, k, None]
        torch.sub(positive + margin, away, out=lack).relu_()
        if semi_hard:
            lack *= (away - positive).relu_().sign_()
        cost[:, k] = lack.sum(dim=-1)
        count[:, k] = lack.sign_().sum(dim=-1)
        slope -= lack
    slope.scatter_add_(-1, where, count)
    return Terms(cost.sum(), count.long().sum(), slope)


def _by_sorting(
    distance: Float[Tensor, "q r"],
    near: Float[Tensor, "q r"],
    away: Float[Tensor, "q r"],
    margin: float,
    *,
    semi_hard: bool,
) -> Terms:
    """All positives of a row at once: the negatives that one meets stand together once sorted."""
    nearest_first, order = away.sort(dim=-1)
    end = torch.searchsorted(nearest_first, near + margin)
    start = torch.zeros_like(end)
    if semi_hard:
        start = torch.minimum(torch.searchsorted(nearest_first, near, right=True), end)
    met = (end - start).to(away.dtype)
    # How many positives meet a negative: those that begin at it or before, less those that ended.
    one = torch.ones_like(away)
    begun = F.pad(torch.zeros_like(away), (0, 1)).scatter_add_(-1, start, one)
    meeting = begun.scatter_add_(-1, end, -one).cumsum(dim=-1)[:, :-1]
    slope = met.scatter_add(-1, order, -meeting)
    # A sum of p - n + margin is as many times each distance as its slope says.
    cost = (slope * distance).sum(dim=-1) + margin * met.sum(dim=-1)
    return Terms(cost.clamp(min=0).sum(), (end - start).sum(), slope)

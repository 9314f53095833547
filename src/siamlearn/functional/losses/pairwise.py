"""Losses of single pairs: each costs what its own distance says.

Every loss treats each row on its own, so that a block may be cut anywhere between rows. A row
without positives, or without negatives, costs what the paper's sum over none of them says:
nothing, and its gradient is finite.

Axes: q queries (anchors), r references.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from siamlearn.functional.pairs import Pairs, Terms

__all__ = [
    "contrastive",
    "intra_pair_variance",
    "margin_based",
    "mean_distances",
    "sigmoid",
    "threshold_consistent",
]


def contrastive(
    pairs: Pairs,
    *,
    margin: float = 1.0,
    positive_margin: float = 0.0,
    squared: bool = True,
    apart: bool = False,
) -> Terms:
    """Pull positives together; push negatives until they are a margin apart.

    For a positive pair at distance d the loss is max(0, d - m₊)², for a negative one
    max(0, margin - d)², or the same without the squares; the mean runs over all pairs.

    When: pairs are what is known, or a threshold on the distance is what will be used. The squared
    form is the usual one; the plain one does not let go of pairs that are nearly right.

    Args:
        margin: the distance beyond which a negative pair is left alone, in units of distance.
        positive_margin: m₊, the distance within which a positive pair is left alone.
        squared: whether costs grow with the square of the distance that is wanting.
        apart: take the mean of the positives that cost anything, plus that of the negatives that
            do, so that the many negatives which are far enough do not thin out the others.

    Example:
        >>> same = torch.tensor([[True, False]])
        >>> contrastive(Pairs(torch.tensor([[0.5, 0.5]]), same, ~same), margin=2.0).mean()
        tensor(1.2500)

    Source:
        Hadsell, Chopra, LeCun: Dimensionality Reduction by Learning an Invariant Mapping,
        CVPR 2006, eq. 4, without its factor of one half. What pytorch-metric-learning calls by
        this name is ``squared=False, apart=True``.
    """
    if apart:
        return _apart(pairs, inner=positive_margin, outer=margin, squared=squared)
    push = pairs.select(margin - pairs.distance, pairs.negative, 0).relu_()
    pull = torch.where(pairs.few(pairs.positive), pairs.few(pairs.distance) - positive_margin, 0)
    pull = pull.relu()
    count = pairs.few(pairs.positive).count_nonzero() + pairs.negative.count_nonzero()
    if squared:
        total = push.square().sum() + pull.square().sum()
        return Terms(total, count, pairs.add_few(-2 * push.detach(), 2 * pull.detach()))
    slope = push.detach().sign().neg_()
    return Terms(push.sum() + pull.sum(), count, pairs.add_few(slope, pull.detach().sign()))


def threshold_consistent(
    pairs: Pairs,
    *,
    margin: float = 0.5,
    positive_margin: float = 0.1,
    weight: float = 1.0,
    positive_weight: float = 1.0,
) -> Terms:
    """Bring only the pairs that one threshold for everybody would get wrong to its right side.

    A positive pair at distance d beyond m₊ costs d - m₊, a negative one within m₋ costs m₋ - d;
    the mean of the former, times λ₊, is added to the mean of the latter, times λ₋.

    When: beside another loss, as in ``SupConLoss() + ThresholdConsistentLoss()``, where one
    threshold is to give all identities, also unknown ones, the same error rates.

    Args:
        margin: m₋ as a distance, one minus that of the paper: beyond it negatives are let alone.
        positive_margin: m₊ likewise: within it positives are let alone.
        weight: λ₋, of the negatives.
        positive_weight: λ₊, of the positives.

    Example:
        >>> same = torch.tensor([[True, True, False]])
        >>> threshold_consistent(Pairs(torch.tensor([[0.0, 0.5, 0.25]]), same, ~same)).mean()
        tensor(0.6500)

    Source:
        Zhang et al.: Threshold-Consistent Margin Loss for Open-World Deep Metric Learning,
        ICLR 2024 (arXiv:2307.04047), the TCM loss, on 1 - cosine. A pair exactly at its margin
        costs nothing and here is not counted either.
    """
    weights = (positive_weight, weight)
    return _apart(pairs, inner=positive_margin, outer=margin, squared=False, weights=weights)


def margin_based(
    pairs: Pairs,
    *,
    margin: float = 0.2,
    boundary: float | Float[Tensor, "*q"] = 1.2,
    regularisation: float = 0.0,
    balanced: bool = False,
) -> Terms:
    """Keep positives within a boundary and negatives beyond it, each by a margin.

    For a positive pair at distance d the loss is max(0, margin + d - β), for a negative one
    max(0, margin + β - d), with the boundary β; the mean runs over the pairs that cost anything.
    The boundary may be learned, one for all or one for each identity; then its mean over the
    anchors, times a weight, is added.

    When: a loss as cheap as the contrastive one, that lets positives keep some distance; best with
    negatives of all distances (a distance-weighted miner) and embeddings of length 1.

    Args:
        margin: in units of distance (alpha in the paper).
        boundary: β, in units of distance: a number, or a tensor of one for all or one a row.
        regularisation: the weight (nu in the paper): above zero it keeps a learned boundary from
            growing; it has no effect on a boundary that is a number.
        balanced: weigh each positive by the number of negatives of its anchor and each negative by
            that of positives, as if every positive had been put beside every negative.

    Example:
        >>> same = torch.tensor([[True, False]])
        >>> margin_based(Pairs(torch.tensor([[1.25, 1.25]]), same, ~same)).mean()
        tensor(0.2000)

    Source:
        Wu, Manmatha, Smola, Krähenbühl: Sampling Matters in Deep Embedding Learning, ICCV 2017,
        arXiv:1706.07567, sec. 4, "margin based loss". There nu β is added once a pair and divided
        by the number of pairs that cost anything, so that it weighs the more the better the
        embeddings are; here it is a mean of its own. A boundary for each single picture is left
        out.
    """
    level = boundary
    if isinstance(level, Tensor) and level.ndim:
        level = level[:, None]
    beyond = pairs.distance - level
    chosen = pairs.positive | pairs.negative
    # 1 for positives, -1 for negatives; made of whole numbers, since where() takes twice as long.
    way = (pairs.positive.view(torch.int8) - pairs.negative.view(torch.int8)).to(beyond.dtype)
    cost = torch.where(chosen, (beyond * way).add_(margin).relu_(), 0)
    slope = cost.detach().sign()  # 1 where it costs anything, 0 elsewhere
    if balanced:
        of_positive, of_negative = (
            mask.sum(dim=1, keepdim=True).to(cost.dtype)
            for mask in (pairs.negative, pairs.positive)
        )
        weight = torch.where(pairs.positive, of_positive, of_negative)
        cost, slope = cost * weight, slope * weight
    total, count = cost.sum(), slope.sum(dim=1, dtype=torch.float64).long().sum()
    if not isinstance(boundary, Tensor):
        return Terms(total, count, slope * way)
    if not regularisation:
        return Terms(total, count)
    anchors = chosen.any(dim=1)
    of_anchors = regularisation * torch.where(anchors, boundary, 0).sum()
    return Terms(torch.stack([total, of_anchors]), torch.stack([count, anchors.sum()]))


def sigmoid(
    pairs: Pairs,
    *,
    scale: float | Float[Tensor, ""] = 10.0,
    bias: float | Float[Tensor, ""] = -10.0,
) -> Terms:
    """Ask of every pair on its own whether it is one: a logistic regression on the distance.

    A pair at distance d has the logit t (1 - d) + b. The loss of an anchor is the sum over its
    pairs of -log sigmoid(z logit), with z = 1 for positives and z = -1 for negatives; the mean runs
    over the anchors.

    When: two towers (pictures and captions) and large batches: pairs do not compete, so that a
    batch need not be seen as a whole. The bias starts low, since most pairs are negative.

    Args:
        scale: t, the inverse of a temperature.
        bias: b, the logit of a pair at a right angle.

    Example:
        >>> same = torch.tensor([[True, False]])
        >>> sigmoid(Pairs(torch.tensor([[1.0, 1.0]]), same, ~same), bias=0.0).mean()
        tensor(1.3863)

    Source:
        Zhai, Mustafa, Kolesnikov, Beyer: Sigmoid Loss for Language Image Pre-Training, ICCV 2023,
        arXiv:2303.15343, sec. 3.2 (its equations have no numbers) and algorithm 1; on 1 - cosine.
        The sign of the bias is that of the algorithm; in the equation it is the other one.
    """
    chosen = pairs.positive | pairs.negative
    logit = (scale + bias) - scale * pairs.distance
    signed = torch.where(pairs.positive, logit, -logit)
    cost = torch.where(chosen, -F.logsigmoid(signed), 0)
    anchors = chosen.any(dim=1).sum()
    if any(isinstance(end, Tensor) and end.requires_grad for end in (scale, bias)):
        return Terms(cost.sum(), anchors)
    steep = scale * torch.sigmoid(-signed.detach()).masked_fill_(~chosen, 0)
    return Terms(cost.sum(), anchors, slope=torch.where(pairs.positive, steep, -steep))


def mean_distances(pairs: Pairs) -> Terms:
    """The mean distance of the positives, and that of the negatives, as two parts.

    Example:
        >>> same = torch.tensor([[True, True, False]])
        >>> terms = mean_distances(Pairs(torch.tensor([[1.0, 2.0, 4.0]]), same, ~same))
        >>> terms.total / terms.count
        tensor([1.5000, 4.0000])
    """
    kinds = pairs.positive, pairs.negative
    return Terms(
        torch.stack([torch.where(kind, pairs.distance, 0).sum() for kind in kinds]),
        torch.stack([kind.count_nonzero() for kind in kinds]),
        slope=torch.stack(kinds).to(pairs.distance.dtype),
    )


def intra_pair_variance(
    pairs: Pairs,
    means: Float[Tensor, "2"],
    *,
    positive_slack: float = 0.01,
    slack: float = 0.01,
) -> Terms:
    """Narrow the spread of the distances: pull the farthest positives, push the nearest negatives.

    With s = 1 - d, a positive costs max(0, (1 - ε₊) s̄₊ - s)² and a negative
    max(0, s - (1 + ε₋) s̄₋)², where s̄ are the means over the whole batch; the mean over positives
    is added to that over negatives. The means depend on all rows: they are taken first, by
    :func:`mean_distances`.

    When: beside another loss, as in ``TupletMarginLoss() + 0.5 * IntraPairVarianceLoss()``, on
    cosine distances.

    Args:
        means: the mean distance of the positives and that of the negatives.
        positive_slack: ε₊, how far below their mean positives may lie.
        slack: ε₋, how far above their mean negatives may lie.

    Example:
        >>> same = torch.tensor([[True, True, False]])
        >>> pairs = Pairs(torch.tensor([[0.0, 0.5, 1.0]]), same, ~same)
        >>> intra_pair_variance(pairs, torch.tensor([0.25, 1.0]), positive_slack=0.0).mean()
        tensor(0.0312)

    Source:
        Yu, Tao: Deep Metric Learning with Tuplet Margin Loss, ICCV 2019, the intra-pair variance
        loss, on 1 - cosine.
    """
    far = positive_slack + (1 - positive_slack) * means[0]
    near = (1 + slack) * means[1] - slack
    pull = torch.where(pairs.positive, pairs.distance - far, 0).relu_()
    push = pairs.select(near - pairs.distance, pairs.negative, 0).relu_()
    return Terms(
        torch.stack([pull.square().sum(), push.square().sum()]),
        torch.stack([pairs.positive.count_nonzero(), pairs.negative.count_nonzero()]),
        slope=None if means.requires_grad else 2 * torch.stack([pull, -push]).detach(),
    )


def _apart(
    pairs: Pairs,
    *,
    inner: float,
    outer: float,
    squared: bool,
    weights: tuple[float, float] = (1.0, 1.0),
) -> Terms:
    """Positives beyond one distance and negatives within another, averaged apart, over those."""
    positive = pairs.few(pairs.positive)
    pull = torch.where(positive, (pairs.few(pairs.distance) - inner).relu(), 0)
    push = pairs.select(outer - pairs.distance, pairs.negative, 0).relu_()
    # 1 where it costs anything, 0 elsewhere; float32 counts a row exactly, but not all of them.
    costs = [part.detach().sign() for part in (pull, push)]
    count = torch.stack([each.sum(dim=1).long().sum() for each in costs])
    signed = weights[0], -weights[1]
    if squared:
        slopes = tuple(
            part.detach() * (2 * w) for part, w in zip((pull, push), signed, strict=True)
        )
    else:
        slopes = tuple(cost.mul_(w) for cost, w in zip(costs, signed, strict=True))
    totals = [part.square().sum() if squared else part.sum() for part in (pull, push)]
    total = torch.stack([weights[0] * totals[0], weights[1] * totals[1]])
    return Terms(total, count, slopes=slopes)

"""Losses of an anchor with all its positives and all its negatives at once.

Every loss treats each row on its own, so that a block may be cut anywhere between rows. A row
without positives, or without negatives, costs what the paper's sum over none of them says:
nothing, and its gradient is finite. What is published for a similarity s is taken at s = 1 - d.

Axes: q queries (anchors), r references.
"""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from siamlearn.functional.losses.exponentials import RowSum, how_many, log_sum_exp
from siamlearn.functional.losses.softmax import against_negatives
from siamlearn.functional.pairs import Pairs, Terms

__all__ = [
    "circle",
    "crowding",
    "generalised_lifted",
    "lifted_structure",
    "multi_similarity",
    "rivalry",
    "tuplet_margin",
]


def multi_similarity(
    pairs: Pairs, *, positive_scale: float = 2.0, negative_scale: float = 50.0, base: float = 1.0
) -> Terms:
    """Pull positives and push negatives, each by how far it stands out among its like.

    With similarities s = 1 - d, the scales a and b and the base λ, the loss of an anchor is
    log(1 + Σ e^(-a (s - λ))) / a over its positives and log(1 + Σ e^(b (s - λ))) / b over its
    negatives; the mean is over all anchors.

    When: labelled batches with several pictures an identity, on cosine, with
    :func:`~siamlearn.functional.mining.multi_similarity_mining` as in the paper.

    Args:
        positive_scale: a (alpha of the paper): a larger one looks at farther positives.
        negative_scale: b (beta of the paper): a larger one looks at nearer negatives.
        base: λ, the similarity around which pairs begin to matter. The authors' program has 0.5.

    Example:
        >>> same = torch.tensor([[True, False]])
        >>> pairs = Pairs(torch.tensor([[0.0, 0.0]]), same, ~same)
        >>> multi_similarity(pairs, positive_scale=1.0, negative_scale=1.0).mean()
        tensor(1.3863)

    Source:
        Wang, Han, Huang, Dong, Scott: Multi-Similarity Loss with General Pair Weighting for Deep
        Metric Learning, CVPR 2019, arXiv:1904.06627, eq. 15.
    """
    apart = pairs.distance - (1 - base)
    positive = log_sum_exp(positive_scale * pairs.few(apart), pairs.few(pairs.positive))
    negative = log_sum_exp(-negative_scale * apart, pairs.negative, pairs)
    costs = (
        F.softplus(positive.log, threshold=40) / positive_scale
        + F.softplus(negative.log, threshold=40) / negative_scale
    )
    slope = negative.weigh(-negative.log.detach().sigmoid())
    pairs.add_few(slope, positive.weigh(positive.log.detach().sigmoid()))
    count = torch.full((), len(costs), device=costs.device)
    return Terms(costs.sum(), count, slope)


def circle(pairs: Pairs, *, relaxation: float = 0.25, scale: float = 256.0) -> Terms:
    """Pull and push each pair the harder the farther it is from where it should be.

    With similarities s = 1 - d, the relaxation m and the scale g, a positive has the logit
    -g max(0, 1 + m - s) (s - 1 + m) and a negative g max(0, s + m) (s - m). The loss of an anchor
    is log(1 + Σ e^positive Σ e^negative); the mean is over the anchors that have both. Positives
    are to come nearer than m, negatives farther than 1 - m.

    The factors in max(0, ·) are weights, and no gradient goes through them: so it says in the
    paper, and so it is done by all. The gradient is therefore not the slope of the value.

    When: faces (the defaults), on cosine; for finer differences the paper has m = 0.4, g = 80.

    Args:
        relaxation: m, a similarity: how far from the best a pair may stay.
        scale: g (gamma of the paper): a larger one looks at the worst pairs alone.

    Example:
        >>> same = torch.tensor([[True, False]])
        >>> pairs = Pairs(torch.tensor([[0.25, 0.75]]), same, ~same)
        >>> circle(pairs, relaxation=0.25).mean()
        tensor(0.6931)

    Source:
        Sun et al.: Circle Loss: A Unified Perspective of Pair Similarity Optimization, CVPR 2020,
        arXiv:2002.10857, eq. 6, with the weights of eq. 5 and the margins of sec. 3.2.
    """
    pull_by, near = _weighed(pairs.few(pairs.distance), relaxation, scale)
    push_by, far = _weighed(1 - pairs.distance, relaxation, scale)
    positive = log_sum_exp(near, pairs.few(pairs.positive))
    negative = log_sum_exp(far, pairs.negative, pairs)
    counted = _with_both(pairs)
    both = torch.where(counted, positive.log + negative.log, 0)
    total = torch.where(counted, F.softplus(both, threshold=40), 0).sum()
    pull = torch.where(counted, both.detach().sigmoid(), 0)
    slope = negative.weigh(-pull).mul_(push_by)
    pairs.add_few(slope, positive.weigh(pull).mul_(pull_by))
    return Terms(total, counted.sum(), slope)


def _weighed(off: Tensor, relaxation: float, scale: float) -> tuple[Tensor, Tensor]:
    """The weights of circle loss, without gradient, and the logits that they weigh."""
    weight = (off.detach() + relaxation).relu_().mul_(scale)
    return weight, weight * (off - relaxation)


def tuplet_margin(pairs: Pairs, *, slack: float = 0.1, scale: float = 64.0) -> Terms:
    """Tell each positive from all negatives by angles, and leave positives some slack.

    For a positive at the angle θp the loss is log(1 + Σ e^(s (cos θn - cos(θp - β)))), with the
    sum over the anchor's negatives at angles θn; the mean runs over positives. A positive nearer
    than the slack β is pushed back out to it: that keeps an identity from falling together.

    When: identities that vary much, on cosine, the only distance that it has a meaning for.

    Args:
        slack: β, in radians.
        scale: s: a larger one looks at nearer negatives.

    Example:
        >>> same = torch.tensor([[True, False]])
        >>> tuplet_margin(Pairs(torch.tensor([[0.5, 0.5]]), same, ~same), slack=0.0).mean()
        tensor(0.6931)

    Source:
        Yu, Tao: Deep Metric Learning with Tuplet Margin Loss, ICCV 2019, sec. 3; without its
        term of intra-pair variance, and over all negatives, where it draws one of each other
        identity. Written without an arc cosine, which has no slope at 1; where two embeddings are
        in one direction, the sine is taken to have none either.
    """
    near = pairs.few(pairs.distance)
    cosine, square = 1 - near, near * (2 - near)
    apart = square > 0
    sine = torch.where(apart, square, 1).sqrt().where(apart, 0)
    there, aside = math.cos(slack), math.sin(slack)
    moved = there * cosine + aside * sine
    total, slope, pull = against_negatives(scale * (1 - pairs.distance), scale * moved, pairs)
    rising = (cosine.detach() / sine.detach()).masked_fill_(~apart, 0).mul_(aside).sub_(there)
    pairs.add_few(slope.mul_(-scale), -scale * pull * rising)
    return Terms(total, how_many(pairs.few(pairs.positive)).sum(), slope)


def lifted_structure(
    pairs: Pairs,
    *,
    rivals: Float[Tensor, " r"] | None = None,
    pushes: Float[Tensor, " q"] | None = None,
    margin: float = 1.0,
) -> Terms:
    """Bring each positive pair closer than all negatives of both its ends.

    For a positive pair (i, j) at distance d the loss is max(0, J)² / 2, with
    J = d + log(Σ e^(m - n) + Σ e^(m - k)): over the distances n of i to its negatives, and k of j
    to those of j. The mean runs over positive pairs.

    What concerns j is not in the row of i, and comes as ``rivals``. For the value that is all. In
    the gradient the row of i also answers for what i costs as the other end of other rows, and
    that comes as ``pushes``.

    Without rivals the negatives of the anchor alone are taken: for references that are not
    themselves anchors.

    When: batches of two or more pictures an identity; :func:`generalised_lifted` is simpler, and
    usually better.

    Args:
        rivals: of each reference, the :func:`crowding` by its own negatives, with that margin.
        pushes: of each query, the :func:`rivalry` as a reference of all rows; if left out, what it
            is in its own row, which is the same where all positives are so both ways, and as far.
        margin: m, in units of distance.

    Example:
        >>> same = torch.tensor([[True, False]])
        >>> pairs = Pairs(torch.tensor([[1.0, 1.0]]), same, ~same)
        >>> lifted_structure(pairs).mean()
        tensor(0.5000)

    Source:
        Song, Xiang, Jegelka, Savarese: Deep Metric Learning via Lifted Structured Feature
        Embedding, CVPR 2016, arXiv:1511.06452, eq. 4.
    """
    negative, lack, share = _lack(pairs, rivals, margin)
    push, total = (lack.detach() * share).sum(dim=1), lack.square().sum() / 2
    if rivals is not None:
        pushes = push if pushes is None else pushes
        push = push + pushes
        # No cost of its own: autograd finds there what the slope has.
        total = total + (pushes * (negative.log - negative.log.detach())).sum()
    slope = pairs.add_few(negative.weigh(-push), lack.detach())
    return Terms(total, how_many(pairs.few(pairs.positive)).sum(), slope)


def crowding(pairs: Pairs, *, margin: float = 1.0) -> Float[Tensor, " q"]:
    """How near negatives crowd around each query: log Σ e^(m - n) over their distances n.

    It has no gradient, and is very low, but finite, where there are no negatives.

    Example:
        >>> same = torch.tensor([[True, False, False]])
        >>> crowding(Pairs(torch.tensor([[0.0, 1.0, 1.0]]), same, ~same))
        tensor([0.6931])
    """
    return log_sum_exp(margin - pairs.distance.detach(), pairs.negative, pairs).log


def rivalry(
    pairs: Pairs, *, rivals: Float[Tensor, " r"], margin: float = 1.0
) -> Float[Tensor, " r"]:
    """What the crowding of each reference counts for: the slope of a lifted structure by it.

    It has no gradient, and adds over rows.

    Example:
        >>> same = torch.tensor([[True, False]])
        >>> pairs = Pairs(torch.tensor([[1.0, 1.0]]), same, ~same)
        >>> rivalry(pairs, rivals=torch.tensor([0.0, 0.0]))
        tensor([0.8466, 0.0000])
    """
    _, lack, share = _lack(replace(pairs, distance=pairs.distance.detach()), rivals, margin)
    counts = lack * (1 - share)
    if pairs.partners is None:
        return counts.sum(dim=0)
    return torch.zeros_like(rivals).index_add_(0, pairs.partners.flatten(), counts.flatten())


def _lack(
    pairs: Pairs, rivals: Tensor | None, margin: float
) -> tuple[RowSum, Float[Tensor, "q k"], Tensor]:
    """The negatives of each query; how far positives lack; which share is its own negatives'.

    The latter two of the columns of :meth:`Pairs.few` alone.
    """
    negative = log_sum_exp(margin - pairs.distance, pairs.negative, pairs)
    crowd, share = negative.log[:, None], torch.ones((), device=pairs.distance.device)
    near, positive = pairs.few(pairs.distance), pairs.few(pairs.positive)
    if rivals is not None:
        rivals = rivals if pairs.partners is None else rivals[pairs.partners]
        share = (crowd.detach() - rivals).sigmoid_()
        crowd = torch.logaddexp(crowd, rivals)
    return negative, torch.where(positive, crowd + near, 0).relu(), share


def generalised_lifted(pairs: Pairs, *, margin: float = 1.0) -> Terms:
    """Bring all positives of an anchor closer than all its negatives, smoothly.

    The loss of an anchor is max(0, log Σ e^p + log Σ e^(m - n)), over the distances p of its
    positives and n of its negatives; the mean is over the anchors that have both. It is a smooth
    form of the farthest positive against the nearest negative.

    When: as the hardest triplets, where these are too few or too noisy.

    Args:
        margin: m, in units of distance.

    Example:
        >>> same = torch.tensor([[True, False]])
        >>> generalised_lifted(Pairs(torch.tensor([[0.5, 0.75]]), same, ~same)).mean()
        tensor(0.7500)

    Source:
        Hermans, Beyer, Leibe: In Defense of the Triplet Loss for Person Re-Identification,
        arXiv:1703.07737, eq. 7 (L_LG), as the mean that sec. 2 speaks of and the equation leaves
        out.
    """
    positive = log_sum_exp(pairs.few(pairs.distance), pairs.few(pairs.positive))
    negative = log_sum_exp(margin - pairs.distance, pairs.negative, pairs)
    counted = _with_both(pairs)
    costs = torch.where(counted, positive.log + negative.log, 0).relu()
    pull = (costs.detach() > 0).to(costs.dtype)
    slope = pairs.add_few(negative.weigh(-pull), positive.weigh(pull))
    return Terms(costs.sum(), counted.sum(), slope)


def _with_both(pairs: Pairs) -> Bool[Tensor, " q"]:
    return (how_many(pairs.few(pairs.positive)) > 0) & (how_many(pairs.negative) > 0)

"""Losses that weigh the pairs of an anchor against each other by their exponentials.

Every loss treats each row on its own, so that a block may be cut anywhere between rows. A row
without positives, or without negatives, costs what the paper's sum over none of them says:
nothing, and its gradient is finite.

Each takes the temperature τ as a number, or as a tensor that learns.

Axes: q queries (anchors), r references.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from siamlearn.functional.losses.exponentials import how_many, log_sum_exp
from siamlearn.functional.pairs import Pairs, Terms

__all__ = ["Temperature", "against_negatives", "decoupled", "info_nce", "n_pairs", "nca", "sup_con"]

Temperature = float | Float[Tensor, ""]
"""What distances are divided by: a number, or a tensor that learns."""


def info_nce(pairs: Pairs, *, temperature: Temperature = 0.07) -> Terms:
    """Tell each positive from all negatives of its anchor; the mean runs over positives.

    For a positive at distance p the loss is -log(e^(-p/τ) / (e^(-p/τ) + Σ e^(-n/τ))), with the
    sum over the anchor's negatives at distances n. Other positives of the anchor do not compete.

    When: pairs or views of the same thing, the more negatives the better. Over ``two_towers`` with
    a learned temperature it is the loss of CLIP: the mean of both directions.

    Args:
        temperature: τ; distances are divided by it, so that a smaller one looks at nearer
            negatives.

    Example:
        >>> same = torch.tensor([[True, False]])
        >>> info_nce(Pairs(torch.tensor([[0.5, 0.5]]), same, ~same), temperature=1.0).mean()
        tensor(0.6931)

    Source:
        van den Oord, Li, Vinyals: Representation Learning with Contrastive Predictive Coding,
        arXiv:1807.03748, eq. 4; with labels and cosine distance it is the NT-Xent of Chen et al.:
        A Simple Framework for Contrastive Learning, arXiv:2002.05709, eq. 1. Two towers: Radford
        et al.: Learning Transferable Visual Models From Natural Language Supervision,
        arXiv:2103.00020, fig. 3.
    """
    logits = pairs.distance / -temperature
    total, slope, pull = against_negatives(logits, pairs.few(logits), pairs)
    pairs.add_few(slope, -pull)
    count = how_many(pairs.few(pairs.positive)).sum()
    return Terms(total, count, _by_distance(slope, temperature))


def against_negatives(
    logits: Float[Tensor, "q r"], near: Float[Tensor, "q k"], pairs: Pairs
) -> tuple[Float[Tensor, ""], Float[Tensor, "q r"], Float[Tensor, "q k"]]:
    """Sum of -log(e^p / (e^p + Σ e^n)) over all positives p; the sum within is over negatives n.

    With it come its slope by the logits of negatives, and how it falls with those of positives.

    Args:
        logits: of all pairs.
        near: of those among which the positives are, see :meth:`Pairs.few`.

    Example:
        >>> same = torch.tensor([[True, False]])
        >>> pairs = Pairs(torch.zeros(1, 2), same, ~same)
        >>> against_negatives(torch.zeros(1, 2), torch.zeros(1, 2), pairs)
        (tensor(0.6931), tensor([[0.0000, 0.5000]]), tensor([[0.5000, 0.0000]]))
    """
    rivals = log_sum_exp(logits, pairs.negative, pairs)
    positive, lack = pairs.few(pairs.positive), rivals.log[:, None] - near
    # Beyond its threshold softplus is the identity; its usual 20 is too low for float64.
    total = torch.where(positive, F.softplus(lack, threshold=40), 0).sum()
    pull = torch.where(positive, lack.detach().sigmoid(), 0)
    return total, rivals.weigh(pull.sum(dim=1)), pull


def sup_con(pairs: Pairs, *, temperature: Temperature = 0.07) -> Terms:
    """Tell each positive from all others of its anchor, positives too; the mean is over anchors.

    The loss of an anchor is the mean over its positives at distances p of
    -log(e^(-p/τ) / Σ e^(-a/τ)), with the sum over all its pairs, positive and negative, at
    distances a. Anchors without positives are left out.

    When: labelled batches with several pictures an identity; a strong first choice.

    Args:
        temperature: τ; distances are divided by it, so that a smaller one looks at nearer
            pairs.

    Example:
        >>> same = torch.tensor([[True, False]])
        >>> sup_con(Pairs(torch.tensor([[0.5, 0.5]]), same, ~same), temperature=1.0).mean()
        tensor(0.6931)

    Source:
        Khosla et al.: Supervised Contrastive Learning, arXiv:2004.11362, eq. 2 (L_out), as the
        mean over anchors instead of their sum; on 1 - cosine, which changes nothing.
    """
    logits = pairs.distance / -temperature
    everyone = log_sum_exp(logits, pairs.positive | pairs.negative, pairs)
    positive = pairs.few(pairs.positive)
    positives = how_many(positive)
    counted = positives > 0
    share = counted / positives.clamp(min=1).to(logits.dtype)
    pulled = torch.where(positive, pairs.few(logits), 0).sum(dim=1) * share
    total = torch.where(counted, everyone.log - pulled, 0).sum()
    slope = everyone.weigh(counted.to(logits.dtype))
    pairs.add_few(slope, torch.where(positive, -share[:, None], 0))
    return Terms(total, counted.sum(), _by_distance(slope, temperature))


def decoupled(pairs: Pairs, *, temperature: Temperature = 0.07) -> Terms:
    """InfoNCE whose positive does not compete with itself; the mean runs over positives.

    For a positive at distance p the loss is p/τ + log Σ e^(-n/τ), with the sum over the anchor's
    negatives at distances n, and not over the positive. So a positive pulls as strongly in a
    small batch as in a large one, and one that is close already pulls on. The loss has no lower
    bound: it is often below zero. An anchor without negatives is pulled to its positives alone.

    When: as :func:`info_nce`, where batches are small.

    Args:
        temperature: τ; distances are divided by it, so that a smaller one looks at nearer
            negatives.

    Example:
        >>> same = torch.tensor([[True, False]])
        >>> decoupled(Pairs(torch.tensor([[0.5, 2.0]]), same, ~same), temperature=1.0).mean()
        tensor(-1.5000)

    Source:
        Yeh et al.: Decoupled Contrastive Learning, ECCV 2022, arXiv:2110.06848, eq. 6 (L_DC), as a
        mean, for any number of positives, and without the weights of its variant DCLW.
    """
    logits = pairs.distance / -temperature
    rivals = log_sum_exp(logits, pairs.negative, pairs)
    positive = pairs.few(pairs.positive)
    positives = how_many(positive)
    pushed = rivals.log.where(how_many(pairs.negative) > 0, 0) * positives
    total = pushed.sum() - torch.where(positive, pairs.few(logits), 0).sum()
    slope = rivals.weigh(positives.to(logits.dtype))
    pairs.add_few(slope, -positive.to(logits.dtype))
    return Terms(total, positives.sum(), _by_distance(slope, temperature))


def nca(pairs: Pairs, *, temperature: Temperature = 1.0) -> Terms:
    """Make it likely that an anchor picks one of its positives; the mean is over anchors.

    An anchor picks another at distance a with a chance in proportion to e^(-a/τ). The loss is
    -log(Σ e^(-p/τ) / Σ e^(-a/τ)): the sum over its positives at distances p, by that over all its
    pairs. One near positive is enough; the others may stay where they are. Anchors without
    positives are left out.

    When: identities that look like several things, such as a face from the front and the side.

    Args:
        temperature: τ, in units of distance; the paper has none, and squared distances.

    Example:
        >>> same = torch.tensor([[True, True, False]])
        >>> nca(Pairs(torch.tensor([[0.5, 0.5, 0.5]]), same, ~same)).mean()
        tensor(0.4055)

    Source:
        Goldberger, Roweis, Hinton, Salakhutdinov: Neighbourhood Components Analysis, NIPS 2004,
        eq. 1, 2 and 6 (the logarithms of the chances, not the chances), as a mean.
    """
    logits = pairs.distance / -temperature
    is_positive = pairs.few(pairs.positive)
    positive = log_sum_exp(pairs.few(logits), is_positive)
    negative = log_sum_exp(logits, pairs.negative, pairs)
    counted = how_many(is_positive) > 0
    lack = torch.where(counted, negative.log - positive.log, 0)
    total = torch.where(counted, F.softplus(lack, threshold=40), 0).sum()
    push = torch.where(counted, lack.detach().sigmoid(), 0)
    slope = pairs.add_few(negative.weigh(push), -positive.weigh(push))
    return Terms(total, counted.sum(), _by_distance(slope, temperature))


def n_pairs(pairs: Pairs) -> Terms:
    """Tell each positive from all negatives by inner products; the mean runs over positives.

    For an anchor f, its positive f⁺ and its negatives fₙ the loss is
    log(1 + Σ exp(f·fₙ - f·f⁺)): :func:`info_nce` at temperature 1, meant for the distance
    :func:`~siamlearn.functional.inner_product.negative_inner_product`. The paper draws two
    pictures an identity and compares the first with the second ones: that is ``two_towers``, here
    in both directions.

    When: lengths of embeddings shall say something too, else :func:`info_nce`. Keep them from
    growing: the paper adds their squares, as another term of the sum of losses.

    Example:
        >>> same = torch.tensor([[True, False]])
        >>> n_pairs(Pairs(torch.tensor([[-2.0, -2.0]]), same, ~same)).mean()
        tensor(0.6931)

    Source:
        Sohn: Improved Deep Metric Learning with Multi-class N-pair Loss Objective, NIPS 2016,
        L_N-pair-mc of sec. 3.2; for any number of positives.
    """
    return info_nce(pairs, temperature=1.0)


def _by_distance(
    by_logits: Float[Tensor, "q r"], temperature: Temperature
) -> Float[Tensor, "q r"] | None:
    """The slope by the distances; none where the temperature learns, which autograd must see."""
    return None if isinstance(temperature, Tensor) else by_logits.mul_(-1 / temperature)

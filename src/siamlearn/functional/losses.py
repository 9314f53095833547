"""Metric-learning losses: pure functions from a block of pairs to its terms.

Every loss treats each row on its own, so that a block may be cut anywhere between rows. A row
without positives, or without negatives, costs what the paper's sum over none of them says:
nothing, and its gradient is finite.

Axes: q queries (anchors), r references.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from siamlearn.functional.pairs import Pairs, Terms

__all__ = ["contrastive", "info_nce", "sup_con", "triplet"]


def contrastive(pairs: Pairs, *, margin: float = 1.0) -> Terms:
    """Pull positives together; push negatives until they are a margin apart.

    For a positive pair at distance d the loss is d², for a negative one max(0, margin - d)²; the
    mean runs over all pairs.

    Args:
        margin: the distance beyond which a negative pair is left alone, in units of distance.

    Example:
        >>> same = torch.tensor([[True, False]])
        >>> contrastive(Pairs(torch.tensor([[0.5, 0.5]]), same, ~same), margin=2.0).mean()
        tensor(1.2500)

    Source:
        Hadsell, Chopra, LeCun: Dimensionality Reduction by Learning an Invariant Mapping,
        CVPR 2006, eq. 4, without its factor of one half.
    """
    pull = pairs.distance.square()
    push = (margin - pairs.distance).relu().square()
    chosen = pairs.positive | pairs.negative
    loss = torch.where(pairs.positive, pull, push)
    return Terms(torch.where(chosen, loss, 0).sum(), chosen.sum())


def triplet(pairs: Pairs, *, margin: float = 0.2) -> Terms:
    """Push every negative of an anchor a margin farther away than every positive of it.

    For a positive at distance p and a negative at distance n the loss is max(0, p - n + margin);
    the mean runs over the triplets whose loss is not zero. All q * r * r of them are summed
    without being formed: with the negatives of a row sorted, those within reach of a positive
    are a prefix of the row, and their sum is one look-up in a running sum.

    Args:
        margin: how much farther a negative shall be than a positive, in units of distance.

    Example:
        >>> same = torch.tensor([[True, False, False]])
        >>> triplet(Pairs(torch.tensor([[0.5, 0.6, 0.9]]), same, ~same), margin=0.2).mean()
        tensor(0.1000)

    Source:
        Schroff, Kalenichenko, Philbin: FaceNet, CVPR 2015, sec. 3.1, on plain instead of squared
        distances (pass ``squared_euclidean`` for those); the mean over non-zero triplets:
        Hermans, Beyer, Leibe: In Defense of the Triplet Loss, arXiv:1703.07737, sec. 2.
    """
    nearest_first = pairs.distance.masked_fill(~pairs.negative, torch.inf).sort(dim=-1).values
    running = F.pad(nearest_first.cumsum(dim=-1), (1, 0))
    reach = pairs.distance + margin
    within = torch.searchsorted(nearest_first.detach(), reach.detach())
    loss = within * reach - running.gather(-1, within)
    return Terms(
        torch.where(pairs.positive, loss, 0).sum(), torch.where(pairs.positive, within, 0).sum()
    )


def info_nce(pairs: Pairs, *, temperature: float = 0.07) -> Terms:
    """Tell each positive from all negatives of its anchor; the mean runs over positives.

    For a positive at distance p the loss is -log(e^(-p/τ) / (e^(-p/τ) + Σ e^(-n/τ))), with the
    sum over the anchor's negatives at distances n. Other positives of the anchor do not compete.

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
        A Simple Framework for Contrastive Learning, arXiv:2002.05709, eq. 1.
    """
    logits = -pairs.distance / temperature
    rivals = _masked_logsumexp(logits, pairs.negative)
    # Beyond its threshold softplus is the identity; its usual 20 is too low for float64.
    loss = F.softplus(rivals[:, None] - logits, threshold=40)
    return Terms(torch.where(pairs.positive, loss, 0).sum(), pairs.positive.sum())


def sup_con(pairs: Pairs, *, temperature: float = 0.07) -> Terms:
    """Tell each positive from all others of its anchor, positives too; the mean is over anchors.

    The loss of an anchor is the mean over its positives at distances p of
    -log(e^(-p/τ) / Σ e^(-a/τ)), with the sum over all its pairs, positive and negative, at
    distances a. Anchors without positives are left out.

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
    logits = -pairs.distance / temperature
    everyone = _masked_logsumexp(logits, pairs.positive | pairs.negative)
    positives = pairs.positive.sum(dim=-1)
    pulled = torch.where(pairs.positive, logits, 0).sum(dim=-1) / positives.clamp(min=1)
    counted = positives > 0
    return Terms(torch.where(counted, everyone - pulled, 0).sum(), counted.sum())


def _masked_logsumexp(
    logits: Float[Tensor, "q r"], mask: Bool[Tensor, "q r"]
) -> Float[Tensor, " q"]:
    """Logsumexp of each row over the masked entries; very low, but finite, where none is."""
    # With -inf instead, the slope of an empty row would be NaN until the mask drops it, and
    # anomaly detection would stop there.
    return logits.masked_fill(~mask, torch.finfo(logits.dtype).min).logsumexp(dim=-1)

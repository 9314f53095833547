"""Losses that weigh the pairs of an anchor against each other by their exponentials.

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

__all__ = ["info_nce", "sup_con"]


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

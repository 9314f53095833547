"""Metric-learning losses: pure functions from a block of pairs to its terms.

Axes: q queries (anchors), r references. Every loss treats each row on its own, so that a
block may be cut anywhere between rows.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from siamlearn.functional.pairs import Pairs, Terms

__all__ = ["contrastive", "info_nce", "sup_con", "triplet"]


def contrastive(pairs: Pairs, *, margin: float = 1.0) -> Terms:
    """Pull positives together; push negatives until they are a margin apart.

    For a positive pair at distance d the loss is d², for a negative one max(0, margin - d)².

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

    The mean runs over the triplets whose loss is not zero. All q * r * r of them are summed
    without being formed: with the negatives of a row sorted, those within reach of a positive
    are a prefix of the row, and their sum is one look-up in a running sum.

    Source:
        Schroff, Kalenichenko, Philbin: FaceNet, CVPR 2015, eq. 2, on plain distances;
        the mean over non-zero triplets: Hermans, Beyer, Leibe, arXiv:1703.07737, sec. 2.
    """
    nearest_first = pairs.distance.masked_fill(~pairs.negative, torch.inf).sort(dim=-1).values
    running = F.pad(nearest_first.masked_fill(nearest_first.isinf(), 0).cumsum(dim=-1), (1, 0))
    reach = pairs.distance + margin
    within = torch.searchsorted(nearest_first.detach(), reach.detach())
    loss = within * reach - running.gather(-1, within)
    return Terms(
        torch.where(pairs.positive, loss, 0).sum(), torch.where(pairs.positive, within, 0).sum()
    )


def info_nce(pairs: Pairs, *, temperature: float = 0.07) -> Terms:
    """Tell each positive from all negatives of its anchor; the mean runs over positives.

    Source:
        van den Oord, Li, Vinyals, arXiv:1807.03748, eq. 4; with labels and cosine distance
        it is the NT-Xent of Chen et al., arXiv:2002.05709.
    """
    logits = -pairs.distance / temperature
    rivals = masked_logsumexp(logits, pairs.negative)
    loss = F.softplus(rivals[:, None] - logits)
    return Terms(torch.where(pairs.positive, loss, 0).sum(), pairs.positive.sum())


def sup_con(pairs: Pairs, *, temperature: float = 0.07) -> Terms:
    """Tell each positive from all others, positives too; the mean runs over anchors.

    Source:
        Khosla et al.: Supervised Contrastive Learning, arXiv:2004.11362, eq. 2 (L_out).
    """
    logits = -pairs.distance / temperature
    others = masked_logsumexp(logits, pairs.positive | pairs.negative)
    positives = pairs.positive.sum(dim=-1)
    mean = torch.where(pairs.positive, logits, 0).sum(dim=-1) / positives.clamp(min=1)
    has_positive = positives > 0
    return Terms(torch.where(has_positive, others - mean, 0).sum(), has_positive.sum())


def masked_logsumexp(
    logits: Float[Tensor, "q r"], mask: Bool[Tensor, "q r"]
) -> Float[Tensor, " q"]:
    """Logsumexp of each row over the masked entries; very low, but finite, where none is."""
    # Filling with -inf instead would make the gradient of an empty row NaN.
    return logits.masked_fill(~mask, torch.finfo(logits.dtype).min).logsumexp(dim=-1)

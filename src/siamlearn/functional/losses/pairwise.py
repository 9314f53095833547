"""Losses of single pairs: each costs what its own distance says.

Every loss treats each row on its own, so that a block may be cut anywhere between rows. A row
without positives, or without negatives, costs what the paper's sum over none of them says:
nothing, and its gradient is finite.

Axes: q queries (anchors), r references.
"""

import torch

from siamlearn.functional.pairs import Pairs, Terms

__all__ = ["contrastive"]


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
    chosen = pairs.positive | pairs.negative
    lack = torch.where(pairs.positive, -pairs.distance, (margin - pairs.distance).relu())
    lack = torch.where(chosen, lack, 0)
    return Terms(lack.square().sum(), chosen.sum(), slope=-2 * lack.detach())

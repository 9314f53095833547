"""Losses of triplets: an anchor, a positive and a negative of it.

Every loss treats each row on its own, so that a block may be cut anywhere between rows. A row
without positives, or without negatives, costs what the paper's sum over none of them says:
nothing, and its gradient is finite.

Axes: q queries (anchors), r references.
"""

import torch
import torch.nn.functional as F

from siamlearn.functional.pairs import Pairs, Terms

__all__ = ["triplet"]


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

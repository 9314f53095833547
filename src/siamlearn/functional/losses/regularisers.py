"""Terms that are not about pairs: what single embeddings, centres or proxies should look like.

VICReg and Barlow Twins do not belong here: they are functions of the variance of each dimension
over the whole batch and of the correlations between dimensions, and so sums neither over pairs
nor over rows.

Axes: n embeddings, d dimensions, q queries, r references.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from siamlearn.functional.pairs import Pairs, Terms
from siamlearn.functional.vectors import full_precision

__all__ = ["centre_distance", "embedding_norm", "nearest_rival", "zero_mean"]


def embedding_norm(
    embeddings: Float[Tensor, "n d"], *, order: float = 2.0, power: float = 1.0
) -> Terms:
    """The mean length of the embeddings, so that they do not grow without bound.

    When: with losses on plain distances that gain by scaling everything up.

    Args:
        order: p of the p-norm.
        power: the norm is raised to it; 2 with order 2 is the usual weight decay of embeddings.

    Example:
        >>> embedding_norm(torch.tensor([[3.0, 4.0], [0.0, 1.0]])).mean()
        tensor(3.)

    Source:
        For example Sohn: Improved Deep Metric Learning with Multi-class N-pair Loss Objective,
        NeurIPS 2016, sec. 3.2.2, with a power of 2.
    """
    embeddings = full_precision(embeddings)
    length = torch.linalg.vector_norm(embeddings, ord=order, dim=-1)
    return _over_rows(length if power == 1 else length**power)


def zero_mean(embeddings: Float[Tensor, "n d"]) -> Terms:
    """The mean size of the sum over the dimensions of an embedding.

    When: with :func:`~siamlearn.functional.distances.signal_to_noise`, whose variances are taken
    over the dimensions of an embedding: there its mean should be 0.

    Example:
        >>> zero_mean(torch.tensor([[1.0, -1.0], [2.0, 1.0]])).mean()
        tensor(1.5000)

    Source:
        Yuan et al.: Signal-to-Noise Ratio: A Robust Distance Metric for Deep Metric Learning,
        CVPR 2019, arXiv:1904.02616, the regularisation of its losses.
    """
    return _over_rows(full_precision(embeddings).sum(dim=-1).abs())


def centre_distance(embeddings: Float[Tensor, "n d"], centres: Float[Tensor, "n d"]) -> Terms:
    """Half the mean square of the distance of every embedding to the centre of its identity.

    When: beside a classification loss, to draw each identity together.

    Args:
        centres: for each embedding, the centre of its identity.

    Example:
        >>> centre_distance(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 0.0]])).mean()
        tensor(12.5000)

    Source:
        Wen, Zhang, Li, Qiao: A Discriminative Feature Learning Approach for Deep Face
        Recognition, ECCV 2016, eq. 2, as a mean instead of a sum over the batch.
    """
    difference = full_precision(embeddings) - full_precision(centres)
    return _over_rows(difference.square().sum(dim=-1) / 2)


def nearest_rival(pairs: Pairs) -> Terms:
    """One minus the distance to the nearest negative: how much identities are in each other's way.

    When: beside a classification loss, on its proxies and their cosine distances, which it
    spreads over the sphere.

    Example:
        >>> same = torch.tensor([[True, False, False]])
        >>> nearest_rival(Pairs(torch.tensor([[0.0, 0.25, 0.5]]), same, ~same)).mean()
        tensor(0.7500)

    Source:
        Zhao, Xu, Cheng: RegularFace: Deep Face Recognition via Exclusive Regularization,
        CVPR 2019, L_r of the section on exclusive regularisation, a mean over all identities.
    """
    rivals = pairs.distance.masked_fill(~pairs.negative, torch.inf)
    nearest = F.pad(rivals, (0, 1), value=torch.inf).amin(dim=1)
    counted = pairs.negative.any(dim=1)
    return Terms(torch.where(counted, 1 - nearest, 0).sum(), counted.sum())


def _over_rows(cost: Float[Tensor, " n"]) -> Terms:
    return Terms(cost.sum(), cost.new_full((), len(cost), dtype=torch.int64))

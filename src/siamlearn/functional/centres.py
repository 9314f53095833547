"""Classes of several centres: from a column for each centre to a column for each class.

Like margins these take pairs to pairs, and stand before whatever looks at classes: in ``terms`` of
a loss, or as its ``miner``. The centres of a class are columns side by side, as ``Proxies`` with
``centres`` gives them.

Axes: q queries, r references: all centres of all classes.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from siamlearn.functional.distances import euclidean
from siamlearn.functional.pairs import Pairs
from siamlearn.functional.vectors import unit

__all__ = ["centre_merging", "nearest_centre", "soft_centres"]


def nearest_centre(pairs: Pairs, *, centres: int) -> Pairs:
    """Let every class be as far as the nearest of its centres.

    When: labels are noisy: pictures that do not belong gather around a centre of their own.

    Args:
        centres: of each class; their columns are side by side.

    Raises:
        ValueError: where the columns are not whole classes.

    Example:
        >>> same = torch.tensor([[True, True, False, False]])
        >>> pairs = Pairs(torch.tensor([[0.5, 0.3, 0.9, 1.0]]), same, ~same)
        >>> nearest_centre(pairs, centres=2).distance
        tensor([[0.3000, 0.9000]])

    Source:
        Deng et al.: Sub-center ArcFace: Boosting Face Recognition by Large-scale Noisy Web Faces,
        ECCV 2020, sec. 3.2, eq. 2: the largest cosine of the sub-classes. The same is eq. 7 of the
        later Deng et al.: ArcFace, arXiv:1801.07698v4.
    """
    if centres == 1:
        return pairs
    return _by_class(pairs, centres, lambda distance: distance.amin(dim=-1))


def soft_centres(pairs: Pairs, *, centres: int, temperature: float = 0.1) -> Pairs:
    """Let every class be as far as its centres on average, where the near ones count most.

    A centre at distance d weighs e^(-d/t), divided by the sum of these over the centres of its
    class.

    When: an identity looks several ways, and all of its centres shall learn from each picture.

    Args:
        centres: of each class; their columns are side by side.
        temperature: t, the paper's gamma; a smaller one looks more at the nearest centre alone.

    Raises:
        ValueError: where the columns are not whole classes.

    Example:
        >>> same = torch.tensor([[True, True, False, False]])
        >>> pairs = Pairs(torch.tensor([[0.5, 0.5, 0.0, 2.0]]), same, ~same)
        >>> soft_centres(pairs, centres=2, temperature=0.1).distance
        tensor([[5.0000e-01, 4.1223e-09]])

    Source:
        Qian et al.: SoftTriple Loss: Deep Metric Learning Without Triplet Sampling, ICCV 2019,
        arXiv:1909.05235, sec. 3.3: the relaxed similarity, on 1 - cosine, which changes nothing.
    """
    if centres == 1:
        return pairs

    def average(distance: Float[Tensor, "q c k"]) -> Float[Tensor, "q c"]:
        weight = torch.softmax(-distance / temperature, dim=-1)
        return (weight * distance).sum(dim=-1)

    return _by_class(pairs, centres, average)


def centre_merging(vectors: Float[Tensor, "r d"], *, centres: int) -> Float[Tensor, ""]:
    """How far apart the centres of a class are, on average over classes: to be made small.

    Half the mean length of w - v over the pairs of centres of one class, with unit vectors w and
    v. As a length, not its square, it draws centres together until they meet, so that a class
    keeps as many as it needs.

    When: beside :func:`soft_centres`, where nobody knows how many centres an identity needs.

    Args:
        vectors: class by class, the centres of each side by side.
        centres: of each class, two at least.

    Example:
        >>> vectors = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> centre_merging(vectors, centres=2)
        tensor(0.5000)

    Source:
        Qian et al.: SoftTriple Loss: Deep Metric Learning Without Triplet Sampling, ICCV 2019,
        arXiv:1909.05235, sec. 3.4, with its factor 1 / (C K (K - 1)) and without its weight tau.
    """
    each = unit(vectors).reshape(-1, centres, vectors.shape[-1])
    # Each pair is in it twice, and each centre with itself, at 0.
    return euclidean(each, each).sum() / (2 * len(vectors) * (centres - 1))


def _by_class(
    pairs: Pairs,
    centres: int,
    joined: Callable[[Float[Tensor, "q c k"]], Float[Tensor, "q c"]],
) -> Pairs:
    if pairs.distance.shape[1] % centres:
        msg = (
            f"references must be classes of {centres} centres each, side by side, got "
            f"{pairs.distance.shape[1]} of them; make Proxies(..., centres={centres})"
        )
        raise ValueError(msg)
    each, positive, negative = (
        block.reshape(len(block), block.shape[1] // centres, centres)
        for block in (pairs.distance, pairs.positive, pairs.negative)
    )
    # A centre that is left out takes its class along.
    return replace(
        pairs,
        distance=joined(each),
        positive=positive.all(-1),
        negative=negative.all(-1),
        partners=None,
    )

"""Losses against proxies: vectors that are learned, and stand for all pictures of an identity.

Every loss treats each row on its own, so that a block may be cut anywhere between rows.

Axes: q queries, r references; in ``proxy_anchor`` the queries are the proxies, and the batch is
what they are compared with.
"""

from dataclasses import replace

import torch

from siamlearn.functional.centres import soft_centres
from siamlearn.functional.losses.exponentials import softplus_of_sum
from siamlearn.functional.losses.softmax import info_nce
from siamlearn.functional.pairs import Pairs, Terms

__all__ = ["proxy_anchor", "proxy_nca", "soft_triple"]


def proxy_nca(pairs: Pairs, *, temperature: float = 1 / 9) -> Terms:
    """Tell the proxy of a picture's identity from all others; the mean runs over pictures.

    For unit vectors x of the picture, p of its proxy and a of all proxies, the loss is
    ``-log(e^(-|x - p|²/T) / Σ e^(-|x - a|²/T))``. The block holds 1 - cosine, of which
    ``|x - p|²`` is the double.

    When: a softmax over identities; few settings, and batches need no two pictures of anyone.

    Args:
        temperature: T; squared distances are divided by it, so that a smaller one looks at nearer
            proxies.

    Example:
        >>> same = torch.tensor([[True, False]])
        >>> proxy_nca(Pairs(torch.tensor([[0.0, 0.5]]), same, ~same), temperature=1.0).mean()
        tensor(0.3133)

    Source:
        Teh, DeVries, Taylor: ProxyNCA++: Revisiting and Revitalizing Proxy Neighborhood Component
        Analysis, ECCV 2020, eq. 6 with the low temperature of sec. 3.4. Unlike ProxyNCA
        (Movshovitz-Attias et al., ICCV 2017, eq. 4) the right proxy is among those summed over.
    """
    return info_nce(pairs, temperature=temperature / 2)


def proxy_anchor(pairs: Pairs, *, margin: float = 0.1, scale: float = 32.0) -> Terms:
    """Pull all pictures of an identity to its proxy, and push all others away, the hardest most.

    The rows are proxies, the columns the batch. For a proxy with pictures of its own at distances
    p and others at distances n, with s = 1 - d as the similarity, the two parts of the loss are
    log(1 + Σ e^(-scale (s_p - margin))), averaged over the proxies that have pictures of their own,
    and log(1 + Σ e^(scale (s_n + margin))), averaged over all proxies.

    When: the default among proxies where identities are some thousands at most: it learns fast, and
    takes from the batch how pictures lie beside each other.

    Args:
        margin: the paper's delta: positives are pulled to a similarity above it, negatives pushed
            below its negative.
        scale: the paper's alpha: a larger one looks at the hardest pictures alone.

    Example:
        >>> same = torch.tensor([[True, False]])
        >>> proxy_anchor(Pairs(torch.tensor([[1.0, 1.0]]), same, ~same), margin=0.0).mean()
        tensor(1.3863)

    Source:
        Kim, Kim, Cho, Kwak: Proxy Anchor Loss for Deep Metric Learning, CVPR 2020, eq. 4.
    """
    hard = scale * (pairs.few(pairs.distance) - 1 + margin)
    near = scale * (1 - pairs.distance + margin)
    pull, pull_slope = softplus_of_sum(hard, pairs.few(pairs.positive))
    push, push_slope = softplus_of_sum(near, pairs.negative, pairs)
    counted = pairs.few(pairs.positive).any(dim=-1).sum()
    everyone = torch.full_like(counted, len(pairs.distance))
    return Terms(
        torch.stack([pull.sum(), push.sum()]),
        torch.stack([counted, everyone]),
        slopes=(pull_slope.mul_(scale), push_slope.mul_(-scale)),
    )


def soft_triple(
    pairs: Pairs,
    *,
    centres: int,
    margin: float = 0.01,
    scale: float = 20.0,
    softness: float = 0.1,
) -> Terms:
    """Tell an identity of several centres from all others; the mean runs over pictures.

    An identity is as far as its centres on average, where the near ones count most (see
    :func:`~siamlearn.functional.centres.soft_centres`). For the picture's own identity at such a
    distance p, and all others at n, the loss is
    -log(e^(-scale (p + margin)) / (e^(-scale (p + margin)) + Σ e^(-scale n))).

    When: identities look several ways: two sides, with and without glasses, by day and by night.

    Args:
        centres: of each identity; their columns are side by side.
        margin: the paper's delta: how much nearer the own identity shall be, in units of distance.
        scale: the paper's lambda: a larger one looks at nearer identities.
        softness: the paper's gamma: a smaller one looks more at the nearest centre alone.

    Raises:
        ValueError: where the columns are not whole identities.

    Example:
        >>> same = torch.tensor([[True, True, False, False]])
        >>> pairs = Pairs(torch.tensor([[0.5, 0.5, 0.5, 0.5]]), same, ~same)
        >>> soft_triple(pairs, centres=2, margin=0.0).mean()
        tensor(0.6931)

    Source:
        Qian et al.: SoftTriple Loss: Deep Metric Learning Without Triplet Sampling, ICCV 2019,
        arXiv:1909.05235, sec. 3.3, without the regulariser of sec. 3.4, which is
        :func:`~siamlearn.functional.centres.centre_merging`.
    """
    by_class = soft_centres(pairs, centres=centres, temperature=softness)
    farther = torch.where(by_class.positive, by_class.distance + margin, by_class.distance)
    terms = info_nce(replace(by_class, distance=farther), temperature=1 / scale)
    # Its slope, if it has one, is by identities; the margin changes nothing in it.
    return terms if centres == 1 else replace(terms, slope=None)

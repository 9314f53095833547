"""Losses of a picture beside classes: one reference, or several, stands for each identity.

Every loss treats each row on its own, so that a block may be cut anywhere between rows. A row
has one positive, its class; a row without costs nothing.

Axes: q queries (pictures), c classes, k centres of each class.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from siamlearn.functional.losses.exponentials import log_sum_exp
from siamlearn.functional.margins import angular_margin
from siamlearn.functional.pairs import Pairs, Terms

__all__ = ["curricular_softmax", "normalised_softmax", "over_nearest_centres"]


def normalised_softmax(
    pairs: Pairs,
    *,
    scale: float | Float[Tensor, "q 1"] = 20.0,
    margin: Callable[[Pairs], Pairs] | None = None,
) -> Terms:
    """Tell the class of each picture from all others; the mean runs over pictures.

    For a class at distance p and all others at distances n the loss is
    -log(e^(-s p) / (e^(-s p) + Σ e^(-s n))), the cross-entropy of the softmax over classes. It is
    :func:`~siamlearn.functional.losses.info_nce` of temperature 1/s where each row has but one
    positive, which it makes use of.

    When: identities are known, and each has a place of its own among the references: ``Proxies``.

    Args:
        scale: s, what cosines are multiplied by; one for all, or one for each row.
        margin: what moves positives away, from what is known of their own row; it is shown a block
            of one column, the positives.

    Example:
        >>> same = torch.tensor([[True, False]])
        >>> normalised_softmax(Pairs(torch.tensor([[0.5, 0.5]]), same, ~same)).mean()
        tensor(0.6931)

    Source:
        Wang et al.: NormFace, ACM MM 2017, eq. 4; Zhai, Wu: Classification is a Strong Baseline
        for Deep Metric Learning, BMVC 2019, eq. 4, with s as one by its
        temperature.
    """
    place, mine = _positives(pairs)
    moved = mine if margin is None else margin(mine)
    rivals = log_sum_exp(pairs.distance * -scale, pairs.negative, pairs)
    lack = rivals.log[:, None] + moved.distance * scale
    # Beyond its threshold softplus is the identity; its usual 20 is too low for float64.
    total = torch.where(mine.positive, F.softplus(lack, threshold=40), 0).sum()
    terms = Terms(total, mine.positive.sum())
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return terms  # autograd will be asked
    with torch.no_grad():
        pull = torch.where(mine.positive, lack.sigmoid(), 0) * scale
        steepness = 1 if margin is None else _steepness(margin, mine)
        slope = rivals.weigh(-pull[:, 0]).scatter_(1, place, pull * steepness)
    return replace(terms, slope=slope)


def curricular_softmax(
    pairs: Pairs, *, progress: Float[Tensor, ""], margin: float = 0.5, scale: float = 64.0
) -> Terms:
    """The same, with an angular margin and hard negatives that count more and more.

    When: see :func:`~siamlearn.functional.margins.curricular_margin`.

    Args:
        progress: how far training has come; this and the margin are those of
            :func:`~siamlearn.functional.margins.curricular_margin`.
        scale: what cosines are multiplied by.

    Example:
        >>> same = torch.tensor([[True, False]])
        >>> pairs = Pairs(torch.tensor([[0.5, 0.5]]), same, ~same)
        >>> curricular_softmax(pairs, progress=torch.tensor(0.5), margin=0.0, scale=1.0).mean()
        tensor(0.6931)

    Source:
        Huang et al.: CurricularFace, CVPR 2020, arXiv:2004.00288, sec. 3.2; t: eq. 9.
    """
    turned = partial(angular_margin, margin=margin)
    _, mine = _positives(pairs)
    far = turned(mine).distance.detach().masked_fill(~mine.positive, -torch.inf)
    hard = pairs.negative & (pairs.distance < far)
    cosine = 1 - pairs.distance
    moved = torch.where(hard, 1 - cosine * (progress + cosine), pairs.distance)
    terms = normalised_softmax(replace(pairs, distance=moved), scale=scale, margin=turned)
    if terms.slope is None:
        return terms
    steepness = torch.where(hard, progress + 2 * cosine.detach(), 1)
    return replace(terms, slope=terms.slope.mul_(steepness))


def over_nearest_centres(loss: Callable[[Pairs], Terms], pairs: Pairs, *, centres: int) -> Terms:
    """A loss over classes with several centres each: the nearest of them stands for its class.

    When: identities look several ways, or some of their labels are wrong.

    Args:
        centres: k, how many columns, side by side, belong to one class.

    Example:
        >>> same = torch.tensor([[True, True, False, False]])
        >>> pairs = Pairs(torch.tensor([[0.5, 0.9, 0.7, 0.5]]), same, ~same)
        >>> over_nearest_centres(normalised_softmax, pairs, centres=2).mean()
        tensor(0.6931)

    Source:
        Deng et al.: Sub-center ArcFace, ECCV 2020, sec. 3.2, eq. 2.
    """
    q, r = pairs.distance.shape
    near = pairs.distance.reshape(q, r // centres, centres).min(dim=-1)
    positive, negative = pairs.positive[:, ::centres], pairs.negative[:, ::centres]
    by_class = replace(
        pairs, distance=near.values, positive=positive, negative=negative, partners=None
    )
    terms = loss(by_class)
    if terms.slope is None:
        return terms
    slope = terms.slope.new_zeros(*terms.slope.shape, centres)
    slope.scatter_(-1, near.indices[..., None], terms.slope[..., None])
    return replace(terms, slope=slope.flatten(1))


def _positives(pairs: Pairs) -> tuple[Int[Tensor, "q 1"], Pairs]:
    """Where the positive of each row stands, and a block of one column with nothing else."""
    place = pairs.few(pairs.positive).view(torch.uint8).argmax(dim=-1, keepdim=True)
    place = place if pairs.partners is None else pairs.partners.gather(1, place)
    each = (pairs.distance, pairs.positive, pairs.negative)
    distance, positive, negative = (block.gather(1, place) for block in each)
    return place, replace(
        pairs, distance=distance, positive=positive, negative=negative, partners=None
    )


def _steepness(margin: Callable[[Pairs], Pairs], pairs: Pairs) -> Float[Tensor, "q 1"]:
    """The derivative of what a margin makes of distances, where each depends on its own alone."""
    with torch.enable_grad():
        leaf = pairs.distance.detach().requires_grad_()
        moved = margin(replace(pairs, distance=leaf)).distance
        return torch.autograd.grad(moved.sum(), leaf)[0]

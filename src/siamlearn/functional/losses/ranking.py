"""Losses that stand for the average precision of every anchor's ranking of the others.

Every loss treats each row on its own, so that a block may be cut anywhere between rows. An
anchor without positives has no average precision and is left out; one without negatives has a
perfect one, at no cost.

The histogram loss of Ustinova and Lempitsky is not such a function of rows: it multiplies the
distribution of all positive distances of the batch by that of all negative ones, and a product of
sums is no sum over rows. What does add are its :func:`histograms`; what becomes of them, and the
second look at the pairs that its gradient takes, is ``HistogramLoss``.

Axes: q queries (anchors), r references, m positives of one anchor, b edges of the bins.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from siamlearn.functional.losses.positives import places
from siamlearn.functional.pairs import Pairs, Terms

__all__ = [
    "fast_ap",
    "histograms",
    "pnp",
    "pnp_dq",
    "pnp_ds",
    "pnp_ib",
    "pnp_iu",
    "pnp_o",
    "smooth_ap",
]


def fast_ap(pairs: Pairs, *, bins: int = 10, farthest: float = 2.0) -> Terms:
    """Raise the average precision of every anchor, read off a coarse histogram of distances.

    A pair at distance d, in units of the width of a bin, counts among the edges below and above
    it, for the more the nearer it is. With h⁺(b) of an anchor's positives at edge b, H⁻(b) of its
    negatives there or nearer and H(b) of both, the loss of an anchor with N positives is
    1 - average precision = Σ_b h⁺(b) H⁻(b) / H(b) / N; the mean runs over anchors with positives.

    The order within a bin is invisible, and so is what lies beyond ``farthest``: a pair there has
    no gradient.

    When: large batches of few identities a batch; several positives an anchor.

    Args:
        bins: L, into how many the distances from 0 to ``farthest`` are cut.
        farthest: the largest distance there is: 2 for ``cosine``, 4 for ``squared_euclidean`` of
            unit vectors, which is the paper's and gives the same loss.

    Example:
        >>> same = torch.tensor([[True, False]])
        >>> fast_ap(Pairs(torch.tensor([[1.0, 0.5]]), same, ~same), bins=4).mean()
        tensor(0.5000)

    Source:
        Cakir, He, Xia, Kulis, Sclaroff: Deep Metric Learning to Rank, CVPR 2019, eq. 6 and 7, as
        1 - FastAP. Written with the share of negatives, which no rounding makes negative.
    """
    counts, index = _soft_histograms(pairs, bins, farthest)
    negative, positive = counts.unbind(1)
    above = negative.cumsum(1)
    everyone = (above + positive.cumsum(1)).clamp(min=torch.finfo(counts.dtype).tiny)
    wrong = above / everyone
    positives = pairs.positive.sum(dim=1)
    share = (positives > 0).to(counts.dtype) / positives.clamp(min=1)
    total = (share * (positive * wrong).sum(dim=1)).sum()
    with torch.no_grad():
        density = positive / everyone
        by_negative = _from_here_on(density * (1 - wrong))
        by_positive = wrong - _from_here_on(density * wrong)
        by_count = share[:, None, None] * torch.stack([by_negative, by_positive], dim=1)
        # Moving on by one bin takes a pair from one edge to the next.
        by_place = F.pad(F.pad(by_count.diff(dim=2), (0, 1)).flatten(1), (0, 1))
        slope = by_place.mul_(bins / farthest).gather(1, index)
        slope.masked_fill_(pairs.distance < 0, 0)
    return Terms(total, (positives > 0).sum(), slope=slope)


def histograms(pairs: Pairs, *, bins: int = 100, farthest: float = 2.0) -> Terms:
    """How many negatives, then how many positives, stand at each edge of the bins of distance.

    A pair counts at the edges below and above it, for the more the nearer it is, so that the
    counts have a gradient. As terms, so that those of blocks add; as a mean they say nothing.

    Args:
        bins: into how many the distances from 0 to ``farthest`` are cut.
        farthest: the largest distance there is; what lies beyond counts there, with no gradient.

    Example:
        >>> same = torch.tensor([[True, False]])
        >>> histograms(Pairs(torch.tensor([[1.5, 0.5]]), same, ~same), bins=2).total
        tensor([0.5000, 0.5000, 0.0000, 0.0000, 0.5000, 0.5000])

    Source:
        Ustinova, Lempitsky: Learning Deep Embeddings with Histogram Loss, NIPS 2016, eq. 1 and 2,
        before the division by the number of pairs, which is the count here.
    """
    counts, _ = _soft_histograms(pairs, bins, farthest)
    of_kind = torch.stack([pairs.negative.sum(), pairs.positive.sum()])
    return Terms(counts.sum(dim=0).flatten(), of_kind.repeat_interleave(bins + 1))


def smooth_ap(pairs: Pairs, *, temperature: float = 0.01, positives: int | None = None) -> Terms:
    """Raise the average precision of every anchor, with ranks counted by soft comparisons.

    Another at distance d is before a positive at distance p by sigmoid((p - d) / τ), which is
    one where it is clearly nearer and zero where it is clearly farther. With A negatives and B
    other positives before it, the positive costs 1 - (1 + B) / (1 + B + A). The loss of an anchor
    is the mean over its positives, and the mean runs over anchors with positives. The batch may
    be in any order, and of identities of any size.

    Only what is within some τ of a positive moves it: a positive that lies 20 τ behind all
    negatives has next to no gradient (e⁻²⁰ / τ), as far as it is from where it should be. Train
    from a net that ranks already, or raise τ.

    When: to tune retrieval; identities of several pictures and large batches.

    Args:
        temperature: τ, in units of distance; a smaller one counts more sharply, with a gradient
            from fewer pairs.
        positives: the most positives that an anchor has; further ones are left out. Where it is
            not given it is counted on a CPU. A GPU would have to be waited for, and a compiler
            cannot know: there all r references are taken for positives, at r times the work
            and, compiled, r times the memory. So give it there.

    Example:
        >>> same = torch.tensor([[True, False]])
        >>> smooth_ap(Pairs(torch.tensor([[0.5, 0.5]]), same, ~same)).mean()
        tensor(0.3333)

    Source:
        Brown, Xie, Kalogeiton, Zisserman: Smooth-AP: Smoothing the Path Towards Large-Scale Image
        Retrieval, ECCV 2020, eq. 5 to 7. The authors' program, and others after it, count every
        anchor among its own positives, which the equations do not: its cost is lower by that.
    """

    def cost(before: Tensor, among: Tensor) -> Tensor:
        return before / (1 + among + before)

    return _ranked(pairs, cost, temperature, positives)


def pnp_o(before: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """PNP-O: every negative before a positive costs the same. See :func:`pnp`.

    Example:
        >>> pnp_o(torch.tensor([0.0, 1.0, 3.0]))
        tensor([0., 1., 3.])

    Source: see :func:`pnp`; eq. 5 there.
    """
    return before


def pnp_iu(before: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """PNP-Iu: (1 + R) log(1 + R): the more are before a positive, the more each one costs.

    Example:
        >>> pnp_iu(torch.tensor([0.0, 1.0, 3.0]))
        tensor([0.0000, 1.3863, 5.5452])

    Source: see :func:`pnp`; eq. 7 there.
    """
    return (1 + before) * before.log1p()


def pnp_ib(before: Float[Tensor, "*n"], *, bound: float = 2.0) -> Float[Tensor, "*n"]:
    """PNP-Ib: (b R - log(1 + b R)) / b²: the more there are, the more each costs, up to 1 / b.

    Args:
        bound: b.

    Example:
        >>> pnp_ib(torch.tensor([0.0, 1.0, 3.0]))
        tensor([0.0000, 0.2253, 1.0135])

    Source: see :func:`pnp`; eq. 9 there.
    """
    return (bound * before - (bound * before).log1p()) / bound**2


def pnp_ds(before: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """PNP-Ds: log(1 + R): the more are before a positive, the less each one costs.

    Example:
        >>> pnp_ds(torch.tensor([0.0, 1.0, 3.0]))
        tensor([0.0000, 0.6931, 1.3863])

    Source: see :func:`pnp`; eq. 12 there.
    """
    return before.log1p()


def pnp_dq(before: Float[Tensor, "*n"], *, power: float = 4.0) -> Float[Tensor, "*n"]:
    """PNP-Dq: 1 - (1 + R)^-power: like PNP-Ds, but a positive behind many is soon given up.

    Args:
        power: the paper's alpha; a larger one gives up sooner.

    Example:
        >>> pnp_dq(torch.tensor([0.0, 1.0, 3.0]))
        tensor([0.0000, 0.9375, 0.9961])

    Source: see :func:`pnp`; eq. 13 there.
    """
    # The one is exact where few are before, the other has a gradient where many are.
    exact = -(-power * before.detach().log1p()).expm1()
    steep = 1 - (1 + before) ** -power
    return steep + (exact - steep.detach())


def pnp(
    pairs: Pairs,
    *,
    penalty: Callable[[Tensor], Tensor] = pnp_dq,
    temperature: float = 0.01,
    positives: int | None = None,
) -> Terms:
    """Clear away the negatives before every positive, whatever other positives do.

    A negative at distance n is before a positive at distance p by sigmoid((p - n) / τ); with R
    of them in all, the positive costs penalty(R). The loss of an anchor is the mean over its
    positives, and the mean runs over anchors with positives.

    Only what is within some τ of a positive moves it, as in :func:`smooth_ap`.

    When: as :func:`smooth_ap`; ``pnp_dq`` where an identity has several looks, or wrong labels.

    Args:
        penalty: what so many negatives before a positive cost, number by number: one of ``pnp_o``,
            ``pnp_iu``, ``pnp_ib``, ``pnp_ds``, ``pnp_dq``, or your own; zero for none.
        temperature: τ, in units of distance.
        positives: the most positives that an anchor has; see :func:`smooth_ap`.

    Example:
        >>> same = torch.tensor([[True, False]])
        >>> pnp(Pairs(torch.tensor([[0.5, 0.5]]), same, ~same), penalty=pnp_o).mean()
        tensor(0.5000)

    Source:
        Li, Min, Song, Zhu, Kang, Wei, Wei, Jiang: Rethinking the Optimization of Average
        Precision: Only Penalizing Negative Instances before Positive Ones Is Enough, AAAI 2022,
        arXiv:2102.04640, eq. 5 (PNP-O), 7 (PNP-Iu), 9 (PNP-Ib), 12 (PNP-Ds) and 13 (PNP-Dq), with
        the power of the authors' best run. Their program, and others after it, count every anchor
        among its own positives; here it is not.
    """
    return _ranked(pairs, lambda before, _: penalty(before), temperature, positives)


def _soft_histograms(
    pairs: Pairs, bins: int, farthest: float
) -> tuple[Float[Tensor, "q 2 b"], Int[Tensor, "q r"]]:
    """Of the negatives and of the positives of each row; and where each pair was counted."""
    place = (pairs.distance * (bins / farthest)).clamp(0, bins)
    # As whole floats as long as may be: whole numbers are moved several times as slowly.
    below = place.detach().trunc()
    below = torch.where(pairs.positive, below + (bins + 1), below)
    below.masked_fill_(~(pairs.positive | pairs.negative), 2 * bins + 2)
    index = below.long().clamp_(0, 2 * bins + 2)  # not a number is somewhere, too
    nothing = place.new_zeros(len(place), 2 * bins + 3)
    whole, beyond = (
        nothing.scatter_add(1, index, each)[:, :-1].reshape(len(place), 2, bins + 1)
        for each in (torch.ones_like(place), place.frac())
    )
    return whole - beyond + F.pad(beyond[..., :-1], (1, 0)), index


def _from_here_on(values: Float[Tensor, "q b"]) -> Float[Tensor, "q b"]:
    """The sum of each and all after it."""
    return values.flip(1).cumsum(1).flip(1)


def _ranked(
    pairs: Pairs,
    cost: Callable[[Tensor, Tensor], Tensor],
    temperature: float,
    positives: int | None,
) -> Terms:
    """The mean over positives of what the negatives before, and the positives, cost each."""
    compiled, learns = torch.compiler.is_compiling(), torch.is_grad_enabled()
    # Where nobody knows how many they are, all references may be positives.
    found = places(pairs.positive, positives) or places(pairs.positive, pairs.positive.shape[1])
    assert found is not None  # it is told how many
    columns, real = found
    distance = pairs.distance if compiled else pairs.distance.detach()
    own = distance.gather(1, columns) / temperature
    own, mates = torch.where(real, own, 0), torch.where(real, own, torch.inf)
    # What is at infinity is before nobody.
    rivals = pairs.select(distance / temperature, pairs.negative, torch.inf)
    share = real.to(own.dtype) / real.sum(dim=1, keepdim=True).clamp(min=1)
    count = real.any(dim=1).sum()
    if compiled:
        # What the compiler makes of this holds (q, m, r) only in its backward pass.
        before, among = ((own[..., None] - d[:, None]).sigmoid().sum(2) for d in (rivals, mates))
        return Terms((share * cost(before, among - 0.5)).sum(), count)
    with torch.no_grad():
        total, *slopes = _one_by_one(own, mates, rivals, share, cost, learns=learns)
        if not learns:
            return Terms(total, count)
        slope, by_own = (slopes[0].div_(temperature), slopes[1] / temperature)
        slope.scatter_add_(1, columns, by_own)
    return Terms(_Sloped.apply(total, slope, pairs.distance), count, slope=slope)


def _one_by_one(
    own: Float[Tensor, "q m"],
    mates: Float[Tensor, "q m"],
    rivals: Float[Tensor, "q r"],
    share: Float[Tensor, "q m"],
    cost: Callable[[Tensor, Tensor], Tensor],
    *,
    learns: bool,
) -> tuple[Float[Tensor, ""], Float[Tensor, "q r"], Float[Tensor, "q m"]]:
    """The total, and its slope by rivals and by positives: as large as the block, not m times."""
    total = own.new_zeros(())
    by_own = torch.zeros_like(own)
    slope = torch.zeros_like(rivals) if learns else rivals.new_zeros(()).expand_as(rivals)
    for k in range(own.shape[1]):
        here = own[:, k, None]
        before, among = (here - rivals).sigmoid_(), (here - mates).sigmoid_()
        # Of the positives it met itself as well, half before and half after.
        ranks = before.sum(dim=1), among.sum(dim=1) - 0.5
        if not learns:
            total += (share[:, k] * cost(*ranks)).sum()
            continue
        with torch.enable_grad():
            ends = [rank.requires_grad_() for rank in ranks]
            part = (share[:, k] * cost(*ends)).sum()
        by_ranks = torch.autograd.grad(part, ends, materialize_grads=True)
        total += part.detach()
        for softly, by_rank, sink in zip((before, among), by_ranks, (slope, by_own), strict=True):
            change = torch.addcmul(softly, softly, softly, value=-1)  # of the sigmoid
            sink.addcmul_(change, by_rank[:, None], value=-1)
            by_own[:, k] += by_rank * change.sum(dim=1)
    return total, slope, by_own


class _Sloped(torch.autograd.Function):
    """A total whose slope is known, so that nothing of its making need be kept."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, slope: Tensor, distance: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return total.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
        if torch.is_grad_enabled():  # create_graph=True; a slope of a slope would silently be 0
            msg = "a loss of soft ranks has no second derivative, but one was asked for"
            raise RuntimeError(msg)
        (slope,) = ctx.saved_tensors
        return None, None, gradient * slope

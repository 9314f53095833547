"""Losses of the ranking of each anchor (what they compute: ``functional.losses.ranking``)."""

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor
from typing_extensions import Unpack

from siamlearn.functional.blocks import once
from siamlearn.functional.distances import cosine
from siamlearn.functional.losses import ranking
from siamlearn.functional.pairings import Gather, Pairing, itself
from siamlearn.functional.pairs import Pairs, Terms
from siamlearn.nn.losses.checks import check_callable
from siamlearn.nn.losses.pair_loss import Choices, PairLoss
from siamlearn.nn.ranks import Ranks
from siamlearn.nn.settings import above_zero, at_least_one

__all__ = ["FastAPLoss", "HistogramLoss", "PNPLoss", "SmoothAPLoss"]


@final
class FastAPLoss(PairLoss):
    """Raise the average precision of every anchor, read off a coarse histogram of distances.

    See :func:`siamlearn.functional.losses.fast_ap`.

    Args:
        bins: into how many the distances from 0 to ``farthest`` are cut.
        farthest: the largest distance there is: 2 for ``cosine``.
        choices: see :class:`PairLoss`.

    Raises:
        ValueError: where there is no bin, or the farthest is not above zero, or the pairing
            leaves no rivals.

    Example:
        >>> loss = FastAPLoss()
        >>> loss(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]), torch.tensor([0, 0, 1]))
        tensor(0.5000)
    """

    needs_rivals = True

    def __init__(
        self,
        bins: int = 10,
        *,
        farthest: float = 2.0,
        **choices: Unpack[Choices],
    ) -> None:
        super().__init__(cosine, **choices)
        self.bins = at_least_one("bins", bins, "distances are cut into them")
        self.farthest = above_zero("farthest", farthest, "bins of distance end there")

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return ranking.fast_ap(pairs, bins=self.bins, farthest=self.farthest)


@final
class SmoothAPLoss(PairLoss):
    """Raise the average precision of every anchor, with ranks counted by soft comparisons.

    See :func:`siamlearn.functional.losses.smooth_ap`.

    Args:
        temperature: a smaller one counts more sharply, with a gradient from fewer pairs.
        positives: the most positives that an anchor has; give it on a GPU, see the function.
        choices: see :class:`PairLoss`.

    Raises:
        ValueError: where the temperature is not above zero, or positives less than one, or the
            pairing leaves no rivals.

    Example:
        >>> loss = SmoothAPLoss()
        >>> loss(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]), torch.tensor([0, 0, 1]))
        tensor(0.5000)
    """

    needs_rivals = True

    def __init__(
        self,
        temperature: float = 0.01,
        *,
        positives: int | None = None,
        **choices: Unpack[Choices],
    ) -> None:
        super().__init__(cosine, **choices)
        self.temperature = above_zero("temperature", temperature, "distances are divided by it")
        self.positives = _positives(positives)

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return ranking.smooth_ap(pairs, temperature=self.temperature, positives=self.positives)


@final
class PNPLoss(PairLoss):
    """Clear away the negatives before every positive, whatever other positives do.

    See :func:`siamlearn.functional.losses.pnp`.

    Args:
        penalty: what so many negatives before a positive cost: ``pnp_o``, ``pnp_iu``, ``pnp_ib``,
            ``pnp_ds``, ``pnp_dq`` of ``functional.losses``, or your own.
        temperature: a smaller one counts more sharply, with a gradient from fewer pairs.
        positives: the most positives that an anchor has; give it on a GPU, see the function.
        choices: see :class:`PairLoss`.

    Raises:
        ValueError: where the temperature is not above zero, or positives less than one, or the
            pairing leaves no rivals.

    Example:
        >>> loss = PNPLoss(ranking.pnp_ds)
        >>> loss(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]), torch.tensor([0, 0, 1]))
        tensor(0.6931)
    """

    needs_rivals = True

    def __init__(
        self,
        penalty: Callable[[Tensor], Tensor] = ranking.pnp_dq,
        *,
        temperature: float = 0.01,
        positives: int | None = None,
        **choices: Unpack[Choices],
    ) -> None:
        super().__init__(cosine, **choices)
        check_callable(penalty=penalty)
        self.penalty = penalty
        self.temperature = above_zero("temperature", temperature, "distances are divided by it")
        self.positives = _positives(positives)

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return ranking.pnp(
            pairs,
            penalty=self.penalty,
            temperature=self.temperature,
            positives=self.positives,
        )


@final
class HistogramLoss(PairLoss):
    """Make it improbable that a positive pair is farther apart than a negative one.

    The probability is taken between all positive and all negative pairs of the batch, not of one
    anchor, by their histograms h⁺ and h⁻ of distance, each of sum one: Σ_b h⁻(b) Σ_(c ≥ b) h⁺(c).
    So it is no sum over anchors: parts of a batch, taken in turn, each have their own
    histograms. All pairs are looked at twice: for the histograms, and, with the weight of each
    edge known from them, for the gradient.

    A pair is moved by pairs of the other kind within its own bin and the ones beside it, and by no
    others: where a batch has few pairs, or positives and negatives lie bins apart in the wrong
    order, take fewer bins.

    Args:
        bins: into how many the distances from 0 to ``farthest`` are cut; there is one edge more.
        farthest: the largest distance there is: 2 for ``cosine``; what lies beyond counts as
            that, without gradient.
        choices: see :class:`PairLoss`.

    Raises:
        ValueError: where there is no bin, or the farthest is not above zero.

    Example:
        >>> loss = HistogramLoss(bins=2)
        >>> loss(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 0, 1]))
        tensor(1.)

    Source:
        Ustinova, Lempitsky: Learning Deep Embeddings with Histogram Loss, NIPS 2016, eq. 1 to 4,
        on 1 - cosine.

    When: nothing to tune; positive and negative pairs that are comparable over the whole batch,
        as verification at one threshold wants them.
    """

    symmetric = True

    def __init__(
        self,
        bins: int = 100,
        *,
        farthest: float = 2.0,
        **choices: Unpack[Choices],
    ) -> None:
        super().__init__(cosine, **choices)
        self.bins = at_least_one("bins", bins, "distances are cut into them")
        self.farthest = above_zero("farthest", farthest, "bins of distance end there")
        self.pairing = _Twice(self.pairing)

    def terms(self, pairs: Pairs) -> Terms:
        """The histograms of one block of pairs, which add."""
        return ranking.histograms(pairs, bins=self.bins, farthest=self.farthest)


@final
class _Twice:
    """A pairing that takes histograms first, and then the pairs by what each edge weighs."""

    def __init__(self, pairing: Pairing) -> None:
        self.pairing, self.__name__ = pairing, getattr(pairing, "__name__", repr(pairing))

    def __call__(
        self,
        terms: Callable[[Pairs], Terms],
        embeddings: Tensor,
        labels: Tensor,
        *,
        gather: Gather = itself,
        **how: Any,
    ) -> Terms:
        how["gather"] = gather
        ranks = gather if isinstance(gather, Ranks) else None
        with torch.no_grad():
            seen = self.pairing(terms, embeddings, labels, **how)
            seen = ranks.sum(seen) if ranks else seen
        number = seen.count.clamp(min=1)
        negative, positive = (seen.total / number).chunk(2)
        beyond = positive.flip(0).cumsum(0).flip(0)
        cost, one = (negative * beyond).sum(), seen.count.new_ones(())
        if not torch.is_grad_enabled():
            return Terms(cost, one)
        weights = torch.cat([beyond, negative.cumsum(0)]) / number

        def weighed(pairs: Pairs) -> Terms:
            return Terms((weights * terms(pairs).total).sum(), one)

        change = self.pairing(weighed, embeddings, labels, **how).total
        # The cost is that of all ranks, whose mean will be taken; of the change each has a part.
        parts = len(ranks) if ranks else 1
        return Terms(once(cost + parts * (change - change.detach())), one)


def _positives(most: int | None) -> int | None:
    if most is None:
        return None
    return at_least_one("positives", most, "an anchor without any has nothing to rank")

"""Losses of single pairs (what they compute: ``functional.losses``)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from siamlearn.functional import losses
from siamlearn.functional.blocks import once
from siamlearn.functional.distances import cosine, euclidean
from siamlearn.functional.pairings import Gather, Pairing, itself
from siamlearn.functional.pairs import Pairs, Terms
from siamlearn.nn.losses.pair_loss import Choices, Miner, PairLoss
from siamlearn.nn.losses.regularisers import row_of_each
from siamlearn.nn.ranks import Ranks
from siamlearn.nn.settings import above_zero, at_least_one, at_least_zero, finite, yes_or_no

__all__ = [
    "ContrastiveLoss",
    "IntraPairVarianceLoss",
    "MarginLoss",
    "SigmoidLoss",
    "ThresholdConsistentLoss",
]


@final
class ContrastiveLoss(PairLoss):
    """Pull positives together; push negatives until they are a margin apart.

    See :func:`siamlearn.functional.losses.contrastive`.

    Args:
        margin: the distance beyond which a negative pair is left alone.
        positive_margin: the distance within which a positive pair is left alone.
        squared: whether costs grow with the square of the distance that is wanting.
        apart: average positives and negatives apart, each over those that cost anything.
        choices: see :class:`PairLoss`.

    Raises:
        ValueError: where the margin is not above zero, or the positive margin is below.

    Example:
        >>> loss = ContrastiveLoss(margin=2.0)
        >>> loss(torch.tensor([[0.0], [0.5]]), torch.tensor([0, 1]))
        tensor(2.2500)
    """

    symmetric = True

    def __init__(
        self,
        margin: float = 1.0,
        *,
        positive_margin: float = 0.0,
        squared: bool = True,
        apart: bool = False,
        **choices: Unpack[Choices],
    ) -> None:
        super().__init__(euclidean, **choices)
        self.margin = above_zero("margin", margin, "else nothing pushes negatives apart")
        self.positive_margin = at_least_zero("positive_margin", positive_margin)
        self.squared = yes_or_no("squared", squared)
        self.apart = yes_or_no("apart", apart)

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.contrastive(
            pairs,
            margin=self.margin,
            positive_margin=self.positive_margin,
            squared=self.squared,
            apart=self.apart,
        )


@final
class ThresholdConsistentLoss(PairLoss):
    """Bring only the pairs that one threshold for everybody would get wrong to its right side.

    See :func:`siamlearn.functional.losses.threshold_consistent`.

    Args:
        margin: the distance beyond which a negative pair is left alone.
        positive_margin: the distance within which a positive pair is left alone.
        weight: of the negatives.
        positive_weight: of the positives.
        choices: see :class:`PairLoss`.

    Raises:
        ValueError: where a setting is out of range.

    Example:
        >>> loss = ThresholdConsistentLoss()
        >>> loss(torch.tensor([[2.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]))
        tensor(0.5000)
    """

    symmetric = True

    def __init__(
        self,
        margin: float = 0.5,
        *,
        positive_margin: float = 0.1,
        weight: float = 1.0,
        positive_weight: float = 1.0,
        **choices: Unpack[Choices],
    ) -> None:
        super().__init__(cosine, **choices)
        self.margin = above_zero("margin", margin, "else nothing pushes negatives apart")
        self.positive_margin = at_least_zero("positive_margin", positive_margin)
        self.weight = at_least_zero("weight", weight)
        self.positive_weight = at_least_zero("positive_weight", positive_weight)

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.threshold_consistent(
            pairs,
            margin=self.margin,
            positive_margin=self.positive_margin,
            weight=self.weight,
            positive_weight=self.positive_weight,
        )


@final
class MarginLoss(PairLoss):
    """Keep positives within a boundary and negatives beyond it, each by a margin.

    See :func:`siamlearn.functional.losses.margin_based`. A boundary that is learned is the
    parameter ``boundary``: a ``Trainer`` puts it into the optimizer by itself.

    Args:
        margin: by how much, in units of distance.
        boundary: the distance of it, or where it starts if it is learned; 1.2 is for embeddings
            of length 1.
        learned: learn the boundary.
        classes: learn one boundary for each of so many identities; labels are 0, 1, ... then.
        regularisation: a weight that keeps learned boundaries from growing.
        balanced: weigh pairs as if every positive had been put beside every negative.
        choices: see :class:`PairLoss`.

    Raises:
        ValueError: where a setting is out of range, or a label is not one of the classes.

    Example:
        >>> loss = MarginLoss(learned=True)
        >>> loss(torch.tensor([[0.0], [0.7]]), torch.tensor([0, 1]))
        tensor(0.7000, grad_fn=<SumBackward0>)
    """

    def __init__(
        self,
        margin: float = 0.2,
        *,
        boundary: float = 1.2,
        learned: bool = False,
        classes: int | None = None,
        regularisation: float = 0.0,
        balanced: bool = False,
        **choices: Unpack[Choices],
    ) -> None:
        super().__init__(euclidean, **choices)
        self.margin = at_least_zero("margin", margin)
        above_zero("boundary", boundary, "it is the distance that parts positives from negatives")
        if classes is not None:
            at_least_one("classes", classes, "leave it out for one boundary")
        self.learned = yes_or_no("learned", learned) or classes is not None
        if regularisation and not self.learned:
            msg = "regularisation is of the boundary, which is not learned; pass learned=True"
            raise ValueError(msg)
        shape = () if classes is None else (classes,)
        start = torch.full(shape, float(boundary))
        self.boundary: Tensor | float = nn.Parameter(start) if self.learned else boundary
        self.classes = classes
        self.regularisation = at_least_zero("regularisation", regularisation)
        self.balanced = yes_or_no("balanced", balanced)

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        boundary = self.boundary
        if isinstance(boundary, Tensor) and boundary.ndim:
            boundary = row_of_each(boundary, pairs.label)
        return losses.margin_based(
            pairs,
            margin=self.margin,
            boundary=boundary,
            regularisation=self.regularisation,
            balanced=self.balanced,
        )


@final
class SigmoidLoss(PairLoss):
    """Ask of every pair on its own whether it is one.

    See :func:`siamlearn.functional.losses.sigmoid`. The scale and the bias are learned: the
    parameters ``log_scale`` and ``bias``. For pictures beside captions pass
    ``pairing=two_towers``.

    Args:
        scale: where the scale starts, the inverse of a temperature.
        bias: where the logit of a pair at a right angle starts.
        choices: see :class:`PairLoss`.

    Raises:
        ValueError: where the scale is not above zero, or the bias is not finite.

    Example:
        >>> loss = SigmoidLoss(scale=1.0, bias=0.0)
        >>> loss(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])).item()
        0.6931...
    """

    def __init__(
        self, scale: float = 10.0, *, bias: float = -10.0, **choices: Unpack[Choices]
    ) -> None:
        super().__init__(cosine, **choices)
        finite("bias", bias, "it is where learning starts")
        above_zero("scale", scale, "distances are multiplied by it")
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.bias = nn.Parameter(torch.tensor(float(bias)))

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.sigmoid(pairs, scale=self.log_scale.exp(), bias=self.bias)


@final
class IntraPairVarianceLoss(PairLoss):
    """Narrow the spread of the distances: pull the farthest positives, push the nearest negatives.

    See :func:`siamlearn.functional.losses.intra_pair_variance`. Every pair is looked at twice:
    for the mean distances of the batch, then for how far each lies from its mean. The gradient is
    the whole one, through the means too. Nothing is held that grows with the number of pairs.

    Args:
        positive_slack: how far below the mean similarity positives may lie, as a share of it.
        slack: how far above theirs negatives may lie.
        choices: see :class:`PairLoss`.

    Raises:
        ValueError: where a setting is out of range.

    Example:
        >>> loss = IntraPairVarianceLoss(positive_slack=0.0)
        >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> loss(x, torch.tensor([7, 7, 7]))  # positives at 0, 1 and 1
        tensor(0.0741)
    """

    def __init__(
        self,
        positive_slack: float = 0.01,
        *,
        slack: float = 0.01,
        **choices: Unpack[Choices],
    ) -> None:
        super().__init__(cosine, **choices)
        self.positive_slack = at_least_zero("positive_slack", positive_slack)
        self.slack = at_least_zero("slack", slack)
        spread = partial(losses.intra_pair_variance, positive_slack=positive_slack, slack=slack)
        self.pairing = _MeansFirst(self.pairing, self.miner, spread)

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the first look, at the mean distances."""
        return losses.mean_distances(pairs)


@dataclass(frozen=True, repr=False)
class _MeansFirst:
    """Any pairing, done twice: for the mean distances, and for a loss that depends on them."""

    pairing: Pairing
    miner: Miner | None
    spread: Callable[[Pairs, Tensor], Terms]

    def __call__(
        self,
        terms: Callable[[Pairs], Terms],
        embeddings: Tensor,
        labels: Tensor,
        *,
        rows: int | None = None,
        gather: Gather = itself,
        **how: Any,
    ) -> Terms:
        how |= {"rows": rows, "gather": gather}
        first = self.pairing(terms, embeddings, labels, **how)
        first = gather.sum(first) if isinstance(gather, Ranks) else first
        means = first.total / first.count.clamp(min=1)
        compiling = torch.compiler.is_compiling()  # then there are no blocks
        leaf = means if compiling else means.detach().requires_grad_(means.requires_grad)
        second = self.pairing(partial(self._spread, means=leaf), embeddings, labels, **how)
        if compiling or not means.requires_grad:
            return second
        # Blocks are taken on their own and cannot go back through the means to all others, so
        # that the means are an end to them; here they are joined to what they were made of.
        (slope,) = torch.autograd.grad(second.total.sum(), leaf, retain_graph=True)
        if isinstance(gather, Ranks):
            slope = gather.sum(Terms(slope, second.count)).total.detach()
        return Terms(once(second.total + slope * (means - means.detach())), second.count)

    def _spread(self, pairs: Pairs, means: Tensor) -> Terms:
        mined = pairs if self.miner is None else self.miner(pairs)
        return self.spread(mined, means)

    def __repr__(self) -> str:
        return getattr(self.pairing, "__name__", repr(self.pairing))

"""Losses of an anchor with all its pairs at once (what they compute: ``functional.losses``)."""

from collections.abc import Callable
from functools import partial
from typing import Any, final

import torch
from torch import Tensor
from typing_extensions import Unpack

from siamlearn.functional import losses
from siamlearn.functional.blocks import once
from siamlearn.functional.distances import cosine, euclidean, squared_euclidean
from siamlearn.functional.pairings import Gather, References, all_pairs, itself
from siamlearn.functional.pairs import Pairs, Terms
from siamlearn.functional.vectors import full_precision
from siamlearn.nn.losses.pair_loss import Choices, PairLoss
from siamlearn.nn.ranks import Ranks
from siamlearn.nn.settings import above_zero, finite
from siamlearn.ranks import total

__all__ = [
    "CircleLoss",
    "GeneralisedLiftedLoss",
    "LiftedStructureLoss",
    "MultiSimilarityLoss",
    "TupletMarginLoss",
]


@final
class MultiSimilarityLoss(PairLoss):
    """Pull positives and push negatives, each by how far it stands out among its like.

    See :func:`siamlearn.functional.losses.multi_similarity`.

    Args:
        positive_scale: a larger one looks at farther positives.
        negative_scale: a larger one looks at nearer negatives.
        base: the similarity, 1 - distance, around which pairs begin to matter.
        choices: see :class:`PairLoss`.

    Raises:
        ValueError: where a scale is not above zero, or the base is not finite.

    Example:
        >>> loss = MultiSimilarityLoss(negative_scale=2.0)
        >>> loss(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
        tensor(0.3133)
    """

    def __init__(
        self,
        positive_scale: float = 2.0,
        negative_scale: float = 50.0,
        base: float = 1.0,
        **choices: Unpack[Choices],
    ) -> None:
        super().__init__(cosine, **choices)
        reason = "similarities are multiplied by it"
        self.positive_scale = above_zero("positive_scale", positive_scale, reason)
        self.negative_scale = above_zero("negative_scale", negative_scale, reason)
        self.base = finite("base", base, "it is a similarity")

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.multi_similarity(
            pairs,
            positive_scale=self.positive_scale,
            negative_scale=self.negative_scale,
            base=self.base,
        )


@final
class CircleLoss(PairLoss):
    """Pull and push each pair the harder the farther it is from where it should be.

    See :func:`siamlearn.functional.losses.circle`.

    Args:
        relaxation: how far from the best a pair may stay, as a similarity: 1 - distance.
        scale: a larger one looks at the worst pairs alone.
        choices: see :class:`PairLoss`.

    Raises:
        ValueError: where a setting is not above zero, or the pairing leaves no rivals.

    Example:
        >>> loss = CircleLoss(scale=1.0)
        >>> loss(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
        tensor(0.6326)
    """

    needs_rivals = True

    def __init__(
        self,
        relaxation: float = 0.25,
        scale: float = 256.0,
        **choices: Unpack[Choices],
    ) -> None:
        super().__init__(cosine, **choices)
        reason = "else there is nowhere for a pair to rest"
        self.relaxation = above_zero("relaxation", relaxation, reason)
        self.scale = above_zero("scale", scale, "similarities are multiplied by it")

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.circle(pairs, relaxation=self.relaxation, scale=self.scale)


@final
class TupletMarginLoss(PairLoss):
    """Tell each positive from all negatives by angles, and leave positives some slack.

    See :func:`siamlearn.functional.losses.tuplet_margin`.

    Args:
        slack: how far apart positives may be, in radians; below 0 they are asked to be nearer.
        scale: a larger one looks at nearer negatives.
        choices: see :class:`PairLoss`.

    Raises:
        ValueError: where the scale is not above zero, the slack not finite, or the pairing leaves
            no rivals.

    Example:
        >>> loss = TupletMarginLoss(slack=0.0, scale=1.0)
        >>> loss(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
        tensor(0.3133)
    """

    needs_rivals = True

    def __init__(
        self,
        slack: float = 0.1,
        scale: float = 64.0,
        **choices: Unpack[Choices],
    ) -> None:
        super().__init__(cosine, **choices)
        self.slack = finite("slack", slack, "it is an angle")
        self.scale = above_zero("scale", scale, "similarities are multiplied by it")

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.tuplet_margin(pairs, slack=self.slack, scale=self.scale)


@final
class GeneralisedLiftedLoss(PairLoss):
    """Bring all positives of an anchor closer than all its negatives, smoothly.

    See :func:`siamlearn.functional.losses.generalised_lifted`.

    Args:
        margin: how much closer, in units of distance.
        choices: see :class:`PairLoss`.

    Raises:
        ValueError: where the margin is not above zero, or the pairing leaves no rivals.

    Example:
        >>> loss = GeneralisedLiftedLoss()
        >>> loss(torch.tensor([[0.0], [0.5], [1.0]]), torch.tensor([0, 0, 1]))
        tensor(0.7500)
    """

    needs_rivals = True

    def __init__(
        self,
        margin: float = 1.0,
        **choices: Unpack[Choices],
    ) -> None:
        super().__init__(euclidean, **choices)
        self.margin = above_zero("margin", margin, "else nothing pushes negatives apart")

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.generalised_lifted(pairs, margin=self.margin)


@final
class LiftedStructureLoss(PairLoss):
    """Bring each positive pair closer than all negatives of both its ends.

    See :func:`siamlearn.functional.losses.lifted_structure`. The pairs are made twice: first to
    learn how crowded each picture is by its negatives, then for the loss; and once more between
    where (i, j) may not be as (j, i), because of a miner, of a distance other than ``euclidean``,
    ``squared_euclidean`` and ``cosine``, or of ``same=``. A miner must choose the same each time.

    References that are not the batch itself (a memory, or any that are given) are no anchors, so
    that there is nothing to learn of their own negatives: beside them those of the anchor count
    alone. There is no second derivative.

    Args:
        margin: how much closer, in units of distance.
        choices: see :class:`PairLoss`.

    Raises:
        ValueError: where the margin is not above zero, or the pairing is not ``all_pairs``.

    Example:
        >>> loss = LiftedStructureLoss()
        >>> loss(torch.tensor([[0.0], [0.5], [1.0]]), torch.tensor([0, 0, 1]))
        tensor(1.0865)
    """

    needs_rivals = True

    def __init__(
        self,
        margin: float = 1.0,
        **choices: Unpack[Choices],
    ) -> None:
        super().__init__(euclidean, **choices)
        if self.pairing is not all_pairs:
            msg = (
                "this loss needs the negatives of both ends of a pair, which only all_pairs has; "
                "leave the pairing out, or use GeneralisedLiftedLoss"
            )
            raise ValueError(msg)
        self.margin = above_zero("margin", margin, "else nothing pushes negatives apart")
        self.pairing = self.all_pairs
        # Of the batch, and of the block of it that is at hand, for its time only.
        self._rivals: Tensor | None = None
        self._pushes: Tensor | None = None

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.lifted_structure(
            pairs, rivals=self._rivals, pushes=self._pushes, margin=self.margin
        )

    def all_pairs(
        self,
        terms: Callable[[Pairs], Terms],
        embeddings: Tensor,
        labels: Tensor,
        *,
        references: References | None = None,
        gather: Gather = itself,
        **how: Any,
    ) -> Terms:
        """The pairing of that name, after a first look at the negatives of each picture."""
        everyone = gather.everyone if isinstance(gather, Ranks) else embeddings
        how |= {"references": references, "gather": gather}
        over = partial(_over, embeddings, labels, how)
        if references is not None and references.embeddings is not everyone:
            return over(lambda pairs, rows: terms(pairs))
        both_ways = (
            self.miner is None
            and how["distance"] in (euclidean, squared_euclidean, cosine)
            and (references is None or references.labels is labels)
        )
        with torch.no_grad():
            # Filled in place: small tensors that stay between large ones that go pin the heap.
            crowded = full_precision(embeddings).new_zeros(len(embeddings))
            over(partial(self._look_at_rows, crowded))
            rivals, _, own = gather(crowded[:, None], labels)
            rivals = rivals[:, 0]
            pushes = None if both_ways else torch.zeros_like(rivals)
            if pushes is not None:
                over(partial(self._look_at_columns, pushes, rivals))
                pushes = (total(pushes) if isinstance(gather, Ranks) else pushes)[own]

        def known(pairs: Pairs, rows: slice) -> Terms:
            self._rivals, self._pushes = rivals, None if pushes is None else pushes[rows]
            return terms(pairs)

        try:
            whole = over(known)
            return Terms(once(whole.total), whole.count)
        finally:
            self._rivals = self._pushes = None

    def _look_at_rows(self, crowded: Tensor, pairs: Pairs, rows: slice) -> Terms:
        mined = pairs if self.miner is None else self.miner(pairs)
        crowded[rows] = losses.crowding(mined, margin=self.margin)
        return _nothing(pairs)

    def _look_at_columns(self, pushes: Tensor, rivals: Tensor, pairs: Pairs, rows: slice) -> Terms:
        mined = pairs if self.miner is None else self.miner(pairs)
        pushes += losses.rivalry(mined, rivals=rivals, margin=self.margin)
        return _nothing(pairs)


def _over(
    embeddings: Tensor,
    labels: Tensor,
    how: dict[str, Any],
    terms: Callable[[Pairs, slice], Terms],
) -> Terms:
    """All pairs, for terms that are told which rows a block has; one may be asked for twice."""
    rows, block = slice(0, 0), None

    def placed(pairs: Pairs) -> Terms:
        nonlocal rows, block
        if pairs.positive is not block:
            block = pairs.positive
            rows = slice(rows.stop, rows.stop + len(block))
        return terms(pairs, rows)

    return all_pairs(placed, embeddings, labels, **how)


def _nothing(pairs: Pairs) -> Terms:
    zero = pairs.positive.new_zeros((), dtype=torch.int64)
    return Terms(zero.to(pairs.distance.dtype), zero)

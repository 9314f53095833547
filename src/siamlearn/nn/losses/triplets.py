"""Losses of triplets and of lists (what they compute: ``functional.losses``)."""

import math
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor
from typing_extensions import Unpack

from siamlearn.functional import losses
from siamlearn.functional.distances import euclidean
from siamlearn.functional.pairs import Pairs, Terms
from siamlearn.nn.losses.checks import check_callable
from siamlearn.nn.losses.pair_loss import Choices, PairLoss
from siamlearn.nn.settings import above_zero, at_least_zero, finite, number

__all__ = [
    "BatchHardLoss",
    "RankedListLoss",
    "SemiHardTripletLoss",
    "SoftTripletLoss",
    "TripletLoss",
]


@final
class TripletLoss(PairLoss):
    """Push every negative of an anchor a margin farther away than every positive of it.

    See :func:`siamlearn.functional.losses.triplet`.

    Args:
        margin: how much farther a negative shall be than a positive.
        choices: see :class:`PairLoss`.

    Raises:
        ValueError: where the margin is not above zero, or the pairing leaves no triplets.

    Example:
        >>> loss = TripletLoss(margin=3.0)
        >>> loss(torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 0, 1]))
        tensor(1.5000)
    """

    needs_rivals = True

    def __init__(
        self,
        margin: float = 0.2,
        **choices: Unpack[Choices],
    ) -> None:
        super().__init__(euclidean, **choices)
        self.margin = above_zero("margin", margin, "else nothing pushes negatives apart")

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.triplet(pairs, margin=self.margin)


@final
class SemiHardTripletLoss(PairLoss):
    """Push away the negatives that are farther than a positive, but not a margin farther.

    See :func:`siamlearn.functional.losses.semi_hard_triplet`.

    Args:
        margin: how much farther a negative shall be than a positive.
        choices: see :class:`PairLoss`.

    Raises:
        ValueError: where the margin is not above zero, or the pairing leaves no triplets.

    Example:
        >>> loss = SemiHardTripletLoss(margin=3.0)
        >>> loss(torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 0, 1]))
        tensor(1.5000)
    """

    needs_rivals = True

    def __init__(
        self,
        margin: float = 0.2,
        **choices: Unpack[Choices],
    ) -> None:
        super().__init__(euclidean, **choices)
        self.margin = above_zero("margin", margin, "else no negative is inside it")

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.semi_hard_triplet(pairs, margin=self.margin)


@final
class SoftTripletLoss(PairLoss):
    """Push every negative away from every positive, the less the farther it is already.

    See :func:`siamlearn.functional.losses.soft_triplet`.

    Args:
        margin: how much farther a negative shall be for a loss of log 2.
        choices: see :class:`PairLoss`.

    Raises:
        ValueError: where the margin is not finite, or the pairing leaves no triplets.

    Example:
        >>> loss = SoftTripletLoss()
        >>> loss(torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 0, 1]))
        tensor(0.2201)
    """

    needs_rivals = True

    def __init__(
        self,
        margin: float = 0.0,
        **choices: Unpack[Choices],
    ) -> None:
        super().__init__(euclidean, **choices)
        self.margin = finite("margin", margin, "it is added to distances")

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.soft_triplet(pairs, margin=self.margin)


@final
class BatchHardLoss(PairLoss):
    """Push the nearest negative of an anchor a margin farther away than its farthest positive.

    See :func:`siamlearn.functional.losses.batch_hard`.

    Args:
        margin: how much farther the negative shall be than the positive.
        penalty: ``torch.relu``, or ``torch.nn.functional.softplus`` with ``margin=0``.
        choices: see :class:`PairLoss`.

    Raises:
        ValueError: where the margin is not finite, or not above zero beside ``torch.relu``, or the
            pairing leaves no triplets.

    Example:
        >>> loss = BatchHardLoss(margin=3.0)
        >>> loss(torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 0, 1]))
        tensor(1.5000)
    """

    needs_rivals = True

    def __init__(
        self,
        margin: float = 0.2,
        *,
        penalty: Callable[[Tensor], Tensor] = torch.relu,
        **choices: Unpack[Choices],
    ) -> None:
        super().__init__(euclidean, **choices)
        check_callable(penalty=penalty)
        self.penalty = penalty
        if penalty is torch.relu:
            self.margin = above_zero("margin", margin, "else nothing pushes negatives apart")
        else:
            self.margin = finite("margin", margin, "it is added to distances")

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.batch_hard(pairs, margin=self.margin, penalty=self.penalty)


@final
class RankedListLoss(PairLoss):
    """Pull all positives of an anchor into a ball, and push all negatives a margin out of it.

    See :func:`siamlearn.functional.losses.ranked_list`. The boundary is one of unit vectors, as
    nets give them by default; for others choose one that fits their lengths.

    Args:
        margin: how much farther the negatives shall be than the positives.
        boundary: how far the negatives shall be.
        scale: distances are multiplied by it in the weights of negatives.
        balance: what negatives count beside positives.
        choices: see :class:`PairLoss`.

    Raises:
        ValueError: where the margin is not above zero or the boundary not above the margin, the
            scale is below zero or the balance not above it, or the pairing leaves no lists.

    Example:
        >>> loss = RankedListLoss()
        >>> loss(torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 0, 1]))
        tensor(0.1333)
    """

    needs_rivals = True

    def __init__(
        self,
        margin: float = 0.4,
        *,
        boundary: float = 1.2,
        scale: float = 10.0,
        balance: float = 1.0,
        **choices: Unpack[Choices],
    ) -> None:
        super().__init__(euclidean, **choices)
        self.margin = above_zero("margin", margin, "else positives and negatives may meet")
        if not margin < number("boundary", boundary) < math.inf:
            msg = f"boundary must be above the margin of {margin} and finite, got {boundary}"
            raise ValueError(msg + ": positives cannot be nearer than 0")
        self.boundary = boundary
        self.scale = at_least_zero("scale", scale)
        self.balance = above_zero("balance", balance, "else nothing pushes negatives apart")

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.ranked_list(
            pairs,
            margin=self.margin,
            boundary=self.boundary,
            scale=self.scale,
            balance=self.balance,
        )

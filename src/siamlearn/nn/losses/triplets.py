"""Losses of triplets (what they compute: ``functional.losses``)."""

from typing import final

from typing_extensions import Unpack

from siamlearn.functional import losses
from siamlearn.functional.distances import euclidean
from siamlearn.functional.pairs import Pairs, Terms
from siamlearn.nn.losses.pair_loss import Choices, PairLoss, above_zero

__all__ = ["TripletLoss"]


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

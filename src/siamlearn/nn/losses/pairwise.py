"""Losses of single pairs (what they compute: ``functional.losses``)."""

from typing import final

from typing_extensions import Unpack

from siamlearn.functional import losses
from siamlearn.functional.distances import euclidean
from siamlearn.functional.pairs import Pairs, Terms
from siamlearn.nn.losses.pair_loss import Choices, PairLoss, above_zero

__all__ = ["ContrastiveLoss"]


@final
class ContrastiveLoss(PairLoss):
    """Pull positives together; push negatives until they are a margin apart.

    See :func:`siamlearn.functional.losses.contrastive`.

    Args:
        margin: the distance beyond which a negative pair is left alone.
        choices: see :class:`PairLoss`.

    Raises:
        ValueError: where the margin is not above zero.

    Example:
        >>> loss = ContrastiveLoss(margin=2.0)
        >>> loss(torch.tensor([[0.0], [0.5]]), torch.tensor([0, 1]))
        tensor(2.2500)
    """

    symmetric = True

    def __init__(
        self,
        margin: float = 1.0,
        **choices: Unpack[Choices],
    ) -> None:
        super().__init__(euclidean, **choices)
        self.margin = above_zero("margin", margin, "else nothing pushes negatives apart")

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.contrastive(pairs, margin=self.margin)

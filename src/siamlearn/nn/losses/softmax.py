"""Losses that weigh pairs by their exponentials (what they compute: ``functional.losses``)."""

from typing import final

from typing_extensions import Unpack

from siamlearn.functional import losses
from siamlearn.functional.distances import cosine
from siamlearn.functional.pairs import Pairs, Terms
from siamlearn.nn.losses.pair_loss import Choices, PairLoss, above_zero

__all__ = ["InfoNCELoss", "SupConLoss"]


@final
class InfoNCELoss(PairLoss):
    """Tell each positive from all negatives of its anchor.

    See :func:`siamlearn.functional.losses.info_nce`.

    Args:
        temperature: distances are divided by it; a smaller one looks at nearer pairs.
        choices: see :class:`PairLoss`.

    Raises:
        ValueError: where the temperature is not above zero, or the pairing leaves no rivals.

    Example:
        >>> loss = InfoNCELoss(temperature=1.0)
        >>> loss(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
        tensor(0.3133)
    """

    needs_rivals = True

    def __init__(
        self,
        temperature: float = 0.07,
        **choices: Unpack[Choices],
    ) -> None:
        super().__init__(cosine, **choices)
        self.temperature = above_zero("temperature", temperature, "distances are divided by it")

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.info_nce(pairs, temperature=self.temperature)


@final
class SupConLoss(PairLoss):
    """Tell each positive from all others of its anchor, positives too.

    See :func:`siamlearn.functional.losses.sup_con`.

    Args:
        temperature: distances are divided by it; a smaller one looks at nearer pairs.
        choices: see :class:`PairLoss`.

    Raises:
        ValueError: where the temperature is not above zero, or the pairing leaves no rivals.

    Example:
        >>> loss = SupConLoss(temperature=1.0)
        >>> loss(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
        tensor(0.3133)
    """

    needs_rivals = True

    def __init__(
        self,
        temperature: float = 0.07,
        **choices: Unpack[Choices],
    ) -> None:
        super().__init__(cosine, **choices)
        self.temperature = above_zero("temperature", temperature, "distances are divided by it")

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.sup_con(pairs, temperature=self.temperature)

"""The angular loss (what it computes: ``functional.losses``)."""

from functools import partial
from typing import final

from typing_extensions import Unpack

from siamlearn.functional import losses
from siamlearn.functional.losses.angles import outside_angle, pairs_beside_all
from siamlearn.functional.pairs import Pairs, Terms
from siamlearn.nn.losses.pair_loss import Choices, PairLoss

__all__ = ["AngularLoss"]


@final
class AngularLoss(PairLoss):
    """Push all negatives out of the angle that a pair of pictures allows.

    See :func:`siamlearn.functional.losses.angular`. Row i of the first half of a batch and row i
    of its second half are a pair, of one identity; lengths do not matter. Rows that are of two
    identities are left out, and a batch of nothing else costs 0: a ``BalancedSampler`` pairs all
    rows if its ``images`` are even in number, and a ``PairSampler`` half of them.

    Args:
        angle: the paper's alpha, in degrees.
        choices: see :class:`PairLoss`; the distance, if chosen, is that of a pair and a picture.

    Raises:
        ValueError: where the angle is not between 0 and 90 degrees.

    Example:
        >>> import torch
        >>> loss = AngularLoss()
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
        >>> loss(x, torch.tensor([0, 1, 0, 1]))
        tensor(0.0360)
    """

    needs_rivals = True

    def __init__(
        self,
        angle: float = 45.0,
        **choices: Unpack[Choices],
    ) -> None:
        if not 0 < angle < 90:
            msg = f"angle must be between 0 and 90 degrees, got {angle}; the paper takes about 45"
            raise ValueError(msg)
        choices.setdefault("pairing", pairs_beside_all)
        super().__init__(partial(outside_angle, angle=angle), **choices)
        self.angle = angle

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.angular(pairs)

"""Losses that weigh pairs by their exponentials (what they compute: ``functional.losses``)."""

import math
from abc import ABC
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from siamlearn.functional import losses
from siamlearn.functional.distances import cosine, squared_euclidean
from siamlearn.functional.inner_product import negative_inner_product
from siamlearn.functional.pairs import Pairs, Terms
from siamlearn.nn.losses.pair_loss import Choices, PairLoss
from siamlearn.nn.settings import above_zero, yes_or_no

__all__ = ["DecoupledLoss", "InfoNCELoss", "NCALoss", "NPairsLoss", "SupConLoss"]


class _TemperatureLoss(PairLoss, ABC):
    """A loss that divides distances by a temperature, given or learned.

    What is learned is its logarithm, so that it stays above zero. As in CLIP (Radford et al.,
    arXiv:2103.00020, sec. 2.5) it stays at 0.01 or above: where an optimizer has left it below, it
    is put back before it is used.
    """

    needs_rivals = True
    smallest: ClassVar[float] = 0.01
    log_temperature: nn.Parameter | None

    def __init__(
        self, temperature: float = 0.07, *, learned: bool = False, **choices: Unpack[Choices]
    ) -> None:
        super().__init__(cosine, **choices)
        above_zero("temperature", temperature, "distances are divided by it")
        if yes_or_no("learned", learned) and temperature < self.smallest:
            msg = (
                f"a learned temperature must start at {self.smallest} or above, got {temperature}; "
                "it would be put back there at once"
            )
            raise ValueError(msg)
        self.temperature = None if learned else temperature
        logarithm = nn.Parameter(torch.tensor(math.log(temperature))) if learned else None
        self.register_parameter("log_temperature", logarithm)

    def divisor(self) -> float | Tensor:
        """The temperature, as it is now."""
        if self.log_temperature is None:
            assert self.temperature is not None
            return self.temperature
        with torch.no_grad():
            self.log_temperature.clamp_(min=math.log(self.smallest))
        return self.log_temperature.exp()


@final
class InfoNCELoss(_TemperatureLoss):
    """Tell each positive from all negatives of its anchor.

    See :func:`siamlearn.functional.losses.info_nce`. Over ``pairing=two_towers``, with
    ``learned=True``, it is the loss of CLIP.

    Args:
        temperature: distances are divided by it; a smaller one looks at nearer pairs.
        learned: let the temperature, from that on, be learned: ``log_temperature.exp()``.
        choices: see :class:`PairLoss`.

    Raises:
        ValueError: where the temperature is not above zero, or the pairing leaves no rivals.

    Example:
        >>> loss = InfoNCELoss(temperature=1.0)
        >>> loss(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
        tensor(0.3133)
    """

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.info_nce(pairs, temperature=self.divisor())


@final
class SupConLoss(_TemperatureLoss):
    """Tell each positive from all others of its anchor, positives too.

    See :func:`siamlearn.functional.losses.sup_con`.

    Args:
        temperature: distances are divided by it; a smaller one looks at nearer pairs.
        learned: let the temperature, from that on, be learned: ``log_temperature.exp()``.
        choices: see :class:`PairLoss`.

    Raises:
        ValueError: where the temperature is not above zero, or the pairing leaves no rivals.

    Example:
        >>> loss = SupConLoss(temperature=1.0)
        >>> loss(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
        tensor(0.3133)
    """

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.sup_con(pairs, temperature=self.divisor())


@final
class DecoupledLoss(_TemperatureLoss):
    """InfoNCE whose positive does not compete with itself, for small batches.

    See :func:`siamlearn.functional.losses.decoupled`.

    Args:
        temperature: distances are divided by it; a smaller one looks at nearer pairs.
        learned: let the temperature, from that on, be learned: ``log_temperature.exp()``.
        choices: see :class:`PairLoss`.

    Raises:
        ValueError: where the temperature is not above zero, or the pairing leaves no rivals.

    Example:
        >>> loss = DecoupledLoss(temperature=1.0)
        >>> loss(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
        tensor(-1.)
    """

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.decoupled(pairs, temperature=self.divisor())


@final
class NCALoss(_TemperatureLoss):
    """Make it likely that an anchor picks one of its positives.

    See :func:`siamlearn.functional.losses.nca`.

    Args:
        temperature: distances are divided by it; a smaller one looks at nearer pairs.
        learned: let the temperature, from that on, be learned: ``log_temperature.exp()``.
        choices: see :class:`PairLoss`.

    Raises:
        ValueError: where the temperature is not above zero, or the pairing leaves no rivals.

    Example:
        >>> loss = NCALoss()
        >>> loss(torch.tensor([[0.0], [0.0], [1.0]]), torch.tensor([0, 0, 1]))
        tensor(0.3133)
    """

    def __init__(
        self, temperature: float = 1.0, *, learned: bool = False, **choices: Unpack[Choices]
    ) -> None:
        choices.setdefault("distance", squared_euclidean)
        super().__init__(temperature, learned=learned, **choices)

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.nca(pairs, temperature=self.divisor())


@final
class NPairsLoss(PairLoss):
    """Tell each positive from all negatives of its anchor, by inner products.

    See :func:`siamlearn.functional.losses.n_pairs`. The paper's own batch, of two pictures an
    identity, is that of ``pairing=two_towers``. ``NPairsLoss() + 0.02 * EmbeddingNorm()`` keeps
    embeddings from growing; the paper adds the squares of their lengths.

    Args:
        choices: see :class:`PairLoss`.

    Raises:
        ValueError: where the pairing leaves no rivals.

    Example:
        >>> loss = NPairsLoss()
        >>> loss(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
        tensor(0.3133)
    """

    needs_rivals = True

    def __init__(self, **choices: Unpack[Choices]) -> None:
        super().__init__(negative_inner_product, **choices)

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.n_pairs(pairs)

"""Losses as modules: a choice of pairs, of distance and of miner around a pure function."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from siamlearn.functional import losses
from siamlearn.functional.distances import cosine, euclidean
from siamlearn.functional.pairs import Distance, Pairing, Pairs, Terms, all_pairs

__all__ = ["ContrastiveLoss", "InfoNCELoss", "Miner", "PairLoss", "SupConLoss", "TripletLoss"]

Miner = Callable[[Pairs], Pairs]


class PairLoss(nn.Module, ABC):
    """A loss over the pairs of a batch: which pairs, how far apart, and what is wanted of them.

    A new loss is a subclass that says what is wanted, in :meth:`terms`.

    Args:
        distance: how far apart two embeddings are.
        pairing: which pairs of the batch are compared: ``all_pairs``, or ``adjacent_pairs``.
        miner: which of these pairs count; all of them if left out.
        rows: how many rows of pairs to hold in memory at once; all of them if left out.

    Raises:
        ValueError: where ``rows`` is less than one.

    Example:
        >>> class Closer(PairLoss):
        ...     def terms(self, pairs):
        ...         near = torch.where(pairs.positive, pairs.distance, 0)
        ...         return Terms(near.sum(), pairs.positive.sum())
        >>> Closer(distance=euclidean)(torch.tensor([[0.0], [2.0]]), torch.tensor([7, 7]))
        tensor(2.)
    """

    def __init__(
        self,
        *,
        distance: Distance,
        pairing: Pairing = all_pairs,
        miner: Miner | None = None,
        rows: int | None = None,
    ) -> None:
        super().__init__()
        if rows is not None and rows < 1:
            msg = f"rows must be at least 1, got {rows}; leave it out to hold all rows at once"
            raise ValueError(msg)
        self.distance = distance
        self.pairing = pairing
        self.miner = miner
        self.rows = rows

    @abstractmethod
    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        references: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Mean loss of the batch against itself, or against references and their labels."""
        _check(embeddings, labels)
        if references is not None:
            _check(*references)
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.pairing(
                self._mined_terms,
                embeddings,
                labels,
                references=references,
                distance=self.distance,
                rows=self.rows,
            ).mean()

    def _mined_terms(self, pairs: Pairs) -> Terms:
        return self.terms(pairs if self.miner is None else self.miner(pairs))


def _check(embeddings: Tensor, labels: Tensor) -> None:
    if embeddings.ndim != 2:
        msg = f"embeddings must be one row a picture, got shape {tuple(embeddings.shape)}"
        raise ValueError(msg)
    if labels.shape != embeddings.shape[:1]:
        msg = (
            f"labels must have one entry for each embedding: got labels of shape "
            f"{tuple(labels.shape)} for embeddings of shape {tuple(embeddings.shape)}"
        )
        raise ValueError(msg)


@final
class ContrastiveLoss(PairLoss):
    """Pull positives together; push negatives until they are a margin apart.

    See :func:`siamlearn.functional.losses.contrastive`.

    Args:
        margin: the distance beyond which a negative pair is left alone.

    Example:
        >>> loss = ContrastiveLoss(margin=2.0)
        >>> loss(torch.tensor([[0.0], [0.5]]), torch.tensor([0, 1]))
        tensor(2.2500)
    """

    def __init__(
        self,
        margin: float = 1.0,
        *,
        distance: Distance = euclidean,
        pairing: Pairing = all_pairs,
        miner: Miner | None = None,
        rows: int | None = None,
    ) -> None:
        super().__init__(distance=distance, pairing=pairing, miner=miner, rows=rows)
        if not margin > 0:
            msg = f"margin must be above zero, got {margin}: negatives would never be pushed apart"
            raise ValueError(msg)
        self.margin = margin

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.contrastive(pairs, margin=self.margin)

    def extra_repr(self) -> str:
        """What ``repr`` shows."""
        return f"margin={self.margin}"


@final
class TripletLoss(PairLoss):
    """Push every negative of an anchor a margin farther away than every positive of it.

    See :func:`siamlearn.functional.losses.triplet`.

    Args:
        margin: how much farther a negative shall be than a positive.

    Example:
        >>> loss = TripletLoss(margin=0.5)
        >>> loss(torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 0, 1]))
        tensor(0.)
    """

    def __init__(
        self,
        margin: float = 0.2,
        *,
        distance: Distance = euclidean,
        pairing: Pairing = all_pairs,
        miner: Miner | None = None,
        rows: int | None = None,
    ) -> None:
        super().__init__(distance=distance, pairing=pairing, miner=miner, rows=rows)
        if not margin > 0:
            msg = f"margin must be above zero, got {margin}: negatives would never be pushed apart"
            raise ValueError(msg)
        self.margin = margin

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.triplet(pairs, margin=self.margin)

    def extra_repr(self) -> str:
        """What ``repr`` shows."""
        return f"margin={self.margin}"


@final
class InfoNCELoss(PairLoss):
    """Tell each positive from all negatives of its anchor.

    See :func:`siamlearn.functional.losses.info_nce`.

    Args:
        temperature: how much closer is close: distances are divided by it.

    Example:
        >>> loss = InfoNCELoss(temperature=1.0)
        >>> loss(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
        tensor(0.3133)
    """

    def __init__(
        self,
        temperature: float = 0.07,
        *,
        distance: Distance = cosine,
        pairing: Pairing = all_pairs,
        miner: Miner | None = None,
        rows: int | None = None,
    ) -> None:
        super().__init__(distance=distance, pairing=pairing, miner=miner, rows=rows)
        if not temperature > 0:
            msg = f"temperature must be above zero, got {temperature}; 0.05 to 0.5 is usual"
            raise ValueError(msg)
        self.temperature = temperature

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.info_nce(pairs, temperature=self.temperature)

    def extra_repr(self) -> str:
        """What ``repr`` shows."""
        return f"temperature={self.temperature}"


@final
class SupConLoss(PairLoss):
    """Tell each positive from all others of its anchor, positives too.

    See :func:`siamlearn.functional.losses.sup_con`.

    Args:
        temperature: how much closer is close: distances are divided by it.

    Example:
        >>> loss = SupConLoss(temperature=1.0)
        >>> loss(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
        tensor(0.3133)
    """

    def __init__(
        self,
        temperature: float = 0.07,
        *,
        distance: Distance = cosine,
        pairing: Pairing = all_pairs,
        miner: Miner | None = None,
        rows: int | None = None,
    ) -> None:
        super().__init__(distance=distance, pairing=pairing, miner=miner, rows=rows)
        if not temperature > 0:
            msg = f"temperature must be above zero, got {temperature}; 0.05 to 0.5 is usual"
            raise ValueError(msg)
        self.temperature = temperature

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.sup_con(pairs, temperature=self.temperature)

    def extra_repr(self) -> str:
        """What ``repr`` shows."""
        return f"temperature={self.temperature}"

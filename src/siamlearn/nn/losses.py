"""Losses as modules: a choice of pairs, of distance and of miner around a pure function."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from siamlearn.functional import losses
from siamlearn.functional.distances import cosine, euclidean
from siamlearn.functional.pairs import Distance, Pairing, Pairs, Terms, adjacent_pairs, all_pairs

__all__ = ["ContrastiveLoss", "InfoNCELoss", "Miner", "PairLoss", "SupConLoss", "TripletLoss"]

Miner = Callable[[Pairs], Pairs]


class PairLoss(nn.Module, ABC):
    """A loss over the pairs of a batch: which pairs, how far apart, and what is wanted of them.

    A new loss is a subclass that says what is wanted, in :meth:`terms`.

    Args:
        distance: how far apart two embeddings are.
        pairing: which pairs of the batch are compared: ``all_pairs``; ``adjacent_pairs`` for the
            batches of a ``PairSampler``; ``adjacent_triplets`` for those of a ``TripletSampler``.
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
        """Mean loss of the batch against itself, or against references and their labels.

        Args:
            embeddings: of shape (n, d). Half precision is computed in float32.
            labels: of shape (n,), whole numbers; equal where the identity is.
            references: embeddings (r, d) and their labels (r,) to compare the batch with.

        Raises:
            ValueError: where shapes or types do not fit.
        """
        batch = _checked(embeddings, labels)
        others = None if references is None else _checked(*references)
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.pairing(
                self._mined_terms,
                *batch,
                distance=self.distance,
                references=others,
                rows=self.rows,
            ).mean()

    def extra_repr(self) -> str:
        """The settings, as they stand in ``repr``."""
        settings = {
            name: getattr(value, "__name__", value)
            for name, value in vars(self).items()
            if name != "training" and not name.startswith("_") and value is not None
        }
        return ", ".join(f"{name}={value}" for name, value in settings.items())

    def _mined_terms(self, pairs: Pairs) -> Terms:
        return self.terms(pairs if self.miner is None else self.miner(pairs))


def _checked(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    if embeddings.ndim != 2 or not embeddings.is_floating_point():
        msg = (
            f"embeddings must be one row of floats a picture, got {embeddings.dtype} of shape "
            f"{tuple(embeddings.shape)}; flatten what a net gives to (pictures, dimensions)"
        )
        raise ValueError(msg)
    if labels.shape != embeddings.shape[:1]:
        msg = (
            f"labels must have one entry for each embedding: got labels of shape "
            f"{tuple(labels.shape)} for embeddings of shape {tuple(embeddings.shape)}"
        )
        raise ValueError(msg)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        msg = f"labels must be whole numbers that name identities, got {labels.dtype}"
        raise ValueError(msg)
    return embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), labels


def _above_zero(name: str, value: float, reason: str) -> float:
    if not 0 < value < math.inf:
        msg = f"{name} must be above zero and finite, got {value}: {reason}"
        raise ValueError(msg)
    return value


def _rivals(pairing: Pairing) -> Pairing:
    if pairing is adjacent_pairs:
        msg = (
            "this loss weighs pairs of one anchor against each other, but adjacent_pairs gives "
            "each a single pair, so that it would always be 0; use all_pairs or adjacent_triplets"
        )
        raise ValueError(msg)
    return pairing


@final
class ContrastiveLoss(PairLoss):
    """Pull positives together; push negatives until they are a margin apart.

    See :func:`siamlearn.functional.losses.contrastive`.

    Args:
        margin: the distance beyond which a negative pair is left alone.
        distance, pairing, miner, rows: see :class:`PairLoss`.

    Raises:
        ValueError: where the margin is not above zero.

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
        self.margin = _above_zero("margin", margin, "else nothing pushes negatives apart")

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.contrastive(pairs, margin=self.margin)


@final
class TripletLoss(PairLoss):
    """Push every negative of an anchor a margin farther away than every positive of it.

    See :func:`siamlearn.functional.losses.triplet`.

    Args:
        margin: how much farther a negative shall be than a positive.
        distance, pairing, miner, rows: see :class:`PairLoss`.

    Raises:
        ValueError: where the margin is not above zero, or the pairing leaves no triplets.

    Example:
        >>> loss = TripletLoss(margin=3.0)
        >>> loss(torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 0, 1]))
        tensor(1.5000)
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
        super().__init__(distance=distance, pairing=_rivals(pairing), miner=miner, rows=rows)
        self.margin = _above_zero("margin", margin, "else nothing pushes negatives apart")

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.triplet(pairs, margin=self.margin)


@final
class InfoNCELoss(PairLoss):
    """Tell each positive from all negatives of its anchor.

    See :func:`siamlearn.functional.losses.info_nce`.

    Args:
        temperature: distances are divided by it; a smaller one looks at nearer pairs.
        distance, pairing, miner, rows: see :class:`PairLoss`.

    Raises:
        ValueError: where the temperature is not above zero, or the pairing leaves no rivals.

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
        super().__init__(distance=distance, pairing=_rivals(pairing), miner=miner, rows=rows)
        self.temperature = _above_zero("temperature", temperature, "distances are divided by it")

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.info_nce(pairs, temperature=self.temperature)


@final
class SupConLoss(PairLoss):
    """Tell each positive from all others of its anchor, positives too.

    See :func:`siamlearn.functional.losses.sup_con`.

    Args:
        temperature: distances are divided by it; a smaller one looks at nearer pairs.
        distance, pairing, miner, rows: see :class:`PairLoss`.

    Raises:
        ValueError: where the temperature is not above zero, or the pairing leaves no rivals.

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
        super().__init__(distance=distance, pairing=_rivals(pairing), miner=miner, rows=rows)
        self.temperature = _above_zero("temperature", temperature, "distances are divided by it")

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.sup_con(pairs, temperature=self.temperature)

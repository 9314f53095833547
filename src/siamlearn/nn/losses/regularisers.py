"""Terms that are added to a loss (what they compute: ``functional.losses.regularisers``)."""

from abc import ABC, abstractmethod
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siamlearn.functional.distances import cosine
from siamlearn.functional.losses import regularisers
from siamlearn.functional.pairings import all_pairs
from siamlearn.functional.pairs import Terms
from siamlearn.nn.losses.checks import checked
from siamlearn.nn.losses.sums import Summand
from siamlearn.nn.ranks import Ranks
from siamlearn.nn.settings import above_zero, at_least_one
from siamlearn.ranks import alone

__all__ = ["CentreLoss", "EmbeddingNorm", "RegularFace", "Regulariser", "ZeroMean"]


class Regulariser(Summand, ABC):
    """A term of single embeddings, to be added to a loss: ``loss + 0.1 * EmbeddingNorm()``.

    A new one is a subclass that says what is wanted, in :meth:`terms`. As with losses, the batch
    is that of all ranks.

    Example:
        >>> class Large(Regulariser):
        ...     def terms(self, embeddings, labels):
        ...         return Terms(embeddings.amax(dim=1).sum(), torch.tensor(len(embeddings)))
        >>> Large()(torch.tensor([[1.0, 2.0], [4.0, 3.0]]))
        tensor(3.)
    """

    @abstractmethod
    def terms(self, embeddings: Tensor, labels: Tensor | None) -> Terms:
        """Sum and count over the embeddings of a batch."""

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        references: tuple[Tensor, Tensor] | None = None,
        *,
        same: Tensor | None = None,
    ) -> Tensor:
        """Mean over the batch. References and ``same`` are for the losses beside it.

        Args:
            embeddings: of shape (n, d). Half precision is computed in float32.
            labels: of shape (n,), for those that ask who is who.
        """
        if labels is not None:
            _, labels = checked(embeddings, labels)
        with torch.autocast(embeddings.device.type, enabled=False):
            terms = self.terms(embeddings, labels)
            return (terms if alone() else Ranks().sum(terms)).mean()


@final
class EmbeddingNorm(Regulariser):
    """The mean length of the embeddings, so that they do not grow without bound.

    See :func:`siamlearn.functional.losses.embedding_norm`.

    Args:
        order: p of the p-norm.
        power: the norm is raised to it.
        of: a parameter to take instead of the embeddings, such as the vectors of ``Proxies``.

    Raises:
        ValueError: where the order is not above zero, or the power is below one.

    Example:
        >>> EmbeddingNorm()(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
        tensor(3.)
    """

    def __init__(
        self, order: float = 2.0, power: float = 1.0, *, of: nn.Parameter | None = None
    ) -> None:
        super().__init__()
        self.order = above_zero("order", order, "it is the p of a p-norm")
        self.power = above_zero("power", power, "the norm is raised to it")
        if power < 1:
            msg = f"power must be at least 1, got {power}: below, the slope at zero is infinite"
            raise ValueError(msg)
        self.of = of

    def terms(self, embeddings: Tensor, labels: Tensor | None) -> Terms:
        """Sum and count over the embeddings of a batch."""
        vectors = embeddings if self.of is None else self.of
        return regularisers.embedding_norm(vectors, order=self.order, power=self.power)

    def extra_repr(self) -> str:
        """The settings, as they stand in ``repr``."""
        return f"order={self.order:g}, power={self.power:g}"


@final
class ZeroMean(Regulariser):
    """The mean size of the sum over the dimensions of an embedding.

    See :func:`siamlearn.functional.losses.zero_mean`.

    Example:
        >>> from siamlearn.functional.distances import signal_to_noise
        >>> from siamlearn.nn.losses import ContrastiveLoss
        >>> loss = ContrastiveLoss(distance=signal_to_noise) + 0.01 * ZeroMean()
        >>> ZeroMean()(torch.tensor([[1.0, -1.0], [2.0, 1.0]]))
        tensor(1.5000)
    """

    def terms(self, embeddings: Tensor, labels: Tensor | None) -> Terms:
        """Sum and count over the embeddings of a batch."""
        return regularisers.zero_mean(embeddings)


@final
class CentreLoss(Regulariser):
    """Draw every embedding to the centre of its identity, which is learned.

    See :func:`siamlearn.functional.losses.centre_distance`. The centres are the
    parameter ``centres``, one row an identity, and learn by their gradient as all parameters do;
    the paper moves them by a rule and a rate of their own (eq. 4).

    Args:
        classes: how many identities there are; labels are 0, 1, ... up to it.
        dimensions: of the embeddings.
        seed: of the first centres; the global generators are left alone.

    Raises:
        ValueError: where a number is less than one, labels are missing, or one is not a class.

    Example:
        >>> loss = CentreLoss(classes=2, dimensions=3)
        >>> loss(loss.centres[[1, 0]], torch.tensor([1, 0])).item()
        0.0
    """

    def __init__(self, classes: int, dimensions: int, *, seed: int = 0) -> None:
        super().__init__()
        self.classes = at_least_one("classes", classes, "each has a centre")
        self.dimensions = at_least_one("dimensions", dimensions, "of the embeddings")
        generator = torch.Generator().manual_seed(seed)
        self.centres = nn.Parameter(torch.randn(classes, dimensions, generator=generator))

    def terms(self, embeddings: Tensor, labels: Tensor | None) -> Terms:
        """Sum and count over the embeddings of a batch."""
        return regularisers.centre_distance(embeddings, row_of_each(self.centres, labels))

    def extra_repr(self) -> str:
        """The settings, as they stand in ``repr``."""
        return f"classes={self.classes}, dimensions={self.dimensions}"


@final
class RegularFace(Regulariser):
    """Spread proxies: each is pushed from the nearest one of another identity.

    See :func:`siamlearn.functional.losses.nearest_rival`. It costs the square of the
    number of proxies in time, but not in memory.

    Args:
        vectors: the parameter that holds the proxies, one row each, such as ``proxies.vectors``;
            it is shared, not copied.
        centres: how many rows in turn belong to one identity.
        rows: how many rows of pairs to hold in memory at once; as many as fit the cache if left
            out.

    Raises:
        ValueError: where the rows cannot be cut into identities of that many.

    Example:
        >>> proxies = nn.Parameter(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
        >>> RegularFace(proxies)(torch.zeros(0, 2)).item()
        0.0
    """

    def __init__(self, vectors: nn.Parameter, *, centres: int = 1, rows: int | None = None) -> None:
        super().__init__()
        if len(vectors) % at_least_one("centres", centres, "of each identity"):
            msg = f"{len(vectors)} vectors cannot be cut into identities of {centres} centres each"
            raise ValueError(msg)
        self.vectors = vectors
        self.centres = centres
        self.rows = rows

    def terms(self, embeddings: Tensor, labels: Tensor | None) -> Terms:
        """Sum and count over the proxies; the batch plays no part."""
        names = torch.arange(len(self.vectors), device=self.vectors.device) // self.centres
        return all_pairs(
            regularisers.nearest_rival, self.vectors, names, distance=cosine, rows=self.rows
        )

    def extra_repr(self) -> str:
        """The settings, as they stand in ``repr``."""
        return f"vectors of shape {tuple(self.vectors.shape)}, centres={self.centres}"


def row_of_each(learned: Tensor, labels: Tensor | None) -> Tensor:
    """What is learned of each identity, for every label of a batch.

    Raises:
        ValueError: where labels are missing, several a picture, or not from 0 to the last row.

    Example:
        >>> row_of_each(torch.tensor([0.5, 1.5]), torch.tensor([1, 1, 0], dtype=torch.uint8))
        tensor([1.5000, 1.5000, 0.5000])
    """
    if labels is None or labels.ndim != 1:
        shape = None if labels is None else tuple(labels.shape)
        msg = (
            f"labels must be one identity a picture, to look up what is learned of it; got {shape}"
        )
        raise ValueError(msg)
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():
        # On other devices this would be waiting.
        strange = labels[(labels < 0) | (labels >= len(learned))]
        if len(strange):
            msg = (
                f"labels must be from 0 to {len(learned) - 1}, one for each of the classes, got "
                f"{strange[0].item()}; number the identities anew, for "
                "all pictures at once: labels.unique(return_inverse=True)[1]"
            )
            raise ValueError(msg)
    # Rows of a matrix, since plain indexing would take labels of uint8 for a mask.
    rows = F.embedding(labels.long(), learned.reshape(len(learned), -1))
    return rows.reshape(len(labels), *learned.shape[1:])

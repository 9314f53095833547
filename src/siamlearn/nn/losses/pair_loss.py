"""The shell around every loss of pairs: which pairs, how far apart, and what is added up."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, TypedDict

import torch
from torch import Tensor

from siamlearn.functional.distances import euclidean
from siamlearn.functional.pairings import Pairing, References, adjacent_pairs, all_pairs, itself
from siamlearn.functional.pairs import Distance, Pairs, Terms
from siamlearn.nn.losses.checks import check_callable, checked_batch, shown
from siamlearn.nn.losses.sums import Summand
from siamlearn.nn.ranks import Ranks
from siamlearn.nn.settings import at_least_one
from siamlearn.ranks import alone

__all__ = ["Choices", "Miner", "PairLoss"]

Miner = Callable[[Pairs], Pairs]
"""From a block of pairs to those that count, or to the same with other distances: a margin."""


class Choices(TypedDict, total=False):
    """What every loss lets one choose; see :class:`PairLoss`.

    Example:
        >>> from siamlearn.nn.losses import ContrastiveLoss
        >>> choices: Choices = {"rows": 64}
        >>> ContrastiveLoss(**choices).rows
        64
    """

    distance: Distance
    pairing: Pairing
    miner: Miner | None
    references: Callable[[Tensor, Tensor], References] | None
    rows: int | None


class PairLoss(Summand, ABC):
    """A loss over the pairs of a batch: which pairs, how far apart, and what is wanted of them.

    A new loss is a subclass that says what is wanted, in :meth:`terms`. Losses may be added and
    multiplied: ``ContrastiveLoss() + 0.5 * TripletLoss()`` is a loss too.

    Args:
        usual: the distance where none is chosen.
        distance: how far apart two embeddings are.
        pairing: which pairs of the batch are compared: ``all_pairs``; ``adjacent_pairs`` for the
            batches of a ``PairSampler``; ``adjacent_triplets`` for those of a ``TripletSampler``;
            ``two_towers`` where the halves of the batch are of two kinds.
        miner: which of these pairs count, or a margin; all of them as they are if left out.
        references: what the batch is compared with instead of itself, such as ``Proxies`` or a
            ``Memory``: called with the batch and its labels.
        rows: how many rows of pairs to hold in memory at once; as many as fit the cache if left
            out.

    Raises:
        ValueError: where ``rows`` is less than one, or the pairing leaves nothing to compare.

    Example:
        >>> class Closer(PairLoss):
        ...     def terms(self, pairs):
        ...         near = torch.where(pairs.positive, pairs.distance, 0)
        ...         return Terms(near.sum(), pairs.positive.sum())
        >>> Closer(distance=euclidean)(torch.tensor([[0.0], [2.0]]), torch.tensor([7, 7]))
        tensor(2.)
    """

    symmetric: ClassVar[bool] = False
    """Each pair is treated on its own, (i, j) as (j, i), so that one of them need be looked at."""

    needs_rivals: ClassVar[bool] = False
    """Pairs of one anchor are weighed against each other, so that a single one says nothing."""

    needs_own_references: ClassVar[bool] = False
    """References that are given with a call are refused, and not taken instead of its own."""

    def __init__(
        self,
        usual: Distance = euclidean,
        /,
        *,
        distance: Distance | None = None,
        pairing: Pairing = all_pairs,
        miner: Miner | None = None,
        references: Callable[[Tensor, Tensor], References] | None = None,
        rows: int | None = None,
    ) -> None:
        super().__init__()
        if rows is not None:
            at_least_one("rows", rows, "leave it out to let the cache decide")
        if self.needs_rivals and pairing is adjacent_pairs:
            msg = (
                "this loss weighs pairs of one anchor against each other, but adjacent_pairs gives "
                "each a single pair, so that it would always be 0; use all_pairs or "
                "adjacent_triplets"
            )
            raise ValueError(msg)
        self.distance = distance or usual
        check_callable(distance=self.distance, pairing=pairing, miner=miner, references=references)
        self.pairing = pairing
        self.miner = miner
        self.references = references
        self.rows = rows

    @abstractmethod
    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        references: tuple[Tensor, Tensor] | None = None,
        *,
        same: Tensor | None = None,
    ) -> Tensor:
        """Mean loss of the batch against itself, or against references and their labels.

        On one rank of several, the batch is that of all ranks; what becomes of the gradient says
        :class:`~siamlearn.nn.ranks.Ranks`. References that are given are this rank's alone.

        Args:
            embeddings: of shape (n, d). Half precision is computed in float32.
            labels: of shape (n,), whole numbers, equal where the identity is; or of shape (n, k),
                true where a picture shows identity k: pictures that share one are positives.
            references: embeddings (r, d) and their labels (r,) to compare the batch with. Where
                they are the same tensor as the batch, no picture meets itself.
            same: instead of labels, the answer itself: of shape (n, n), or (n, r) beside
                references; true where a pair is positive, and negative elsewhere.

        Raises:
            ValueError: where shapes or types do not fit, or ``same`` is given on several ranks.
        """
        batch, others = checked_batch(embeddings, labels, references, same)
        given = same is not None or (references is not None and self.needs_own_references)
        if given and self.references not in (None, itself):
            msg = (
                "this loss compares with references of its own, proxies or a memory, of which "
                f"{'same=' if same is not None else 'references='} says nothing; give labels alone"
            )
            raise ValueError(msg)
        ranks = None if alone() else Ranks()
        if ranks and same is not None:
            msg = "same= says nothing of the pairs between ranks; give labels to train on several"
            raise ValueError(msg)
        if others is None and self.references is not None:
            others = self._references_of(batch, ranks)
        with torch.autocast(embeddings.device.type, enabled=False):
            terms = self.pairing(
                self._mined_terms,
                *batch,
                distance=self.distance,
                references=others,
                rows=self.rows,
                symmetric=self.symmetric and self.miner is None,
                gather=ranks or itself,
            )
            return (ranks.sum(terms) if ranks else terms).mean()

    def extra_repr(self) -> str:
        """The settings, as they stand in ``repr``."""
        settings = {
            name: shown(value)
            for name, value in vars(self).items()
            if name != "training" and not name.startswith("_") and value is not None
        }
        # What is a module of its own stands in the repr already.
        own = getattr(self.references, "__self__", None) is self
        return ", ".join(
            f"{name}={value}"
            for name, value in settings.items()
            if not (own and name == "references")
        )

    def _references_of(self, batch: tuple[Tensor, Tensor], ranks: Ranks | None) -> References:
        assert self.references is not None
        if ranks is None:
            return self.references(*batch)
        # All ranks are to remember the same, in the same order.
        everyone, names, mine = ranks(*batch)
        assert names is not None
        found = self.references(everyone, names)
        return found if found.own is None else found._replace(own=found.own[mine])

    def _mined_terms(self, pairs: Pairs) -> Terms:
        mined = pairs if self.miner is None else self.miner(pairs)
        if not isinstance(mined, Pairs):
            msg = f"a miner must return Pairs, got {type(mined).__name__}; see Pairs.keep"
            raise TypeError(msg)
        terms = self.terms(mined)
        # The slope is by the distances that a margin has moved, not by those that came in.
        same = mined.distance is pairs.distance
        return terms if same else Terms(terms.total, terms.count)

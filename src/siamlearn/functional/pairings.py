"""Which pairs of a batch a loss is taken over.

Axes: n pictures of a batch, r references, d embedding dimensions, k identities of one picture.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from siamlearn.functional.blocks import accumulate
from siamlearn.functional.pairs import Distance, Pairs, Terms, adjacent

__all__ = [
    "Gather",
    "Pairing",
    "References",
    "adjacent_pairs",
    "adjacent_triplets",
    "all_pairs",
    "anchor_swap",
    "itself",
    "references_first",
    "two_towers",
]


class References(NamedTuple):
    """What a batch is compared with.

    Attributes:
        embeddings: of shape (r, d).
        labels: who they are; None where the labels of the batch are the (n, r) answer themselves.
        own: for each of the batch, where it stands among the references itself, if it does.

    Example:
        >>> References(torch.zeros(2, 3), torch.tensor([7, 8])).own is None
        True
    """

    embeddings: Tensor
    labels: Tensor | None
    own: Tensor | None = None


Gather = Callable[[Tensor, Tensor], References]
"""From a batch and its labels to all that is to be compared with them: itself, or all ranks."""


def itself(embeddings: Float[Tensor, "n d"], labels: Shaped[Tensor, "n *k"]) -> References:
    """A batch as its own references.

    Example:
        >>> itself(torch.zeros(2, 3), torch.tensor([7, 8])).own
        tensor([0, 1])
    """
    return References(embeddings, labels, torch.arange(len(labels), device=labels.device))


class Pairing(Protocol):
    """Which pairs of a batch a loss is taken over: the signature of the functions below.

    Example:
        >>> def first_beside_others(terms, x, y, *, distance, **how):
        ...     return accumulate(terms, x[:1], y[:1], x[1:], y[1:], distance=distance)
    """

    def __call__(
        self,
        terms: Callable[[Pairs], Terms],
        embeddings: Tensor,
        labels: Tensor,
        *,
        distance: Distance,
        references: References | None = None,
        rows: int | None = None,
        symmetric: bool = False,
        gather: Gather = itself,
    ) -> Terms:
        """The loss over the pairs that this chooses.

        Args:
            references: what to compare with instead of the batch.
            rows, symmetric: see :func:`~siamlearn.functional.blocks.accumulate`.
            gather: what a batch, or a part of it, has beside itself on other ranks.
        """


def all_pairs(
    terms: Callable[[Pairs], Terms],
    embeddings: Float[Tensor, "n d"],
    labels: Shaped[Tensor, "n *k"],
    *,
    distance: Distance,
    references: References | None = None,
    rows: int | None = None,
    symmetric: bool = False,
    gather: Gather = itself,
) -> Terms:
    """Every embedding beside every other of the batch, or beside the references if given.

    Example:
        >>> x, y = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([7, 7, 8])
        >>> sum_of_positives = lambda pairs: Terms(
        ...     pairs.distance[pairs.positive].sum(), pairs.positive.sum()
        ... )
        >>> all_pairs(sum_of_positives, x, y, distance=torch.cdist)
        Terms(total=tensor(2.), count=tensor(2), slope=None, slopes=None)
    """
    others, names, own = references or gather(embeddings, labels)
    return accumulate(
        terms,
        embeddings,
        labels,
        others,
        names,
        distance=distance,
        own=own,
        rows=rows,
        symmetric=symmetric,
    )


def two_towers(
    terms: Callable[[Pairs], Terms],
    embeddings: Float[Tensor, "n d"],
    labels: Shaped[Tensor, "n *k"],
    *,
    distance: Distance,
    references: References | None = None,
    rows: int | None = None,
    symmetric: bool = False,
    gather: Gather = itself,
) -> Terms:
    """The first half of a batch beside the second, and the second beside the first.

    The halves are of two kinds, such as pictures and their captions, or two views of the same
    pictures, and nothing is compared with its own kind. Where labels are the (n, n) answer itself,
    what it says of one half beside the other is read.

    Raises:
        ValueError: where the batch is odd, or other references are given.

    Example:
        >>> x, y = torch.tensor([[0.0], [1.0], [3.0], [1.0]]), torch.tensor([7, 8, 7, 8])
        >>> everything = lambda pairs: Terms(pairs.distance.sum(), pairs.positive.sum())
        >>> two_towers(everything, x, y, distance=torch.cdist)
        Terms(total=tensor(12.), count=tensor(4), slope=None, slopes=None)
    """
    told = _is_answer(embeddings, references)
    if not told:
        _refuse(references, "two_towers")
    half = len(embeddings) // 2
    if len(embeddings) % 2:
        msg = (
            f"two_towers needs a batch of two equal halves, got {len(embeddings)} rows; let the "
            "sampler keep each tower whole"
        )
        raise ValueError(msg)
    left, right = slice(None, half), slice(half, None)

    def beside(here: slice, there: slice) -> Terms:
        others: tuple[Tensor, Tensor | None] = embeddings[there], None
        if not told:
            others = gather(embeddings[there], labels[there])[:2]
        names = labels[here, there] if told else labels[here]
        return accumulate(terms, embeddings[here], names, *others, distance=distance, rows=rows)

    return beside(left, right) + beside(right, left)


def adjacent_pairs(
    terms: Callable[[Pairs], Terms],
    embeddings: Float[Tensor, "n d"],
    labels: Shaped[Tensor, "n *k"],
    *,
    distance: Distance,
    references: References | None = None,
    rows: int | None = None,
    symmetric: bool = False,
    gather: Gather = itself,
) -> Terms:
    """Row i of the first half of a batch beside row i of the second half, and no other.

    This is the batch that a ``PairSampler`` draws. There are so few pairs that ``rows`` is not
    needed.

    Raises:
        ValueError: where the batch is odd, or references are given.

    Example:
        >>> x, y = torch.tensor([[0.0], [1.0], [3.0], [1.0]]), torch.tensor([7, 7, 7, 8])
        >>> everything = lambda pairs: Terms(pairs.distance.sum(), pairs.positive.sum())
        >>> adjacent_pairs(everything, x, y, distance=torch.cdist)
        Terms(total=tensor(3.), count=tensor(1), slope=None, slopes=None)
    """
    _refuse(references, "adjacent_pairs")
    return terms(adjacent(embeddings, labels, distance=distance))


def adjacent_triplets(
    terms: Callable[[Pairs], Terms],
    embeddings: Float[Tensor, "n d"],
    labels: Shaped[Tensor, "n *k"],
    *,
    distance: Distance,
    references: References | None = None,
    rows: int | None = None,
    symmetric: bool = False,
    gather: Gather = itself,
) -> Terms:
    """Row i of the first third of a batch beside row i of the second and of the last third.

    This is the batch that a ``TripletSampler`` draws: anchors, their positives, their negatives.

    Raises:
        ValueError: where the batch has no whole thirds, or references are given.

    Example:
        >>> x, y = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([7, 7, 8])
        >>> everything = lambda pairs: Terms(pairs.distance.sum(), pairs.positive.sum())
        >>> adjacent_triplets(everything, x, y, distance=torch.cdist)
        Terms(total=tensor(4.), count=tensor(1), slope=None, slopes=None)
    """
    _refuse(references, "adjacent_triplets")
    return terms(adjacent(embeddings, labels, distance=distance, parts=3))


def anchor_swap(
    terms: Callable[[Pairs], Terms],
    embeddings: Float[Tensor, "n d"],
    labels: Shaped[Tensor, "n *k"],
    *,
    distance: Distance,
    references: References | None = None,
    rows: int | None = None,
    symmetric: bool = False,
    gather: Gather = itself,
) -> Terms:
    """Adjacent triplets in which the negative is as far as from the nearer of the other two.

    As :func:`adjacent_triplets`; but where the negative is nearer to the positive than to the
    anchor, that is its distance. Only given triplets can be swapped: of all triplets of a batch,
    the distance of positive and negative stands in the positive's row, and the loss treats each
    row on its own. There the positive is an anchor too, so that its row pushes the same negative
    away.

    When: triplets are drawn by a ``TripletSampler``, and negatives are few.

    Raises:
        ValueError: where the batch has no whole thirds, or references are given.

    Example:
        >>> x, y = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([7, 7, 8])
        >>> everything = lambda pairs: Terms(pairs.distance.sum(), pairs.positive.sum())
        >>> anchor_swap(everything, x, y, distance=torch.cdist)
        Terms(total=tensor(3.), count=tensor(1), slope=None, slopes=None)

    Source:
        Balntas, Riba, Ponsa, Mikolajczyk: Learning local feature descriptors with triplets and
        shallow convolutional neural networks, BMVC 2016, sec. 3.3, in-triplet hard negative
        mining with anchor swap.
    """
    _refuse(references, "anchor_swap")
    pairs = adjacent(embeddings, labels, distance=distance, parts=3)
    third = len(pairs.distance)
    others = adjacent(embeddings[third:], labels[third:], distance=distance)
    near, far = pairs.distance[:, :1], pairs.distance[:, 1:]
    swappable = pairs.positive[:, :1] & pairs.negative[:, 1:] & others.negative
    far = torch.where(swappable, torch.minimum(far, others.distance), far)
    return terms(replace(pairs, distance=torch.cat([near, far], dim=1)))


def references_first(
    terms: Callable[[Pairs], Terms],
    embeddings: Float[Tensor, "n d"],
    labels: Shaped[Tensor, "n *k"],
    *,
    distance: Distance,
    references: References | None = None,
    rows: int | None = None,
    symmetric: bool = False,
    gather: Gather = itself,
) -> Terms:
    """Every reference beside every embedding of the batch: the references are the queries.

    Raises:
        ValueError: where there are no references.

    Example:
        >>> x, y = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([7, 7, 8])
        >>> proxies = References(torch.tensor([[0.0]]), torch.tensor([7]))
        >>> farthest = lambda pairs: Terms(pairs.distance.amax(dim=1).sum(), torch.tensor(1))
        >>> references_first(farthest, x, y, distance=torch.cdist, references=proxies).mean()
        tensor(3.)
    """
    if references is None or references.labels is None:
        msg = (
            "references_first needs references with labels, such as references=Proxies(...), got "
            "none"
        )
        raise ValueError(msg)
    everyone, names, _ = gather(embeddings, labels)
    queries = references.embeddings, references.labels
    return accumulate(terms, *queries, everyone, names, distance=distance, rows=rows)


def _is_answer(embeddings: Tensor, references: References | None) -> bool:
    """Whether the labels of the batch are the answer for all of its own pairs."""
    return (
        references is not None and references.labels is None and references.embeddings is embeddings
    )


def _refuse(references: References | None, pairing: str) -> None:
    if references is None:
        return
    msg = f"{pairing} compares the batch with itself, got references; use pairing=all_pairs"
    if references.labels is None:
        msg = f"{pairing} needs labels, got same=; give labels, or use pairing=all_pairs"
    raise ValueError(msg)

"""The pairs that are told wrongly first: which pictures they are.

Axes: q probes, r references, k pairs kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from siamlearn.comparison import Strip, strips
from siamlearn.embeddings import Embeddings
from siamlearn.evaluation.reports import require_reports

if TYPE_CHECKING:
    from siamlearn.evaluation import Report

__all__ = ["Pair", "WorstPairs", "worst_pairs"]


@final
@dataclass(frozen=True)
class Pair:
    """Two pictures and how far apart they are.

    Args:
        probe: place of the one among the report's embeddings.
        reference: place of the other among its gallery or, without one, its embeddings.
        distance: between the two.

    Example:
        >>> Pair(0, 3, 0.5).distance
        0.5
    """

    probe: int
    reference: int
    distance: float


@final
@dataclass(frozen=True, eq=False)
class WorstPairs:
    """The pairs that are told wrongly first, worst first.

    Args:
        genuine: of one person, and farthest apart.
        impostor: of two people, and nearest.
        probes: what ``Pair.probe`` is a place in.
        references: what ``Pair.reference`` is a place in.

    Example:
        >>> two = Embeddings(torch.eye(2), torch.tensor([0, 1]), ("anna", "bob"), ("1", "2"))
        >>> found = WorstPairs((), (Pair(0, 1, 1.4),), two, two)
        >>> found.references.names[found.impostor[0].reference]
        '2'
    """

    genuine: tuple[Pair, ...]
    impostor: tuple[Pair, ...]
    probes: Embeddings
    references: Embeddings


def worst_pairs(report: Report, count: int = 12) -> WorstPairs:
    """The genuine pairs farthest apart and the impostor pairs nearest to each other.

    Look at them before anything else: often it is a wrong label, or one bad picture.

    Args:
        count: how many of each kind; of equally bad ones, those that come first.

    Raises:
        ValueError: no pair is asked for.

    Example:
        >>> import siamlearn as sl
        >>> line, labels = torch.tensor([[0.0], [1.0], [4.0], [7.0]]), torch.tensor([0, 0, 1, 1])
        >>> found = Embeddings(line, labels, ("anna", "bob"), ("1", "2", "3", "4"))
        >>> worst = worst_pairs(sl.evaluate(found), count=1)
        >>> worst.genuine, worst.impostor
        ((Pair(probe=2, reference=3, distance=3.0),), (Pair(probe=1, reference=2, distance=3.0),))
    """
    require_reports(report)
    if count < 1:
        msg = f"count must be at least 1 pair of each kind, got {count}"
        raise ValueError(msg)
    genuine = impostor = torch.empty(0, 3, dtype=torch.float64)
    for strip in strips(report.embeddings, report.gallery):
        genuine = _lowest(genuine, strip, strip.same & strip.once, -1, count)
        impostor = _lowest(impostor, strip, ~strip.same & strip.once, 1, count)
    return WorstPairs(
        tuple(Pair(int(q), int(r), -distance) for distance, q, r in genuine.tolist()),
        tuple(Pair(int(q), int(r), distance) for distance, q, r in impostor.tolist()),
        report.embeddings,
        report.embeddings if report.gallery is None else report.gallery,
    )


def _lowest(
    kept: Float[Tensor, "k 3"], strip: Strip, chosen: Bool[Tensor, "q r"], sign: int, count: int
) -> Float[Tensor, "k 3"]:
    """The lowest keys (distance, probe, reference) of those kept and those of a strip."""
    distance = sign * strip.distance
    if len(kept) == count:  # whoever comes later must be lower
        chosen = chosen & (distance < kept[-1, 0])
    row, column = chosen.nonzero().T
    key = distance[row, column].double()
    if len(key) > count:
        # Of all that are equal to the last, topk takes any; a result is to be the same everywhere.
        limit = key.topk(count, largest=False).values[-1]
        nearer, level = (key < limit).nonzero()[:, 0], (key == limit).nonzero()[:count, 0]
        place = torch.cat([nearer, level])
        key, row, column = key[place], row[place], column[place]
    both = torch.cat([kept, torch.stack([key, row + strip.rows.start, column], dim=1)])
    return both[both[:, 0].argsort(stable=True)[:count]]

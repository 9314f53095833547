"""Verification on a published list of pairs, fold by fold, as for Labeled Faces in the Wild.

On each fold the threshold is that which the other folds would choose: accuracy is always that of
pairs which had no say in it.

Axes: p pairs, k folds, b resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from siamlearn.comparison import Protocol
from siamlearn.data.pair_lists import PairList
from siamlearn.embeddings import Embeddings
from siamlearn.estimates import Estimate
from siamlearn.functional.accepted import Accepted, accepted
from siamlearn.functional.intervals import interval
from siamlearn.functional.resampling import draws, grid
from siamlearn.functional.verification import resolves

__all__ = ["FoldReport", "evaluate_folds"]


@final
@dataclass(frozen=True, eq=False)
class FoldReport:
    """What came out on a list of pairs, fold by fold.

    Args:
        name: which system this is.
        protocol: name and hash of the list.
        genuine: pairs of pictures of one person.
        impostor: pairs of two.
        accuracy: mean over the folds of the share of pairs told right, at the threshold that the
            other folds chose.
        standard_error: of that mean: the deviation of the folds, divided by the root of their
            number.
        accuracies: of each fold.
        thresholds: of each fold, chosen on the others.
        auc: chance that a genuine pair is closer than an impostor pair; of all pairs.
        eer: the rate at which FMR and FNMR are equal; of all pairs.
        fnmr_at: for each FMR the FNMR; None where the impostor pairs are too few to tell.
        notes: what to know before one quotes it.
        accepted: how many pairs are accepted at each threshold.

    Example:
        >>> embeddings, pairs = _example()
        >>> print(str(evaluate_folds(embeddings, pairs)).splitlines()[0])
        net on drawn (149f65d8): accuracy 1.0000 ± 0.0000 over 2 folds
    """

    name: str
    protocol: Protocol
    genuine: int
    impostor: int
    accuracy: Estimate
    standard_error: float
    accuracies: tuple[float, ...]
    thresholds: tuple[float, ...]
    auc: Estimate
    eer: Estimate
    fnmr_at: dict[float, Estimate | None]
    notes: tuple[str, ...]
    accepted: Accepted

    def __str__(self) -> str:
        rows = [
            ("accuracy", str(self.accuracy)),
            ("AUC", str(self.auc)),
            ("EER", self.eer.percent()),
            *(
                (f"FNMR at FMR {100 * fmr:g} %", "too few pairs" if e is None else e.percent())
                for fmr, e in self.fnmr_at.items()
            ),
        ]
        folds = zip(self.accuracies, self.thresholds, strict=True)
        return "\n".join(
            [
                f"{self.name} on {self.protocol}: accuracy {float(self.accuracy):.4f} ± "
                f"{self.standard_error:.4f} over {len(self.accuracies)} folds",
                f"{self.genuine:,} genuine and {self.impostor:,} impostor pairs; folds drawn anew",
                "",
                *(f"{what:<20}{value}" for what, value in rows),
                "",
                "fold  accuracy  threshold of the others",
                *(f"{k:4}  {share:8.4f}  {at:.4g}" for k, (share, at) in enumerate(folds, 1)),
                *("", *self.notes)[: len(self.notes) and None],
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and dictionaries, ready for JSON."""
        fnmr = {f"{fmr:g}": None if e is None else e.to_dict() for fmr, e in self.fnmr_at.items()}
        return {
            "name": self.name,
            "protocol": {"name": self.protocol.name, "digest": self.protocol.digest},
            "genuine": self.genuine,
            "impostor": self.impostor,
            "accuracy": self.accuracy.to_dict(),
            "standard_error": self.standard_error,
            "accuracies": list(self.accuracies),
            "thresholds": list(self.thresholds),
            "auc": self.auc.to_dict(),
            "eer": self.eer.to_dict(),
            "fnmr_at": fnmr,
            "notes": list(self.notes),
        }


def evaluate_folds(
    embeddings: Embeddings,
    pairs: PairList,
    *,
    fmrs: Sequence[float] = (0.1, 0.01, 0.001),
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    name: str = "net",
) -> FoldReport:
    """Tell how well embeddings tell the pairs of a list apart, as results on LFW are quoted.

    Each fold is judged at the threshold that is most accurate on all the others. Mean and
    standard error are those of the published tables; the intervals draw folds anew, and are never
    a point, not even where all is told right.

    Args:
        embeddings: of the pictures that the list was read for.
        pairs: see :func:`~siamlearn.data.pair_lists.read_pairs`.
        fmrs: false match rates at which the false non-match rate is reported.
        resamples: how often folds are drawn anew for the intervals.
        level: how often an interval is to hold the true value.
        seed: of these draws.
        name: what to call the system.

    Raises:
        ValueError: the list is of other pictures, has one fold, or pairs of one kind only.

    Example:
        >>> embeddings, pairs = _example()
        >>> report = evaluate_folds(embeddings, pairs)
        >>> report.accuracies, float(report.auc)
        ((1.0, 1.0), 1.0)

    Source:
        Huang, Ramesh, Berg, Learned-Miller: Labeled Faces in the Wild, University of
        Massachusetts, Amherst, Technical Report 07-49, 2007, sec. 4: view 2, estimated mean
        accuracy and standard error of the mean.
    """
    distance = _distances(embeddings, pairs)
    folds = [pairs.fold == fold for fold in sorted(set(pairs.fold.tolist()))]
    judged = [_judged(distance, pairs.same, fold) for fold in folds]
    shares = torch.tensor([share for share, _ in judged], dtype=torch.float64)
    seen = accepted(distance[pairs.same], distance[~pairs.same])
    weights = draws(len(folds), resamples, seed)
    drawn = _by_folds(seen, distance, pairs, folds, weights)

    def estimate(value: Tensor, resampled: Tensor, trials: int) -> Estimate:
        low, high = interval(value, resampled, units=len(folds), trials=trials, level=level)
        return Estimate(float(value), float(low), float(high), level)

    def read(statistic: Callable[[Accepted], Tensor], trials: int) -> Estimate:
        return estimate(statistic(seen), statistic(drawn), trials)

    def fnmr_at(fmr: float) -> Estimate:
        return read(lambda counts: counts.fnmr_at(fmr), seen.pairs[0])

    genuine, impostor = seen.pairs
    drawn_shares = (weights.double() @ shares) / weights.sum(dim=1)
    return FoldReport(
        name=name,
        protocol=Protocol(pairs.name, pairs.digest),
        genuine=genuine,
        impostor=impostor,
        accuracy=estimate(shares.mean(), drawn_shares, len(pairs)),
        standard_error=float(shares.std()) / math.sqrt(len(folds)),
        accuracies=tuple(shares.tolist()),
        thresholds=tuple(threshold for _, threshold in judged),
        auc=read(Accepted.auc, len(pairs)),
        eer=read(lambda counts: counts.eer()[0], len(pairs)),
        fnmr_at={fmr: fnmr_at(fmr) if resolves(fmr, impostor) else None for fmr in fmrs},
        notes=tuple(_notes(embeddings, pairs, folds)),
        accepted=seen,
    )


def _distances(embeddings: Embeddings, pairs: PairList) -> Float[Tensor, " p"]:
    if not isinstance(pairs, PairList):
        msg = (
            f"the folds are those of a PairList, as read_pairs(file, images) returns it, got "
            f"{type(pairs).__name__}"
        )
        raise TypeError(msg)
    if embeddings.names != pairs.names:
        msg = (
            f"a list must have been read for the pictures that are embedded, but {pairs} was read "
            f"for {len(pairs.names):,} others than these {len(embeddings):,}; read it with "
            f"read_pairs(file, embeddings)"
        )
        raise ValueError(msg)
    genuine = int(pairs.same.sum())
    if not 0 < genuine < len(pairs):
        msg = (
            f"error rates need pairs of one person and of two, got {genuine:,} genuine and "
            f"{len(pairs) - genuine:,} impostor pairs in {pairs.name}"
        )
        raise ValueError(msg)
    if pairs.folds < 2:
        msg = (
            f"the threshold for a fold is chosen on the others, but {pairs.name} has one fold; add "
            f"a column fold, or use evaluate and an OperatingPoint of other people"
        )
        raise ValueError(msg)
    left, right = (embeddings.vectors[side][:, None] for side in (pairs.left, pairs.right))
    # As many blocks of one pair each.
    return embeddings.distance(left, right).flatten()


def _judged(distance: Float[Tensor, " p"], same: Tensor, fold: Tensor) -> tuple[float, float]:
    """Accuracy on a fold, and the threshold that the other folds chose for it."""
    others = accepted(distance[~fold & same], distance[~fold & ~same])
    threshold = others.best_accuracy()[1]
    right = (distance[fold] <= threshold) == same[fold]
    return float(right.double().mean()), float(threshold)


def _by_folds(
    seen: Accepted,
    distance: Float[Tensor, " p"],
    pairs: PairList,
    folds: Sequence[Tensor],
    weights: Float[Tensor, "b k"],
) -> Accepted:
    """The counts if folds were drawn anew, at every distance or, where they are many, at some."""
    threshold = grid(seen)

    def counts(same: Tensor) -> Tensor:
        kinds = [distance[fold & same].double().sort().values for fold in folds]
        each = [torch.searchsorted(kind, threshold, right=True) for kind in kinds]
        return weights.double() @ torch.stack(each).double()

    return Accepted(threshold, counts(pairs.same), counts(~pairs.same))


def _notes(embeddings: Embeddings, pairs: PairList, folds: Sequence[Tensor]) -> list[str]:
    notes = []
    kinds = {(int((fold & pairs.same).sum()), int((fold & ~pairs.same).sum())) for fold in folds}
    if len(kinds) > 1 or any(genuine != impostor for genuine, impostor in kinds):
        notes.append(
            "The folds differ in size, or have more pairs of one kind: accuracy leans to that "
            "kind, and is not to be compared with that of balanced lists."
        )
    who = [set(embeddings.labels[_pictures(pairs, fold)].tolist()) for fold in folds]
    shared = sum(map(len, who)) - len(set[int]().union(*who))
    if shared:
        notes.append(
            "The folds share people: the threshold of a fold was chosen on some whom it is "
            "judged on, and the folds are not independent."
        )
    several = len(pairs) - len(
        {
            tuple(sorted(pair))
            for pair in zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)
        }
    )
    if several:
        notes.append(f"{several:,} pairs are in the list more than once.")
    return notes


def _pictures(pairs: PairList, fold: Tensor) -> Tensor:
    return torch.cat([pairs.left[fold], pairs.right[fold]])


def _example() -> tuple[Embeddings, PairList]:
    """Two folds of two people each, for the examples above."""
    labels, names = torch.arange(4).repeat_interleave(2), tuple("abcdefgh")
    at = labels[:, None] + 0.1 * torch.arange(8.0)[:, None] / 8
    left, right = torch.tensor([[0, 0, 4, 4], [1, 2, 5, 6]])
    same, fold = torch.tensor([True, False] * 2), torch.tensor([0, 0, 1, 1])
    embeddings = Embeddings(at, labels, ("anna", "bob", "carl", "dora"), names)
    return embeddings, PairList("drawn", names, left, right, same, fold)

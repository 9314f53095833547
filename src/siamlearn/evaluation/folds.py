"""Verification on a published list of pairs, fold by fold, as for Labeled Faces in the Wild.

On each fold the threshold is that which the other folds would choose: accuracy is always that of
pairs which had no say in it.

Axes: p pairs, k folds, b resamples.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from siamlearn.comparison import Protocol
from siamlearn.data.image_set import ImageSet
from siamlearn.data.pair_lists import PairList
from siamlearn.data.protocols import content
from siamlearn.embeddings import Embeddings
from siamlearn.estimates import Estimate
from siamlearn.evaluation.fold_reports import FoldReport, require_fold_reports
from siamlearn.evaluation.measuring import Statistic
from siamlearn.evaluation.reports import Difference
from siamlearn.evaluation.run import (
    RESAMPLES,
    baseline_embeddings,
    require_draws,
    require_kinds,
    require_level,
    require_one_protocol,
    require_pictures,
    require_shares,
    require_switches,
    told,
)
from siamlearn.functional.accepted import Accepted, accepted
from siamlearn.functional.intervals import interval
from siamlearn.functional.resampling import draws, grid
from siamlearn.functional.verification import resolves
from siamlearn.known import known_by

__all__ = ["evaluate_folds", "fold_differences"]


def evaluate_folds(
    embeddings: Embeddings,
    pairs: PairList,
    *,
    train: ImageSet | None = None,
    baselines: bool = True,
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
        train: the pictures that the net was trained on, for the baselines to learn from: PCA,
            and PCA+LDA. Without them PCA learns from the tested pictures, without their labels.
        baselines: whether to report pixels, PCA and an untrained net too; needs the pictures in
            ``embeddings``.
        fmrs: false match rates at which the false non-match rate is reported.
        resamples: how often folds are drawn anew for the intervals; 0 for no intervals.
        level: how often an interval is to hold the true value.
        seed: of these draws.
        name: what to call the system.

    Raises:
        TypeError: the embeddings, the pairs or the switch are something else.
        ValueError: the list is of other pictures, has one fold, or pairs of one kind only, or a
            number is none that can be asked for.

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
    require_kinds(embeddings, (), None)
    require_switches(baselines=baselines)
    _require_pairs(embeddings, pairs)
    require_shares("fmrs", fmrs)
    require_draws(resamples)
    require_level(level, seed)
    weights = torch.empty(0, pairs.folds, dtype=torch.float64)
    if resamples:
        weights = draws(pairs.folds, resamples, seed)
    used = sorted({*pairs.left.tolist(), *pairs.right.tolist()})
    shown = None if embeddings.images is None else content(embeddings.images.subset(used))
    protocol = Protocol(pairs.name, pairs.digest, shown)

    def measured(system: Embeddings, called: str) -> FoldReport:
        return _measured(system, pairs, fmrs, weights, level, protocol, called)

    report = measured(embeddings, name)
    tested = embeddings.subset(used).people
    trained_on = len(known_by(embeddings.trained_on, tested))
    report = replace(report, trained_on=trained_on, notes=tuple(_notes(embeddings, pairs)))
    if not baselines or embeddings.images is None:
        return report
    rows = baseline_embeddings(embeddings.images, None, train)
    others = tuple(measured(system, called) for called, system, _ in rows)
    against: tuple[Difference, ...] = ()
    if resamples:
        against = tuple(d for each in others for d in fold_differences(report, each, seed=seed))
    return replace(report, baselines=others, differences=against)


def fold_differences(
    one: FoldReport, other: FoldReport, *, seed: int = 0
) -> tuple[Difference, ...]:
    """By how much one system differs from another on the same pairs.

    Accuracy, AUC, EER and FNMR at each FMR are compared. The same folds are drawn anew for both,
    so that what is hard for both cancels out. The intervals are of the level of the first report.

    Args:
        one: of the first system.
        other: of the second, on the same list.
        seed: of these draws.

    Raises:
        TypeError: one of them is no ``FoldReport``.
        ValueError: the two are of two lists.

    Example:
        >>> one, other = (evaluate_folds(*_example(), name=name) for name in ("one", "other"))
        >>> print(fold_differences(one, other)[0])
        one - other: accuracy +0 [-3.18, +3.18], p = 1
    """
    require_fold_reports(one, other)
    require_one_protocol(one, other)
    folds, pairs = len(one.accuracies), one.genuine + one.impostor
    weights = draws(folds, max(RESAMPLES, one.resamples), seed)
    systems = [(each, _drawn(each.by_fold, weights)) for each in (one, other)]

    def difference(what: str, statistic: Statistic, trials: int) -> Difference:
        values = [(float(statistic(each.accepted)), statistic(drawn)) for each, drawn in systems]
        return compared(what, values, trials)

    def compared(what: str, values: Sequence[tuple[float, Tensor]], trials: int) -> Difference:
        names, level = (one.name, other.name, what), one.accuracy.level
        return told(names, *values, units=folds, trials=trials, level=level)

    shares = [(float(each.accuracy), _mean(each.accuracies, weights)) for each in (one, other)]
    return (
        compared("accuracy", shares, pairs),
        difference("AUC", Accepted.auc, pairs),
        difference("EER", lambda counts: counts.eer()[0], pairs),
        *(
            difference(
                f"FNMR at FMR {100 * fmr:g} %", partial(Accepted.fnmr_at, fmr=fmr), one.genuine
            )
            for fmr, rate in one.fnmr_at.items()
            if rate is not None
        ),
    )


def _measured(
    embeddings: Embeddings,
    pairs: PairList,
    fmrs: Sequence[float],
    weights: Float[Tensor, "b k"],
    level: float,
    protocol: Protocol,
    name: str,
) -> FoldReport:
    """A report without baselines."""
    distance, folds = _distances(embeddings, pairs), _folds(pairs)
    judged = [_judged(distance, pairs.same, fold) for fold in folds]
    shares = tuple(share for share, _ in judged)
    seen = accepted(distance[pairs.same], distance[~pairs.same])
    by_fold = _by_fold(seen, distance, pairs, folds)
    drawn = _drawn(by_fold, weights)

    def estimate(value: float, resampled: Callable[[], Tensor], trials: int) -> Estimate:
        if not len(weights):
            return Estimate(value, level=level)
        low, high = interval(value, resampled(), units=len(folds), trials=trials, level=level)
        return Estimate(value, float(low), float(high), level)

    def read(statistic: Statistic, trials: int) -> Estimate:
        return estimate(float(statistic(seen)), lambda: statistic(drawn), trials)

    def fnmr_at(fmr: float) -> Estimate:
        return read(lambda counts: counts.fnmr_at(fmr), seen.pairs[0])

    mean, deviation = statistics.fmean(shares), statistics.stdev(shares)
    return FoldReport(
        name=name,
        protocol=protocol,
        genuine=seen.pairs[0],
        impostor=seen.pairs[1],
        resamples=len(weights),
        accuracy=estimate(mean, lambda: _mean(shares, weights), len(pairs)),
        standard_error=deviation / math.sqrt(len(folds)),
        accuracies=shares,
        thresholds=tuple(threshold for _, threshold in judged),
        auc=read(Accepted.auc, len(pairs)),
        eer=read(lambda counts: counts.eer()[0], len(pairs)),
        fnmr_at={fmr: fnmr_at(fmr) if resolves(fmr, seen.pairs[1]) else None for fmr in fmrs},
        trained_on=0,
        notes=(),
        accepted=seen,
        by_fold=by_fold,
    )


def _require_pairs(embeddings: Embeddings, pairs: object) -> None:
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
    require_pictures("pictures of the list", embeddings)


def _folds(pairs: PairList) -> list[Tensor]:
    """Which pairs are in each fold."""
    return [pairs.fold == fold for fold in sorted(set(pairs.fold.tolist()))]


def _distances(embeddings: Embeddings, pairs: PairList) -> Float[Tensor, " p"]:
    left, right = (embeddings.vectors[side][:, None] for side in (pairs.left, pairs.right))
    # As many blocks of one pair each.
    return embeddings.distance(left, right).flatten()


def _judged(distance: Float[Tensor, " p"], same: Tensor, fold: Tensor) -> tuple[float, float]:
    """Accuracy on a fold, and the threshold that the other folds chose for it."""
    others = accepted(distance[~fold & same], distance[~fold & ~same])
    threshold = others.best_accuracy()[1]
    right = (distance[fold] <= threshold) == same[fold]
    return float(right.double().mean()), float(threshold)


def _by_fold(
    seen: Accepted, distance: Float[Tensor, " p"], pairs: PairList, folds: Sequence[Tensor]
) -> Accepted:
    """The counts of each fold, at every distance or, where they are many, at some."""
    threshold = grid(seen)

    def counts(same: Tensor) -> Tensor:
        kinds = [distance[fold & same].double().sort().values for fold in folds]
        return torch.stack([torch.searchsorted(kind, threshold, right=True) for kind in kinds])

    return Accepted(threshold, counts(pairs.same), counts(~pairs.same))


def _drawn(by_fold: Accepted, weights: Float[Tensor, "b k"]) -> Accepted:
    """The counts if folds were drawn anew."""
    genuine, impostor = (weights @ kind.double() for kind in (by_fold.genuine, by_fold.impostor))
    return Accepted(by_fold.threshold, genuine, impostor)


def _mean(shares: Sequence[float], weights: Float[Tensor, "b k"]) -> Float[Tensor, " b"]:
    return weights @ weights.new_tensor(shares) / weights.sum(dim=1)


def _notes(embeddings: Embeddings, pairs: PairList) -> list[str]:
    notes, folds = [], _folds(pairs)
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

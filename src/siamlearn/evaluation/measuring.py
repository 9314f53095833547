"""One system measured: all its rates, and how sure each of them is.

Axes: q probes, r references, b resamples, u units (people, or groups of them), t thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from siamlearn.comparison import Protocol, Strip, people_of, strips
from siamlearn.embeddings import Embeddings
from siamlearn.estimates import Estimate
from siamlearn.evaluation.reports import AtPoint, Report
from siamlearn.functional.accepted import Accepted
from siamlearn.functional.calibration import least_cost
from siamlearn.functional.histogram import PairCounter, bounds
from siamlearn.functional.intervals import Trials, effective, interval
from siamlearn.functional.resampling import Cells, Tally, draws, grid, groups, weighted_mean
from siamlearn.functional.verification import resolves
from siamlearn.known import known_by
from siamlearn.operating import OperatingPoint
from siamlearn.search import Found, search

__all__ = ["Asked", "Statistic", "measure", "trials_of"]

LONGEST = 20  # ranks of the CMC
AT = (5, 10)  # references that precision and recall look at; of one it is the rank-1 rate
Statistic: TypeAlias = Callable[[Accepted], Tensor]


@dataclass(frozen=True)
class Asked:
    """What is asked of every system of a report alike; see ``evaluate``.

    Example:
        >>> Asked((), fmrs=(0.01,), fpirs=(0.1,), resamples=1000, level=0.95, seed=0).progress
    """

    points: tuple[OperatingPoint, ...]
    fmrs: tuple[float, ...]
    fpirs: tuple[float, ...]
    resamples: int
    level: float
    seed: int
    progress: bool | None = None


@dataclass(frozen=True, eq=False)
class People:
    """Who is drawn anew: the unit of every probe, reference and nearest wrong reference."""

    probes: Int[Tensor, " q"]
    references: Int[Tensor, " r"]
    rivals: Int[Tensor, " q"]
    weights: Float[Tensor, "b u"]
    trials: Trials
    mated: float
    level: float

    @property
    def units(self) -> int:
        return self.weights.shape[1]

    def estimate(
        self,
        value: Tensor | float,
        resampled: Callable[[], Tensor],
        trials: float = torch.inf,
        bounds: tuple[float, float] = (0.0, 1.0),
        *,
        strangers: bool = False,
    ) -> Estimate:
        """A number with its interval; without one where nobody was drawn.

        What is told of ``strangers`` is known from all people, all else from those who have a
        genuine pair, each as much as they have of them.
        """
        value = float(value)
        if not len(self.weights) or math.isnan(value):
            return Estimate(value, level=self.level)
        units = self.units if strangers else self.mated
        low, high = interval(
            value, resampled(), units=units, trials=trials, bounds=bounds, level=self.level
        )
        return Estimate(value, low.item(), high.item(), self.level)


def measure(
    probes: Embeddings, gallery: Embeddings | None, asked: Asked, *, protocol: Protocol, name: str
) -> Report:
    """A report without baselines.

    Example:
        >>> from siamlearn.baselines import pixels
        >>> from siamlearn.data.drawn import DrawnFaces
        >>> asked = Asked((), fmrs=(0.1,), fpirs=(0.1,), resamples=100, level=0.9, seed=0)
        >>> found = pixels(DrawnFaces(3, 4, size=(28, 23)))
        >>> measure(found, None, asked, protocol=Protocol.of(found), name="pixels").auc.level
        0.9
    """
    who, reference_who, names = people_of(probes, gallery)
    unit = groups(len(names))
    references = unit[reference_who]
    seen, found, rivals = compared(probes, gallery, references, asked)
    units = int(unit.max()) + 1
    weights = torch.empty(0, units, dtype=torch.float64)
    if asked.resamples:
        weights = draws(units, asked.resamples, asked.seed)
    trials = trials_of(probes, gallery, found)
    answered = effective(unit[who][found.answerable].bincount())
    people = People(unit[who], references, rivals, weights, trials, answered, asked.level)
    cells = counted(probes, gallery, seen, people, asked)
    paired = replace(people, mated=effective(cells.genuine[:, -1]))
    drawn = cells.resampled(people.weights)
    accurate, most_accurate = (each.item() for each in seen.best_accuracy())
    return Report(
        name=name,
        protocol=protocol,
        people=len(names),
        pictures=len(probes),
        gallery_pictures=None if gallery is None else len(gallery),
        resamples=asked.resamples,
        genuine=seen.pairs[0],
        impostor=seen.pairs[1],
        eer_threshold=seen.eer()[1].item(),
        best_threshold=seen.best()[1].item(),
        best_accuracy=accurate,
        best_accuracy_threshold=most_accurate,
        without_answer=found.unanswerable,
        trained_on=len(known_by(probes.trained_on, names)),
        bounds=bounds(seen, fmr=asked.fmrs),
        accepted=seen,
        cells=cells,
        found=found,
        embeddings=probes,
        gallery=gallery,
        **verified(seen, cells.accepted(), drawn, paired, asked),
        **identified(found, people, asked),
    )


def trials_of(probes: Embeddings, gallery: Embeddings | None, found: Found) -> Trials:
    """How many independent chances of an error these pictures give, at most.

    Example:
        >>> from siamlearn.comparison import strips
        >>> labels, names = torch.tensor([0, 0, 1, 2]), ("1.png", "2.png", "3.png", "4.png")
        >>> one = Embeddings(torch.eye(4), labels, ("anna", "bob", "carl"), names)
        >>> trials_of(one, None, search(strips(one))).genuine  # of anna alone
        1
    """
    who, reference_who, names = people_of(probes, gallery)
    number = who.bincount(minlength=len(names))
    mated = who[found.answerable].bincount(minlength=len(names)) > 0
    if gallery is None:
        return Trials.of(number.where(mated, 0))
    enrolled = reference_who.bincount(minlength=len(names))
    known = set(probes.names)  # a picture that is on both sides is one picture
    new = torch.tensor([name not in known for name in gallery.names])
    both = number + reference_who[new].bincount(minlength=len(names))
    trials = Trials.of(both.where(mated, 0), number)
    # Each two people once, though both of them may be on both sides.
    left, right = int((number > 0).sum()), int((enrolled > 0).sum())
    twice = int(((number > 0) & (enrolled > 0)).sum())
    return replace(trials, strangers=left * right - twice * (twice + 1) // 2)


def compared(
    probes: Embeddings, gallery: Embeddings | None, references: Int[Tensor, " r"], asked: Asked
) -> tuple[Accepted, Found, Int[Tensor, " q"]]:
    """All pairs, counted; what every probe found; and the unit of the nearest wrong picture."""
    counter, rivals = PairCounter(), []
    last = references.max()

    def watched() -> Iterator[Strip]:
        for strip in counter.watching(strips(probes, gallery, progress=asked.progress)):
            wrong = strip.distance.masked_fill(strip.same | ~strip.valid, torch.inf)
            # Of several at the same distance one that does not depend on the order of pictures.
            first = wrong.amin(dim=1, keepdim=True)
            rivals.append(torch.where(wrong == first, references, last).amin(dim=1))
            yield strip

    found = search(watched())
    right, wrong = counter.pairs
    if not right or not wrong:
        msg = (
            f"a report needs two pictures of one identity and pictures of two identities to "
            f"compare, got {right} genuine and {wrong} impostor pairs from "
            f"{probes}{'' if gallery is None else f' and a gallery of {gallery}'}; add pictures of "
            f"{'people who have one already' if wrong else 'other people'}"
        )
        if probes.sessions is not None:
            msg += " (two pictures of one person from one session are not compared)"
        raise ValueError(msg)
    return counter.accepted(), found, torch.cat(rivals)


def counted(
    probes: Embeddings, gallery: Embeddings | None, seen: Accepted, people: People, asked: Asked
) -> Cells:
    """The accepted pairs by who is compared, at some thresholds."""
    at = tuple(point.threshold for point in asked.points)
    at += seen.best()[1].item(), seen.eer()[1].item()
    tally = Tally(grid(seen, at=at), people.units)
    for strip in strips(probes, gallery, progress=asked.progress):
        genuine, impostor = strip.same & strip.once, ~strip.same & strip.once
        rows = people.probes[strip.rows]
        tally.add(strip.distance, genuine, impostor, rows, people.references)
    return tally.cells()


def verified(
    seen: Accepted, there: Accepted, drawn: Accepted, people: People, asked: Asked
) -> dict[str, Any]:
    """What is read off the pairs: of all, of all at the points' thresholds, of each resample."""
    trials, best = people.trials, seen.best()[1].item()

    def estimate(statistic: Statistic, trials: float, low: float = 0.0) -> Estimate:
        high = torch.inf if low < 0 else 1.0
        return people.estimate(statistic(seen), lambda: statistic(drawn), trials, (low, high))

    # What is asked at an FMR is told where so many pairs can tell.
    told = {fmr: resolves(fmr, seen.pairs[1]) for fmr in asked.fmrs}

    def fnmr_at(fmr: float) -> Estimate:
        return estimate(lambda counts: counts.fnmr_at(fmr), trials.genuine)

    def partial_auc(fmr: float) -> Estimate:
        return estimate(lambda counts: counts.partial_auc(fmr), trials.both)

    def at_point(point: OperatingPoint) -> AtPoint:
        # Not those of bins, which end before the threshold: some that pass would be missing.
        rates, ends = there.at(point.threshold), drawn.at(point.threshold)
        fmr = people.estimate(rates[0], lambda: ends[0], trials.impostor, strangers=True)
        fnmr = people.estimate(rates[1], lambda: ends[1], trials.genuine)
        calibration = point.calibration
        if calibration is None:
            return AtPoint(point, fmr, fnmr)
        cllr = people.estimate(
            calibration.cllr(seen), lambda: calibration.cllr(drawn), bounds=(0, torch.inf)
        )
        return AtPoint(point, fmr, fnmr, cllr, least_cost(seen).item())

    return {
        "auc": estimate(Accepted.auc, trials.both),
        "eer": estimate(lambda counts: counts.eer()[0], trials.both),
        "fnmr_at": {fmr: fnmr_at(fmr) if known else None for fmr, known in told.items()},
        "partial_auc": {fmr: partial_auc(fmr) if known else None for fmr, known in told.items()},
        "balanced_accuracy": estimate(lambda counts: counts.best()[0], trials.both),
        "accuracy": estimate(lambda counts: counts.only(best).accuracy[..., 0], trials.both),
        "average_precision": estimate(Accepted.average_precision, trials.genuine),
        "d_prime": estimate(Accepted.d_prime, torch.inf, -torch.inf),
        "points": tuple(at_point(point) for point in asked.points),
    }


def identified(found: Found, people: People, asked: Asked) -> dict[str, Any]:
    """What is read off the ranks: means over the probes that have an answer."""

    def mean(values: Float[Tensor, " q"], rivals: Tensor | None = None) -> Estimate:
        if not found.answerable.any():
            return Estimate(torch.nan, level=people.level)
        return people.estimate(
            found.mean(values.double()),
            lambda: weighted_mean(
                values, people.probes, people.weights, found.answerable, rivals=rivals
            ),
            people.trials.genuine,
        )

    longest = min(LONGEST, len(people.references))
    cmc = tuple(mean(found.hit_at(k), people.rivals) for k in range(1, longest + 1))
    return {
        "cmc": cmc,
        "rank1": cmc[0],
        "map_at_r": mean(found.map_at_r),
        "r_precision": mean(found.r_precision),
        "precision_at": {k: mean(found.precision_at(k)) for k in AT},
        "recall_at": {k: mean(found.recall_at(k)) for k in AT},
        "ndcg": mean(found.ndcg),
        "mean_average_precision": mean(found.average_precision),
        "reciprocal_rank": mean(found.reciprocal_rank, people.rivals),
        "fnir_at": searched(found, people, asked.fpirs),
    }


def searched(
    found: Found, people: People, fpirs: tuple[float, ...]
) -> dict[float, Estimate | None]:
    """FNIR at FPIR, each probe searched for once with and once without its own identity."""
    if not found.answerable.any():
        return dict.fromkeys(fpirs)
    seen = found.open_set()
    drawn = open_cells(found, people, grid(seen)).resampled(people.weights)

    def estimate(fpir: float) -> Estimate:
        return people.estimate(
            seen.fnmr_at(fpir), lambda: drawn.fnmr_at(fpir), people.trials.genuine
        )

    return {f: estimate(f) if resolves(f, seen.pairs[1]) else None for f in fpirs}


def open_cells(found: Found, people: People, threshold: Float[Tensor, " t"]) -> Cells:
    """Searches that end right, and those for somebody who is not there, by who is searched for.

    Each counts twice. Who is not there is found nonetheless because of somebody else who is: such
    a search counts half by the one and half by the two together.
    """
    last = len(threshold) - 1

    def counted(distance: Tensor, *units: Tensor) -> Tensor:
        place = torch.searchsorted(threshold, distance.double()).clamp(max=last)
        counts = torch.zeros(*(people.units for _ in units), last + 1, dtype=torch.int64)
        counts.index_put_((*units, place), torch.ones_like(place), accumulate=True)
        return counts.cumsum(dim=-1)

    mated = torch.where(found.rank == 1, found.right, torch.inf)[found.answerable]
    genuine = counted(mated, people.probes[found.answerable])
    impostor = counted(found.wrong, people.probes, people.rivals)
    impostor += counted(found.wrong, people.probes, people.probes)
    return Cells(threshold, 2 * genuine, impostor)

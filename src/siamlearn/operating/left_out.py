"""How a threshold does on people whom it was not chosen on: by choosing it without them.

Axes: p pictures, u people, g groups of people, k genuine and i impostor comparisons.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from siamlearn.comparison import strips
from siamlearn.embeddings import Embeddings
from siamlearn.estimates import Estimate
from siamlearn.functional.accepted import accepted
from siamlearn.functional.intervals import Trials, effective
from siamlearn.functional.resampling import groups
from siamlearn.operating.aims import Aim
from siamlearn.operating.resemblance import resemblance

__all__ = ["PairsOfPeople", "Rule", "chosen_without", "pairs_of", "rates", "share"]

GROUPS = 10  # of people, for leaving some out


@final
@dataclass(frozen=True, eq=False)
class PairsOfPeople:
    """All distances, with whom they are of.

    Args:
        genuine: distances of two pictures of one person.
        of: who that is.
        impostor: distances of two pictures of two persons.
        one: who is on the one.
        other: who is on the other.
        nearest: from each picture to the nearest one of each person; infinite for its own.
        who: who is on each picture.
        people: how many there are.

    Example:
        >>> line, labels = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([0, 0, 1])
        >>> names = ("1.png", "2.png", "3.png")
        >>> pairs = pairs_of(Embeddings(line, labels, ("anna", "bob"), names))
        >>> pairs.genuine.tolist(), pairs.impostor.tolist(), pairs.nearest.tolist()
        ([1.0], [5.0, 4.0], [[inf, 5.0], [inf, 4.0], [4.0, inf]])
    """

    genuine: Float[Tensor, " k"]
    of: Int[Tensor, " k"]
    impostor: Float[Tensor, " i"]
    one: Int[Tensor, " i"]
    other: Int[Tensor, " i"]
    nearest: Float[Tensor, "p u"]
    who: Int[Tensor, " p"]
    people: int

    def with_people(self) -> PairsOfPeople:
        """Of a picture and a person, the nearest picture of that person, in place of two pictures.

        Example:
            >>> line, labels = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([0, 0, 1])
            >>> names = ("1.png", "2.png", "3.png")
            >>> pairs = pairs_of(Embeddings(line, labels, ("anna", "bob"), names))
            >>> pairs.with_people().impostor.tolist()
            [5.0, 4.0, 4.0]
        """
        picture, person = self.nearest.isfinite().nonzero(as_tuple=True)
        return PairsOfPeople(
            self.genuine,
            self.of,
            self.nearest[picture, person],
            self.who[picture],
            person,
            self.nearest,
            self.who,
            self.people,
        )


def pairs_of(embeddings: Embeddings) -> PairsOfPeople:
    """All pairs of these pictures, each once.

    They are kept, in 16 bytes each: 5,000 pictures need 200 MB, and some seconds to choose on.

    Example:
        >>> line, labels = torch.tensor([[0.0], [5.0]]), torch.tensor([0, 1])
        >>> pairs_of(Embeddings(line, labels, ("anna", "bob"), ("1.png", "2.png"))).people
        2
    """
    # In the order of their labels: who is left out together must not depend on their names.
    names = tuple(dict.fromkeys(embeddings.people))
    number = {name: place for place, name in enumerate(names)}
    places = [number.get(name, -1) for name in embeddings.identities]
    who = torch.tensor(places, dtype=torch.int64)[embeddings.labels]
    short = who.int()
    genuine, of, impostor, one, other, nearest = [], [], [], [], [], []
    for strip in strips(embeddings):
        distance, rows = strip.distance.double(), short[strip.rows]
        row, column = (strip.same & strip.once).nonzero(as_tuple=True)
        genuine.append(distance[row, column])
        of.append(rows[row])
        row, column = (~strip.same & strip.once).nonzero(as_tuple=True)
        impostor.append(distance[row, column])
        one.append(rows[row])
        other.append(short[column])
        strangers = distance.masked_fill(strip.same, torch.inf)
        to = torch.full((len(rows), len(names)), torch.inf, dtype=torch.float64)
        nearest.append(to.scatter_reduce(1, who.expand(len(rows), -1), strangers, "amin"))
    return PairsOfPeople(
        torch.cat(genuine),
        torch.cat(of),
        torch.cat(impostor),
        torch.cat(one),
        torch.cat(other),
        torch.cat(nearest),
        who,
        len(names),
    )


@final
@dataclass(frozen=True, eq=False)
class Rule:
    """A threshold, and those that judge people who were left out when it was chosen.

    Args:
        threshold: chosen on all people, and made stricter for others.
        judges: for each two groups of people the threshold that was chosen without them and made
            stricter alike; NaN where nobody would be left to choose it on.
        group: the group of each person.

    Example:
        >>> rule = Rule(0.5, torch.tensor([[0.4]]), torch.tensor([0, 0]))
        >>> rule.passes(torch.tensor([0.45]), torch.tensor([0]), torch.tensor([1]))
        tensor([False])
    """

    threshold: float
    judges: Float[Tensor, "g g"]
    group: Int[Tensor, " u"]

    @property
    def known(self) -> bool:
        """Whether anybody could be left out."""
        return bool(self.judges.isfinite().any())

    def passes(
        self, distance: Float[Tensor, " k"], one: Int[Tensor, " k"], other: Int[Tensor, " k"]
    ) -> Bool[Tensor, " k"]:
        """Whether people who were left out pass as each other."""
        return distance <= self.judges[self.group[one], self.group[other]]


def chosen_without(pairs: PairsOfPeople, aim: Aim, *, stricter: bool) -> Rule:
    """Choose a threshold on all people, and also without each two of them.

    The threshold that just keeps a rate on few people lets too many others pass: one pair of
    people who look alike is missing among them, or decides alone. So all people, in ten groups if
    there are more, are left out two at a time, and what was chosen without them is made stricter
    until those who were left out pass at the asked rate. Distances that are never below zero are
    multiplied by a factor; where some are, something is subtracted.

    Args:
        stricter: False leaves the threshold as it is for these very people.

    Example:
        >>> from siamlearn.operating.aims import aim
        >>> line = torch.tensor([[0.0], [4.0], [5.0], [10.0], [20.0]])
        >>> names = ("a", "b", "c", "d", "e")
        >>> pairs = pairs_of(Embeddings(line, torch.arange(5), names, names))
        >>> [chosen_without(pairs, aim(fmr=0.5), stricter=s).threshold for s in (False, True)]
        [8.0, 7.5]
    """

    def chosen(genuine: Tensor, impostor: Tensor) -> float:
        # A rate of strangers is read off strangers alone, midway between two of them.
        return float(aim.threshold(accepted(genuine if aim.genuine else genuine[:0], impostor)))

    threshold = chosen(pairs.genuine, pairs.impostor)
    group = torch.arange(pairs.people) % GROUPS
    count = min(GROUPS, pairs.people)
    judges = torch.full((count, count), torch.nan, dtype=torch.float64)
    of, one, other = (group[people] for people in (pairs.of, pairs.one, pairs.other))
    # One bit a group: whether a pair is of neither of two groups is then asked in one step.
    alone, both = (1 << of).short(), ((1 << one) | (1 << other)).short()
    for a, b in combinations_with_replacement(range(count), 2):
        left = 1 << a | 1 << b
        genuine, impostor = pairs.genuine[alone & left == 0], pairs.impostor[both & left == 0]
        if len(impostor) and (len(genuine) or not aim.genuine):
            judges[a, b] = judges[b, a] = chosen(genuine, impostor)
    by = judges[one, other]
    known, own = by.isfinite(), judges[of, of]
    if not known.any():
        judges = torch.full_like(judges, torch.nan)
    rule = Rule(threshold, judges, group)
    if not (stricter and aim.rate and rule.known and math.isfinite(threshold)):
        return rule
    lowest = torch.cat([pairs.genuine, pairs.impostor]).min()
    if lowest < 0:
        far, near = pairs.impostor[known] - by[known], pairs.genuine - own
        change = min(0.0, chosen(near[own.isfinite()], far))
        strict = kept(pairs, aim, threshold + change)
        return Rule(strict, judges + (strict - threshold), group)
    if threshold <= 0:  # Constant scores have no threshold, and then there is nothing to shrink.
        return rule
    tiny = torch.finfo(by.dtype).tiny
    far, near = pairs.impostor[known] / by[known].clamp(min=tiny), pairs.genuine / own.clamp(tiny)
    factor = min(1.0, chosen(near[own.isfinite()], far))
    strict = kept(pairs, aim, threshold * factor)
    return Rule(strict, judges * (strict / threshold), group)


def kept(pairs: PairsOfPeople, aim: Aim, limit: float) -> float:
    """The limit, or the largest threshold below it that keeps the aim on all people as well.

    The nearest pairs may be of people who are confused: a smaller share of the few that a stricter
    threshold accepts may be genuine.

    Raises:
        ValueError: no threshold that accepts any genuine pair keeps it.
    """
    if aim.within is None:
        return limit
    threshold = float(aim.within(accepted(pairs.genuine, pairs.impostor), limit))
    if not bool((pairs.genuine <= threshold).any()):
        msg = (
            f"{aim.name} cannot be kept for people who are left out of the {pairs.people} that it "
            f"is chosen on: no genuine pair would pass; use more identities or a better net, ask "
            f"for less, or pass cross_validated=False"
        )
        raise ValueError(msg)
    return threshold


def rates(pairs: PairsOfPeople, rule: Rule) -> dict[str, Any]:
    """What the threshold gives on those whom it was chosen on, and what to expect of others.

    Returns:
        By the names that they have in an ``OperatingPoint``.

    Example:
        >>> line, labels = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([0, 0, 1])
        >>> names = ("1.png", "2.png", "3.png")
        >>> pairs = pairs_of(Embeddings(line, labels, ("anna", "bob"), names))
        >>> rule = Rule(4.5, torch.full((2, 2), torch.nan), torch.arange(2))
        >>> {name: float(rate) for name, rate in rates(pairs, rule).items()}
        {'seen_fmr': 0.5, 'seen_fnmr': 0.0}
    """
    of, one, other, people = pairs.of, pairs.one, pairs.other, pairs.people
    mated = of.bincount(minlength=people) > 0
    trials = Trials.of(pairs.who.bincount(minlength=people).where(mated, 0))
    threshold = rule.threshold

    def fmr(passed: Tensor, one: Tensor, other: Tensor) -> Estimate:
        return share(passed, one, other, people=people, trials=trials.impostor)

    def fnmr(failed: Tensor) -> Estimate:
        return share(failed, of, of, people=people, trials=trials.genuine)

    found: dict[str, Any] = {
        "seen_fmr": fmr(pairs.impostor <= threshold, one, other),
        "seen_fnmr": fnmr(pairs.genuine > threshold) if len(of) else None,
    }
    if not rule.known:
        return found
    found["expected_fmr"] = fmr(rule.passes(pairs.impostor, one, other), one, other)
    if len(of):
        found["expected_fnmr"] = fnmr(~rule.passes(pairs.genuine, of, of))
    picture, person = pairs.nearest.isfinite().nonzero(as_tuple=True)
    who = pairs.who[picture]
    passed = rule.passes(pairs.nearest[picture, person], who, person)
    _, worth, _ = _worth(passed, who, person, people, trials.impostor)
    rate = fmr(passed, who, person)
    found["resemblance"] = resemblance(rate, passed, picture, people=people, worth=worth)
    return found


def share(
    passed: Bool[Tensor, " k"],
    one: Int[Tensor, " k"],
    other: Int[Tensor, " k"],
    *,
    people: int,
    trials: float,
    level: float = 0.95,
) -> Estimate:
    """The share that passed, and where that of other people will be.

    People are left out one at a time: from how much the share changes follows how many
    independent comparisons would be as uncertain, and these, fewer by Student's quantile, have
    Clopper and Pearson's interval. For its lower end no more than ``trials`` are believed: that
    few people never were confused does not make them a measure of a rate close to zero.

    Args:
        passed: of each comparison.
        one: who is on the one side, a number below ``people``.
        other: who is on the other.
        people: how many there are.
        trials: independent chances, at most.
        level: how often the interval is to hold the rate of others.

    Example:
        >>> who = torch.arange(20)
        >>> print(share(who < 2, who, who, people=20, trials=20))
        0.1 [0.008992, 0.3454]

    Source:
        Korn, Graubard: Confidence Intervals for Proportions with Small Expected Number of
        Positive Counts Estimated from Survey Data, Survey Methodology 24, 1998. Deviation: the
        jackknife over people, and ``trials`` at the lower end.
    """
    value, worth, left = _worth(passed, one, other, people, trials)
    if left < 2:
        return Estimate(value, 0.0, 1.0, level)
    from scipy.special import ndtri, stdtrit  # here, because it takes a while

    shrink = float(ndtri((1 + level) / 2) / stdtrit(left - 1, (1 + level) / 2)) ** 2
    few = shrink * min(worth, trials)
    # Less than one that passed, of those that are believed, cannot be told from none.
    low = _lower(value, few, level) if value * few >= 1 else 0.0
    return Estimate(value, low, 1 - _lower(1 - value, shrink * worth, level), level)


def _worth(
    passed: Bool[Tensor, " k"],
    one: Int[Tensor, " k"],
    other: Int[Tensor, " k"],
    people: int,
    trials: float,
) -> tuple[float, float, float]:
    """The share that passed, how many independent comparisons know it, and of how many units."""
    unit = groups(people)
    units = int(unit.max()) + 1
    a, b = unit[one], unit[other]
    twice = (a != b).double()

    def by_unit(values: Tensor) -> Tensor:
        total = torch.zeros(units, dtype=torch.float64).index_add(0, a, values)
        return total.index_add(0, b, values * twice)

    chosen, number = passed.double(), float(len(passed))
    value = float(chosen.mean())
    without = (chosen.sum() - by_unit(chosen)) / (number - by_unit(torch.ones_like(chosen)))
    # Who is in no such pair says nothing of them: a thousand people with one picture each.
    taking_part = by_unit(torch.ones_like(chosen))
    without = without[without.isfinite() & (taking_part > 0)]
    left = len(without)
    variance = float((without - without.mean()).square().sum()) * (left - 1) / max(1, left)
    # Where none passed, or all, nothing varies: only so many are believed.
    most = number if 0 < value < 1 else trials
    worth = min(value * (1 - value) / max(variance, 1e-300) or most, most)
    return value, worth, effective(taking_part) if left > 1 else left


def _lower(value: float, trials: float, level: float) -> float:
    if value <= 0:
        return 0.0
    from scipy.special import betaincinv

    successes = value * trials
    low = betaincinv(successes, trials - successes + 1, (1 - level) / 2)
    return min(float(low), value)

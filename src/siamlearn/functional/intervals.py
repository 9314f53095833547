"""Where the true value may well lie, given how few people were seen.

Intervals are made from people drawn anew, in :mod:`siamlearn.functional.resampling`; how often
they hold the true value was tried on simulated people, in ``benchmarks/coverage.py``.

Axes: b resamples, c those of a second system, k values that are looked at one by one, i identities,
u units that are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, sqrt
from statistics import NormalDist
from typing import final

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

__all__ = [
    "Trials",
    "difference",
    "effective",
    "interval",
    "rule_of_three",
    "trials_needed",
    "wilson",
]

# Chances of a person to be told wrong, at most, however many pictures there are of each. Chosen
# by simulation: see docs/explanation/intervals.md.
PER_PERSON = 4


@final
@dataclass(frozen=True)
class Trials:
    """How many independent chances of an error a set of people gives, at most.

    Where no error was seen, this number alone says how many there could have been. Pairs are far
    too many, as all those of a person succeed or fail together.

    Args:
        people: how many identities were compared.
        pictures: how many pictures of them.
        mated: pairs of one identity that share no picture, at most four of each; left out, as
            many as if all identities had equally many pictures. See :meth:`of`.
        strangers: pairs of two identities that were compared; left out, all there are.

    Example:
        >>> trials = Trials(people=9, pictures=90)
        >>> trials.genuine, trials.impostor, trials.both
        (36, 36, 72)
    """

    people: int
    pictures: int
    mated: int | None = None
    strangers: int | None = None

    @classmethod
    def of(cls, pictures: Int[Tensor, " i"], probes: Int[Tensor, " i"] | None = None) -> Trials:
        """The trials where identities have unequally many pictures, and some have no pair.

        Strangers in a gallery, or people of whom there is one picture, are no chance to miss
        anybody; and neither do a thousand pictures of one person speak for the others.

        Args:
            pictures: how many there are of each identity that takes part in a pair of its own;
                zero of all others.
            probes: how many of these are probes, where they are compared with a gallery.

        Example:
            >>> Trials.of(torch.tensor([2, 2, 200, 0, 0])).genuine
            6
            >>> Trials.of(torch.tensor([100]), probes=torch.tensor([1])).genuine
            1
        """
        chances = pictures if probes is None else pictures.minimum(2 * probes)
        most = chances.clamp(max=2 * PER_PERSON).sum()
        return cls(len(pictures), int(pictures.sum()), int(most) // 2)

    @property
    def genuine(self) -> int:
        """For rates of genuine pairs (FNMR) and of probes: pairs that share no picture.

        There are half as many as pictures. More than four a person tell nothing new of them.
        """
        if self.mated is not None:
            return max(1, self.mated)
        return max(1, min(self.pictures // 2, PER_PERSON * self.people))

    @property
    def impostor(self) -> int:
        """For rates of impostor pairs (FMR, FPIR): pairs of people."""
        every = self.people * (self.people - 1) // 2
        return max(1, every if self.strangers is None else self.strangers)

    @property
    def both(self) -> int:
        """For what averages over both (AUC, EER, balanced accuracy): twice those of genuine."""
        return 2 * self.genuine


def interval(
    value: float | Float[Tensor, "*k"],
    resampled: Float[Tensor, "b ..."],
    *,
    units: float,
    trials: float | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    level: float = 0.95,
) -> tuple[Float[Tensor, "*k"], Float[Tensor, "*k"]]:
    """Where the true value lies, in so many of a hundred cases, if other people had been asked.

    The spread of the resampled values says how many independent trials would be as uncertain,
    n = p (1 - p) / spread², of which ``trials`` is the most that is believed. Wilson's interval
    for that many, with Student's quantile for so few people, is the answer. It holds the value,
    stays within the bounds, and never shrinks to a point, not even where no error was seen.
    Without finite bounds it is Student's quantile times the spread to either side of the value
    less its bias, which is by how much resamples are above it on average.

    Args:
        value: what was measured, on all people.
        resampled: the same, measured on each resample; NaN where that has none.
        units: how many people, or groups of them, were drawn from; :func:`effective` where they
            count unequally.
        trials: independent chances of an error, at most: see :class:`Trials`. Five for each unit
            if left out.
        bounds: the lowest and the highest value that there is; infinite where there is none.
        level: share of all cases in which the interval is to hold the true value.

    Returns:
        The lower and the upper end.

    Raises:
        ValueError: where there are fewer than two units, or the level is no share.

    Example:
        >>> seen = torch.linspace(0.01, 0.05, 100, dtype=torch.float64)
        >>> low, high = interval(0.03, seen, units=20, trials=100)
        >>> round(low.item(), 3), round(high.item(), 3)
        (0.01, 0.09)
        >>> low, high = interval(0.0, 0 * seen, units=20, trials=100)
        >>> round(low.item(), 3), round(high.item(), 3)
        (0.0, 0.042)

    Source:
        Korn, Graubard: Confidence Intervals for Proportions with Small Expected Number of
        Positive Counts Estimated from Survey Data, Survey Methodology 24, 1998, for trials that
        are as uncertain; here with Wilson's interval instead of Clopper and Pearson's, and with
        Student's quantile in it instead of a correction of the number. Efron, Tibshirani: An
        Introduction to the Bootstrap, 1993, sec. 10.2, for the bias.
    """
    quantile = _student(units, level)
    value = torch.as_tensor(value, dtype=torch.float64, device=resampled.device)
    spread = _spread(resampled)
    low, high = bounds
    if not (low > -inf and high < inf):
        # Two people are always drawn alike: that nothing varies, but for rounding, says that
        # nothing is known.
        reach = torch.where(spread > 1e-9 * value.abs(), quantile * spread, inf)
        middle = value - torch.where(reach < inf, _mean(resampled) - value, 0)
        ends = (
            torch.minimum(middle - reach, value).nan_to_num(-inf, inf, -inf),
            torch.maximum(middle + reach, value).nan_to_num(inf, inf, -inf),
        )
        return ends[0].clamp(min=low), ends[1].clamp(max=high)
    share = (value - low) / (high - low)
    # At the bound itself p (1 - p) is zero, though resamples may differ: one error in all trials
    # is the least that is believed.
    trials = PER_PERSON * units if trials is None else trials
    least = min(0.5, 1 / trials)
    inner = share.clamp(min=least, max=1 - least)
    number = inner * (1 - inner) / (spread / (high - low)).square().clamp(min=1e-300)
    ends = _wilson(share, number.clamp(max=min(trials, 1e12)), quantile)
    lower, upper = (low + (high - low) * end for end in ends)
    return torch.minimum(lower, value), torch.maximum(upper, value)


def effective(number: Shaped[Tensor, " u"]) -> float:
    """How many units that count alike would leave as much to chance; two at least.

    Where one person has 200 pictures and all others have two, nearly all genuine pairs are of that
    person, and a rate of them is no better known than that of one person.

    Args:
        number: how many pairs, or probes, each unit has; who has none counts for nobody.

    Example:
        >>> effective(torch.tensor([3, 3, 3, 3, 0])), effective(torch.tensor([4950, 1, 1, 1]))
        (4.0, 2.0)

    Source:
        Kish: Survey Sampling, 1965: the square of the sum by the sum of the squares.
    """
    total, squares = float(number.sum()), float(number.double().square().sum())
    return max(2.0, total**2 / squares) if squares > 0 else 2.0


def wilson(errors: float, trials: float, level: float = 0.95) -> tuple[float, float]:
    """The interval of an error rate where trials are independent, such as one for each person.

    Args:
        errors: how many trials went wrong.
        trials: how many there were.

    Raises:
        ValueError: where there is no trial, more errors than trials, or the level is no share.

    Example:
        >>> low, high = wilson(0, 36)
        >>> low, round(high, 3)
        (0.0, 0.096)

    Source:
        Wilson: Probable Inference, the Law of Succession, and Statistical Inference, Journal of
        the American Statistical Association 22, 1927.
    """
    _check_level(level)
    if not 0 <= errors <= trials or trials <= 0:
        msg = f"errors must be from 0 to the number of trials, got {errors:g} of {trials:g} trials"
        raise ValueError(msg)
    share = torch.tensor(errors / trials, dtype=torch.float64)
    number = torch.tensor(float(trials), dtype=torch.float64)
    low, high = _wilson(share, number, NormalDist().inv_cdf((1 + level) / 2))
    return low.item(), high.item()


def rule_of_three(trials: float) -> float:
    """The rate that may still be true where none of so many independent trials went wrong.

    With 95 % confidence it is no higher.

    Raises:
        ValueError: where there is no trial.

    Example:
        >>> rule_of_three(300)
        0.01

    Source:
        Hanley, Lippman-Hand: If Nothing Goes Wrong, Is Everything All Right?, JAMA 249, 1983.
    """
    if trials <= 0:
        msg = f"a rate needs at least one trial, got {trials:g}"
        raise ValueError(msg)
    return min(1.0, 3 / trials)


def trials_needed(rate: float) -> int:
    """How many independent trials without error show that the rate is no higher than this.

    Args:
        rate: such as the false match rate that is asked for.

    Raises:
        ValueError: where it is not between 0 and 1.

    Example:
        >>> trials_needed(0.001)
        3000

    Source:
        The rule of three, as in :func:`rule_of_three`.
    """
    if not 0 < rate < 1:
        msg = f"a rate is a share between 0 and 1, got {rate:g}; 0.01 and 0.001 are usual"
        raise ValueError(msg)
    number = ceil(3 / rate)
    # The quotient is rounded: take the least number that the rule of three agrees with.
    return number - 1 if number > 1 and 3 / (number - 1) <= rate else number


def difference(
    first: float,
    second: float,
    first_resampled: Float[Tensor, " b"],
    second_resampled: Float[Tensor, " c"],
    *,
    units: float,
    trials: float = inf,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """Whether one system is better than another, measured on the same people.

    The null hypothesis is that both would reach the same on all the people there are. The
    difference is divided by its own spread over the same resamples, so that what makes people
    hard for both cancels, and compared with Student's distribution for so many people. The spread
    is never below one trial in ``trials``: two systems that made no error need not be equal.

    Args:
        first: what the first system reached on all people.
        second: what the second reached.
        first_resampled: the same on each resample.
        second_resampled: on the same resamples, those of the same :func:`draws`.
        units: how many people, or groups of them, were drawn from.
        trials: as for :func:`interval`, for shares; leave it out for what has no bounds.

    Returns:
        The lower and the upper end of the interval of the first minus the second, and a two-sided
        p, which is never below one in so many resamples and one.

    Raises:
        ValueError: where the resamples are not as many for both.

    Example:
        >>> seen = torch.linspace(0.9, 0.98, 99, dtype=torch.float64)
        >>> low, high, p = difference(0.95, 0.94, seen + 0.01, seen, units=20)
        >>> round(low, 3), round(high, 3), p
        (0.01, 0.01, 0.01)
    """
    if first_resampled.shape != second_resampled.shape:
        msg = (
            f"two systems are compared on the same resamples, got {len(first_resampled)} of one "
            f"and {len(second_resampled)} of the other"
        )
        raise ValueError(msg)
    quantile = _student(units, level)
    value = first - second
    spread = _spread(first_resampled - second_resampled).item()
    if not spread < inf:
        return -inf, inf, 1.0
    spread = sqrt(spread**2 + 1 / trials**2)
    from scipy.special import stdtr  # here, because it takes a while

    p = 2 * float(stdtr(units - 1, -abs(value) / spread)) if spread > 0 else float(value == 0)
    p = max(p, 1 / (len(first_resampled) + 1))
    return value - quantile * spread, value + quantile * spread, p


def _wilson(
    share: Float[Tensor, "*k"], number: Float[Tensor, "*k"], quantile: float
) -> tuple[Float[Tensor, "*k"], Float[Tensor, "*k"]]:
    def low(share: Float[Tensor, "*k"]) -> Float[Tensor, "*k"]:
        square = quantile**2
        reach = quantile * (number * share * (1 - share) + square / 4).sqrt()
        high = number * share + square / 2 + reach
        # From the product of both ends: their difference would lose all digits near zero.
        return number * share.square() / high

    return low(share), 1 - low(1 - share)


def _spread(resampled: Float[Tensor, "b ..."]) -> Float[Tensor, "*k"]:
    """Standard deviation over the resamples that have a value; infinite where hardly any has."""
    known: Bool[Tensor, "b ..."] = resampled.isfinite()
    number = known.sum(dim=0)
    away = resampled.double() - _mean(resampled)
    square = torch.where(known, away, 0.0).square().sum(dim=0)
    spread = (square / (number - 1).clamp(min=1)).sqrt()
    return torch.where(2 * number > len(resampled), spread, inf)


def _mean(resampled: Float[Tensor, "b ..."]) -> Float[Tensor, "*k"]:
    """Mean over the resamples that have a value."""
    known: Bool[Tensor, "b ..."] = resampled.isfinite()
    values = torch.where(known, resampled.double(), 0.0)
    return values.sum(dim=0) / known.sum(dim=0).clamp(min=1)


def _student(units: float, level: float) -> float:
    _check_level(level)
    if units < 2:
        msg = f"an interval needs two identities or more to draw from, got {units:g}"
        raise ValueError(msg)
    from scipy.special import stdtrit  # here, because it takes a while

    return float(stdtrit(units - 1, (1 + level) / 2))


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        msg = f"a level is a share between 0 and 1, got {level:g}; 0.95 is usual"
        raise ValueError(msg)

"""Intervals: by hand, as laws, and on simulated people whose true rates are known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from siamlearn.functional.accepted import Accepted
from siamlearn.functional.intervals import (
    Trials,
    difference,
    effective,
    interval,
    rule_of_three,
    trials_needed,
    wilson,
)
from siamlearn.functional.resampling import Tally, draws

few = settings(max_examples=30)
resamples = st.tuples(st.floats(0, 1), st.floats(0, 0.3), st.integers(0, 1000)).map(
    lambda drawn: (
        drawn[0],
        (
            drawn[0]
            + drawn[1]
            * torch.randn(
                200, dtype=torch.float64, generator=torch.Generator().manual_seed(drawn[2])
            )
        ).clamp(0, 1),
    )
)


def test_wilson_by_hand():
    # 2 of 10 wrong at 95 %: (2 + 1.92) / 13.84 = 0.283, give or take 0.2265.
    assert wilson(2, 10) == pytest.approx((0.0567, 0.5098), abs=1e-4)


@few
@given(errors=st.integers(0, 50), more=st.integers(0, 50), level=st.floats(0.5, 0.999))
def test_wilson_is_scipys(errors, more, level):
    trials = max(1, errors + more)
    theirs = stats.binomtest(errors, trials).proportion_ci(level, method="wilson")

    assert wilson(errors, trials, level) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(("errors", "trials"), [(-1, 3), (4, 3), (0, 0)])
def test_errors_are_some_of_the_trials(errors, trials):
    with pytest.raises(ValueError, match="from 0 to the number of trials"):
        wilson(errors, trials)


def test_the_rule_of_three():
    assert rule_of_three(300) == 0.01
    assert rule_of_three(1) == 1
    # It is what it stands for: with this rate, no error at all has a chance of 5 %.
    assert (1 - rule_of_three(1000)) ** 1000 == pytest.approx(0.05, rel=0.01)
    with pytest.raises(ValueError, match="at least one trial"):
        rule_of_three(0)


@few
@given(trials=st.integers(4, 10**9))
def test_trials_needed_turns_the_rule_of_three_round(trials):
    needed = trials_needed(3 / trials)

    assert needed == trials
    assert rule_of_three(needed) <= 3 / trials < rule_of_three(needed - 1)


@pytest.mark.parametrize("rate", [0, 1, -0.1, math.nan])
def test_a_rate_is_a_share(rate):
    with pytest.raises(ValueError, match="between 0 and 1"):
        trials_needed(rate)


def test_an_interval_by_hand():
    # A spread of 0.05 at 0.2 is that of 0.16 / 0.0025 = 64 trials. Student's quantile for 8
    # degrees of freedom is 2.306, squared 5.318.
    resampled = 0.2 + 0.05 * torch.tensor([-1.0, 1.0]).double().repeat(5000)
    low, high = interval(0.2, resampled, units=9, trials=1000)
    middle, reach = (0.2 + 5.318 / 128) / (1 + 5.318 / 64), 0.0

    reach = 2.306 / (1 + 5.318 / 64) * math.sqrt(0.16 / 64 + 5.318 / 4 / 64**2)
    assert (low.item(), high.item()) == pytest.approx((middle - reach, middle + reach), abs=1e-4)


def test_without_bounds_it_is_students():
    resampled = 2 + 0.1 * torch.tensor([-1.0, 1.0]).double().repeat(5000)
    low, high = interval(2.0, resampled, units=9, bounds=(-math.inf, math.inf))

    assert (low.item(), high.item()) == pytest.approx((2 - 0.2306, 2 + 0.2306), abs=1e-4)
    assert interval(0.1, resampled, units=9, bounds=(0, math.inf))[0].item() == 0


def test_without_bounds_it_lies_around_the_value_less_its_bias():
    # Resamples are above 1.95 by 0.05 on average, and so is it probably above the truth.
    resampled = 2 + 0.1 * torch.tensor([-1.0, 1.0]).double().repeat(5000)
    low, high = interval(1.95, resampled, units=9, bounds=(-math.inf, math.inf))

    assert (low.item(), high.item()) == pytest.approx((1.9 - 0.2306, 1.9 + 0.2306), abs=1e-4)
    # However large the bias, the value is in it.
    low, high = interval(1.0, resampled, units=9, bounds=(-math.inf, math.inf))
    assert (low.item(), high.item()) == (pytest.approx(-0.2306, abs=1e-4), 1.0)


@few
@given(seen=resamples, units=st.integers(2, 100), trials=st.integers(1, 1000))
def test_an_interval_holds_the_value_within_the_bounds_and_is_no_point(seen, units, trials):
    value, resampled = seen
    low, high = interval(value, resampled, units=units, trials=trials)

    assert 0 <= low <= value <= high <= 1
    assert high - low > 1 / (trials + 1)


@few
@given(seen=resamples, units=st.integers(2, 100))
def test_a_wider_level_is_wider(seen, units):
    value, resampled = seen
    low, high = interval(value, resampled, units=units, trials=100, level=0.8)
    lower, higher = interval(value, resampled, units=units, trials=100, level=0.95)

    assert lower <= low
    assert high <= higher


@few
@given(seen=resamples, units=st.integers(2, 100))
def test_errors_instead_of_hits_turn_it_round(seen, units):
    value, resampled = seen
    low, high = interval(value, resampled, units=units, trials=100)
    other = interval(1 - value, 1 - resampled, units=units, trials=100)

    torch.testing.assert_close((1 - high, 1 - low), other)


@few
@given(seen=resamples, units=st.integers(2, 100))
def test_other_bounds_are_another_unit(seen, units):
    value, resampled = seen
    low, high = interval(value, resampled, units=units, trials=100)
    scaled = interval(2 * value - 1, 2 * resampled - 1, units=units, trials=100, bounds=(-1, 1))

    torch.testing.assert_close((2 * low - 1, 2 * high - 1), scaled)


def test_many_values_at_once_are_each_alone():
    value = torch.tensor([0.0, 0.2, 0.9], dtype=torch.float64)
    resampled = value + 0.02 * torch.randn(100, 3, dtype=torch.float64)
    low, high = interval(value, resampled, units=9, trials=50)

    for k in range(3):
        alone = interval(value[k].item(), resampled[:, k], units=9, trials=50)
        torch.testing.assert_close((low[k], high[k]), alone)


def test_resamples_without_a_value_are_left_out():
    resampled = torch.linspace(0.1, 0.3, 100, dtype=torch.float64)
    some = torch.cat([resampled, torch.full((50,), torch.nan, dtype=torch.float64)])
    none = torch.full((50,), torch.nan, dtype=torch.float64)

    assert interval(0.2, some, units=9) == interval(0.2, resampled, units=9)
    # Where hardly any has a value nothing is known.
    assert [end.item() for end in interval(0.2, none, units=9)] == [0, 1]


def test_a_perfect_result_is_still_uncertain():
    perfect = torch.ones(100, dtype=torch.float64)
    low, high = interval(1.0, perfect, units=9, trials=90)

    # A little wider than the rule of three, since nine people are few.
    assert interval(1.0, perfect, units=18)[0] == interval(1.0, perfect, units=18, trials=72)[0]
    assert high == 1
    assert 1 - 2 * rule_of_three(90) < low < 1 - rule_of_three(90)


def test_trials_are_limited_by_pictures_and_by_people():
    # Three people with two pictures: three genuine pairs that share nothing, three pairs of people.
    assert (Trials(3, 6).genuine, Trials(3, 6).impostor, Trials(3, 6).both) == (3, 3, 6)
    # More pictures of the same people are no more people.
    assert Trials(9, 90).genuine == Trials(9, 9000).genuine == 36


@given(st.integers(1, 50), st.integers(2, 20))
def test_trials_of_people_with_equally_many_pictures_are_those_of_their_numbers(people, pictures):
    assert (
        Trials.of(torch.full((people,), pictures)).genuine
        == Trials(people, people * pictures).genuine
    )


def test_who_has_no_pair_adds_no_trials():
    # Three people with two pictures, one with a thousand, and ten thousand with none of their own.
    pictures = torch.tensor([2, 2, 2, 1000] + 10_000 * [0])
    assert Trials.of(pictures).genuine == 3 + 4
    # One probe each beside many enrolled pictures: nobody can be missed twice.
    probes = torch.ones_like(pictures)
    assert Trials.of(torch.tensor([5, 5, 5]), torch.tensor([1, 1, 1])).genuine == 3
    assert Trials.of(pictures, probes).impostor == Trials.of(pictures).impostor


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=30))
def test_no_more_people_count_than_there_are(numbers):
    counted = sum(number > 0 for number in numbers)
    assert 2 <= effective(torch.tensor(numbers)) <= max(2, counted) + 1e-9
    assert effective(torch.full((7,), 5)) == pytest.approx(7)


@pytest.mark.parametrize("level", [0, 1, 95])
def test_a_level_is_a_share(level):
    with pytest.raises(ValueError, match=r"got .*; 0.95 is usual"):
        interval(0.5, torch.rand(10), units=9, level=level)


def test_one_person_is_too_few_for_an_interval():
    with pytest.raises(ValueError, match="two identities or more"):
        interval(0.5, torch.rand(10), units=1)


def test_a_difference_by_hand():
    first = 0.9 + 0.01 * torch.tensor([-1.0, 1.0]).double().repeat(5000)
    second = 0.86 - 0.01 * torch.tensor([-1.0, 1.0]).double().repeat(5000)
    low, high, p = difference(0.9, 0.86, first, second, units=9)

    # 0.04 over 0.02 are two standard errors: p = 0.0805 with 8 degrees of freedom.
    assert p == pytest.approx(0.0805, abs=1e-4)
    assert (low, high) == pytest.approx((0.04 - 0.04612, 0.04 + 0.04612), abs=1e-4)
    assert low < 0 < high


@few
@given(value=st.floats(-0.5, 0.5), spread=st.floats(0.001, 0.2), level=st.floats(0.5, 0.99))
def test_p_and_interval_of_a_difference_agree(value, spread, level):
    resampled = value + spread * torch.linspace(-1, 1, 999, dtype=torch.float64)
    low, high, p = difference(value, 0, resampled, 0 * resampled, units=20, trials=100, level=level)
    turned = difference(0, value, 0 * resampled, resampled, units=20, trials=100, level=level)

    assert (low > 0 or high < 0) == (p < 1 - level) or abs(p - (1 - level)) < 1e-9
    assert p >= 1 / 1000
    assert turned == pytest.approx((-high, -low, p))


def test_what_is_the_same_for_both_cancels():
    hard = 0.1 * torch.randn(200, dtype=torch.float64)
    low, high, p = difference(0.9, 0.8, 0.9 + hard, 0.8 + hard, units=20)

    assert high - low < 1e-9
    assert p == 1 / 201


def test_two_perfect_systems_need_not_be_equal():
    perfect = torch.ones(100, dtype=torch.float64)
    low, high, p = difference(1.0, 1.0, perfect, perfect, units=9, trials=90)

    assert p == 1
    assert low < -0.02
    assert high > 0.02


def test_two_systems_are_compared_on_the_same_resamples():
    with pytest.raises(ValueError, match="got 10 of one and 11 of the other"):
        difference(0.5, 0.5, torch.rand(10), torch.rand(11), units=9)


SETS, PEOPLE, PICTURES = 200, 20, 6
THRESHOLD = torch.cat(
    [torch.tensor([-math.inf]), torch.linspace(0.2, 6, 59), torch.tensor([50.0])]
).double()
STRICT, LOOSE = 9, 14  # places of two thresholds
ALL = torch.arange(PEOPLE).repeat_interleave(PICTURES)
SAME = ALL[:, None] == ALL
ONCE = torch.ones_like(SAME).triu(1)


def simulated(people, generator):
    """People with a place, and a spread of his own each, in four dimensions."""
    place = torch.randn(people, 1, 4, generator=generator)
    spread = 0.45 * (0.4 * torch.randn(people, 1, 1, generator=generator)).exp()
    return place + spread * torch.randn(people, PICTURES, 4, generator=generator)


def cells_of(points):
    flat = points.flatten(end_dim=1)
    tally = Tally(THRESHOLD, PEOPLE)
    tally.add(torch.cdist(flat, flat), SAME & ONCE, ~SAME & ONCE, ALL, ALL)
    return tally.cells()


def four_numbers(counts):
    rates = [counts.auc(), counts.fnmr[..., STRICT], counts.fmr[..., LOOSE]]
    return torch.stack([*rates, counts.d_prime()], dim=-1)


@pytest.fixture(scope="module")
def sets():
    """Of each set of people the values, those on each resample, and those with pairs drawn."""
    generator, weights = torch.Generator().manual_seed(0), draws(PEOPLE, 200)
    chance, found = np.random.default_rng(0), []
    for _ in range(SETS):
        cells = cells_of(simulated(PEOPLE, generator))
        seen = cells.accepted()
        pairs = Accepted(THRESHOLD, *(drawn(c, chance) for c in (seen.genuine, seen.impostor)))
        found.append(
            (four_numbers(seen), four_numbers(cells.resampled(weights)), four_numbers(pairs))
        )
    return [torch.stack(each) for each in zip(*found, strict=True)]


def drawn(counts, chance):
    """As many pairs, drawn with replacement as if they were independent; 200 times."""
    each = counts.diff().double().numpy()
    new = chance.multinomial(int(counts[-1]), each / each.sum(), size=200)
    return torch.nn.functional.pad(torch.from_numpy(new).cumsum(dim=1), (1, 0))


@pytest.fixture(scope="module")
def truth():
    """The rates of 3,000 people, counted 20 at a time, each time with others."""
    generator = torch.Generator().manual_seed(1)
    seen = [cells_of(simulated(PEOPLE, generator)).accepted() for _ in range(150)]
    genuine, impostor = (sum(getattr(s, kind) for s in seen) for kind in ("genuine", "impostor"))
    return four_numbers(Accepted(THRESHOLD, genuine, impostor))


def held(values, resampled, truth):
    """In how many sets the interval of each number holds the truth."""
    trials = Trials(PEOPLE, PEOPLE * PICTURES)
    counts = []
    rate, any_number = (0, 1), (-math.inf, math.inf)
    kinds = (trials.both, rate), (trials.genuine, rate), (trials.impostor, rate), (1, any_number)
    for k, (most, bounds) in enumerate(kinds):
        low, high = interval(
            values[:, k], resampled[:, :, k].T, units=PEOPLE, trials=most, bounds=bounds
        )
        counts.append(int(((low <= truth[k]) & (truth[k] <= high)).sum()))
    return counts


def test_intervals_cover_at_their_nominal_rate_on_simulated_people(sets, truth):
    values, resampled, _ = sets

    # 95 % of 200 are 190; one set of 200 in a thousand holds fewer than 179 by chance alone.
    assert min(held(values, resampled, truth)) >= 179


def test_intervals_from_drawn_pairs_hold_the_truth_far_too_rarely(sets, truth):
    pairs = sets[2]
    ends = pairs.quantile(torch.tensor([0.025, 0.975]).double(), dim=1)
    covered = ((ends[0] <= truth) & (truth <= ends[1])).double().mean(dim=0)

    assert covered.max() < 0.75
    assert covered.min() < 0.5


def test_more_pictures_of_the_same_people_do_not_make_it_certain():
    points = simulated(PEOPLE, torch.Generator().manual_seed(2))
    again = points.repeat_interleave(3, dim=1).flatten(end_dim=1)
    who = torch.arange(PEOPLE).repeat_interleave(3 * PICTURES)
    same, once = who[:, None] == who, torch.ones(len(who), len(who)).triu(1).bool()
    tally = Tally(THRESHOLD, PEOPLE)
    tally.add(torch.cdist(again, again), same & once, ~same & once, who, who)
    widths = []
    for cells, pictures in ((cells_of(points), PICTURES), (tally.cells(), 3 * PICTURES)):
        trials = Trials(PEOPLE, PEOPLE * pictures)
        value, resampled = cells.accepted().auc(), cells.resampled(draws(PEOPLE)).auc()
        low, high = interval(value, resampled, units=PEOPLE, trials=trials.both)
        widths.append((high - low).item())

    assert widths[1] > 0.7 * widths[0]


def test_people_in_another_order_change_nothing_but_the_draw():
    points = simulated(PEOPLE, torch.Generator().manual_seed(2))
    order = torch.randperm(PEOPLE, generator=torch.Generator().manual_seed(3))
    weights = draws(PEOPLE, 50)
    one = four_numbers(cells_of(points).resampled(weights))
    other = four_numbers(cells_of(points[order]).resampled(weights[:, order]))

    torch.testing.assert_close(one, other)


def test_p_is_uniform_where_two_systems_are_equally_good():
    # Each sees two of four dimensions, so that who is hard for one is so for the other.
    generator, weights = torch.Generator().manual_seed(4), draws(PEOPLE, 200)
    p = []
    for _ in range(SETS):
        both = [cells_of(half) for half in simulated(PEOPLE, generator).split(2, dim=-1)]
        values = [cells.accepted().auc().item() for cells in both]
        drawn = [cells.resampled(weights).auc() for cells in both]
        trials = Trials(PEOPLE, PEOPLE * PICTURES).both
        p.append(difference(*values, *drawn, units=PEOPLE, trials=trials)[2])

    # The 99.9 % points of the Kolmogorov-Smirnov distance of 200 uniform numbers, and of the
    # number below 5 %.
    assert stats.kstest(p, "uniform").pvalue > 0.001
    assert 1 <= sum(each < 0.05 for each in p) <= 20

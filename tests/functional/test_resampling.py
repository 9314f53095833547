"""People drawn anew: counted by hand, and against pairs that are copied out one by one."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from siamlearn.functional.accepted import Accepted, accepted
from siamlearn.functional.resampling import Cells, Tally, draws, grid, groups, weighted_mean


def people(count, pictures, seed=0, digits=None):
    """Distances between pictures of simulated people, and whose they are."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(count, 1, 3, generator=generator)
    spread = 0.5 * torch.randn(count, 1, 1, generator=generator).exp()
    points = centres + spread * torch.randn(count, pictures, 3, generator=generator)
    points = points.flatten(end_dim=1).double()
    distance = torch.cdist(points, points)
    return (
        distance if digits is None else distance.round(decimals=digits),
        torch.arange(count).repeat_interleave(pictures),
    )


def tallied(distance, who, unit=None, threshold=None, rows=7):
    """Cells of all pairs, counted in strips."""
    once = torch.ones_like(distance).triu(1).bool()
    same = who[:, None] == who
    unit = who if unit is None else unit
    if threshold is None:
        threshold = grid(accepted(distance[same & once], distance[~same & once]))
    tally = Tally(threshold, int(unit.max()) + 1)
    for start in range(0, len(who), rows):
        rows_ = slice(start, start + rows)
        genuine, impostor = (same & once)[rows_], (~same & once)[rows_]
        tally.add(distance[rows_], genuine, impostor, unit[rows_], unit)
    return tally.cells()


def copied_out(distance, who, weights):
    """Genuine and impostor distances, each written down as often as its people were drawn."""
    genuine, impostor = [], []
    for i, j in itertools.combinations(range(len(who)), 2):
        a, b = int(weights[who[i]]), int(weights[who[j]])
        if who[i] == who[j]:
            genuine += [distance[i, j]] * a
        else:
            impostor += [distance[i, j]] * (a * b)
    return torch.stack(genuine), torch.stack(impostor)


def test_a_resample_by_hand():
    # Anna twice and Bob once, and Carl not at all: Anna's pair counts twice, and so does her pair
    # with Bob, 1 * 2; who is not there has no pairs.
    threshold = torch.tensor([-torch.inf, 1.0, 2.0], dtype=torch.float64)
    genuine = torch.tensor([[0, 1, 1], [0, 0, 1], [0, 1, 1]])
    impostor = torch.zeros(3, 3, 3, dtype=torch.int64)
    impostor[0, 1] = torch.tensor([0, 1, 2])
    impostor[2, 0] = torch.tensor([0, 2, 2])
    impostor[1, 2] = torch.tensor([0, 0, 2])

    drawn = Cells(threshold, genuine, impostor).resampled(torch.tensor([[2.0, 1, 0]]).double())

    assert drawn.fnmr[0].tolist() == pytest.approx([1, 1 / 3, 0])
    assert drawn.fmr[0].tolist() == pytest.approx([0, 0.5, 1])


@settings(max_examples=25)
@given(seed=st.integers(0, 100), digits=st.sampled_from([None, 1]))
def test_a_resample_is_the_pairs_copied_out(seed, digits):
    distance, who = people(5, 3, seed, digits)
    weights = draws(5, 3, seed)
    drawn = tallied(distance, who).resampled(weights)

    for row in range(3):
        hand = accepted(*copied_out(distance, who, weights[row]))
        one = Accepted(drawn.threshold, drawn.genuine[row], drawn.impostor[row])
        torch.testing.assert_close(one.auc(), hand.auc())
        torch.testing.assert_close(one.eer()[0], hand.eer()[0])
        torch.testing.assert_close(one.d_prime(), hand.d_prime())
        torch.testing.assert_close(one.fnmr_at(0.1), hand.fnmr_at(0.1))
        torch.testing.assert_close(one.best()[0], hand.best()[0])


@settings(max_examples=25)
@given(seed=st.integers(0, 100), rows=st.integers(1, 20))
def test_strips_count_as_all_at_once(seed, rows):
    distance, who = people(6, 3, seed, digits=1)
    once = torch.ones_like(distance).triu(1).bool()
    same = who[:, None] == who
    exact = accepted(distance[same & once], distance[~same & once])

    cells = tallied(distance, who, rows=rows)

    assert cells.threshold.tolist() == exact.threshold.tolist()
    assert cells.accepted().genuine.tolist() == exact.genuine.tolist()
    assert cells.accepted().impostor.tolist() == exact.impostor.tolist()


def test_nobody_drawn_twice_changes_nothing():
    cells = tallied(*people(8, 4))
    drawn = cells.resampled(torch.ones(1, 8, dtype=torch.float64))

    torch.testing.assert_close(drawn.fmr[0], cells.accepted().fmr)
    torch.testing.assert_close(drawn.average_precision()[0], cells.accepted().average_precision())


def test_precision_is_of_one_mixture_whoever_is_drawn():
    cells = tallied(*people(4, 3))
    drawn, seen = cells.resampled(draws(4, 50)), cells.accepted()
    ratio = drawn.impostor[:, -1] / drawn.genuine[:, -1]

    torch.testing.assert_close(
        ratio, (seen.impostor[-1] / seen.genuine[-1]).double().expand_as(ratio)
    )


def test_pairs_within_a_group_count_as_often_as_the_group():
    distance, who = people(4, 3)
    cells = tallied(distance, who, unit=who // 2)
    drawn = cells.resampled(torch.tensor([[2.0, 0.0]]).double())
    inside = tallied(distance[:6, :6], who[:6], threshold=cells.threshold).accepted()

    torch.testing.assert_close(drawn.fmr[0], inside.fmr)
    torch.testing.assert_close(drawn.fnmr[0], inside.fnmr)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [1e-3, 1.0, 40.0])
def test_the_table_finds_what_the_binary_search_finds(dtype, spread):
    # With a wide spread hundreds of thresholds are in one cell of the table, which is then left.
    generator = torch.Generator().manual_seed(0)
    distance = torch.randn(60, 60, generator=generator, dtype=dtype).mul(spread).exp()
    distance[0, :2] = torch.tensor([0.0, torch.inf])
    threshold = distance.flatten().double().sort().values[::7]
    threshold = torch.cat([torch.tensor([-torch.inf]).double(), threshold]).unique()
    everything = torch.ones_like(distance).bool()
    tally = Tally(threshold, 1)
    zeros = torch.zeros(60, dtype=torch.int64)
    tally.add(distance, everything, ~everything, zeros, zeros)

    counts = (distance.double().flatten()[:, None] <= threshold).sum(dim=0)
    counts[-1] = distance.numel()

    assert tally.cells().genuine[0].tolist() == counts.tolist()


def test_a_threshold_between_two_floats_is_not_rounded_up():
    # 0.1 as a float32 is above 0.1 as a float64: such a distance is rejected at 0.1.
    threshold = torch.tensor([-torch.inf, 0.1, 0.5, 1.0], dtype=torch.float64)
    tally = Tally(threshold, 1)
    one = torch.ones(1, 1, dtype=torch.bool)
    zero = torch.zeros(1, dtype=torch.int64)
    tally.add(torch.tensor([[0.1]]), one, ~one, zero, zero)

    assert tally.cells().genuine[0].tolist() == [0, 0, 1, 1]


def test_a_long_grid_changes_rates_but_little():
    distance, who = people(60, 8)
    once = torch.ones_like(distance).triu(1).bool()
    same = who[:, None] == who
    exact = accepted(distance[same & once], distance[~same & once])
    threshold = grid(exact, at=(1.234,))
    coarse = tallied(distance, who, threshold=threshold, rows=100).accepted()

    assert len(threshold) <= 1003
    assert 1.234 in threshold
    assert [rate.item() for rate in coarse.at(1.234)] == [rate.item() for rate in exact.at(1.234)]
    assert coarse.auc().item() == pytest.approx(exact.auc().item(), abs=1e-3)
    for fmr in (0.1, 0.01, 0.001):
        assert coarse.fnmr_at(fmr).item() == pytest.approx(exact.fnmr_at(fmr).item(), abs=0.01)
    assert coarse.d_prime().item() == pytest.approx(exact.d_prime().item(), abs=0.02)


def test_draws_are_a_function_of_their_arguments():
    assert draws(9, 20, seed=3).tolist() == draws(9, 20, seed=3).tolist()
    assert draws(9, 20, seed=3).tolist() != draws(9, 20, seed=4).tolist()
    # And of nothing else: these were drawn once, with another version of numpy perhaps.
    assert draws(4, 3).tolist() == KNOWN


KNOWN = [[3, 0, 1, 0], [0, 1, 1, 2], [2, 1, 1, 0]]


@settings(max_examples=25)
@given(units=st.integers(2, 30), seed=st.integers(0, 1000))
def test_as_many_are_drawn_as_there_are_and_never_one_alone(units, seed):
    weights = draws(units, 50, seed)

    assert (weights.sum(dim=1) == units).all()
    assert ((weights > 0).sum(dim=1) > 1).all()


def test_each_unit_is_drawn_as_often_as_chance_has_it():
    weights = draws(20, 20000)

    # Mean 1 and variance 19/20; the standard errors are 0.007 and about 0.02.
    assert (weights.mean(dim=0) - 1).abs().max() < 0.03
    assert (weights.var(dim=0) - 0.95).abs().max() < 0.06


def test_one_person_is_too_few():
    with pytest.raises(ValueError, match="two identities or more to draw from, got 1"):
        draws(1)


def test_weights_must_be_of_these_units():
    with pytest.raises(ValueError, match="got 3 for 8"):
        tallied(*people(8, 2)).resampled(draws(3, 5))


@settings(max_examples=50)
@given(identities=st.integers(1, 500))
def test_groups_are_of_equal_size(identities):
    size = groups(identities).bincount(minlength=min(identities, 100))

    assert len(size) == min(identities, 100)
    assert size.max() - size.min() <= 1


def test_neighbours_are_in_different_groups_mostly():
    unit = groups(1000)

    assert (unit.diff() == 0).double().mean() < 0.05
    assert unit.tolist() != groups(1000, seed=1).tolist()


def test_groups_give_the_spread_that_people_give():
    # 120 people one by one, and in 40 groups: the same spread, but for that of 40 squares.
    distance, who = people(120, 3)
    single = tallied(distance, who, rows=100)
    grouped = tallied(distance, who, groups(120, most=40)[who], single.threshold, rows=100)
    one, other = (c.resampled(draws(c.units, 500)).auc().std() for c in (single, grouped))

    assert other.item() == pytest.approx(one.item(), rel=0.3)


def test_a_mean_over_probes_counts_them_as_often_as_their_person():
    values = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.5], [torch.nan, 0.0]])
    counted = torch.tensor([True, True, True, False])
    weights = torch.tensor([[1.0, 1.0, 1.0], [0.0, 3.0, 0.0], [1.0, 0.0, 2.0]]).double()

    mean = weighted_mean(values, torch.tensor([0, 0, 1, 2]), weights, counted)

    assert mean[:2].tolist() == [[pytest.approx(1 / 3), pytest.approx(2.5 / 3)], [0.0, 0.5]]
    assert mean[2].tolist() == [0.5, 1.0]


def test_half_of_a_failure_is_put_down_to_the_rival():
    # Bob's only probe is taken for Carl. Without Carl half of that failure is gone.
    right, who = torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0, 1, 2])
    rivals = torch.tensor([1, 2, 0])
    weights = torch.tensor([[1.0, 1.0, 1.0], [2.0, 1.0, 0.0], [0.0, 1.0, 2.0]]).double()

    mean = weighted_mean(right, who, weights, rivals=rivals)

    assert mean.tolist() == pytest.approx([2 / 3, 1 - 0.5 / 3, 1 - 1.5 / 3])

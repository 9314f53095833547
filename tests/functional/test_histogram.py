import re
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from siamlearn.comparison import compare, strips
from siamlearn.embeddings import Embeddings
from siamlearn.functional.accepted import accepted
from siamlearn.functional.histogram import Histogram, PairCounter, bounds

floats = st.floats(width=32, allow_nan=False)
near = st.floats(0, 2, width=32)


@st.composite
def pairs(draw, values=near):
    distance = draw(st.lists(values, min_size=2, max_size=50))
    same = [True, False, *draw(st.lists(st.booleans(), min_size=len(distance) - 2, max_size=48))]
    return torch.tensor(distance), torch.tensor(same[: len(distance)])


def counted(distance, same, **how):
    histogram = Histogram(**how)
    histogram.add(distance, same)
    return histogram.accepted()


# --- By hand --------------------------------------------------------------------------------------


def test_bins_by_hand():
    # With one digit after the leading one, 0.5, 0.75, 1, 1.5, 2, 3 … begin a bin.
    seen = counted(
        torch.tensor([0.5, 0.7, 0.75, 1.4, 1.5]), torch.tensor([1, 1, 0, 1, 0]).bool(), digits=1
    )

    assert seen.nearest.tolist() == [-torch.inf, 0.5, 0.75, 1.0, 1.5]
    ends = [np.nextafter(np.float32(end), np.float32(0)) for end in (0.75, 1, 1.5, 2)]
    assert seen.threshold.tolist() == [-torch.inf, *ends]
    assert seen.genuine.tolist() == [0, 2, 2, 3, 3]
    assert seen.impostor.tolist() == [0, 0, 1, 1, 2]
    assert not seen.exact


def test_bounds_by_hand():
    # In one bin a genuine and an impostor pair; in the next an impostor pair alone.
    seen = counted(torch.tensor([0.5, 0.6, 0.8]), torch.tensor([True, False, False]), digits=1)
    found = bounds(seen, fmr=[0.1, 0.5])

    assert seen.auc() == 0.75
    assert found.auc == (0.5, 1.0)
    assert found.eer == (0.0, 0.5)
    assert found.balanced_accuracy == (0.75, 1.0)
    assert found.average_precision == (0.5, 1.0)
    assert found.fnmr_at == {0.1: (0.0, 1.0), 0.5: (0.0, 0.0)}
    assert found.widest == 1
    assert str(found) == "within 1"


def test_a_threshold_lies_between_bins_and_never_within_one():
    seen = counted(torch.tensor([0.5, 0.8, 0.9]), torch.tensor([True, False, False]), digits=1)

    threshold = seen.threshold_at(0.1)
    assert threshold == seen.threshold[1]  # the bins are neighbours
    assert seen.at(threshold) == (0, 0)
    apart = counted(torch.tensor([0.5, 1.6]), torch.tensor([True, False]), digits=1)
    assert apart.best()[1].item() == pytest.approx((0.75 + 1.5) / 2)
    nobody = apart.midway(torch.tensor(0))
    assert nobody < 0.5
    assert nobody.isfinite()


# --- Laws -----------------------------------------------------------------------------------------


@given(some=pairs(floats), digits=st.integers(1, 16))
def test_counts_at_the_ends_of_bins_are_exact(some, digits):
    distance, same = some
    seen = counted(distance, same, digits=digits)

    exact = accepted(distance[same], distance[~same])
    assert seen.pairs == exact.pairs
    for end, right, wrong in zip(seen.threshold, seen.genuine, seen.impostor, strict=True):
        if end > -torch.inf:
            assert int((distance[same] <= end).sum()) == right
            assert int((distance[~same] <= end).sum()) == wrong


@example(some=(torch.tensor([0.0, -1e-45]), torch.tensor([True, False])), digits=1)
@given(some=pairs(floats), digits=st.integers(1, 16))
def test_bins_follow_each_other_and_hold_what_is_in_them(some, digits):
    distance, same = some
    seen = counted(distance, same, digits=digits)
    least, most = seen.nearest[1:], seen.threshold[1:]

    assert (least <= most).all()
    assert (most[:-1] < least[1:]).all()
    place = torch.searchsorted(most, distance)
    assert (least[place] <= distance).all()
    assert (distance <= most[place]).all()


@given(some=pairs(), digits=st.integers(1, 16), fmr=st.floats(0.01, 0.9))
def test_numbers_of_the_distances_lie_within_the_bounds(some, digits, fmr):
    distance, same = some
    seen = counted(distance, same, digits=digits)
    exact = accepted(distance[same], distance[~same])
    found = bounds(seen, fmr=[fmr])

    def within(value, low_and_high):
        low, high = low_and_high
        return low - 1e-12 <= value.item() <= high + 1e-12

    for one in (exact, seen):
        assert within(one.auc(), found.auc)
        assert within(one.eer()[0], found.eer)
        assert within(one.best()[0], found.balanced_accuracy)
        assert within(one.average_precision(), found.average_precision)
        assert within(one.fnmr_at(fmr), found.fnmr_at[fmr])


@given(some=pairs(), fmr=st.floats(0.01, 0.9))
def test_bins_never_promise_a_lower_rate_than_the_distances_give(some, fmr):
    distance, same = some
    seen = counted(distance, same, digits=3)
    exact = accepted(distance[same], distance[~same])

    assert seen.fnmr_at(fmr) >= exact.fnmr_at(fmr)
    assert seen.best()[0] <= exact.best()[0]
    assert exact.at(seen.threshold_at(fmr))[0] <= fmr


@given(some=pairs(floats), cuts=st.lists(st.integers(0, 50), max_size=4), seed=st.integers(0, 99))
def test_any_order_and_division_gives_the_same(some, cuts, seed):
    distance, same = some
    order = torch.randperm(len(distance), generator=torch.Generator().manual_seed(seed))
    ends = [0, *sorted(min(cut, len(distance)) for cut in cuts), len(distance)]
    merged = Histogram(digits=4)
    for start, stop in pairwise(ends):
        part = Histogram(digits=4)
        part.add(distance[order[start:stop]], same[order[start:stop]])
        merged = part + merged

    whole = counted(distance, same, digits=4)
    for one, other in zip(vars(merged.accepted()).values(), vars(whole).values(), strict=True):
        assert torch.equal(one, other)


@given(seed=st.integers(0, 99), rows=st.integers(1, 6), start=st.integers(0, 6))
def test_only_pairs_that_count_are_counted(seed, rows, start):
    generator = torch.Generator().manual_seed(seed)
    distance = torch.rand(rows, 12, generator=generator)
    same, once = (torch.rand(rows, 12, generator=generator) < 0.5 for _ in range(2))
    once[:, :start] = False
    histogram, counter = Histogram(), PairCounter()
    histogram.add(distance, same, once)
    counter.add(distance, same, once)

    expected = counted(distance[once], same[once])
    assert torch.equal(histogram.accepted().genuine, expected.genuine)
    assert torch.equal(histogram.accepted().impostor, expected.impostor)
    assert counter.pairs == expected.pairs
    exact = accepted(distance[same & once], distance[~same & once])
    for name in ("threshold", "genuine", "impostor"):
        assert torch.equal(getattr(counter.accepted(), name), getattr(exact, name))


@given(some=pairs(), exactly=st.integers(0, 60))
def test_a_tally_is_exact_up_to_its_limit_and_a_histogram_beyond(some, exactly):
    distance, same = some
    counter = PairCounter(exactly=exactly)
    blocks = [
        SimpleNamespace(distance=d[None], same=s[None], once=torch.ones(1, 1).bool())
        for d, s in zip(distance[:, None], same[:, None], strict=True)
    ]
    assert list(counter.watching(blocks)) == blocks

    few = len(distance) <= exactly
    expected = accepted(distance[same], distance[~same]) if few else counted(distance, same)
    found = counter.accepted()
    assert found.exact == few
    assert counter.pairs == expected.pairs
    assert torch.equal(found.threshold, expected.threshold)
    assert torch.equal(found.genuine, expected.genuine)
    assert torch.equal(found.impostor, expected.impostor)


@given(
    at=st.lists(st.integers(0, 5), min_size=3, max_size=12),
    seed=st.integers(0, 99),
    height=st.integers(1, 5),
    gallery=st.booleans(),
    sessions=st.booleans(),
)
def test_strips_are_counted_as_all_pairs_at_once(at, seed, height, gallery, sessions):
    generator = torch.Generator().manual_seed(seed)
    who, when = (torch.randint(3, (len(at),), generator=generator) for _ in range(2))
    names = tuple(f"{place}.png" for place in range(len(at)))
    probes = Embeddings(
        torch.tensor(at).float()[:, None],
        who,
        ("a", "b", "c"),
        names,
        sessions=tuple(map(str, when.tolist())) if sessions else None,
    )
    against = probes.subset(range(0, len(at), 2)) if gallery else None
    histogram, counter = Histogram(), PairCounter()
    for strip in counter.watching(strips(probes, against, height=height)):
        histogram.add(strip.distance, strip.same, strip.once)

    found = compare(probes, against)
    whole = accepted(found.genuine, found.impostor)
    binned = histogram.accepted()  # whole numbers up to 5 have bins of their own
    assert torch.equal(binned.genuine, whole.genuine)
    assert torch.equal(binned.impostor, whole.impostor)
    assert torch.equal(binned.nearest, whole.threshold)
    assert torch.equal(counter.accepted().impostor, whole.impostor)


def test_fourteen_digits_leave_little_open():
    generator = torch.Generator().manual_seed(0)
    distance = torch.cat(
        [
            0.6 + 0.1 * torch.randn(20_000, generator=generator),
            1.0 + 0.1 * torch.randn(200_000, generator=generator),
        ]
    )
    same = torch.arange(len(distance)) < 20_000
    found = bounds(counted(distance, same))
    exact = accepted(distance[same], distance[~same])

    assert found.widest < 2e-3
    assert found.auc[1] - found.auc[0] < 2e-5
    assert counted(distance, same).auc().item() == pytest.approx(exact.auc().item(), abs=1e-8)
    assert counted(distance, same).d_prime().item() == pytest.approx(
        exact.d_prime().item(), abs=1e-4
    )


# --- Edges ----------------------------------------------------------------------------------------


def test_zero_of_either_sign_and_infinity_have_a_place():
    distance = torch.tensor([0.0, -0.0, torch.inf, -1.0, -torch.inf])
    seen = counted(distance, torch.tensor([True, True, False, True, False]))

    assert seen.at(-1.5) == (0.5, 1)
    assert seen.at(-0.5)[1].item() == pytest.approx(2 / 3)
    assert seen.at(1e-30) == (0.5, 0)
    assert seen.threshold[-1] == torch.inf


def test_nan_is_refused_wherever_it_stands():
    same = torch.tensor([True, False, False])
    for counts in (Histogram(), PairCounter()):
        with pytest.raises(ValueError, match="must be numbers, got NaN for 1 of the pairs"):
            counts.add(torch.tensor([0.5, torch.nan, 0.5]), same)
        counts.add(torch.tensor([]), same[:0])
        assert counts.pairs == (0, 0)


@pytest.mark.parametrize("digits", [0, 17])
def test_digits_have_a_range(digits):
    with pytest.raises(ValueError, match=f"from 1 to 16, got {digits}"):
        Histogram(digits=digits)


def test_histograms_of_other_bins_are_not_added():
    with pytest.raises(ValueError, match=re.escape("the same bins to be added, got 3 and 4")):
        Histogram(digits=3) + Histogram(digits=4)


def test_exact_counts_leave_nothing_open():
    found = bounds(accepted(torch.tensor([0.1, 0.4]), torch.tensor([0.3, 0.4])))

    assert found.widest == 0
    assert found.auc == (0.625, 0.625)

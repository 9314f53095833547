import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from siamlearn.functional import retrieval
from siamlearn.functional.retrieval import (
    average_precision,
    map_at_r,
    ndcg,
    not_farther,
    places,
    r_precision,
    within,
)

MEASURES = [average_precision, map_at_r, ndcg, r_precision]


@st.composite
def orders(draw):
    """Which references of a list are right, nearest first, with at least one of them."""
    order = draw(st.lists(st.booleans(), min_size=1, max_size=12))
    order[draw(st.integers(0, len(order) - 1))] = True
    return order


def place_of(order: list[bool]) -> torch.Tensor:
    """The same as places, with some room for nobody behind."""
    right = [i for i, right in enumerate(order, start=1) if right]
    return torch.tensor([[*right, 0, 0]])


def average_precision_by_loop(order: list[bool]) -> float:
    at = [sum(order[:i]) / i for i in range(1, len(order) + 1) if order[i - 1]]
    return sum(at) / sum(order)


def map_at_r_by_loop(order: list[bool]) -> float:
    r = sum(order)
    at = [sum(order[:i]) / i for i in range(1, r + 1) if order[i - 1]]
    return sum(at) / r


def r_precision_by_loop(order: list[bool]) -> float:
    return sum(order[: sum(order)]) / sum(order)


def ndcg_by_loop(order: list[bool]) -> float:
    def gain(order: list[bool]) -> float:
        return sum(right / math.log2(1 + i) for i, right in enumerate(order, start=1))

    return gain(order) / gain(sorted(order, reverse=True))


BY_LOOP = {
    average_precision: average_precision_by_loop,
    map_at_r: map_at_r_by_loop,
    r_precision: r_precision_by_loop,
    ndcg: ndcg_by_loop,
}


@pytest.mark.parametrize(
    ("measure", "value"),
    [
        # Right at places 1, 3 and 6 of 6: precision there is 1, 2/3 and 1/2.
        (average_precision, (1 + 2 / 3 + 1 / 2) / 3),
        # Of the first three, two are right.
        (r_precision, 2 / 3),
        (map_at_r, (1 + 2 / 3) / 3),
        (ndcg, (1 + 1 / 2 + 1 / math.log2(7)) / (1 + 1 / math.log2(3) + 1 / 2)),
    ],
)
def test_values_by_hand(measure, value):
    assert measure(torch.tensor([[1, 3, 6]])).item() == pytest.approx(value)


@pytest.mark.parametrize("measure", MEASURES)
@given(order=orders())
def test_measures_are_what_their_loops_say(measure, order):
    assert measure(place_of(order)).item() == pytest.approx(BY_LOOP[measure](order))


@given(order=orders())
def test_scikit_learn_agrees_where_there_are_no_ties(order):
    score, place = range(len(order), 0, -1), place_of(order)

    assert average_precision(place).item() == pytest.approx(average_precision_score(order, score))
    if len(order) > 1:
        assert ndcg(place).item() == pytest.approx(ndcg_score([order], [list(score)]))


@pytest.mark.parametrize("measure", MEASURES)
def test_only_right_references_in_front_are_perfect(measure):
    assert measure(torch.tensor([[1, 2, 3], [1, 2, 0]])).tolist() == [1, 1]


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("room", [0, 2])
def test_a_query_without_a_right_reference_has_no_value(measure, room):
    assert measure(torch.zeros(3, room, dtype=torch.int64)).isnan().all()


@pytest.mark.parametrize("measure", MEASURES)
@given(order=orders())
def test_another_wrong_reference_in_front_never_helps(measure, order):
    assert measure(place_of([False, *order])) <= measure(place_of(order))


@given(order=orders(), longest=st.integers(1, 15))
def test_counts_within_are_what_the_list_says(order, longest):
    counts = [sum(order[:k]) for k in range(1, longest + 1)]

    assert within(place_of(order), longest).tolist() == [counts]


def test_places_by_hand():
    # The wrong one at 0.5 comes before the right one there; two right ones at 0.7 stand together.
    right = torch.tensor([[0.5, 0.7, 0.7, torch.inf]])
    before = not_farther(right, torch.tensor([[0.5, 0.1, 0.8, torch.inf]]))
    counts = {"relevant": torch.tensor([3]), "others": torch.tensor([3])}

    assert before[:, :3].tolist() == [[2, 2, 2]]
    assert places(right, before, **counts).tolist() == [[3, 4, 5, 0]]


def test_a_right_reference_infinitely_far_stands_behind_all_wrong_ones():
    right = torch.tensor([[0.2, torch.inf, torch.inf]])
    before = not_farther(right, torch.tensor([[torch.inf, 0.1, torch.inf]]))  # the last is none
    counts = {"relevant": torch.tensor([3]), "others": torch.tensor([2])}

    assert places(right, before, **counts).tolist() == [[2, 4, 5]]


@given(seed=st.integers(0, 999), m=st.integers(0, 6), unknown=st.booleans())
def test_sorting_and_comparing_count_the_same(seed, m, unknown):
    generator = torch.Generator().manual_seed(seed)
    right, wrong = (torch.randint(6, (4, n), generator=generator) / 4 for n in (m, 9))
    if unknown:
        wrong[1, 1], wrong[2, 2], wrong[3, 3] = torch.nan, -torch.inf, torch.inf
        right[1, 3:], right[2, :2] = torch.inf, -torch.inf
    before = wrong.clone()
    with pytest.MonkeyPatch.context() as patch:
        compared = not_farther(right, wrong)
        patch.setattr(retrieval, "FEW", -1)
        by_sorting = not_farther(right, wrong)

    assert by_sorting.equal(compared)
    assert compared.equal((~(wrong[:, None] > right[:, :, None])).sum(dim=2))
    torch.testing.assert_close(wrong, before, rtol=0, atol=0, equal_nan=True)

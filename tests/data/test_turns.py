from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from siamlearn.data.turns import BLOCK, Identities, Turns, hashed


def one_each(people):
    return Identities.of(range(people))


def test_hashes_are_those_of_splitmix64():
    # The first three outputs of the reference code for the seed 1234567.
    assert hashed(1234567, np.arange(3)).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_pictures_are_grouped_by_label_by_hand():
    identities = Identities.of([7, -2, 7, 5])

    assert identities.code.tolist() == [2, 0, 2, 1]
    assert identities.count.tolist() == [1, 1, 2]
    assert identities.order.tolist() == [1, 3, 0, 2]


@pytest.mark.parametrize(
    "labels",
    [
        np.array([3, -1, 3, 3, 2**40]),
        np.array([3, -1, 3, 3, 9], dtype=np.int8),
        np.array([2**63, 0, 2**63, 2**63, 2**64 - 1], dtype=np.uint64),
        torch.tensor([3, -1, 3, 3, 7]),
        torch.tensor([3, -1, 3, 3, 7], dtype=torch.int16),
        (2**63 - 1, -(2**63), 2**63 - 1, 2**63 - 1, 2**63),
        [10**30, -(10**30), 10**30, 10**30, 10**30 + 1],
        [True, False, True, True, 2],
    ],
    ids=["int64", "int8", "uint64", "tensor", "int16 tensor", "edge", "beyond 64 bits", "bool"],
)
def test_labels_may_be_any_integers(labels):
    assert Identities.of(labels).code.tolist() == [1, 0, 1, 1, 2]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "there are no labels"),
        (torch.zeros(2, 2), r"got an array of shape \(2, 2\)"),
        (np.array(3), r"got an array of shape \(\)"),
        ([0.5, 1.0], "must be integers, got float"),
        (["anna", "bob"], "must be integers, got str"),
        (torch.tensor([0.5]), "must be integers, got float"),
    ],
)
def test_labels_of_another_kind_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        Identities.of(labels)


@given(people=st.integers(1, 9), together=st.integers(1, 9), epoch=st.integers(0, 2**40))
def test_everybody_has_a_turn_before_anybody_has_the_next(people, together, epoch):
    together = min(people, together)
    turns = Turns(one_each(people), together=together, name="test", seed=3)
    places = 30 * together

    shown = turns.at(epoch, np.arange(places))[:, 0]

    counts = np.zeros(people, dtype=int)
    for identity in shown:
        counts[identity] += 1
        assert counts.max() - counts.min() <= 1
    for group in shown.reshape(-1, together):
        assert len(set(group.tolist())) == together


@settings(max_examples=40)
@given(people=st.sampled_from([2, 7, 100, 3000]), places=st.lists(st.integers(0, 2 * BLOCK)))
def test_a_place_is_the_same_alone_in_any_company_and_in_any_order(people, places):
    def turns():
        return Turns(one_each(people), together=2, name="test", seed=0)

    every = turns().at(1, np.arange(2 * BLOCK + 1))[:, 0]
    several = turns()

    assert several.at(1, np.array(places, dtype=np.int64))[:, 0].tolist() == every[places].tolist()
    for place in places[:3]:
        assert several.at(1, np.array([place])).item() == every[place]


def test_an_epoch_does_not_linger_in_the_next():
    turns = Turns(one_each(50), name="test", seed=0)
    first = turns.at(0, np.arange(50))

    assert not np.array_equal(turns.at(1, np.arange(50)), first)
    assert np.array_equal(turns.at(0, np.arange(50)), first)


@given(count=st.integers(1, 12), k=st.integers(1, 15), laps=st.integers(1, 3))
def test_pictures_take_turns(count, k, laps):
    identities = Identities.of([0] * count)
    visits = laps * -(-count // k)

    shown = identities.pictures(9, np.zeros(visits, dtype=np.int64), np.arange(visits), k)

    for visit in shown:
        often = Counter(visit.tolist())
        assert set(often.values()) <= {k // count, -(-k // count)}
    for lap in np.split(shown, laps):
        assert set(lap.ravel().tolist()) == set(range(count))


@pytest.mark.parametrize(("count", "k"), [(2, 2), (4, 2), (5, 1), (4, 4)])
def test_every_order_of_the_pictures_is_as_likely(count, k):
    draws = 40_000
    # Only the first visit of each lap: a new order each time.
    visits = np.arange(draws) * -(-count // k)

    shown = Identities.of([0] * count).pictures(5, np.zeros_like(visits), visits, k)

    often = Counter(map(tuple, shown.tolist()))
    orders = list(permutations(range(count), k))
    expected = draws / len(orders)
    assert all(abs(often[order] - expected) < 5 * expected**0.5 for order in orders)

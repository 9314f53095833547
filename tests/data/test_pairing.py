from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from siamlearn.data.pairing import HardNegatives, ListedPairs, RandomNegatives, RandomPositives
from siamlearn.functional.distances import cosine

LINE = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0]])
LABELS = [0, 0, 1, 1, 2]


def drawn(part, epoch=0, slots=40):
    left, right = part(epoch, np.arange(slots))
    return list(zip(left.tolist(), right.tolist(), strict=True))


@given(
    sizes=st.lists(st.integers(1, 5), min_size=2, max_size=8).filter(lambda s: max(s) > 1),
    slots=st.integers(1, 60),
    seed=st.integers(0, 2**63 - 1),
)
def test_positives_and_negatives_are_what_they_say_and_even(sizes, slots, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    several = np.flatnonzero(np.array(sizes) > 1)

    positives = np.array(drawn(RandomPositives(labels, seed=seed), slots=slots))
    assert (labels[positives[:, 0]] == labels[positives[:, 1]]).all()
    assert (positives[:, 0] != positives[:, 1]).all()
    often = np.bincount(labels[positives[:, 0]], minlength=len(sizes))[several]
    assert often.max() - often.min() <= 1

    negatives = np.array(drawn(RandomNegatives(labels, seed=seed), slots=slots))
    assert (labels[negatives[:, 0]] != labels[negatives[:, 1]]).all()
    often = np.bincount(labels[negatives].ravel(), minlength=len(sizes))
    assert often.max() - often.min() <= 1


def test_two_pictures_a_person_are_every_pair_there_is_in_one_pass():
    assert {frozenset(pair) for pair in drawn(RandomPositives([0, 1, 1, 0]), slots=2)} == {
        frozenset({0, 3}),
        frozenset({1, 2}),
    }


@pytest.mark.parametrize("part", [RandomPositives, RandomNegatives, HardNegatives])
def test_a_new_epoch_or_seed_is_a_new_draw(part):
    labels = np.arange(40) // 4

    assert drawn(part(labels), 0) == drawn(part(labels), 0)
    assert drawn(part(labels), 0) != drawn(part(labels), 1)
    assert drawn(part(labels), 0) != drawn(part(labels, seed=1), 0)


def test_hard_negatives_by_hand():
    negatives = HardNegatives(LABELS, nearest=1)
    negatives.update(LINE)

    # Picture 1 at 1.0 and picture 2 at 2.0 face each other; picture 3 at 10 faces 4 at 11.
    assert set(drawn(negatives)) == {(0, 2), (1, 2), (2, 1), (3, 4), (4, 3)}


def test_hard_negatives_take_the_distance_they_are_told():
    vectors = torch.tensor([[1.0, 0.0], [9.0, 0.1], [1.0, 1.0]])
    near, aligned = HardNegatives([0, 1, 2], nearest=1), HardNegatives([0, 1, 2], nearest=1)
    aligned.distance = cosine
    near.update(vectors)
    aligned.update(vectors)

    assert (0, 2) in drawn(near)
    assert (0, 1) in drawn(aligned)


@given(nearest=st.integers(1, 9), seed=st.integers(0, 9))
def test_hard_negatives_are_among_the_nearest_others_and_left_pictures_take_turns(nearest, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 5, (30,), generator=generator)
    vectors = torch.randn(30, 3, generator=generator)
    negatives = HardNegatives(labels, nearest=nearest, seed=seed)
    negatives.update(vectors)

    pairs = drawn(negatives, slots=60)

    for left, right in pairs:
        distance = (vectors - vectors[left]).norm(dim=1)
        others = distance[labels != labels[left]].sort().values
        assert labels[left] != labels[right]
        assert distance[right] <= others[nearest - 1] + 1e-6
    often = Counter(int(labels[left]) for left, _ in pairs)
    assert max(often.values()) - min(often.values()) <= 1
    assert len({right for _, right in pairs}) > 1


def test_many_pictures_of_one_person_leave_few_neighbours():
    negatives = HardNegatives([0, 0, 0, 1], nearest=10)
    negatives.update(torch.randn(4, 2, generator=torch.Generator().manual_seed(0)))

    assert negatives.neighbours.shape == (4, 1)
    assert all((left == 3) != (right == 3) for left, right in drawn(negatives))


def test_hard_negatives_are_random_until_they_know_better():
    assert drawn(HardNegatives(LABELS, seed=4)) == drawn(RandomNegatives(LABELS, seed=4))


def test_hard_negatives_go_on_from_their_saved_state():
    first = HardNegatives(LABELS, nearest=2)
    assert first.state_dict() == {}
    first.update(LINE)
    second = HardNegatives(LABELS, nearest=2)
    second.load_state_dict(first.state_dict())

    assert drawn(second, epoch=3) == drawn(first, epoch=3)
    second.load_state_dict({})
    assert drawn(second, epoch=3) == drawn(RandomNegatives(LABELS), epoch=3)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (LINE[:3], r"one row for each of the 5 pictures, got shape \(3, 1\)"),
        (LINE[:, 0], r"got shape \(5,\)"),
        (LINE / 0, "vectors must be finite"),
    ],
)
def test_embeddings_that_say_nothing_are_refused(vectors, message):
    with pytest.raises(ValueError, match=message):
        HardNegatives(LABELS).update(vectors)


def test_labels_that_allow_no_pair_are_refused():
    with pytest.raises(ValueError, match="each of the 3 identities has one; add pictures"):
        RandomPositives([0, 1, 2])
    for part in (RandomNegatives, HardNegatives):
        with pytest.raises(ValueError, match="negative pairs need two identities"):
            part([0, 0, 0])
    with pytest.raises(ValueError, match="nearest must be at least 1, got 0"):
        HardNegatives([0, 1], nearest=0)


@given(pairs=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=9))
def test_every_listed_pair_has_its_turn(pairs):
    part = ListedPairs(pairs)

    assert Counter(drawn(part, slots=3 * len(pairs))) == Counter(3 * pairs)


@pytest.mark.parametrize("pairs", [[], [1, 2], [(1, 2, 3)], torch.zeros(2, 2, 2)])
def test_a_list_that_is_not_of_pairs_is_refused(pairs):
    with pytest.raises(ValueError, match="pairs must be a list of two pictures each"):
        ListedPairs(pairs)


@pytest.mark.parametrize("pairs", [[(-1, 5)], [(0, 1), (2, -3)]])
def test_an_index_from_the_end_is_refused_in_a_list(pairs):
    with pytest.raises(ValueError, match=r"counted from 0, got \((-1, 5|2, -3)\)"):
        ListedPairs(pairs)

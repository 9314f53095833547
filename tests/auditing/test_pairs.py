"""Pairs from lists and samplers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Sampler

import siamlearn as sl
from siamlearn.auditing.pairs import paired, pairs_of
from siamlearn.auditing.parts import part_of

FACES = sl.DrawnFaces(6, 3, size=(28, 23))


def found(kind, train_pairs):
    given = paired(part_of("train", FACES), train_pairs)
    return [finding for finding in pairs_of(given) if finding.kind == kind]


class Halves(Sampler):
    """Batches of a left and a right half, as drawn by somebody else's code."""

    def __init__(self, *pairs):
        self.pairs = pairs

    def __iter__(self):
        for pairs in self.pairs:
            left, right = zip(*pairs, strict=True)
            yield [*left, *right]


pairs = st.lists(st.tuples(st.integers(0, 17), st.integers(0, 17)), min_size=1, max_size=40)


@given(drawn=pairs)
def test_pictures_paired_with_themselves_are_counted(drawn):
    own = [left for left, right in drawn if left == right]

    selves = found("self-pairs", drawn)

    assert [finding.count for finding in selves] == [len(own)] * (len(own) > 0)
    for finding in selves:
        assert finding.severity is sl.Severity.ERROR
        assert finding.examples == tuple(FACES.names[i] for i in dict.fromkeys(own))[:10]


@given(drawn=pairs)
def test_people_who_are_in_no_pair_are_named(drawn):
    shown = {index // 3 for pair in drawn for index in pair}
    missing = tuple(f"s{person + 1}" for person in range(6) if person not in shown)

    assert [finding.examples for finding in found("people-never-paired", drawn)] == [missing] * (
        len(missing) > 0
    )


def test_pairs_may_be_indices_names_arrays_tensors_listed_or_batches():
    part = part_of("train", FACES)
    expected = [[0, 4], [7, 7]]
    names = [tuple(FACES.names[index] for index in pair) for pair in expected]

    for given_ in (
        expected,
        names,
        np.array(expected),
        torch.tensor(expected),
        sl.ListedPairs(expected),
        Halves([(0, 4)], [(7, 7)]),
    ):
        assert paired(part, given_).pairs.tolist() == expected


def test_our_samplers_draw_no_picture_with_itself_and_leave_nobody_out():
    for sampler in (
        sl.PairSampler(FACES.labels, pairs=2, batches=2),
        sl.TripletSampler(FACES.labels, triplets=2, batches=2),
        sl.BalancedSampler(FACES.labels, identities=2, images=3, batches=1),
    ):
        before = sampler.state_dict()
        assert sl.audit(train=FACES, train_pairs=sampler).findings == ()
        assert sampler.state_dict() == before


def test_an_anchor_is_paired_with_each_of_the_other_parts():
    sampler = sl.TripletSampler(FACES.labels, triplets=6, batches=1)
    anchor, positive, negative = np.array(sampler.batch(0, 0)).reshape(3, -1)

    drawn = paired(part_of("train", FACES), sampler).pairs.tolist()

    first = [*zip(anchor, positive, strict=True), *zip(anchor, negative, strict=True)]
    assert drawn[:12] == [list(map(int, pair)) for pair in first]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([], "two pictures each, got shape"),
        ([(0, 1, 2)], r"two pictures each, got shape \(1, 3\)"),
        ([(0, 18)], r"pairs must be of the 18 pictures of train, 0 to 17, got \(0, 18\)"),
        ([(-1, 2)], r"got \(-1, 2\)"),
        ([("s1/1", "s9/1")], "pictures of train, which has none called 's9/1'"),
    ],
)
def test_pairs_that_are_none_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        sl.audit(train=FACES, train_pairs=wrong)


def test_a_batch_of_odd_length_has_no_halves():
    class Odd(Sampler):
        def __iter__(self):
            yield [0, 1, 2]

    with pytest.raises(ValueError, match="a left and a right half of equal length, got 3"):
        sl.audit(train=FACES, train_pairs=Odd())


def test_pairs_of_a_part_that_was_not_given_are_refused():
    with pytest.raises(ValueError, match="there is no test; pass test= too"):
        sl.audit(train=FACES, test_pairs=[(0, 1)])

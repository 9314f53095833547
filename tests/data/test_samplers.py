from collections import Counter
from copy import deepcopy
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from siamlearn.data.pairing import HardNegatives, ListedPairs
from siamlearn.data.samplers import BalancedSampler, PairSampler, TripletSampler

SEEDS = st.integers(0, 2**63 - 1)
TEN_PEOPLE = np.arange(40) // 4

# Every sampler, asked for batches of about four rows, with what the laws below need to know.
SAMPLERS = {
    "pairs": lambda labels, **more: PairSampler(labels, pairs=5, **more),
    "balanced": lambda labels, **more: BalancedSampler(labels, identities=2, images=3, **more),
    "triplets": lambda labels, **more: TripletSampler(labels, triplets=4, **more),
}
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS.keys())


@st.composite
def label_sets(draw):
    """Two or more identities of any sizes and any numbers, one of two pictures at least."""
    sizes = draw(st.lists(st.integers(1, 7), min_size=2, max_size=12).filter(lambda s: max(s) > 1))
    names = st.integers(-(2**63), 2**63 - 1)
    names = draw(st.lists(names, min_size=len(sizes), max_size=len(sizes), unique=True))
    return draw(st.permutations(np.repeat(np.array(names), sizes).tolist()))


def halves(batches):
    """The left and the right pictures of all pairs."""
    left, right = np.array(batches).reshape(len(batches), 2, -1).swapaxes(0, 1)
    return left, right


def spread(labels, among):
    """How much more often the most frequent of these identities is than the rarest."""
    often = Counter(np.ravel(labels).tolist())
    often = [often[identity] for identity in among]
    return max(often) - min(often)


# What every sampler promises


@every_sampler
@given(labels=label_sets(), seed=SEEDS, start=st.integers(0, 6))
def test_a_batch_is_a_pure_function_of_its_address(sampler, labels, seed, start):
    one = sampler(labels, batches=7, seed=seed)
    one.load_state_dict({"epoch": 5, "start": start})

    iterated = list(one)

    alone = [sampler(labels, batches=7, seed=seed).batch(5, k) for k in reversed(range(start, 7))]
    assert iterated == alone[::-1]
    assert all(type(picture) is int for batch in iterated for picture in batch)


@every_sampler
def test_an_epoch_is_whole_and_the_next_one_is_another_draw(sampler):
    first, same = sampler(TEN_PEOPLE, seed=7), sampler(TEN_PEOPLE, seed=7)
    other = sampler(TEN_PEOPLE, seed=8)

    epochs = [list(first) for _ in range(3)]

    assert [len(epoch) for epoch in epochs] == [len(first)] * 3
    assert epochs == [list(same) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != list(other)


@every_sampler
@given(labels=label_sets(), batches=st.integers(1, 5), used=st.integers(0, 12))
def test_saved_anywhere_it_goes_on_as_if_nothing_had_happened(sampler, labels, batches, used):
    def stream(sampler):
        while True:
            yield from sampler

    interrupted, whole = (sampler(labels, batches=batches) for _ in range(2))
    list(islice(stream(interrupted), used))
    state = interrupted.state_dict()
    resumed = sampler(labels, batches=batches)
    resumed.load_state_dict(state)

    assert state == {"epoch": used // batches, "start": used % batches}
    after = list(islice(stream(whole), used, used + 2 * batches))
    assert list(islice(stream(resumed), 2 * batches)) == after
    assert list(islice(stream(interrupted), 2 * batches)) == after


@every_sampler
@given(labels=label_sets(), ranks=st.integers(1, 5), seed=SEEDS)
def test_the_shares_of_the_ranks_make_the_batch_without_overlap(sampler, labels, ranks, seed):
    whole = sampler(labels, seed=seed, batches=3)
    ranks = min(ranks, whole.rows)
    every = [sampler(labels, seed=seed, batches=3, rank=r, ranks=ranks) for r in range(ranks)]

    for number, shares in enumerate(zip(*every, strict=True)):
        parts = [np.reshape(share, (whole.parts, -1)) for share in shares]
        assert np.concatenate(parts, axis=1).ravel().tolist() == whole.batch(0, number)
        assert max(map(len, shares)) - min(map(len, shares)) <= whole.parts
        for one, share in zip(every, shares, strict=True):
            assert one.share(0, number) == share
            assert one.batch(0, number) == whole.batch(0, number)


@every_sampler
@given(labels=label_sets())
def test_neither_the_container_nor_the_numbers_of_the_labels_matter(sampler, labels):
    numbered = np.unique(labels, return_inverse=True)[1]

    batches = list(sampler(labels))

    assert list(sampler(torch.tensor(labels))) == batches
    assert list(sampler(np.array(labels))) == batches
    assert list(sampler(numbered.tolist())) == batches


@every_sampler
def test_numbers_of_another_kind_are_the_same_address(sampler):
    one, other = sampler(TEN_PEOPLE, seed=5), sampler(TEN_PEOPLE, seed=np.int64(5))

    assert one.batch(3, 1) == other.batch(np.int64(3), np.int64(1))


@every_sampler
def test_one_pass_draws_as_many_pictures_as_there_are(sampler):
    one = sampler(np.arange(1000) // 5)
    pictures = one.rows * one.parts

    assert len(one) == -(-1000 // pictures)
    assert {len(batch) for batch in one} == {pictures}


@every_sampler
def test_a_loader_takes_it_and_a_copy_is_the_same(sampler):
    one = sampler(TEN_PEOPLE)
    copy = deepcopy(one)
    loader = DataLoader(TensorDataset(torch.arange(40)), batch_sampler=one)

    assert len(loader) == len(one)
    assert [pictures.tolist() for (pictures,) in loader] == list(copy)


@every_sampler
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batches": 0}, "batches must be at least 1, got 0"),
        ({"rank": 2, "ranks": 2}, "rank must be from 0 to ranks - 1, got rank 2 of 2"),
        ({"rank": -1}, "rank must be from 0 to ranks - 1"),
        ({"ranks": 9}, "each of 9 ranks needs a row"),
    ],
)
def test_an_impossible_epoch_or_share_is_refused(sampler, wrong, message):
    with pytest.raises(ValueError, match=message):
        sampler(TEN_PEOPLE, **wrong)


# Pairs


@given(labels=label_sets(), pairs=st.integers(1, 9), positive=st.floats(0, 1), seed=SEEDS)
def test_every_batch_has_exactly_its_share_of_positives(labels, pairs, positive, seed):
    sampler = PairSampler(labels, pairs=pairs, positive=positive, seed=seed, batches=4)

    left, right = halves(list(sampler))

    same = np.array(labels)[left] == np.array(labels)[right]
    assert (same.sum(axis=1) == round(positive * pairs)).all()
    assert (left != right).all()


@given(labels=label_sets(), pairs=st.integers(1, 9), batches=st.integers(1, 30), seed=SEEDS)
def test_identities_are_drawn_evenly_and_all_visited(labels, pairs, batches, seed):
    sampler = PairSampler(labels, pairs=pairs, batches=batches, seed=seed)
    everybody = set(labels)
    several = {identity for identity, often in Counter(labels).items() if often > 1}

    left, right = (np.array(labels)[half] for half in halves(list(sampler)))

    positive, negative = left[left == right], np.stack([left, right])[:, left != right]
    assert spread(positive, several) <= 1
    assert spread(negative, everybody) <= 1
    assert len(positive) < len(several) or set(positive.tolist()) == several
    assert negative.size < len(everybody) or set(negative.ravel().tolist()) == everybody


def test_nobody_is_left_out_of_an_ordinary_epoch():
    # Thirty people of ten pictures in batches of sixteen pairs, as with the AT&T faces.
    labels = np.arange(300) // 10
    left, right = halves(list(PairSampler(labels, pairs=16)))
    positive = labels[left] == labels[right]

    assert set(labels[left[positive]]) == set(range(30))
    assert set(labels[left[~positive]]) | set(labels[right[~positive]]) == set(range(30))
    # 80 negative pairs show 160 pictures in turn: five or six of the ten of each person.
    assert len({*left[~positive].tolist(), *right[~positive].tolist()}) == 160


@given(pairs=st.integers(1, 64), positive=st.floats(0, 1), ranks=st.integers(1, 8))
def test_every_rank_has_its_portion_of_positives_to_the_nearest_pair(pairs, positive, ranks):
    ranks = min(ranks, pairs)
    share = round(positive * pairs) / pairs

    for rank in range(ranks):
        sampler = PairSampler(TEN_PEOPLE, pairs=pairs, positive=positive, rank=rank, ranks=ranks)
        left, right = halves([next(iter(sampler))])
        same = (TEN_PEOPLE[left] == TEN_PEOPLE[right]).sum()
        assert abs(same - share * left.size) < 1


def test_pairs_from_lists_take_the_place_of_either_kind():
    labels = [0, 0, 0, 1, 1, 1]
    positives, negatives = [(0, 1), (4, 3)], [(2, 5), (1, 4)]
    sampler = PairSampler(
        labels,
        pairs=4,
        batches=3,
        positives=ListedPairs(positives),
        negatives=ListedPairs(negatives),
    )

    for batch in sampler:
        assert set(zip(batch[:4], batch[4:], strict=True)) == {*positives, *negatives}


def test_a_part_may_be_any_function():
    def neighbours(epoch, slots):
        return slots % 3, slots % 3 + 1 + epoch * 0

    sampler = PairSampler([0, 0, 0, 0, 1], pairs=3, positive=1, positives=neighbours)

    assert sampler.batch(0, 0) == [0, 1, 2, 1, 2, 3]


def test_hard_negatives_change_what_an_epoch_draws_when_they_are_updated():
    negatives = HardNegatives(TEN_PEOPLE, nearest=1)
    sampler = PairSampler(TEN_PEOPLE, pairs=4, negatives=negatives)
    before = sampler.batch(1, 0)
    # On a line, the only neighbours that show others stand at the edges of four pictures.
    negatives.update(torch.arange(40.0)[:, None])
    after = sampler.batch(1, 0)

    assert before != after
    left, right = halves([after])
    apart = TEN_PEOPLE[left] != TEN_PEOPLE[right]
    assert (abs(left - right)[apart] <= 4).all()


def test_a_part_that_draws_the_wrong_kind_is_found_out():
    wrong = PairSampler([0, 0, 1, 1], pairs=2, positives=ListedPairs([(0, 2)]))
    with pytest.raises(ValueError, match=r"positives must draw pairs of two pictures.*\(0, 2\)"):
        list(wrong)
    itself = PairSampler([0, 0, 1, 1], pairs=2, positives=ListedPairs([(3, 3)]))
    with pytest.raises(ValueError, match=r"drew \(3, 3\)"):
        list(itself)
    wrong = PairSampler([0, 0, 1, 1], pairs=2, negatives=ListedPairs([(0, 1)]))
    with pytest.raises(ValueError, match=r"negatives must draw pairs of two identities"):
        list(wrong)


def test_pairs_that_the_labels_do_not_allow_are_refused_unless_none_are_asked_for():
    with pytest.raises(ValueError, match="positive pairs need an identity with two pictures"):
        PairSampler([0, 1, 2], pairs=2)
    with pytest.raises(ValueError, match="negative pairs need two identities"):
        PairSampler([0, 0], pairs=2)
    with pytest.raises(ValueError, match="there are no labels"):
        PairSampler([], pairs=2)

    assert len(PairSampler([0, 1, 2], pairs=2, positive=0).batch(0, 0)) == 4
    assert sorted(PairSampler([0, 0], pairs=1, positive=1).batch(0, 0)) == [0, 1]


@pytest.mark.parametrize("positive", [-0.1, 1.1, float("nan")])
def test_a_share_outside_of_zero_to_one_is_refused(positive):
    with pytest.raises(ValueError, match="positive must be a share of the pairs, from 0 to 1"):
        PairSampler(TEN_PEOPLE, pairs=2, positive=positive)


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(ValueError, match="pairs must be at least 1, got 0"):
        PairSampler(TEN_PEOPLE, pairs=0)
    with pytest.raises(ValueError, match="triplets must be at least 1, got -2"):
        TripletSampler(TEN_PEOPLE, triplets=-2)
    with pytest.raises(ValueError, match="identities must be at least 1, got 0"):
        BalancedSampler(TEN_PEOPLE, identities=0, images=1)
    with pytest.raises(ValueError, match="images must be at least 1, got 0"):
        BalancedSampler(TEN_PEOPLE, identities=1, images=0)


# Identities times images


@given(
    labels=label_sets(),
    identities=st.integers(1, 12),
    images=st.integers(1, 8),
    batches=st.integers(1, 20),
    seed=SEEDS,
)
def test_a_balanced_batch_shows_identities_in_pictures(labels, identities, images, batches, seed):
    identities = min(identities, len(set(labels)))
    size = Counter(labels)
    visits = Counter()
    sampler = BalancedSampler(
        labels, identities=identities, images=images, batches=batches, seed=seed
    )

    for batch in sampler:
        pictures = np.reshape(batch, (images, identities))
        shown = np.array(labels)[pictures]
        assert (shown == shown[0]).all()
        assert len(set(shown[0].tolist())) == identities
        visits.update(shown[0].tolist())
        often = Counter(batch)
        for identity, column in zip(shown[0].tolist(), pictures.T, strict=True):
            least, most = images // size[identity], -(-images // size[identity])
            assert all(least <= often[picture] <= most for picture in column.tolist())
    counts = [visits[identity] for identity in size]
    assert max(counts) - min(counts) <= 1


def test_a_balanced_epoch_of_equal_sizes_shows_every_picture_once():
    sampler = BalancedSampler(np.arange(600) // 6, identities=10, images=3)

    assert sorted(picture for batch in sampler for picture in batch) == list(range(600))


def test_more_identities_than_there_are_is_refused():
    with pytest.raises(ValueError, match="asked to show 3 identities, but there are 2; pass"):
        BalancedSampler([0, 0, 1], identities=3, images=2)


# Triplets


@given(labels=label_sets(), triplets=st.integers(1, 6), batches=st.integers(1, 9), seed=SEEDS)
def test_triplets_are_anchor_positive_and_negative(labels, triplets, batches, seed):
    sampler = TripletSampler(labels, triplets=triplets, batches=batches, seed=seed)
    several = {identity for identity, often in Counter(labels).items() if often > 1}

    thirds = np.array(list(sampler)).reshape(batches, 3, triplets).swapaxes(0, 1)

    anchor, positive, negative = np.array(labels)[thirds]
    assert (anchor == positive).all()
    assert (thirds[0] != thirds[1]).all()
    assert (anchor != negative).all()
    assert spread(anchor, several) <= 1


def test_every_stranger_may_be_the_negative():
    labels = np.array([0, 0, 1, 2, 3, 3])
    anchor, _, negative = np.reshape(TripletSampler(labels, triplets=3000).batch(0, 0), (3, -1))

    often = Counter(zip(labels[anchor].tolist(), labels[negative].tolist(), strict=True))
    assert set(often) == {(0, 1), (0, 2), (0, 3), (3, 0), (3, 1), (3, 2)}
    assert all(abs(count - 500) < 5 * 500**0.5 for count in often.values())


def test_triplets_that_the_labels_do_not_allow_are_refused():
    with pytest.raises(ValueError, match="each of the 2 identities has one"):
        TripletSampler([0, 1], triplets=1)
    with pytest.raises(ValueError, match="triplets need two identities"):
        TripletSampler([0, 0], triplets=1)


@pytest.mark.parametrize("picture", [-1, 6])
def test_a_part_that_draws_a_picture_that_is_not_there_is_told(picture):
    def positives(epoch, slots):
        return np.full(len(slots), 5), np.full(len(slots), picture)

    sampler = PairSampler([0, 0, 1, 1, 2, 2], pairs=2, positive=1, positives=positives)
    with pytest.raises(ValueError, match=f"of the 6 pictures, 0 to 5, got {picture}"):
        sampler.batch(0, 0)


@pytest.mark.parametrize(
    ("sampler", "shown"),
    [
        (
            PairSampler([0, 0, 1, 1], pairs=2, batches=3, seed=7),
            "PairSampler(pairs=2, positive=0.5, seed=7, batches=3)",
        ),
        (
            BalancedSampler([0, 0, 1, 1], identities=2, images=1, rank=1, ranks=2),
            "BalancedSampler(identities=2, images=1, seed=0, batches=2, rank=1, ranks=2)",
        ),
        (
            TripletSampler([0, 0, 1, 1], triplets=4, seed=1),
            "TripletSampler(triplets=4, seed=1, batches=1)",
        ),
    ],
)
def test_a_sampler_shows_its_settings_and_not_its_pictures(sampler, shown):
    assert repr(sampler) == shown

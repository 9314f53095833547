import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from siamlearn.data.splits import between_identities, within_identities

SEEDS = st.integers(0, 2**63 - 1)


@st.composite
def labels(draw, *, people=(2, 12), pictures=(1, 6)):
    """Labels with gaps between them, in any order."""
    who = draw(st.lists(st.integers(0, 99), min_size=people[0], max_size=people[1], unique=True))
    many = [draw(st.integers(*pictures)) for _ in who]
    flat = [label for label, count in zip(who, many, strict=True) for _ in range(count)]
    return torch.tensor(draw(st.permutations(flat)))


def test_four_tenths_of_forty_people_are_sixteen():
    kept, held = between_identities(torch.arange(40).repeat_interleave(10))

    assert (len(kept), len(held)) == (240, 160)


@pytest.mark.parametrize(("share", "people"), [(0.01, 1), (0.25, 1), (0.5, 3), (0.7, 4), (0.99, 4)])
def test_a_share_is_rounded_but_leaves_somebody_on_either_side(share, people):
    _, held = between_identities(torch.arange(5), held_out=share)

    assert len(held) == people


@given(labels=labels(), share=st.floats(0.01, 0.99), seed=SEEDS)
def test_nobody_is_on_both_sides_and_no_picture_is_lost(labels, share, seed):
    kept, held = between_identities(labels, held_out=share, seed=seed)

    assert not set(labels[kept].tolist()) & set(labels[held].tolist())
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(len(labels)))
    assert len(kept)
    assert len(held)
    assert ascending(kept)
    assert ascending(held)


@given(labels=labels(), seed=SEEDS, data=st.data())
def test_the_order_of_pictures_does_not_change_who_is_held_out(labels, seed, data):
    order = torch.tensor(data.draw(st.permutations(range(len(labels)))))

    _, held = between_identities(labels, seed=seed)
    _, again = between_identities(labels[order], seed=seed)

    assert set(labels[held].tolist()) == set(labels[order][again].tolist())


@given(labels=labels(), seed=SEEDS, by=st.integers(1, 1000))
def test_other_numbers_for_the_same_people_change_nothing(labels, seed, by):
    for split in (between_identities, lambda *a, **k: within_identities(*a, pictures=1, **k)):
        numbers = labels.repeat(2)

        one, other = split(numbers, seed=seed), split(numbers * by + 7, seed=seed)

        assert all(map(torch.equal, one, other))


@given(labels=labels(people=(3, 12)), seed=SEEDS, data=st.data())
def test_those_held_out_stay_so_when_more_are(labels, seed, data):
    people = len(labels.unique())
    few = data.draw(st.integers(1, people - 2))

    _, held = between_identities(labels, held_out=few, seed=seed)
    _, more = between_identities(labels, held_out=few + 1, seed=seed)

    assert set(held.tolist()) < set(more.tolist())
    assert len(labels[held].unique()) == few


@given(labels=labels(pictures=(4, 7)), pictures=st.integers(1, 3), seed=SEEDS)
def test_everybody_has_as_many_in_the_gallery_and_the_rest_as_probes(labels, pictures, seed):
    gallery, probes = within_identities(labels, pictures=pictures, seed=seed)

    assert sorted([*gallery.tolist(), *probes.tolist()]) == list(range(len(labels)))
    assert labels[gallery].unique(return_counts=True)[1].unique().tolist() == [pictures]
    assert labels[gallery].unique().tolist() == labels.unique().tolist()
    assert labels[probes].unique().tolist() == labels.unique().tolist()
    assert ascending(gallery)
    assert ascending(probes)


@pytest.mark.parametrize(
    "split", [between_identities, lambda *a, **k: within_identities(*a, pictures=5, **k)]
)
def test_a_seed_gives_its_split_again_and_other_seeds_others(split):
    labels = torch.arange(40).repeat_interleave(10)

    splits = {tuple(split(labels, seed=seed)[1].tolist()) for seed in [*range(20), *range(20)]}

    assert len(splits) == 20


def test_everybody_is_held_out_as_often_as_anybody():
    # 2000 draws of 3 of 10: 600 each, give or take 20 (one standard deviation).
    held = [between_identities(torch.arange(10), held_out=3, seed=seed)[1] for seed in range(2000)]

    counts = torch.cat(held).bincount()

    assert counts.min() > 500
    assert counts.max() < 700


def test_every_picture_is_in_the_gallery_as_often_as_any():
    labels = torch.arange(4).repeat(5)
    drawn = [within_identities(labels, pictures=2, seed=seed)[0] for seed in range(1000)]

    counts = torch.cat(drawn).bincount()

    # 400 each, give or take 15.
    assert counts.min() > 325
    assert counts.max() < 475


@pytest.mark.parametrize("held_out", [0, 5, -1, 0.0, 1.0, 1.5, -0.2, float("nan"), True])
def test_a_split_that_leaves_a_side_empty_is_refused(held_out):
    with pytest.raises(ValueError, match="held_out"):
        between_identities(torch.arange(5), held_out=held_out)


@pytest.mark.parametrize("labels", [[], [3], [3, 3, 3]])
def test_one_person_cannot_be_split_from_others(labels):
    with pytest.raises(ValueError, match=r"two identities or more, got [01]"):
        between_identities(torch.tensor(labels, dtype=torch.int64))


def test_whoever_has_too_few_pictures_for_gallery_and_probe_is_named():
    with pytest.raises(ValueError, match=r"1 of 2 have fewer \(label 7 has 2\)"):
        within_identities(torch.tensor([3, 3, 3, 7, 7]), pictures=2)
    with pytest.raises(ValueError, match="1 or more"):
        within_identities(torch.tensor([3, 3]), pictures=0)


def ascending(indices: Tensor) -> bool:
    return bool((indices.diff() > 0).all())

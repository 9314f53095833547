from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import Flatten

from siamlearn.comparison import Protocol
from siamlearn.data import protocols
from siamlearn.data.att_faces import ATTFaces
from siamlearn.data.image_set import ImageSet
from siamlearn.data.images import from_arrays
from siamlearn.data.protocols import (
    Split,
    bob_atnt,
    closed_set,
    compared,
    leave_one_out,
    notebook,
    repeated_disjoint,
)
from siamlearn.embeddings import embed


def numbered(people: int = 40, pictures: int = 10, ending: str = ".pgm") -> ImageSet:
    """Tiny pictures with the names of the AT&T faces; each holds its own number."""
    names = [f"s{i}/{j}{ending}" for i in range(1, people + 1) for j in range(1, pictures + 1)]
    pixels = torch.arange(len(names)).remainder(256).to(torch.uint8).view(-1, 1, 1, 1)
    return from_arrays(pixels, [name.split("/")[0] for name in names], names=names)


IMAGES = numbered()
PUBLISHED = ["d9e55b48f192", "23cb156d6897", "0a6db3655aee", "612f8874c15b", "93cc9c455dbb"]
ALL = [notebook, repeated_disjoint, closed_set, leave_one_out, bob_atnt]


def test_every_protocol_is_here():
    assert sorted(
        ["Split", "compared", "content", *(protocol.__name__ for protocol in ALL)]
    ) == sorted(protocols.__all__)


def test_the_notebook_learns_from_s2_to_s31_and_tests_all_pairs_of_s32_to_s40():
    (split,) = notebook(IMAGES)

    assert split.train.people == tuple(f"s{i}" for i in range(2, 32))
    assert split.probes.people == tuple(f"s{i}" for i in range(32, 41))
    assert (len(split.train), len(split.probes), split.gallery) == (300, 90, None)


def test_bob_tests_the_20_people_who_are_not_its_world():
    (split,) = bob_atnt(IMAGES)

    # Of the protocol's own description: clients and picture numbers.
    world = [1, 2, 5, 6, 10, 11, 12, 14, 16, 17, 20, 21, 24, 26, 27, 29, 33, 34, 36, 39]
    others = [3, 4, 7, 8, 9, 13, 15, 18, 19, 22, 23, 25, 28, 30, 31, 32, 35, 37, 38, 40]
    assert split.train.people == tuple(f"s{i}" for i in world)
    assert len(split.train) == 200
    assert split.gallery is not None
    assert split.gallery.people == split.probes.people == tuple(f"s{i}" for i in others)
    assert split.gallery.names[:5] == tuple(f"s3/{j}.pgm" for j in (2, 4, 5, 7, 9))
    assert split.probes.names[:5] == tuple(f"s3/{j}.pgm" for j in (1, 3, 6, 8, 10))
    assert (len(split.gallery), len(split.probes)) == (100, 100)


def test_leave_one_out_asks_for_every_picture_once():
    splits = list(leave_one_out(IMAGES))

    assert len(splits) == 10
    for number, split in enumerate(splits, start=1):
        assert split.probes.names == tuple(f"s{i}/{number}.pgm" for i in range(1, 41))
        assert split.gallery is split.train
        assert sorted(split.train.names + split.probes.names) == sorted(IMAGES.names)


def test_twenty_splits_test_nine_people_whom_nobody_learns_from():
    splits = list(repeated_disjoint(IMAGES))

    assert len(splits) == 20
    assert len({split.digest for split in splits}) == 20
    for split in splits:
        assert (len(split.train.people), len(split.probes.people)) == (31, 9)
        assert not set(split.train.people) & set(split.probes.people)
        assert len(split.train) + len(split.probes) == 400
        assert split.gallery is None


def test_ten_closed_sets_know_everybody_by_five_pictures():
    splits = list(closed_set(IMAGES))

    assert len(splits) == 10
    assert len({split.digest for split in splits}) == 10
    for split in splits:
        assert split.gallery is split.train
        assert split.train.people == split.probes.people == IMAGES.people
        assert split.train.labels.bincount().unique().tolist() == [5]
        assert sorted(split.train.names + split.probes.names) == sorted(IMAGES.names)


@pytest.mark.parametrize("protocol", ALL, ids=lambda protocol: protocol.__name__)
def test_pictures_keep_their_names_numbers_and_bytes(protocol):
    at = {name: index for index, name in enumerate(IMAGES.names)}

    for split in protocol(IMAGES):
        for part in (split.train, split.probes, split.gallery or split.probes):
            index = [at[name] for name in part.names]
            assert torch.equal(part.pixels, IMAGES.pixels[index])
            assert torch.equal(part.labels, IMAGES.labels[index])
            assert part.identities == IMAGES.identities
        assert not set(split.train.names) & set(split.probes.names)


@pytest.mark.parametrize("protocol", ALL, ids=lambda protocol: protocol.__name__)
def test_a_protocol_gives_the_same_splits_again_whatever_the_pictures_show(protocol):
    digests = [split.digest for split in protocol(IMAGES)]
    others = from_arrays(torch.ones(400, 3, 2, 2), labels_of(IMAGES), names=IMAGES.names)

    assert [split.digest for split in protocol(IMAGES)] == digests
    assert [split.digest for split in protocol(others)] == digests
    assert len({split.name for split in protocol(IMAGES)}) == len(digests)


def test_the_splits_of_this_version_stay_what_they_are():
    """Published numbers are of these splits; who changes them starts a new series."""
    first = [next(protocol(IMAGES)).digest[:12] for protocol in ALL]

    assert first == PUBLISHED


@given(
    seeds=st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1)).filter(
        lambda s: s[0] != s[1]
    )
)
def test_other_seeds_give_other_splits(seeds):
    images = numbered(people=12, pictures=4)

    for protocol, how in ((repeated_disjoint, {"held_out": 4}), (closed_set, {"gallery": 2})):
        one, other = (
            [split.digest for split in protocol(images, repeats=5, seed=seed, **how)]
            for seed in seeds
        )
        assert one != other


def test_more_repeats_begin_with_the_same_splits():
    for protocol in (repeated_disjoint, closed_set):
        few, many = ([split.digest for split in protocol(IMAGES, repeats=n)] for n in (3, 6))
        assert many[:3] == few


def test_drawn_splits_need_no_att_faces():
    images = numbered(people=5, pictures=3)

    (split,) = repeated_disjoint(images, repeats=1, held_out=0.4)
    assert (len(split.train.people), len(split.probes.people)) == (3, 2)
    (split,) = closed_set(images, repeats=1, gallery=2)
    assert (len(split.train), len(split.probes)) == (10, 5)


@pytest.mark.parametrize("ending", ["", ".png"])
def test_pictures_of_other_endings_are_divided_alike(ending):
    images = numbered(ending=ending)

    for protocol in ALL:
        for split, same in zip(protocol(IMAGES), protocol(images), strict=True):
            assert [name.removesuffix(".pgm") for name in split.probes.names] == [
                name.removesuffix(ending) for name in same.probes.names
            ]


@pytest.mark.parametrize("protocol", [notebook, leave_one_out, bob_atnt])
@pytest.mark.parametrize(
    ("images", "what"),
    [
        (numbered(people=39), "there is no s40/1"),
        (numbered(pictures=9), "there is no s1/10"),
        (numbered(people=41), "these are 410"),
        (IMAGES.subset([]), "there is no s1/1"),
    ],
)
def test_other_pictures_are_told_at_once_which_protocols_suit_them(protocol, images, what):
    with pytest.raises(ValueError, match=rf"{what}; .* repeated_disjoint or closed_set"):
        protocol(images)


def test_what_cannot_be_drawn_is_told_at_once():
    with pytest.raises(ValueError, match="held_out"):
        repeated_disjoint(numbered(people=9))
    with pytest.raises(ValueError, match="s1 has 5"):
        closed_set(numbered(pictures=5))
    for protocol in (repeated_disjoint, closed_set):
        with pytest.raises(ValueError, match="repeats must be 1 or more"):
            protocol(IMAGES, repeats=0)


def test_a_split_cannot_be_changed():
    with pytest.raises(AttributeError):
        next(notebook(IMAGES)).name = "mine"  # type: ignore[misc]  # the point of the test


def test_digests_tell_parts_apart():
    a, b = IMAGES.subset([0, 1]), IMAGES.subset([2, 3])

    splits = [
        *(Split("x", a, b), Split("x", b, a), Split("y", a, b), Split("x", a, b, a)),
        *(Split("x", a, b, b), Split("x", a, b, IMAGES.subset([]))),
    ]

    assert all(one.digest != other.digest for one, other in pairwise(splits))
    assert len({split.digest for split in splits}) == 6


@pytest.mark.parametrize("protocol", ALL, ids=lambda protocol: protocol.__name__)
def test_a_split_has_the_hash_of_the_report_on_it(protocol):
    split = next(protocol(IMAGES))
    probes, gallery = (
        None if part is None else embed(Flatten(), part) for part in (split.probes, split.gallery)
    )

    assert Protocol.of(probes, gallery).digest == split.compared != split.digest
    assert compared(probes, gallery) == split.compared


def test_what_is_compared_is_told_apart_by_picture_person_session_and_side():
    probes = embed(Flatten(), IMAGES.subset(range(4)))
    others = [
        probes.subset([0, 1, 2]),
        replace(probes, names=("other", *probes.names[1:])),
        replace(probes, labels=probes.labels + 1),
        replace(probes, sessions=("1", "1", "2", "2")),
    ]
    found = [compared(probes), *map(compared, others), compared(probes, probes)]

    assert len(set(found)) == len(found)
    assert compared(probes.subset([3, 1, 0, 2])) == found[0]
    assert [Protocol.of(other).digest for other in others] == found[1:5]


def test_the_real_faces_have_every_protocol(att_faces_root):
    images = ATTFaces(att_faces_root)

    assert [len(list(protocol(images))) for protocol in ALL] == [1, 20, 10, 10, 1]
    assert [next(protocol(images)).digest[:12] for protocol in ALL] == PUBLISHED


def labels_of(images: ImageSet) -> list[str]:
    return [images.identities[label] for label in images.labels.tolist()]

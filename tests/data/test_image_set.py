import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from siamlearn.data.image_set import ImageSet
from siamlearn.data.images import from_arrays


def people(*counts: int, channels: int = 1) -> ImageSet:
    """Pictures of p0, p1 ..., so many of each, all different."""
    labels = [f"p{person}" for person, count in enumerate(counts) for _ in range(count)]
    pixels = torch.arange(len(labels) * channels * 9 * 8) % 251
    return from_arrays(pixels.to(torch.uint8).view(-1, channels, 9, 8), labels)


def test_a_picture_is_bytes_and_the_number_of_its_person():
    images = people(2, 1)

    picture, label = images[2]

    assert (picture.shape, picture.dtype, label) == ((1, 9, 8), torch.uint8, 1)
    assert len(images) == 3


def test_repr_says_what_is_inside():
    assert repr(people(2, 2)) == "ImageSet(4 pictures of 2 people: p0, p1; grey, 9 x 8; 2 each)"
    assert repr(people(1, 2, 3, 4, 5, channels=3)) == (
        "ImageSet(15 pictures of 5 people: p0, p1, p2, …, p4; colour, 9 x 8; 1 to 5 each)"
    )
    assert repr(people(1).subset([])) == "ImageSet(no pictures; grey, 9 x 8)"


def test_a_loader_gives_batches_of_bytes_and_labels():
    images = people(3, 3)

    batches = list(DataLoader(images, batch_sampler=[[5, 0], [1, 1]]))

    assert torch.equal(batches[0][0], images.pixels[[5, 0]])
    assert batches[0][1].tolist() == [1, 0]
    assert batches[1][0].dtype == torch.uint8
    assert len(batches) == 2


def test_a_loader_with_workers_gives_the_same():
    images = people(3, 3)
    batches = [[5, 0], [1, 1], [2, 4]]

    def read(workers):
        return list(DataLoader(images, batch_sampler=batches, num_workers=workers))

    for (pixels, labels), (others, same) in zip(read(0), read(2), strict=True):
        assert torch.equal(pixels, others)
        assert torch.equal(labels, same)


@given(data=st.data())
def test_a_subset_keeps_numbers_names_and_the_whole_list_of_people(data):
    images = people(2, 3, 1, 4)
    chosen = data.draw(st.lists(st.integers(0, len(images) - 1)))

    part = images.subset(chosen)

    assert part.identities == images.identities
    assert part.names == tuple(images.names[index] for index in chosen)
    assert part.labels.tolist() == [int(images.labels[index]) for index in chosen]
    assert torch.equal(part.pixels, images.pixels[chosen])
    assert set(part.people) == {name.split("/")[0] for name in part.names}


def test_a_subset_may_be_a_mask():
    images = people(2, 3)

    assert images.subset(images.labels == 1).names == ("p1/1", "p1/2", "p1/3")
    with pytest.raises(IndexError):
        images.subset(torch.tensor([True, False]))
    with pytest.raises(IndexError):
        images.subset([5])


def test_only_some_people_keep_their_pictures_in_order():
    images = people(1, 2, 1).subset([3, 2, 1, 0])

    part = images.only(["p2", "p1"])

    assert part.names == ("p2/1", "p1/2", "p1/1")
    assert part.people == ("p1", "p2")
    assert part.identities == ("p0", "p1", "p2")


def test_people_who_are_not_there_are_named():
    with pytest.raises(ValueError, match="no pictures of p9, p10; the people are p0, p1"):
        people(1, 1).only(["p10", "p0", "p9"])
    with pytest.raises(ValueError, match="no pictures of p1; the people are p0"):
        people(1, 1).subset([0]).only(["p1"])


def test_splitting_by_person_and_by_picture_loses_nothing():
    images = people(3, 4, 5, 3, 3)

    for one, other in (
        images.split_identities(held_out=2, seed=1),
        images.split_gallery(pictures=2, seed=1),
    ):
        assert sorted(one.names + other.names) == sorted(images.names)
        assert one.identities == other.identities == images.identities
    kept, held = images.split_identities(held_out=2, seed=1)
    assert not set(kept.people) & set(held.people)


def test_parts_can_be_split_again_in_the_numbering_of_the_whole():
    train, rest = people(*[2] * 10).split_identities(held_out=0.4, seed=0)
    calibration, test = rest.split_identities(held_out=0.5, seed=0)

    assert (len(train.people), len(calibration.people), len(test.people)) == (6, 2, 2)
    for part in (train, calibration, test):
        named = [part.identities[label] for label in part.labels.tolist()]
        assert named == [name.split("/")[0] for name in part.names]


def test_whoever_has_too_few_pictures_is_called_by_name():
    with pytest.raises(ValueError, match=r"p1 has 2"):
        people(3, 2).split_gallery(pictures=2)
    with pytest.raises(ValueError, match="two identities or more, got 1"):
        people(3).split_identities()


def test_renaming_people_changes_no_split():
    images = people(3, 3, 3, 3)
    renamed = ImageSet(
        images.pixels, images.labels, identities=["zoe", "yan", "ann", "bob"], names=images.names
    )

    for one, other in zip(images.split_identities(), renamed.split_identities(), strict=True):
        assert one.names == other.names


def test_the_digest_is_of_pictures_people_and_names():
    images = people(2, 2)
    other_pixels = images.pixels.clone()
    other_pixels[0, 0, 0, 0] += 1

    def digest(pixels=images.pixels, labels=images.labels, who=images.identities, names=None):
        return ImageSet(pixels, labels, identities=who, names=names or images.names).digest

    assert digest() == images.digest == images.subset(range(4)).digest
    others = {
        digest(pixels=other_pixels),
        digest(pixels=images.pixels.transpose(2, 3).contiguous()),
        digest(labels=images.labels.flip(0)),
        digest(who=["anna", "bob"]),
        digest(names=["1", "2", "3", "4"]),
        images.subset([1, 0, 2, 3]).digest,
        images.subset([]).digest,
    }
    assert len(others - {images.digest}) == 7


def test_the_digest_does_not_depend_on_how_the_pixels_lie_in_memory():
    images = people(2, 2)
    strided = images.pixels.transpose(2, 3).contiguous().transpose(2, 3)

    same = ImageSet(strided, images.labels, identities=images.identities, names=images.names)

    assert not same.pixels.is_contiguous()
    assert same.digest == images.digest


def test_it_can_be_sent_to_another_process():
    images = people(2, 1)

    assert pickle.loads(pickle.dumps(images)).digest == images.digest


def test_resizing_and_greying_keep_people_and_names():
    images = people(2, 1, channels=3)

    for other, shape in (
        (images.resized((4, 5)), (3, 4, 5)),
        (images.grey(), (1, 9, 8)),
        (images.grey().shaped((3, 18, 16)), (3, 18, 16)),
    ):
        assert other.shape == shape
        assert other.names == images.names
        assert torch.equal(other.labels, images.labels)
    assert images.shaped(images.shape) is images


BYTES = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
LABELS = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("pixels", "labels", "identities", "names", "message"),
    [
        (BYTES.float(), LABELS, "ab", "xy", "uint8 of shape .* got torch.float32"),
        (BYTES[:, 0], LABELS, "ab", "xy", r"got torch.uint8 of shape \(2, 4, 4\)"),
        (BYTES.expand(2, 4, 4, 4), LABELS, "ab", "xy", "1 channel .* or 3"),
        (BYTES[:, :, :0], LABELS, "ab", "xy", "a pixel or more"),
        (BYTES, LABELS[:1], "ab", "xy", r"each of the 2 pictures, got torch.int64 of shape \(1,\)"),
        (BYTES, LABELS.int(), "ab", "xy", "int64 .* got torch.int32"),
        (BYTES, LABELS, "ab", "x", "names must have one entry for each of the 2 pictures, got 1"),
        (BYTES, LABELS, "aa", "xy", "two are called 'a'"),
        (BYTES, LABELS, "a", "xy", "from 0 to 0, places in identities, got 0 to 1"),
        (BYTES, LABELS - 1, "ab", "xy", "got -1 to 0"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(pixels, labels, identities, names, message):
    with pytest.raises(ValueError, match=message):
        ImageSet(pixels, labels, identities=identities, names=names)

"""The same picture twice: byte for byte, re-encoded, brightened, resized, mirrored."""

from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import siamlearn as sl
from siamlearn.auditing.near_copies import ALIKE, detail, near_copies
from siamlearn.auditing.parts import part_of

FACES = sl.DrawnFaces(8, 4, size=(112, 92))
TRAIN, TEST = FACES.subset(range(16)), FACES.subset(range(16, 32))


def joined(images, pixels, who, names):
    """These pictures and some more."""
    people = [images.identities[label] for label in images.labels.tolist()]
    return sl.from_arrays(
        torch.cat([images.pixels, pixels]), people + who, names=[*images.names, *names]
    )


def found(kind, *args, **kwargs):
    return [finding for finding in sl.audit(*args, **kwargs) if finding.kind == kind]


def changed(pixels, change):
    """Each picture (1, h, w) as `change` makes it of an array (h, w)."""
    return torch.from_numpy(np.stack([change(picture[0].numpy()) for picture in pixels]))[:, None]


def jpeg(quality):
    def change(picture):
        file = BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=quality)
        return np.array(Image.open(file))

    return change


def resized(factor):
    def change(picture):
        height, width = picture.shape
        small = Image.fromarray(picture).resize((round(width * factor), round(height * factor)))
        return np.array(small.resize((width, height)))

    return change


def brighter(factor):
    return lambda picture: (picture.astype(float) * factor).clip(0, 255).astype(np.uint8)


def mirrored(change=lambda picture: picture):
    return lambda picture: change(picture[:, ::-1].copy())


CHANGES = {
    "JPEG 90": (jpeg(90), "near-identical"),
    "JPEG 50": (jpeg(50), "near-identical"),
    "half the size": (resized(0.5), "near-identical"),
    "larger": (resized(1.5), "near-identical"),
    "darker": (brighter(0.8), "near-identical"),
    "brighter": (brighter(1.1), "near-identical"),
    "mirrored": (mirrored(), "mirrored"),
    "mirrored JPEG 60": (mirrored(jpeg(60)), "mirrored"),
}


@settings(max_examples=10)
@given(planted=st.sets(st.integers(0, 15)), order=st.permutations(range(16)))
def test_as_many_identical_pictures_are_found_as_were_planted(planted, order):
    test = joined(
        TEST.subset(order), TRAIN.pixels[sorted(planted)], ["x"] * len(planted), map(str, planted)
    )

    leaks = found("identical-pictures", test, train=TRAIN)

    assert [leak.count for leak in leaks] == [len(planted)] * (len(planted) > 0)
    for leak in leaks:
        assert (leak.severity, leak.where) == (sl.Severity.ERROR, ("train", "test"))


@pytest.mark.parametrize("name", CHANGES)
def test_a_copy_is_found_however_it_was_changed(name):
    change, how = CHANGES[name]
    copies = changed(TRAIN.pixels[::5], change)
    test = joined(TEST, copies, ["x"] * len(copies), map(str, range(len(copies))))

    audit = sl.audit(test, train=TRAIN)

    [leak] = [finding for finding in audit if "pictures" in finding.kind]
    assert (leak.kind, leak.count) == (f"{how}-pictures", len(copies))
    assert leak.examples[0] == "train s1/1 = test 0"
    assert leak.severity is sl.Severity.WARNING


@settings(max_examples=5)
@given(planted=st.sets(st.integers(0, 15), min_size=1), seed=st.integers(0, 9))
def test_the_order_of_pictures_changes_no_finding(planted, seed):
    copies = changed(TRAIN.pixels[sorted(planted)], jpeg(80))
    test = joined(TEST, copies, ["x"] * len(planted), map(str, planted))
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))

    def findings(test, train):
        return {
            (finding.kind, finding.where, finding.count, finding.what)
            for finding in sl.audit(test, train=train, images=FACES)
        }

    assert findings(test, TRAIN) == findings(test.subset(order), TRAIN.subset(order[order < 16]))
    assert any(kind == "near-identical-pictures" for kind, *_ in findings(test, TRAIN))


def test_parts_of_other_sizes_and_in_colour_are_compared_too():
    small = TRAIN.subset([3, 7]).shaped((3, 56, 46))

    [leak] = found("near-identical-pictures", small, train=TRAIN)
    assert leak.examples == ("train s1/4 = test s1/4", "train s2/4 = test s2/4")


SHOTS = sl.DrawnFaces(40, 5, size=(112, 92), seed=7)
# Size and JPEG quality down to which copies are to be found.
KEPT = [((112, 92), 30), ((64, 53), 50), ((46, 38), 50), ((38, 32), 70), ((28, 23), 90)]


@pytest.mark.parametrize("turned", [False, True], ids=["", "mirrored"])
@pytest.mark.parametrize(("size", "quality"), KEPT)
def test_copies_of_small_pictures_are_found_and_no_other_shots(size, quality, turned):
    faces = SHOTS.resized(size)
    change = mirrored(jpeg(quality)) if turned else jpeg(quality)
    copies = sl.from_arrays(changed(faces.pixels, change), ["x"] * len(faces), names=faces.names)
    how = "mirrored" if turned else "near-identical"

    assert [*near_copies({"train": part_of("train", faces)})] == []
    [leak] = [
        each
        for each in near_copies({"train": part_of("train", faces), "test": part_of("test", copies)})
        if each.where == ("train", "test")
    ]
    assert leak.kind == f"{how}-pictures"
    assert leak.count >= 0.95 * len(faces)


@pytest.mark.parametrize("size", [(112, 92), (56, 46), (46, 38), (28, 23), (20, 16), (14, 12)])
def test_shots_of_real_people_are_no_copies_at_any_size(att_faces_root, size):
    faces = sl.ATTFaces(att_faces_root).only([f"s{number}" for number in range(32, 41)])
    assert [*near_copies({"images": part_of("images", faces.resized(size))})] == []


@pytest.mark.parametrize(
    ("size", "lost"),
    [
        ((112, 92), None),
        ((46, 38), "copies of JPEG quality below 50, as small as the pictures of test are"),
        ((28, 23), "copies of JPEG quality below 90, as"),
        ((14, 12), "copies saved as JPEG, as small"),
    ],
)
def test_copies_that_cannot_be_found_are_told(size, lost):
    audit = sl.audit(TEST.resized(size), train=TRAIN)
    told = [each for each in audit.unchecked if each.startswith("copies")]

    assert len(told) == (lost is not None)
    assert all(lost in each for each in told)


def test_one_picture_under_two_peoples_names_is_an_error():
    twice = joined(TRAIN, TRAIN.pixels[:1], ["s2"], ["copy"])

    [conflict] = found("one-picture-two-people", train=twice)
    assert conflict.severity is sl.Severity.ERROR
    assert conflict.examples == ("s1/1 (s1) = copy (s2)",)

    mirror = joined(TRAIN, TRAIN.pixels[:1].flip(3), ["s2"], ["copy"])
    [conflict] = found("one-picture-two-people", train=mirror)
    assert conflict.severity is sl.Severity.WARNING
    assert conflict.what == "1 mirrored pair of pictures has two people's names"


def test_copies_of_one_person_are_a_warning_where_they_are_tested_and_a_note_where_learned():
    twice = joined(TRAIN, TRAIN.pixels[:1].repeat(3, 1, 1, 1), ["s1"] * 3, "abc")

    [tested] = found("identical-pictures", twice)
    [learned] = found("identical-pictures", train=twice)
    assert (tested.severity, tested.count) == (sl.Severity.WARNING, 3)
    assert (learned.severity, learned.count) == (sl.Severity.NOTE, 3)
    assert tested.examples == ("s1/1 = a", "s1/1 = b", "s1/1 = c")


def test_a_probe_that_is_in_the_gallery_is_known_again_and_no_finding():
    assert found("identical-pictures", TRAIN, gallery=TRAIN) == []

    renamed = sl.from_arrays(TRAIN.pixels, ["x"] * 16)
    [copied] = found("identical-pictures", renamed, gallery=TRAIN)
    assert copied.count == 16


def test_embeddings_without_pictures_are_compared_by_their_bytes():
    def embeddings(vectors):
        names = tuple(map(str, range(len(vectors))))
        return sl.Embeddings(vectors, torch.arange(len(vectors)), names, names)

    one, other = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    other[2] = one[5]

    [leak] = found("identical-pictures", embeddings(other), train=embeddings(one))
    assert leak.examples == ("train 5 = test 2",)
    # Those of a dead net are all alike, but the pictures need not be.
    assert found("identical-pictures", embeddings(0 * other), train=embeddings(0 * one)) == []


def test_a_copy_that_is_its_own_mirror_image_is_told_once():
    half = TRAIN.pixels[:1, ..., :46]
    symmetric = torch.cat([half, half.flip(3)], dim=3)
    train = joined(TRAIN, symmetric, ["x"], ["x"])
    test = joined(TEST, changed(symmetric, jpeg(90)), ["y"], ["y"])

    leaks = [finding.kind for finding in sl.audit(test, train=train) if len(finding.where) == 2]
    assert leaks == ["near-identical-pictures"]


def test_pictures_that_show_nothing_are_no_copies_of_each_other():
    grey = torch.arange(8, dtype=torch.uint8)[:, None, None, None].expand(8, 1, 28, 23).clone()
    grey[..., 12:] += 1  # the faintest of edges
    blank = sl.from_arrays(grey, [*"abcdefgh"])

    assert found("near-identical-pictures", blank) == []
    assert found("one-picture-two-people", blank) == []


def test_the_limit_lies_between_two_shots_and_a_copy_on_people_it_was_not_chosen_on(att_faces_root):
    faces = sl.ATTFaces(att_faces_root).only([f"s{number}" for number in range(32, 41)])
    small = detail(faces)
    shots = small.flatten(1) @ small.flatten(1).mT
    mirrors = small.flip(2).flatten(1) @ small.flatten(1).mT

    assert shots.fill_diagonal_(0).max() < ALIKE - 0.01
    assert mirrors.fill_diagonal_(0).max() < ALIKE - 0.1
    for change, _ in list(CHANGES.values())[:5]:
        copies = detail(sl.from_arrays(changed(faces.pixels, change), ["x"] * len(faces)))
        assert (small * copies).sum(dim=(1, 2)).min() > ALIKE + 0.01

import io

import numpy as np
import pytest

from siamlearn.data.att_check import check, differences, fingerprint, originals, picture

# Stand-ins for the pictures: three people, three each.
NAMES = [f"s{person}/{number}.pgm" for person in (1, 2, 3) for number in (1, 2, 3)]
TRUE = {
    name: np.random.default_rng(index).integers(0, 256, (112, 92), np.uint8)
    for index, name in enumerate(NAMES)
}
EXPECTED = {name: fingerprint(pixels) for name, pixels in TRUE.items()}
OTHER = np.zeros((112, 92), np.uint8)


def test_the_list_has_every_picture_once():
    assert list(originals()) == [f"s{i}/{j}.pgm" for i in range(1, 41) for j in range(1, 11)]
    assert len(set(originals().values())) == 400
    assert {len(digest) for digest in originals().values()} == {64}


def test_true_pictures_pass():
    assert differences(TRUE, EXPECTED) == []
    check(TRUE, EXPECTED, where="memory")


def test_pictures_beyond_the_published_ones_are_passed_over():
    assert differences(TRUE | {"s4/1.pgm": OTHER}, EXPECTED) == []


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"s2/2.pgm": None}, "s2: 2.pgm missing"),
        ({"s2/1.pgm": None, "s2/3.pgm": None}, "s2: 1.pgm, 3.pgm missing"),
        (dict.fromkeys(NAMES[3:6]), "s2: missing"),
        ({"s3/2.pgm": OTHER}, "s3: 2.pgm differs"),
        ({"s3/2.pgm": OTHER, "s3/1.pgm": None}, "s3: 1.pgm missing; 2.pgm differs"),
        (
            dict.fromkeys(NAMES[6:], OTHER),
            "s3: all 3 pictures differ (is it another person?)",
        ),
        ({"s1/1.pgm": "truncated"}, "s1: 1.pgm unreadable (truncated)"),
        ({"s1/1.pgm": TRUE["s3/2.pgm"]}, "s1: 1.pgm is the original s3/2.pgm"),
        ({"s1/3.pgm": OTHER[::4, ::4]}, "s1: 3.pgm is of 23 x 28 pixels, not of 92 x 112"),
        (
            {"s1/1.pgm": TRUE["s1/2.pgm"], "s1/2.pgm": TRUE["s1/1.pgm"]},
            "s1: 1.pgm is the original s1/2.pgm; 2.pgm is the original s1/1.pgm",
        ),
    ],
)
def test_what_is_wrong_with_a_person_is_said_in_a_line(changed, line):
    found = {name: pixels for name, pixels in (TRUE | changed).items() if pixels is not None}

    assert differences(found, EXPECTED) == [line]


def test_people_in_another_order_are_told_by_their_pictures():
    moved = {
        f"s{there}/{number}.pgm": TRUE[f"s{here}/{number}.pgm"]
        for here, there in ((1, 1), (2, 3), (3, 2))
        for number in (1, 2, 3)
    }

    assert differences(moved, EXPECTED) == [
        "s2: your s2 is the original s3",
        "s3: your s3 is the original s2",
    ]


def test_a_resized_copy_is_told_in_one_line():
    small = {name: pixels[::4, ::4] for name, pixels in TRUE.items()}

    assert differences(small, EXPECTED) == [
        "every picture is of 23 x 28 pixels, not of 92 x 112: a resized copy"
    ]


def test_the_same_bytes_in_rows_of_another_length_are_another_picture():
    turned = TRUE | {"s1/1.pgm": TRUE["s1/1.pgm"].reshape(92, 112)}

    assert differences(turned, EXPECTED) == ["s1: 1.pgm is of 112 x 92 pixels, not of 92 x 112"]


def test_the_message_names_place_differences_and_what_to_do():
    with pytest.raises(ValueError, match="here should hold the 9 AT&T faces") as error:
        check({}, EXPECTED, where="here")

    assert str(error.value).splitlines() == [
        "here should hold the 9 AT&T faces as they were published, but",
        "  s1: missing",
        "  s2: missing",
        "  s3: missing",
        "get a true copy, or read this one as it is with siamlearn.from_folder",
    ]


def test_a_picture_that_cannot_be_read_says_why():
    assert picture(io.BytesIO(b"hello")) == "not a picture that PIL can read"
    assert "truncated" in picture(io.BytesIO(b"P5 92 112 255 " + bytes(100)))


def test_what_is_wrong_with_several_pictures_is_said_of_several():
    small = TRUE["s3/1.pgm"][::4, ::4]
    found = TRUE | {"s3/1.pgm": small, "s3/2.pgm": small, "s1/1.pgm": OTHER, "s1/2.pgm": OTHER}

    assert differences(found, EXPECTED) == [
        "s1: 1.pgm, 2.pgm differ",
        "s3: 1.pgm, 2.pgm are of 23 x 28 pixels, not of 92 x 112",
    ]

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from siamlearn.data.images import from_arrays, from_csv, from_folder, from_torchvision, read_image


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """s2 with pictures 1, 2 and 10, s10 with one; each has its own grey."""
    for tone, name in enumerate(["s10/1.png", "s2/1.png", "s2/2.png", "s2/10.png"]):
        draw(tmp_path / name, tone)
    return tmp_path


def draw(file: Path, tone=0, size=(6, 4), mode="L") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    height, width = size
    Image.new(mode, (width, height), tone).save(file)


def test_people_and_pictures_are_read_in_natural_order(faces):
    images = from_folder(faces)

    assert images.identities == ("s2", "s10")
    assert images.names == ("s2/1.png", "s2/2.png", "s2/10.png", "s10/1.png")
    assert images.labels.tolist() == [0, 0, 0, 1]
    assert images.pixels[:, 0, 0, 0].tolist() == [1, 2, 3, 0]
    assert images.shape == (1, 6, 4)


def test_a_folder_may_be_named_by_a_string(faces):
    assert from_folder(str(faces)).digest == from_folder(faces).digest


def test_files_of_other_kinds_and_hidden_ones_are_passed_over(faces):
    expected = from_folder(faces).digest
    for name in ("README", "s2/README.md", "s2/Thumbs.db", "s2/.DS_Store", "s2/._1.png"):
        (faces / name).write_text("not a picture")
    (faces / "cover.png").write_text("a file beside the people")
    (faces / "s2" / "folder.png").mkdir()
    for name in (".git", "__MACOSX"):
        (faces / name / "x").mkdir(parents=True)
    draw(faces / "__MACOSX" / "1.png")

    assert from_folder(faces).digest == expected


def test_a_wrong_ending_does_no_harm(faces):
    expected = from_folder(faces).pixels
    (faces / "s2/1.png").rename(faces / "s2/1.JPG")

    images = from_folder(faces)

    assert torch.equal(images.pixels, expected)
    assert images.names[0] == "s2/1.JPG"


def test_one_person_and_one_picture_are_a_gallery_already(tmp_path):
    draw(tmp_path / "anna" / "1.png", size=(1, 1))

    assert repr(from_folder(tmp_path)) == (
        "ImageSet(1 picture of 1 person: anna; grey, 1 x 1; 1 each)"
    )


def test_pictures_of_many_sizes_take_the_median(tmp_path):
    for number, size in enumerate([(10, 8), (20, 16), (90, 72)]):
        draw(tmp_path / "anna" / f"{number}.png", size=size, tone=number)

    images = from_folder(tmp_path)

    assert images.shape == (1, 20, 16)
    assert images.pixels[:, 0].flatten(1).unique(dim=1).tolist() == [[0], [1], [2]]


def test_a_size_that_was_not_asked_for_is_at_most_160(tmp_path):
    draw(tmp_path / "anna" / "1.png", size=(400, 300))

    assert from_folder(tmp_path).shape == (1, 160, 120)
    assert from_folder(tmp_path, size=(200, 150)).shape == (1, 200, 150)


def test_colour_is_kept_when_any_picture_has_some(faces):
    draw(faces / "s2" / "3.png", mode="RGB", tone=(200, 0, 0))

    images = from_folder(faces)

    assert images.shape == (3, 6, 4)
    assert images.pixels[0, :, 0, 0].tolist() == [1, 1, 1]
    assert images.pixels[2, :, 0, 0].tolist() == [200, 0, 0]
    assert from_folder(faces, grey=True).shape == (1, 6, 4)
    assert from_folder(faces).only(["s10"]).grey().pixels.max() == 0


@pytest.mark.parametrize("size", [(0, 4), (4,), (4, -1), (1, 2, 3)])
def test_a_size_is_height_and_width(faces, size):
    with pytest.raises(ValueError, match=r"\(height, width\)"):
        from_folder(faces, size=size)


def test_all_unreadable_pictures_are_named(faces):
    break_two(faces)

    with pytest.raises(ValueError, match=r"2 of 4 pictures in .* cannot be read") as error:
        from_folder(faces)

    assert "s2/2.png (not a picture that PIL can read), s10/1.png (" in str(error.value)
    assert "skip_unreadable=True" in str(error.value)


def test_unreadable_pictures_are_skipped_when_asked_with_a_warning_where_it_was_asked(faces):
    break_two(faces)

    with pytest.warns(UserWarning, match=r"s2/2.png .*; nothing is left of s10; left out") as told:
        images = from_folder(faces, skip_unreadable=True)

    assert images.names == ("s2/1.png", "s2/10.png")
    assert images.identities == ("s2",)
    assert images.pixels[:, 0, 0, 0].tolist() == [1, 3]
    assert told[0].filename == __file__


def test_unreadable_pictures_may_be_few_if_a_number_is_given(faces):
    break_two(faces)

    with pytest.warns(UserWarning, match=r"2 of 4 pictures .* s2/2.png .* left out") as told:
        images = from_folder(faces, skip_unreadable=2)
    assert len(told) == 1
    assert images.names == ("s2/1.png", "s2/10.png")
    says = (
        r"2 of 4 .*: s2/2.png .*s10/1.png .*; repair or remove them, as skip_unreadable=1 is fewer"
    )
    with pytest.raises(ValueError, match=says):
        from_folder(faces, skip_unreadable=1)
    with pytest.raises(ValueError, match="or pass skip_unreadable=True"):
        from_folder(faces, skip_unreadable=0)


def test_the_number_of_unreadable_pictures_is_true_or_at_least_none(faces):
    with pytest.raises(ValueError, match="must be True, or at least 0 pictures, got -1"):
        from_folder(faces, skip_unreadable=-1)


def test_a_list_has_the_same_bound(faces):
    (faces / "list.csv").write_text("path,identity\ns2/1.png,s2\nnowhere.png,s2\n")

    with pytest.warns(UserWarning, match=r"1 of 2 pictures .*nowhere.png .*left out"):
        assert len(from_csv(faces / "list.csv", skip_unreadable=1)) == 1
    with pytest.raises(ValueError, match=r"nowhere.png"):
        from_csv(faces / "list.csv")


def break_two(faces: Path) -> None:
    (faces / "s2/2.png").write_text("hello")
    whole = (faces / "s10/1.png").read_bytes()
    (faces / "s10/1.png").write_bytes(whole[: len(whole) // 2])


def test_nothing_readable_is_an_error_even_when_skipping(tmp_path):
    (tmp_path / "anna").mkdir()
    (tmp_path / "anna" / "1.heic").write_text("hello")

    with pytest.raises(ValueError, match=r"1 of 1 pictures .*anna/1.heic \(not a picture"):
        from_folder(tmp_path, skip_unreadable=True)


def test_a_person_without_pictures_is_named_and_left_out_when_asked(faces):
    (faces / "s3").mkdir()

    with pytest.raises(ValueError, match=r"1 of 3 folders in .* have no pictures: s3; add some"):
        from_folder(faces)
    with pytest.warns(UserWarning, match="have no pictures: s3; left out") as told:
        images = from_folder(faces, skip_unreadable=True)
    assert images.identities == ("s2", "s10")
    assert told[0].filename == __file__


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere is nothing; check the path"):
        from_folder(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match="file is a file"):
        from_folder(tmp_path / "file")


def test_pictures_without_a_folder_for_each_person_are_told_where_to_go(tmp_path):
    draw(tmp_path / "1.png")

    with pytest.raises(ValueError, match=r"has 1 pictures and no folders .* the person's name"):
        from_folder(tmp_path)


def test_pictures_one_folder_deeper_are_found_for_the_message(tmp_path):
    draw(tmp_path / "train" / "anna" / "1.png")

    with pytest.raises(ValueError, match=r"one folder deeper; did you mean .*train\?"):
        from_folder(tmp_path)


def test_an_empty_folder_is_told_what_is_taken_for_a_picture(tmp_path):
    with pytest.raises(ValueError, match=r"no pictures in its 0 folders; .* \.jpg .* \.pgm"):
        from_folder(tmp_path)


def test_a_list_names_pictures_and_people(faces):
    (faces / "list.csv").write_text(
        "\ufeffidentity,path,age\nbob,s2/10.png,7\n10,s10/1.png,\nbob,s2/1.png,8\n9,s2/2.png,\n",
        encoding="utf-8",
    )

    images = from_csv(faces / "list.csv")

    assert images.names == ("s2/10.png", "s10/1.png", "s2/1.png", "s2/2.png")
    assert images.identities == ("9", "10", "bob")
    assert images.labels.tolist() == [2, 1, 2, 0]
    assert images.pixels[:, 0, 0, 0].tolist() == [3, 0, 1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no rows"),
        ("path,identity\n", "has no rows"),
        ("file,who\na.png,bob\n", "has the columns file, who"),
        ("path,identity\ns2/1.png,bob\ns2/2.png,\n", "row 2 of"),
        ("path,identity\ns2/1.png\n", "row 1 of"),
        ("path,identity\ns2/1.png,bob\ns2/9.png,bob\n", "s2/9.png .*No such file"),
    ],
)
def test_a_list_with_gaps_is_refused(faces, text, message):
    (faces / "list.csv").write_text(text)

    with pytest.raises(ValueError, match=message):
        from_csv(faces / "list.csv")


def test_people_of_arrays_are_sorted_and_numbered_from_zero():
    images = from_arrays(np.zeros((4, 3, 3)), [10, 9, 10, -1])

    assert images.identities == ("-1", "9", "10")
    assert images.labels.tolist() == [2, 1, 2, 0]
    assert images.names == ("10/1", "9/1", "10/2", "-1/1")


@given(
    labels=st.one_of(
        st.lists(st.integers(-5, 50), max_size=12),
        st.lists(st.sampled_from(["anna", "Bob", "s2", "s10", ""]), max_size=12),
    )
)
def test_labels_may_be_lists_arrays_or_tensors_and_name_the_same_people(labels):
    pixels = np.zeros((len(labels), 3, 2), np.uint8)

    images = from_arrays(pixels, labels)

    named = [images.identities[label] for label in images.labels.tolist()]
    assert named == [str(label) for label in labels]
    assert (
        from_arrays(pixels, np.array(labels, dtype=None if labels else int)).names == images.names
    )
    if all(isinstance(label, int) for label in labels):
        assert from_arrays(pixels, torch.tensor(labels)).names == images.names
        assert from_arrays(pixels, list(np.array(labels, np.int16))).names == images.names


def test_pictures_of_arrays_can_be_named():
    assert from_arrays(np.zeros((2, 3, 3)), [0, 1], names=["a", "b"]).names == ("a", "b")


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([0], None, "labels must have one entry for each of 2 pictures, got 1"),
        ([0, 1, 2], None, "got 3"),
        ([0.0, 1.0], None, "whole numbers, or names, got float"),
        ([0, "a"], None, "got int and str"),
        ([True, False], None, "got bool"),
        ([[0], [1]], None, "got list"),
        ([0, 1], ["a"], "names must have one entry for each of the 2 pictures, got 1"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, names, message):
    with pytest.raises(ValueError, match=message):
        from_arrays(np.zeros((2, 3, 3)), labels, names=names)


class Photos(torch.utils.data.Dataset):
    """As torchvision's are: a length, and (picture, number of a class)."""

    def __init__(self, pictures, labels, classes=None):
        self.pictures, self.labels = pictures, labels
        if classes:
            self.classes = classes

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, index):
        return self.pictures[index], self.labels[index]


def test_a_data_set_of_torchvision_keeps_its_classes_and_numbers():
    pictures = [Image.new("L", (4, 6), tone) for tone in range(3)]

    images = from_torchvision(Photos(pictures, [2, 0, 2], ["anna", "bob", "carol"]))

    assert images.identities == ("anna", "bob", "carol")
    assert images.people == ("anna", "carol")
    assert images.labels.tolist() == [2, 0, 2]
    assert images.names == ("carol/1", "anna/1", "carol/2")
    assert images.pixels[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert images.shape == (1, 6, 4)


def test_torchvisions_own_folder_of_pictures_gives_what_from_folder_gives(faces):
    from torchvision.datasets import ImageFolder

    (faces / "s10").rename(faces / "s20")  # torchvision sorts s10 before s2
    ours, theirs = from_folder(faces), from_torchvision(ImageFolder(faces))

    assert theirs.identities == ours.identities
    assert theirs.labels.tolist() == ours.labels.tolist()
    assert sorted(theirs.pixels[:, 0, 0, 0].tolist()) == sorted(ours.pixels[:, 0, 0, 0].tolist())


def test_a_data_set_may_hold_tensors_arrays_and_pictures_of_many_sizes():
    pictures = [
        torch.full((3, 8, 6), 0.2),
        np.full((8, 6, 3), 51, np.uint8),
        Image.new("RGB", (60, 80), (51, 51, 52)),
    ]

    images = from_torchvision(Photos(pictures, ["anna", "bob", "anna"]))

    assert images.shape == (3, 8, 6)
    assert images.pixels[:, 0].unique().tolist() == [51]
    assert from_torchvision(Photos(pictures, [0, 1, 2]), size=(4, 4)).shape == (3, 4, 4)


@pytest.mark.parametrize("size", [None, (4, 4)])
def test_a_picture_of_a_data_set_that_cannot_be_read_is_named(faces, size):
    break_two(faces)
    files = [faces / name for name in ("s2/1.png", "s10/1.png", "s2/2.png")]

    class Opened:
        def __len__(self):
            return 3

        def __getitem__(self, index):
            with Image.open(files[index]) as picture:
                picture.load()
            return picture, "anna"

    with pytest.raises(ValueError, match=r"picture [12] of the data set cannot be read: "):
        from_torchvision(Opened(), size=size)


def test_an_empty_data_set_is_refused():
    with pytest.raises(ValueError, match="got an empty one"):
        from_torchvision([])


def test_one_picture_is_the_same_wherever_it_comes_from(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (56, 46, 3), np.uint8)
    image = Image.fromarray(array)
    image.save(tmp_path / "a.png")
    last, first = torch.from_numpy(array), torch.from_numpy(array).permute(2, 0, 1)

    for shape in ((1, 28, 23), (3, 56, 46), (3, 100, 100), (1, 1, 1)):
        read = read_image(tmp_path / "a.png", shape=shape)
        assert read.shape == shape
        assert read.dtype == torch.uint8
        for other in (str(tmp_path / "a.png"), image, array, last, first, first / 255):
            assert torch.equal(read_image(other, shape=shape), read)


def test_a_picture_read_alone_is_the_one_in_its_folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "anna").mkdir()
    for name in ("1.png", "2.jpg"):
        pixels = rng.integers(0, 256, (50, 40, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "anna" / name)

    images = from_folder(tmp_path, size=(16, 16))

    for name, pixels in zip(images.names, images.pixels, strict=True):
        assert torch.equal(read_image(tmp_path / name, shape=images.shape), pixels)


def test_a_picture_given_is_left_as_it_is(tmp_path):
    draw(tmp_path / "a.jpg", size=(800, 800))
    with Image.open(tmp_path / "a.jpg") as image:
        read_image(image, shape=(1, 8, 8))
        assert image.size == (800, 800)


def test_grey_pictures_need_no_third_axis():
    assert read_image(np.full((6, 4), 7, np.uint8), shape=(3, 3, 2)).unique().tolist() == [7]


def test_what_is_no_picture_is_named(tmp_path):
    (tmp_path / "a.png").write_text("hello")

    with pytest.raises(ValueError, match=r"a\.png cannot be read: not a picture"):
        read_image(tmp_path / "a.png", shape=(1, 8, 8))
    with pytest.raises(FileNotFoundError, match=r"there is no file .*b\.png"):
        read_image(tmp_path / "b.png", shape=(1, 8, 8))
    with pytest.raises(ValueError, match="1 channel"):
        read_image(np.zeros((2, 3, 4, 5)), shape=(1, 8, 8))
    for source in (np.zeros((4, 5)), Image.new("L", (5, 4)), tmp_path / "a.png"):
        with pytest.raises(ValueError, match="1 or 3 channels"):
            read_image(source, shape=(2, 8, 8))


def test_reading_is_silent(faces):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_folder(faces)


@pytest.mark.parametrize("size", [64, 64.0])
def test_a_size_of_one_number_is_refused_in_words(tmp_path, size):
    (tmp_path / "anna").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "anna" / "1.png")

    with pytest.raises(TypeError, match=r"size must be \(height, width\), got 64"):
        from_folder(tmp_path, size=size)


@pytest.mark.parametrize("source", [None, 42, [0.5]])
def test_what_is_no_picture_is_refused_in_words(source):
    with pytest.raises(TypeError, match="a picture is a path, a PIL image, an array or a tensor"):
        read_image(source, shape=(1, 8, 8))

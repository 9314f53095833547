import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from siamlearn.data.att_check import fingerprint
from siamlearn.data.att_faces import ATTFaces, find_att_faces, read_checked
from siamlearn.data.images import from_folder

# Stand-ins for the pictures, 12 people with 2 each, so that s10 comes after s9.
PICTURES = {
    f"s{person}/{number}.pgm": np.full((112, 92), 10 * person + number, np.uint8)
    for person in range(1, 13)
    for number in (1, 2)
}
EXPECTED = {name: fingerprint(pixels) for name, pixels in PICTURES.items()}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    root = tmp_path / "copy"
    for name, pixels in PICTURES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / name)
    return root


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which the search finds nothing but what a test puts there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SIAMLEARN_DATA", raising=False)
    (tmp_path / "work" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work" / "here")
    return tmp_path


def assert_right(root: Path) -> None:
    images = read_checked(root, EXPECTED)

    assert images.identities == tuple(f"s{person}" for person in range(1, 13))
    assert images.names == tuple(PICTURES)
    assert images.pixels[:, 0, 0, 0].tolist() == [int(each[0, 0]) for each in PICTURES.values()]
    assert images.shape == (1, 112, 92)


def test_the_original_layout(copy):
    assert_right(copy)


@pytest.mark.parametrize("around", ["orl_faces", "archive/att_faces"])
def test_a_folder_or_two_around(copy, tmp_path, around):
    (tmp_path / "new" / around).parent.mkdir(parents=True)
    copy.rename(tmp_path / "new" / around)

    assert_right(tmp_path / "new")


def test_parted_into_training_and_testing(copy):
    for person in (5, 6, 7):
        (copy / "testing").mkdir(exist_ok=True)
        (copy / f"s{person}").rename(copy / "testing" / f"s{person}")
    (copy / "training").mkdir()
    for person in {*range(1, 13)} - {5, 6, 7}:
        (copy / f"s{person}").rename(copy / "training" / f"s{person}")

    assert_right(copy)
    assert_right(copy.parent)


def test_stray_files_beside(copy):
    for name in (
        "README",
        "s1/README.txt",
        "s1/.DS_Store",
        "s1/11.pgm",
        "s1/x.pgm",
        "s2/Thumbs.db",
    ):
        (copy / name).write_text("stray")
    (copy / "s41").mkdir()
    (copy / "s41" / "1.pgm").write_text("stray")
    (copy / "__MACOSX" / "s1").mkdir(parents=True)

    assert_right(copy)


def test_other_headers_names_and_lossless_kinds(copy):
    pixels = PICTURES["s1/1.pgm"].tobytes()
    (copy / "s1/1.pgm").write_bytes(b"P5\n# written by hand\n92 112\n255\n" + pixels)
    Image.open(copy / "s2/1.pgm").convert("RGB").save(copy / "s2/1.png")
    (copy / "s2/1.pgm").unlink()
    (copy / "s3").rename(copy / "S03")

    assert_right(copy)


def test_two_copies_in_one_place_are_not_mixed(copy):
    shutil.copytree(copy, copy.parent / "second")

    with pytest.raises(ValueError, match=r"s1/1.pgm is in .*copy/s1 and in .*second/s1; name"):
        read_checked(copy.parent, EXPECTED)


def test_a_copy_beside_is_passed_over_when_the_pictures_are_here(copy):
    shutil.copytree(copy, copy / "backup")

    assert_right(copy)


def test_what_differs_is_told_with_the_folder(copy):
    (copy / "s2/1.pgm").write_bytes((copy / "s2/1.pgm").read_bytes()[:-1])
    shutil.rmtree(copy / "s3")
    (copy / "s4/1.pgm").rename(copy / "s4/3.pgm")
    (copy / "s4/2.pgm").rename(copy / "s4/1.pgm")
    (copy / "s4/3.pgm").rename(copy / "s4/2.pgm")

    with pytest.raises(ValueError, match="copy should hold the 24 AT&T faces") as error:
        read_checked(copy, EXPECTED)

    lines = [line.strip() for line in str(error.value).splitlines()[1:-1]]
    assert lines[0].startswith("s2: 1.pgm unreadable (image file is truncated")
    assert lines[1:] == [
        "s3: missing",
        "s4: 1.pgm is the original s4/2.pgm; 2.pgm is the original s4/1.pgm",
    ]


def test_without_a_copy_the_message_names_three_ways(nowhere):
    assert find_att_faces() is None

    for root in (None, nowhere, "none"):
        with pytest.raises(FileNotFoundError, match="three ways") as error:
            ATTFaces(root)
        assert "https://www.cl.cam.ac.uk/" in str(error.value)
        assert "kasikrit/att-database-of-faces" in str(error.value)
        assert "--data" in str(error.value)


@pytest.mark.parametrize(
    "place", ["work/shared/data/att_faces", "work/here/att_faces", "cache/siamlearn/att_faces"]
)
def test_a_copy_is_found_in_the_usual_places(nowhere, copy, place):
    (nowhere / place).parent.mkdir(parents=True, exist_ok=True)
    copy.rename(nowhere / place)

    found = find_att_faces()

    assert found == nowhere / place


def test_the_environment_comes_first(nowhere, copy, monkeypatch):
    shutil.copytree(copy, "att_faces")
    monkeypatch.setenv("SIAMLEARN_DATA", str(copy.parent))

    assert find_att_faces() == copy.parent


def test_a_download_does_not_touch_a_folder_that_is_in_use(nowhere):
    (nowhere / "mine" / "att_faces").mkdir(parents=True)

    with pytest.raises(ValueError, match="mine is in use; name another"):
        ATTFaces(nowhere / "mine", download=True)


def test_a_copy_that_is_wrong_is_not_replaced_by_a_download(nowhere, copy):
    with pytest.raises(ValueError, match="copy should hold the 400 AT&T faces"):
        ATTFaces(copy, download=True)


def test_the_real_faces(att_faces_root):
    images = ATTFaces(att_faces_root)

    assert repr(images) == (
        "ImageSet(400 pictures of 40 people: s1, s2, s3, …, s40; grey, 112 x 92; 10 each)"
    )
    assert images.names[:2] == ("s1/1.pgm", "s1/2.pgm")
    assert images.names[-1] == "s40/10.pgm"
    # By hand, from the bytes of the file: the header ends where 10,304 pixels are left.
    file = next(att_faces_root.rglob("s7/3.pgm"))
    pixels = torch.frombuffer(bytearray(file.read_bytes()[-10304:]), dtype=torch.uint8)
    assert torch.equal(images.pixels[images.names.index("s7/3.pgm")].flatten(), pixels)


def test_the_real_faces_are_what_a_folder_of_them_is(att_faces_root, tmp_path):
    images = ATTFaces(att_faces_root)
    for index, name in enumerate(images.names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(images.pixels[index, 0].numpy()).save(tmp_path / name)

    assert from_folder(tmp_path).digest == images.digest


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda root: shutil.copy(root / "s1/1.pgm", root / "s2/1.pgm"), "s2: 1.pgm is the orig"),
        (lambda root: [file.unlink() for file in (root / "s40").iterdir()], "s40: missing"),
        (
            lambda root: [
                Image.new("L", (92, 112), 9).save(file) for file in (root / "s40").iterdir()
            ],
            "s40: all 10 pictures differ (is it another person?)",
        ),
        (
            lambda root: [
                (root / one).rename(root / other)
                for one, other in (("s3", "x"), ("s7", "s3"), ("x", "s7"))
            ],
            "s3: your s3 is the original s7\n  s7: your s7 is the original s3",
        ),
        (
            lambda root: [
                Image.open(file).resize((23, 28)).save(file) for file in root.glob("s*/*.pgm")
            ],
            "every picture is of 23 x 28 pixels, not of 92 x 112: a resized copy",
        ),
    ],
)
def test_spoilt_copies_of_the_real_faces_are_told(att_faces_root, tmp_path, spoil, line):
    images = ATTFaces(att_faces_root)
    for index, name in enumerate(images.names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(images.pixels[index, 0].numpy()).save(tmp_path / name)
    spoil(tmp_path)

    with pytest.raises(ValueError, match="as they were published") as error:
        ATTFaces(tmp_path)

    assert line in str(error.value)

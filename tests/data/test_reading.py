import contextlib
import io
import random
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from siamlearn.data.reading import decode, extent, natural, open_picture, read_all, typical_size

# Four quarters that differ, so that a turn shows: red, green, blue, white.
QUARTERS = np.zeros((8, 12, 3), np.uint8)
QUARTERS[:4, :6, 0] = QUARTERS[:4, 6:, 1] = QUARTERS[4:, :6, 2] = QUARTERS[4:, 6:] = 255
COLOUR = Image.fromarray(QUARTERS)
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (56, 46, 3), np.uint8))


def saved(image: Image.Image, kind: str, **how) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def read(data: bytes, **how):
    with open_picture(io.BytesIO(data)) as image:
        return decode(image, **how)


def test_people_and_pictures_are_in_the_order_people_count():
    names = ["s10", "s2", "b", "S1", "s02", "a10b2", "a10b10", "a9", "10", "9", "é", ""]

    assert sorted(names, key=natural) == [
        *("", "9", "10", "a9", "a10b2", "a10b10", "b", "S1", "s02", "s2", "s10", "é")
    ]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF", "TGA", "WEBP", "GIF"])
def test_every_lossless_kind_gives_the_same_bytes(kind):
    data = saved(COLOUR, kind, **({"lossless": True} if kind == "WEBP" else {}))

    assert np.array_equal(read(data, grey=False), QUARTERS.transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_mode_becomes_the_picture_that_one_sees(mode):
    kind = "TIFF" if mode == "CMYK" else "PNG"
    seen = COLOUR.convert(mode)

    bytes_ = read(saved(seen, kind), grey=False)

    expected = np.asarray(seen.convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(bytes_, expected)


def test_cmyk_of_a_jpeg_keeps_its_colours():
    data = saved(COLOUR.resize((96, 64), 0).convert("CMYK"), "JPEG", quality=95)

    pixels = read(data, grey=False).astype(int)

    middle = pixels[:, 16, 24], pixels[:, 48, 72]
    assert np.abs(middle[0] - [255, 0, 0]).max() < 12
    assert np.abs(middle[1] - 255).max() < 12


def test_transparent_parts_are_white():
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (10, 20, 30, 255))

    assert read(saved(image, "PNG")).tolist() == [[[255, 10]], [[255, 20]], [[255, 30]]]


def test_a_transparent_colour_of_a_palette_is_white():
    image = Image.new("P", (2, 1), 0)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((1, 0), 1)

    pixels = read(saved(image, "PNG", transparency=0), grey=False)

    assert pixels[:, 0].T.tolist() == [[255, 255, 255], [10, 20, 30]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bits_keep_their_range(kind):
    # PIL's own conversion makes everything above 255 white.
    values = np.array([[0, 128, 257, 32768, 65535]], np.uint16)

    pixels = read(saved(Image.fromarray(values), kind))

    assert pixels.tolist() == [[[0, 0, 1, 128, 255]]]


def test_numbers_beyond_16_bits_and_floats_are_refused():
    for values in (np.array([[70_000]], np.int32), np.array([[0.5]], np.float32)):
        with pytest.raises(ValueError, match=r"70000, not from 0 to 65535|floats of unknown range"):
            read(saved(Image.fromarray(values), "TIFF"))


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_picture_is_turned_as_its_exif_says(kind, turn):
    # What the camera stores for an upright scene, by the definition of the tag.
    stored = {
        1: QUARTERS,
        2: QUARTERS[:, ::-1],
        3: QUARTERS[::-1, ::-1],
        4: QUARTERS[::-1],
        5: QUARTERS.transpose(1, 0, 2),
        6: np.rot90(QUARTERS, 1),
        7: QUARTERS[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(QUARTERS, 3),
    }[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    how = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    if kind == "WEBP":
        how = {"lossless": True}
    image = Image.fromarray(np.ascontiguousarray(stored).repeat(8, 0).repeat(8, 1))
    data = saved(image, kind, exif=exif, **how)

    upright = read(data, grey=False)[:, 4::8, 4::8].transpose(1, 2, 0).astype(int)

    assert upright.shape == QUARTERS.shape
    assert np.abs(upright - QUARTERS).max() < 10
    if kind != "PNG":
        with open_picture(io.BytesIO(data)) as image:
            assert extent(image) == (64, 96)


@pytest.mark.parametrize("turn", [0, 9, 99, 65535])
def test_a_turn_that_does_not_exist_turns_nothing(tmp_path, turn):
    # Taken for one of the turns that swap height and width, it would stretch the picture.
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.new("L", (4, 6)).save(tmp_path / "a.jpg", exif=exif)

    assert read_all([tmp_path / "a.jpg"])[0].shape == (1, 1, 6, 4)


def test_a_turn_in_words_turns_nothing(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = bytearray(saved(Image.new("L", (4, 6)), "JPEG", exif=exif))
    at = data.index(b"\x01\x12\x00\x03\x00\x00\x00\x01")
    data[at + 2 : at + 12] = b"\x00\x02\x00\x00\x00\x04six\x00"  # as text of four letters
    (tmp_path / "a.jpg").write_bytes(data)
    with open_picture(tmp_path / "a.jpg") as image:
        assert image.getexif()[0x0112] == "six"

    pixels, broken = read_all([tmp_path / "a.jpg"])

    assert broken == {}
    assert pixels.shape == (1, 1, 6, 4)


def test_a_picture_with_broken_exif_is_broken(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.new("L", (4, 6)), "WEBP", exif=exif)
    (tmp_path / "a.webp").write_bytes(
        data.replace(b"II*\x00", b"I?*\x00").replace(b"MM\x00*", b"M?\x00*")
    )
    with (
        Image.open(tmp_path / "a.webp") as image,
        pytest.raises(SyntaxError, match="not a TIFF"),  # which is none of ours
    ):
        image.getexif()

    assert "not a TIFF file" in read_all([tmp_path / "a.webp"])[1][0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "PPM", "BMP", "GIF", "TIFF", "WEBP"])
@pytest.mark.parametrize("percent", range(0, 100, 5))
def test_a_truncated_picture_is_an_error_wherever_it_ends(kind, percent):
    data = saved(NOISE, kind)

    with pytest.raises(ValueError, match=r"truncated|Truncated|not a picture|decoder"):
        read(data[: len(data) * percent // 100])


def test_a_bomb_is_refused_before_it_is_unpacked():
    bomb = saved(Image.new("1", (20_000, 10_000)), "PNG")

    assert len(bomb) < 100_000
    with pytest.raises(ValueError, match="200000000 pixels"):
        open_picture(io.BytesIO(bomb))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_that_pil_would_only_warn_of_is_refused_too():
    with pytest.raises(ValueError, match="too large: 10000 x 10000 pixels"):
        open_picture(io.BytesIO(saved(Image.new("1", (10_000, 10_000)), "PNG")))


def test_a_grey_picture_has_one_channel_unless_three_are_asked_for():
    grey = saved(Image.new("L", (3, 2), 9), "PNG")

    assert read(grey).shape == (1, 2, 3)
    assert read(grey, grey=False).tolist() == [[[9] * 3] * 2] * 3
    assert read(saved(COLOUR, "PNG"), grey=True).shape == (1, 8, 12)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (200, 3), (112, 92)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_picture_comes_in_the_size_that_is_asked_for(kind, size):
    assert read(saved(NOISE, kind), size=size).shape == (3, *size)


def test_a_large_jpeg_is_read_smaller_but_looks_the_same(tmp_path):
    smooth = COLOUR.resize((960, 640), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "a.jpg", quality=95)
    smooth.save(tmp_path / "a.png")

    (pixels, _) = read_all([tmp_path / "a.jpg", tmp_path / "a.png"], size=(40, 60))

    assert np.abs(pixels[0].astype(int) - pixels[1]).max() < 10


def test_the_typical_size_is_the_median_and_at_most_160():
    assert typical_size([(8, 8)]) == (8, 8)
    assert typical_size([(10, 7), (20, 8), (90, 90)]) == (20, 8)
    assert typical_size([(160, 100), (160, 100)]) == (160, 100)
    assert typical_size([(250, 250)]) == (160, 160)
    assert typical_size([(100, 400)]) == (40, 160)
    assert typical_size([(1, 9000)]) == (1, 160)


def test_many_pictures_are_read_and_the_broken_told_by_their_index(tmp_path):
    files = [tmp_path / f"{number}.png" for number in range(5)]
    for number, file in enumerate(files):
        Image.new("L", (4, 6), number).save(file)
    files[1].write_bytes(b"no picture")
    files[3].write_bytes(files[3].read_bytes()[:-30])
    files[4] = Path(tmp_path / "gone.png")

    pixels, broken = read_all(files)

    assert pixels.shape == (5, 1, 6, 4)
    assert [int(pixels[index].mean()) for index in (0, 2)] == [0, 2]
    assert broken.keys() == {1, 3, 4}
    assert broken[1] == "not a picture that PIL can read"
    assert "No such file" in broken[4]


def test_grey_pictures_in_colour_files_are_grey(tmp_path):
    files = [tmp_path / "a.png", tmp_path / "b.jpg"]
    for file in files:
        Image.new("RGB", (4, 6), (90, 90, 90)).save(file)

    assert read_all(files)[0].shape == (2, 1, 6, 4)
    assert read_all(files, grey=False)[0].shape == (2, 3, 6, 4)

    Image.new("RGB", (4, 6), (90, 90, 91)).save(files[0])
    assert read_all(files)[0].shape == (2, 3, 6, 4)
    assert read_all(files, grey=True)[0].shape == (2, 1, 6, 4)


def test_a_progress_bar_appears_only_when_asked_for_or_in_a_terminal(tmp_path, capsys):
    Image.new("L", (4, 6)).save(tmp_path / "a.png")

    read_all([tmp_path / "a.png"])
    assert capsys.readouterr().err == ""

    read_all([tmp_path / "a.png"], progress=False)
    assert capsys.readouterr().err == ""

    read_all([tmp_path / "a.png"], progress=True)
    assert "1/1" in capsys.readouterr().err


KINDS = ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "TGA", "MPO"]
MODES = ["RGB", "L", "P", "CMYK", "RGBA"]


def pictures_of_many_kinds() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    found = []
    for kind in KINDS:
        for mode in MODES:
            with contextlib.suppress(OSError, ValueError):  # not every kind of file has every mode
                found.append(saved(NOISE.resize((18, 24)).convert(mode), kind, exif=exif))
    return found


def mutated(data: bytes, draws: random.Random) -> bytes:
    """The same with a few bytes changed, cut out or doubled, most of them near the beginning."""
    changed = bytearray(data)
    for _ in range(draws.randint(1, 6)):
        end = min(len(changed), 200 if draws.random() < 0.7 else len(changed))
        at, kind = draws.randrange(end or 1), draws.randrange(4)
        if kind == 0:
            changed[at : at + 1] = draws.randbytes(1)
        elif kind == 1:
            changed[at : at + 4] = draws.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"])
        elif kind == 2:
            del changed[at : at + draws.choice([1, 4, 50])]
        else:
            changed[at:at] = changed[at : at + draws.choice([1, 8, 60])]
    return bytes(changed)


def read_mutated(file: Path, times: int) -> tuple[int, int]:
    """How many mutated pictures could be read, and how many were said to be broken."""
    draws, kinds, read, longest = random.Random(0), pictures_of_many_kinds(), 0, 0.0
    for _ in range(times):
        file.unlink(missing_ok=True)
        file.write_bytes(mutated(draws.choice(kinds), draws))
        started = time.process_time()
        pixels, broken = read_all([file], progress=False)
        longest = max(longest, time.process_time() - started)
        read += not broken
        assert broken or max(pixels.shape[2:]) <= 160
    assert longest < 5
    return read, times - read


# What PIL says of a picture's tags, which are not its pixels.
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_mutated_pictures_are_read_or_broken_and_nothing_else(tmp_path):
    assert min(read_mutated(tmp_path / "a.png", 1000)) > 50


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_very_many_mutated_pictures_are_read_or_broken_and_nothing_else(tmp_path):
    assert min(read_mutated(tmp_path / "a.png", 100_000)) > 5000


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP", "PPM", "TGA"])
def test_a_size_that_would_fill_the_memory_is_refused_in_every_kind(tmp_path, kind):
    small = saved(Image.new("L", (300, 200), 1), kind)
    claims = {
        "GIF": [(6, b"\xff\xff\xff\xff")],
        "BMP": [(18, b"\xff\xff\x00\x00\xff\xff\x00\x00")],
        "TGA": [(12, b"\xff\xff\xff\xff")],
        "PPM": [(2, b" 9999 99999 255 ")],
    }
    data = bytearray(small)
    for at, claim in claims.get(kind, []):
        data[at : at + len(claim)] = claim
    if kind == "TIFF":  # the tags of width and height
        for tag in (b"\x00\x01", b"\x01\x01"):
            at = data.index(tag + b"\x04\x00\x01\x00\x00\x00")
            data[at + 8 : at + 12] = b"\xff\xff\x00\x00"
    (tmp_path / "a").write_bytes(data)

    _, broken = read_all([tmp_path / "a"])

    assert broken.keys() == {0}, "it was read"
    assert "pixels" in broken[0]

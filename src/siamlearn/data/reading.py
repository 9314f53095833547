"""From a picture on disk to bytes of one shape, whatever its format, depth, colours and turn.

Axes: n pictures, c channels (1 grey, 3 colour), h height, w width.
"""

import os
import re
import statistics
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

__all__ = [
    "LARGEST_SIDE",
    "SUFFIXES",
    "decode",
    "extent",
    "is_grey",
    "natural",
    "open_picture",
    "read_all",
    "read_file",
    "typical_size",
    "without_empty_colour",
]

SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("avif", "bmp", "gif", "heic", "heif", "jfif", "jp2", "jpe", "jpeg", "jpg"),
        *("pbm", "pgm", "png", "pnm", "ppm", "tga", "tif", "tiff", "webp"),
    )
)
LARGEST_SIDE = 160
TURN = 0x0112  # the EXIF tag "Orientation"; from 5 on it swaps height and width


def natural(name: str) -> tuple[list[str | int], str]:
    """A key that sorts as people count: s2 before s10.

    Example:
        >>> sorted(["s10", "s2", "s1"], key=natural)
        ['s1', 's2', 's10']
    """
    parts = re.split(r"(\d+)", name)
    return [int(part) if part.isdecimal() else part.casefold() for part in parts], name


def open_picture(source: Path | IO[bytes]) -> Image.Image:
    """Open a picture by its content, whatever its name; its pixels are not read yet.

    Raises:
        ValueError: when it is no picture that PIL can read, or claims to be of a size that
            would fill the memory.

    Example:
        >>> import io
        >>> open_picture(io.BytesIO(b"P5 2 1 255 ab")).size
        (2, 1)
    """
    try:
        image = Image.open(source)
    except Exception as error:  # PIL's readers let every kind of error escape
        raise ValueError(_reason(error)) from error
    # PIL itself refuses twice the limit, and warns below; a warning is no help among thousands.
    if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        image.close()
        msg = f"too large: {image.width} x {image.height} pixels"
        raise ValueError(msg)
    return image


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not a picture that PIL can read"
    return str(error) or type(error).__name__


def extent(image: Image.Image) -> tuple[int, int]:
    """Height and width of a picture as it is meant to be seen: turned as its EXIF says.

    Raises:
        ValueError: when its EXIF is broken.

    Example:
        >>> extent(Image.new("L", (92, 112)))
        (112, 92)
    """
    turned = _turn(image) in (5, 6, 7, 8)
    return (image.width, image.height) if turned else (image.height, image.width)


def _turn(image: Image.Image) -> object:
    # Only these say so in front of their pixels; asking a PNG would decode it.
    if image.format not in ("JPEG", "MPO", "WEBP", "AVIF"):
        return 1
    try:
        return image.getexif().get(TURN, 1)  # whatever a file has there
    except Exception as error:
        raise ValueError(_reason(error)) from error


def is_grey(image: Image.Image) -> bool:
    """Whether a picture can only be grey, by its format.

    Example:
        >>> is_grey(Image.new("I;16", (1, 1))), is_grey(Image.new("P", (1, 1)))
        (True, False)
    """
    return image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I")


def decode(
    image: Image.Image, *, size: tuple[int, int] | None = None, grey: bool | None = None
) -> UInt8[np.ndarray, "c h w"]:
    """The bytes of a picture: upright, 8 bits deep, of the size and colours asked for.

    Transparent parts become white, 16-bit pictures keep their range, and shrinking averages over
    the pixels that it leaves out. The picture is stretched where its proportions are others.

    Args:
        size: height and width in pixels; None for its own.
        grey: True for one channel, False for three, None for what it has.

    Raises:
        ValueError: when the picture is truncated or broken.

    Example:
        >>> decode(Image.new("L", (46, 56), 7), size=(2, 1), grey=True).tolist()
        [[[7], [7]]]
    """
    try:
        image = _eight_bits(ImageOps.exif_transpose(image))
        if grey is not None:
            image = image.convert("L" if grey else "RGB")
        if size is not None and (image.height, image.width) != size:
            height, width = size
            image = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
        pixels = np.asarray(image)
    except Exception as error:
        raise ValueError(_reason(error)) from error
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def read_file(file: Path, *, size: tuple[int, int], grey: bool) -> UInt8[np.ndarray, "c h w"]:
    """The bytes of one picture on disk: `open_picture`, then `decode`.

    Raises:
        ValueError: when it cannot be read, saying why, but not which it is.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "anna.jpg"
        >>> Image.new("RGB", (920, 1120)).save(file)
        >>> read_file(file, size=(112, 92), grey=True).shape
        (1, 112, 92)
    """
    with open_picture(file) as image:
        # A JPEG is cheaper to read smaller; twice too large leaves the resizing its say.
        image.draft(None, (2 * max(size), 2 * max(size)))
        return decode(image, size=size, grey=grey)


def _eight_bits(image: Image.Image) -> Image.Image:
    """The picture as L or RGB; PIL's own conversion would cut 16 bits off at 255."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            msg = f"its values go from {values.min()} to {values.max()}, not from 0 to 65535"
            raise ValueError(msg)
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode == "F":
        msg = "it holds floats of unknown range; scale it to 8 or 16 bits"
        raise ValueError(msg)
    if image.getbands()[-1] in ("A", "a") or "transparency" in image.info:
        grey = is_grey(image)
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("L" if grey else "RGB")
    return image.convert("L" if is_grey(image) else "RGB")


def typical_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """One size for pictures of many: median height and width, the longer at most 160 pixels.

    Example:
        >>> typical_size([(112, 92), (112, 92)]), typical_size([(500, 400), (640, 480)])
        ((112, 92), (160, 124))
    """
    height = statistics.median(height for height, _ in sizes)
    width = statistics.median(width for _, width in sizes)
    scale = min(1.0, LARGEST_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def read_all(
    files: Sequence[Path],
    *,
    size: tuple[int, int] | None = None,
    grey: bool | None = None,
    progress: bool | None = None,
) -> tuple[UInt8[np.ndarray, "n c h w"], dict[int, str]]:
    """Read many pictures into one block of bytes, several at a time.

    Args:
        size: height and width in pixels; None for the `typical_size` of these pictures.
        grey: True for one channel, False for three, None for colour where any picture has some.
        progress: whether to show a progress bar; None for one that appears in a terminal when
            reading takes longer than a second.

    Returns:
        The pictures, and what is wrong with those that cannot be read, by their index: their
        part of the block means nothing.

    Example:
        >>> pixels, broken = read_all([Path("nobody.png")])
        >>> len(pixels), list(broken)
        (1, [0])
    """
    broken: dict[int, str] = {}
    heads: dict[int, tuple[tuple[int, int], bool]] = {}
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for index, head in enumerate(pool.map(_head, files)):
            if isinstance(head, str):
                broken[index] = head
            else:
                heads[index] = head
        if not heads:
            return np.empty((len(files), 1, 1, 1), np.uint8), broken
        height, width = size or typical_size([extent for extent, _ in heads.values()])
        channels = 1 if grey or (grey is None and all(plain for _, plain in heads.values())) else 3
        pixels = np.empty((len(files), channels, height, width), np.uint8)

        def read(index: int) -> str | None:
            try:
                pixels[index] = read_file(files[index], size=(height, width), grey=channels == 1)
            except ValueError as error:
                return str(error)
            return None

        reasons = _bar(pool.map(read, heads), total=len(heads), progress=progress)
        broken |= {index: why for index, why in zip(heads, reasons, strict=True) if why is not None}
    if grey is None and channels == 3:
        pixels = without_empty_colour(pixels, [index for index in heads if index not in broken])
    return pixels, broken


def _head(file: Path) -> tuple[tuple[int, int], bool] | str:
    """Height and width of a picture, and whether it is grey; or why it cannot be read."""
    try:
        with open_picture(file) as image:
            return extent(image), is_grey(image)
    except ValueError as error:
        return str(error)


def _bar(items: Iterator[Any], *, total: int, progress: bool | None) -> Iterable[Any]:
    disable = None if progress is None else not progress
    delay = 1 if progress is None else 0
    bar: Iterable[Any] = tqdm(
        items, desc="reading", total=total, unit=" pictures", disable=disable, delay=delay
    )
    return bar


def without_empty_colour(
    pixels: UInt8[np.ndarray, "n 3 h w"], readable: Sequence[int]
) -> UInt8[np.ndarray, "n c h w"]:
    """The pictures as one channel, if none of them has any colour.

    Many data sets keep grey pictures in colour files, where one channel says all.

    Args:
        readable: the indices of the pictures to go by.

    Example:
        >>> without_empty_colour(np.full((2, 3, 8, 8), 7, np.uint8), [0, 1]).shape
        (2, 1, 8, 8)
    """
    for index in readable:
        red, green, blue = pixels[index]
        if (red != green).any() or (red != blue).any():
            return pixels
    return pixels[:, :1].copy()

"""Are these the AT&T faces as they were published? Told by the bytes of their pixels.

Copies with replaced, reordered, converted or shrunk people are common. The list of hashes beside
this file is of pixels only, so that files with another header, or losslessly converted, pass.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import UInt8

from siamlearn.data.reading import decode, open_picture

__all__ = ["SHAPE", "check", "differences", "fingerprint", "originals", "picture"]

SHAPE = (112, 92)
ORIGINAL = "is the original "


@cache
def originals() -> Mapping[str, str]:
    """The `fingerprint` of each of the 400 pictures, by its name.

    Example:
        >>> len(originals()), originals()["s1/1.pgm"][:8]
        (400, '4381ea8c')
    """
    text = files("siamlearn.data").joinpath("att_faces.txt").read_text("ascii")
    return {name: digest for digest, name in (line.split() for line in text.splitlines())}


def fingerprint(pixels: UInt8[np.ndarray, "h w"]) -> str:
    """The SHA-256 of a grey picture's pixels, row by row.

    Example:
        >>> fingerprint(np.zeros((112, 92), np.uint8))[:8]
        'd0f3fee8'
    """
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def picture(source: Path | IO[bytes]) -> UInt8[np.ndarray, "h w"] | str:
    """The pixels of one grey picture of any format, or why it cannot be read.

    Example:
        >>> from io import BytesIO
        >>> picture(BytesIO(b"P5 2 1 255 ab")), picture(BytesIO(b"Hello"))
        (array([[97, 98]], dtype=uint8), 'not a picture that PIL can read')
    """
    try:
        with open_picture(source) as image:
            pixels: UInt8[np.ndarray, "h w"] = decode(image, grey=True)[0]
            return pixels
    except ValueError as error:
        return str(error)


def check(
    found: Mapping[str, UInt8[np.ndarray, "h w"] | str],
    expected: Mapping[str, str],
    *,
    where: object,
) -> None:
    """Refuse pictures that are not the published ones.

    Args:
        found: the pictures by their name, or what is wrong with one that cannot be read.
        expected: the fingerprints by their name, as `originals` gives them.
        where: where they were found, for the message.

    Raises:
        ValueError: with every difference, a line for each person.

    Example:
        >>> black = np.zeros((112, 92), np.uint8)
        >>> check({"s1/1.pgm": black}, {"s1/1.pgm": fingerprint(black)}, where="memory")
    """
    lines = differences(found, expected)
    if lines:
        listed = "\n  ".join(lines)
        msg = (
            f"{where} should hold the {len(expected)} AT&T faces as they were published, but\n  "
            f"{listed}\nget a true copy, or read this one as it is with siamlearn.from_folder"
        )
        raise ValueError(msg)


def differences(
    found: Mapping[str, UInt8[np.ndarray, "h w"] | str], expected: Mapping[str, str]
) -> list[str]:
    """What is missing or other than published, one line for each person whom it concerns.

    Args:
        found: as for `check`.
        expected: as for `check`.

    Example:
        >>> black = np.zeros((112, 92), np.uint8)
        >>> differences({"s1/1.pgm": black + 1}, {"s1/1.pgm": fingerprint(black)})
        ['s1: all 1 pictures differ (is it another person?)']
    """
    origin = {digest: name for name, digest in expected.items()}
    people: dict[str, dict[str, str]] = {}
    for name in expected:
        subject, file = name.split("/")
        people.setdefault(subject, {})[file] = _wrong(found.get(name), name, expected, origin)
    kinds = {what for files in people.values() for what in files.values()}
    if len(kinds) == 1 and (what := kinds.pop()).startswith("is of"):
        return [f"every picture {what}: a resized copy"]
    lines = (_line(subject, files) for subject, files in people.items())
    return [line for line in lines if line]


def _wrong(
    pixels: UInt8[np.ndarray, "h w"] | str | None,
    name: str,
    expected: Mapping[str, str],
    origin: Mapping[str, str],
) -> str:
    """What is wrong with one picture; nothing is an empty string."""
    if pixels is None:
        return "missing"
    if isinstance(pixels, str):
        return f"unreadable ({pixels})"
    if pixels.shape != SHAPE:
        height, width = pixels.shape
        return f"is of {width} x {height} pixels, not of {SHAPE[1]} x {SHAPE[0]}"
    digest = fingerprint(pixels)
    if digest == expected[name]:
        return ""
    return f"{ORIGINAL}{origin[digest]}" if digest in origin else "differs"


def _line(subject: str, files: Mapping[str, str]) -> str:
    """All that is wrong with one person's pictures, in a line."""
    wrong = {file: what for file, what in files.items() if what}
    if not wrong:
        return ""
    kinds, whole = set(wrong.values()), len(wrong) == len(files)
    if kinds == {"missing"} and whole:
        return f"{subject}: missing"
    if kinds == {"differs"} and whole:
        return f"{subject}: all {len(files)} pictures differ (is it another person?)"
    sources = {what.removeprefix(ORIGINAL).split("/")[0] for what in kinds}
    moved = whole and all(what.startswith(ORIGINAL) for what in kinds)
    if moved and len(sources) == 1 and sources != {subject}:
        return f"{subject}: your {subject} is the original {sources.pop()}"
    together: dict[str, list[str]] = {}
    for file, what in wrong.items():
        together.setdefault(what, []).append(file)
    return f"{subject}: " + "; ".join(
        f"{', '.join(names)} {what if len(names) == 1 else _of_many(what)}"
        for what, names in together.items()
    )


def _of_many(what: str) -> str:
    """What is wrong with one picture, said of several."""
    for one, many in (("is ", "are "), ("differs", "differ")):
        if what.startswith(one):
            return many + what.removeprefix(one)
    return what

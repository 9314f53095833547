"""Faces drawn by code: data to try everything on where no pictures are at hand.

A person is a set of traits (how wide the face is, how far apart the eyes are, ...), a picture a
set of circumstances (pose, expression, light, glasses, noise). Both are hashes of the seed and
their number, and the drawing uses only operations that every machine rounds alike (no sine, no
exponential), so the same bytes come out everywhere.

Axes: m pictures drawn together, h height, w width. Lengths are in half heights of a face, with
the face in the middle, x to the right and y down; tones are from 0 (black) to 1 (white).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from siamlearn.data.images import ImageSet
from siamlearn.data.randomness import address
from siamlearn.data.turns import Integers, hashed

__all__ = ["DrawnFaces"]

# Always float32; the stubs of numpy forget it as soon as a plain number is added.
Canvas = npt.NDArray[Any]
Values = dict[str, Canvas]

# What makes a person, each trait drawn evenly from its range.
TRAITS = {
    "width": (0.68, 0.84),
    "jaw": (0.02, 0.30),
    "skin": (0.48, 0.76),
    "hair": (0.04, 0.62),
    "hairline": (-0.95, -0.52),
    "hair_curve": (-0.4, 0.8),
    "hair_part": (-0.3, 0.3),
    "hair_volume": (0.02, 0.20),
    "hair_length": (-0.8, 1.3),
    "ear": (0.10, 0.19),
    "eye_gap": (0.27, 0.38),
    "eye_y": (-0.18, -0.02),
    "eye_width": (0.115, 0.165),
    "eye_height": (0.045, 0.085),
    "eye_tilt": (-0.18, 0.18),
    "iris": (0.08, 0.45),
    "socket": (0.02, 0.20),
    "brow_y": (0.13, 0.22),
    "brow_tilt": (-0.28, 0.28),
    "brow_arch": (0.2, 2.2),
    "brow_weight": (0.016, 0.042),
    "nose_y": (0.20, 0.36),
    "nose_width": (0.08, 0.15),
    "nose_shade": (0.05, 0.20),
    "mouth_y": (0.50, 0.62),
    "mouth_width": (0.19, 0.31),
    "mouth_curve": (-0.8, 0.8),
    "lip": (0.025, 0.065),
    "lip_tone": (0.10, 0.28),
    "beard": (-0.9, 0.55),
    "moustache": (-1.4, 0.7),
    "glasses": (-3.2, 1.2),
    "rim": (0.018, 0.04),
    "cheek": (0.0, 0.14),
}
# What makes a picture of that person.
CIRCUMSTANCES = {
    "shift_x": (-0.05, 0.05),
    "shift_y": (-0.05, 0.05),
    "scale": (0.95, 1.05),
    "turn": (-0.06, 0.06),
    "yaw": (-0.15, 0.15),
    "pitch": (-0.08, 0.08),
    "open_eyes": (0.35, 1.15),
    "gaze": (-0.35, 0.35),
    "raise": (-0.025, 0.035),
    "smile": (-0.5, 1.3),
    "open_mouth": (-0.06, 0.05),
    "light_x": (-0.28, 0.28),
    "light_y": (-0.28, 0.05),
    "ambient": (0.68, 0.84),
    "ground": (0.40, 0.56),
    "slope": (-0.08, 0.08),
    "clothes": (0.08, 0.75),
    "contrast": (0.95, 1.25),
    "brightness": (-0.04, 0.06),
    "noise": (0.004, 0.022),
    "take_off": (-1.5, 1.5),
}


def DrawnFaces(  # noqa: N802 - it is used like a data set's class
    identities: int = 40,
    pictures: int = 10,
    *,
    size: tuple[int, int] = (112, 92),
    seed: int = 0,
) -> ImageSet:
    """Grey faces drawn by code: people one can tell apart, in pictures that do not make it easy.

    The identities are ``"s1"``, ``"s2"``, ...; their pictures ``"s1/1"``, ``"s1/2"``, ... Each
    depends on the seed and its own numbers only, not on how many there are.

    Args:
        identities: how many people.
        pictures: how many pictures of each.
        size: height and width in pixels.
        seed: another seed draws other people.

    Raises:
        ValueError: where a number is below one.

    Example:
        >>> DrawnFaces(identities=3, pictures=2, size=(32, 28)).pixels.shape
        torch.Size([6, 1, 32, 28])
    """
    if min(identities, pictures, *size) < 1:
        msg = (
            "identities, pictures and size must be at least 1, "
            f"got {identities} identities, {pictures} pictures and size {size}"
        )
        raise ValueError(msg)
    person, shot = np.divmod(np.arange(identities * pictures), pictures)
    # A handful at a time stays in the processor's cache.
    handful = max(1, 100_000 // (size[0] * size[1]))
    parts = [
        _draw(person[first : first + handful], shot[first : first + handful], size, seed)
        for first in range(0, len(person), handful)
    ]
    return ImageSet(
        torch.from_numpy(np.concatenate(parts)[:, None]),
        torch.from_numpy(person),
        identities=[f"s{i + 1}" for i in range(identities)],
        names=[f"s{i + 1}/{j + 1}" for i, j in zip(person, shot, strict=True)],
    )


def _draw(
    person: Integers, shot: Integers, size: tuple[int, int], seed: int
) -> npt.NDArray[np.uint8]:
    """The pictures (m, h, w) of these people in these circumstances."""
    key = hashed(address("drawn person", seed), person)
    face = _values(TRAITS, key) | _values(CIRCUMSTANCES, hashed(key, 1000 + 2 * shot))
    unit = 0.40 * min(size[0], size[1] * 112 / 92) * face["scale"]
    u, v, x, y, z = _place(face, size, unit)
    canvas = _head(_background(face, u, v, unit), face, u, v, x, y, z, unit)
    canvas = (canvas - 0.5) * face["contrast"] + face["brightness"] + 0.5
    canvas += face["noise"] * _noise(hashed(key, 1001 + 2 * shot), size)
    pictures: npt.NDArray[np.uint8] = np.rint(canvas.clip(0, 1) * 255).astype(np.uint8)
    return pictures


def _values(ranges: dict[str, tuple[float, float]], key: npt.NDArray[np.uint64]) -> Values:
    """One number (m, 1, 1) for each range and key."""
    values = {}
    for place, (name, (low, high)) in enumerate(ranges.items()):
        share = (hashed(key, np.full(len(key), place)) >> np.uint64(11)) * 2.0**-53
        values[name] = (low + (high - low) * share).astype(np.float32)[:, None, None]
    return values


def _noise(key: npt.NDArray[np.uint64], size: tuple[int, int]) -> Canvas:
    """Grain (m, h, w) of mean 0 and deviation 1, as the difference of two even numbers."""
    pixels = np.arange(size[0] * size[1], dtype=np.int64).reshape(1, *size)
    word = hashed(key[:, None, None], pixels)
    one, two = (word >> np.uint64(40)).astype(np.float32), (word & np.uint64(0xFFFFFF))
    return (one - two.astype(np.float32)) * np.float32(6**0.5 / 2**24)


def _place(
    face: Values, size: tuple[int, int], unit: Canvas
) -> tuple[Canvas, Canvas, Canvas, Canvas, Canvas]:
    """Where each pixel lies: on the flat head (u, v), on its skin (x, y), and its depth z."""
    height, width = size
    py = (np.arange(height, dtype=np.float32)[:, None] - (height - 1) / 2) / unit
    px = (np.arange(width, dtype=np.float32) - (width - 1) / 2) / unit
    py, px = py - face["shift_y"] - 0.02, px - face["shift_x"]
    cosine, sine = _rotation(face["turn"])
    u, v = cosine * px + sine * py, cosine * py - sine * px
    z = np.sqrt(np.maximum(1 - np.square(u / face["width"]) - np.square(v / 1.2), 0))
    # The head is round: turning it moves its middle more than its rim.
    cosine, sine = _rotation(face["yaw"])
    x = cosine * u - sine * face["width"] * z
    cosine, sine = _rotation(face["pitch"])
    y = cosine * v - sine * z
    return u, v, x, y, z


def _rotation(half: Canvas) -> tuple[Canvas, Canvas]:
    """Cosine and sine of an angle, given the tangent of its half."""
    square = np.square(half)
    return (1 - square) / (1 + square), 2 * half / (1 + square)


def _inside(distance: Canvas, unit: Canvas, soft: float = 1.2) -> Canvas:
    """How much of a pixel lies inside a shape, from its distance to the edge (negative inside)."""
    inside: Canvas = (0.5 - distance * (unit / soft)).clip(0, 1)
    return inside


def _oval(x: Canvas, y: Canvas, a: Canvas | float, b: Canvas | float) -> Canvas:
    """About the distance to an ellipse of half axes a and b around the origin."""
    distance: Canvas = (np.sqrt(np.square(x / a) + np.square(y / b)) - 1) * np.minimum(a, b)
    return distance


def _over(canvas: Canvas, mask: Canvas, tone: Canvas | float) -> Canvas:
    """Paint a tone over the canvas where the mask says so."""
    painted: Canvas = canvas + mask * (tone - canvas)
    return painted


def _background(face: Values, u: Canvas, v: Canvas, unit: Canvas) -> Canvas:
    """The wall, the clothes, the neck, the hair behind the head and the ears."""
    canvas = face["ground"] + face["slope"] * (u + v)
    canvas = _over(canvas, _inside(_oval(u, v - 1.95, 1.35, 0.85), unit), face["clothes"])
    wide, volume = face["width"], face["hair_volume"]
    light = _light(face, u / wide * 0.7, v * 0.5, 0.6)
    crown = _oval(u, v + 0.12, wide + volume, 0.92 + volume)
    # Hanging hair is a box with round corners, from the middle of the head down.
    over_u = np.maximum(np.abs(u) - wide - volume * 0.8 + 0.25, 0)
    over_v = np.maximum(v - face["hair_length"] + 0.25, 0)
    locks = np.sqrt(np.square(over_u) + np.square(over_v)) - 0.25
    canvas = _over(canvas, _inside(np.minimum(crown, locks + (v < 0)), unit), face["hair"] * light)
    neck = np.maximum(np.abs(u) - wide * 0.55, 0.3 - v)
    neck = np.maximum(neck, v - 1.35 + np.square(u) * 0.6)
    canvas = _over(canvas, _inside(neck, unit, 2.0), face["skin"] * light * 0.72)
    for side in (-1, 1):
        ear = _oval(
            u - side * (wide + 0.01), v - face["eye_y"] - 0.1, face["ear"] * 0.5, face["ear"]
        )
        canvas = _over(canvas, _inside(ear, unit), face["skin"] * light * 0.88)
    return canvas


def _light(face: Values, right: Canvas, down: Canvas, front: Canvas | float) -> Canvas:
    """How bright a surface is that faces this way."""
    light: Canvas = face["ambient"] + face["light_x"] * right + face["light_y"] * down
    return light + 0.28 * front


def _head(
    canvas: Canvas,
    face: Values,
    u: Canvas,
    v: Canvas,
    x: Canvas,
    y: Canvas,
    z: Canvas,
    unit: Canvas,
) -> Canvas:
    """The face itself: skin with its features in the light, hair in front of it."""
    jaw = 1 - face["jaw"] * np.square(np.maximum(v, 0))
    outline = _inside(_oval(u, v, face["width"] * jaw, 1.0), unit, 1.6)
    skin = face["skin"] + 0 * x
    for feature in (_cheeks, _nose, _mouth, _beard, _eyes, _brows, _glasses):
        skin = feature(skin, face, x, y, unit)
    skin = skin * _light(face, u / face["width"], v, z)
    line = face["hairline"] + face["hair_curve"] * np.square(x - face["hair_part"])
    front = _inside(y - line, unit, 3.0)
    light = _light(face, u / face["width"] * 0.7, v * 0.5, 0.6)
    skin = _over(skin, front, face["hair"] * light * (0.9 + 0.25 * z))
    return _over(canvas, outline, skin)


def _cheeks(skin: Canvas, face: Values, x: Canvas, y: Canvas, unit: Canvas) -> Canvas:
    """Cheek bones, and the fold that a smile makes beside the mouth."""
    for side in (-1, 1):
        bone = _inside(_oval(x - side * 0.45, y - 0.30, 0.16, 0.22), unit, 14.0)
        skin = skin - bone * face["cheek"]
        along = x - side * (face["mouth_width"] + 0.05 + 0.25 * (y - 0.3))
        fold = _inside(np.abs(along) - 0.005, unit, 3.5) * _inside(np.abs(y - 0.42) - 0.13, unit, 8)
        skin = skin - fold * 0.12 * np.maximum(face["smile"], 0.1)
    return skin


def _nose(skin: Canvas, face: Values, x: Canvas, y: Canvas, unit: Canvas) -> Canvas:
    """A bridge that is lit from one side, a tip, and two nostrils."""
    low, wide, shade = face["nose_y"], face["nose_width"], face["nose_shade"]
    side = -np.sign(face["light_x"])
    length = _inside(np.abs(y - low * 0.4) - (low * 0.5 + 0.02), unit, 6)
    flank = wide * (0.45 + 0.5 * (y / low).clip(0, 1))
    skin = skin - shade * length * _inside(np.abs(x - side * flank) - 0.02, unit, 4)
    skin = skin + 0.08 * length * _inside(np.abs(x) - 0.02, unit, 4)
    skin = skin - shade * _inside(_oval(x, y - low - 0.035, wide, 0.03), unit, 3)
    for way in (-1, 1):
        nostril = _inside(_oval(x - way * wide * 0.5, y - low - 0.015, wide * 0.26, 0.02), unit)
        skin = _over(skin, nostril * 0.8, 0.16)
    return skin


def _mouth(skin: Canvas, face: Values, x: Canvas, y: Canvas, unit: Canvas) -> Canvas:
    """Two lips around a line that smiles, or an open mouth with teeth."""
    smile = np.maximum(face["smile"], 0)
    wide = face["mouth_width"] * (1 + 0.16 * smile)
    bend = 0.45 * face["mouth_curve"] + 1.1 * face["smile"]
    across = 1 - np.square(x / wide)
    line = y - face["mouth_y"] + bend * (np.square(x) - np.square(wide) * 0.4)
    gap = np.maximum(face["open_mouth"], 0)
    lips = np.abs(line) - (face["lip"] + gap) * across
    skin = _over(skin, _inside(lips, unit), face["skin"] - face["lip_tone"])
    skin = _over(skin, _inside(np.abs(line) - (gap + 0.012) * across, unit), 0.14)
    teeth = _inside(np.abs(line + gap * 0.35) - (gap * 0.55 - 0.006) * across, unit)
    skin = _over(skin, teeth * (gap > 0.015), 0.78)
    chin = _inside(_oval(x, y - face["mouth_y"] - 0.16, 0.14, 0.03), unit, 6)
    return skin - 0.08 * chin


def _beard(skin: Canvas, face: Values, x: Canvas, y: Canvas, unit: Canvas) -> Canvas:
    """A beard along the jaw and a moustache, from none through a shadow to full."""
    lips = _inside(-_oval(x, y - face["mouth_y"], face["mouth_width"] * 0.95, 0.10), unit, 4)
    jaw = _inside(-_oval(x, y - 0.12, 0.46, 0.33), unit, 9) * _inside(0.12 - y, unit, 14)
    skin = _over(skin, jaw * lips * np.maximum(face["beard"], 0), face["hair"])
    above = _oval(x, y - (face["mouth_y"] + face["nose_y"]) / 2 - 0.01, face["mouth_width"], 0.055)
    return _over(skin, _inside(above, unit, 2.5) * np.maximum(face["moustache"], 0), face["hair"])


def _eyes(skin: Canvas, face: Values, x: Canvas, y: Canvas, unit: Canvas) -> Canvas:
    """Two eyes in their sockets, open or nearly shut, looking somewhere."""
    wide, high = face["eye_width"], face["eye_height"] * np.minimum(face["open_eyes"], 1)
    for side in (-1, 1):
        ex, ey = x - side * face["eye_gap"], y - face["eye_y"]
        ey = ey + side * face["eye_tilt"] * ex
        skin = skin - face["socket"] * _inside(_oval(ex, ey, wide * 1.25, 0.11), unit, 8)
        lid = high * (1 - np.square(ex / wide))
        ball = _inside(np.abs(ey) - lid, unit)
        skin = _over(skin, ball, 0.86)
        gazed = ex - face["gaze"] * wide * 0.6
        radius = face["eye_height"] * 1.02
        skin = _over(skin, ball * _inside(_oval(gazed, ey, radius, radius), unit), face["iris"])
        pupil = _inside(_oval(gazed, ey, radius * 0.5, radius * 0.5), unit)
        skin = _over(skin, ball * pupil, 0.03)
        rim = np.maximum(np.abs(ey + lid) - 0.012, np.abs(ex) - wide)
        skin = _over(skin, _inside(rim, unit), 0.13)
        crease = np.maximum(np.abs(ey - lid - 0.035) - 0.004, np.abs(ex) - wide * 0.9)
        skin = skin - 0.12 * _inside(crease, unit, 2.5)
    return skin


def _brows(skin: Canvas, face: Values, x: Canvas, y: Canvas, unit: Canvas) -> Canvas:
    """Two brows, tilted and arched, raised a little in some pictures."""
    level = face["eye_y"] - face["brow_y"] - face["raise"]
    tone = face["hair"] * 0.75
    for side in (-1, 1):
        out = side * x - face["eye_gap"]
        middle = y - level - face["brow_tilt"] * out - face["brow_arch"] * np.square(out)
        brow = np.maximum(
            np.abs(middle) - face["brow_weight"], np.abs(out) - face["eye_width"] * 1.2
        )
        skin = _over(skin, _inside(brow, unit, 1.8) * 0.85, tone)
    return skin


def _glasses(skin: Canvas, face: Values, x: Canvas, y: Canvas, unit: Canvas) -> Canvas:
    """Glasses, on those who wear them, in most of their pictures."""
    worn = (face["glasses"] > 0) & (face["take_off"] > -0.8)
    if not worn.any():
        return skin
    ey = y - face["eye_y"] - 0.02
    bridge = np.maximum(np.abs(ey + 0.03) - 0.012, np.abs(x) - face["eye_gap"] + 0.17)
    for side in (-1, 1):
        glass = _oval(x - side * face["eye_gap"], ey, 0.20, 0.10 + 0.06 * face["glasses"])
        bridge = np.minimum(bridge, np.abs(glass) - face["rim"] / 2)
    arms = np.maximum(np.abs(ey + 0.03) - 0.012, face["eye_gap"] + 0.2 - np.abs(x))
    return _over(skin, worn * _inside(np.minimum(bridge, arms), unit), 0.10)

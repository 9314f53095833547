"""Changes to pictures that do not change who they show, for a whole batch at once.

Axes: n pictures, c channels, h height, w width, p places in a row of control points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from siamlearn.data.moving import moved
from siamlearn.scattering import scattered

__all__ = ["Augment", "hashed_noise"]

# Control points in a row: of the displacements, and of the logarithm of the light.
WARP, LIGHT = 5, 3


@dataclass(frozen=True)
class Augment:
    """Random small turns, shifts, bends, shades and gaps: another picture of the same person.

    Each range is the largest change either way, and every value in it is equally likely; zero
    leaves that part out. Everything geometric is one resampling, with the border carried on
    outwards. The random numbers come from the generator on the CPU, and those of picture i depend
    on the generator and on i alone. All else is done where the pictures are, to which the numbers
    go in one copy that nobody waits for. Every device draws the same, but for the noise: that of
    the CPU is drawn by the generator, that of all others by a hash.

    Args:
        rotate: turn, in degrees.
        scale: natural logarithm of the size: 0.1 is from 10 % smaller to 10 % larger.
        aspect: natural logarithm of width over height, half of it to either.
        shear: sideways shift of a row, in units of its distance from the middle row.
        shift: of the whole picture, as a fraction of each side.
        warp: of each of 5 x 5 control points that bend the picture, as a fraction of each side.
        flip: chance from 0 to 1 to be mirrored left to right.
        brightness: added to all pixels.
        contrast: natural logarithm of the factor on the difference from the mean.
        gamma: natural logarithm of the exponent of the pixels.
        light: natural logarithm of the factor at 3 x 3 control points of the light.
        noise: largest standard deviation of the noise of a picture.
        erase: chance from 0 to 1 that a rectangle is painted over with the mean.
        erase_size: largest side of that rectangle as a fraction of the picture's; the smallest
            is a quarter of it.

    Raises:
        ValueError: where a range is negative or a chance is above one.

    Example:
        >>> images = torch.rand(8, 1, 28, 23)
        >>> Augment()(images, torch.Generator().manual_seed(0)).shape
        torch.Size([8, 1, 28, 23])
        >>> torch.equal(Augment.none()(images, torch.Generator()), images)
        True
    """

    rotate: float = 12.0
    scale: float = 0.12
    aspect: float = 0.12
    shear: float = 0.08
    shift: float = 0.08
    warp: float = 0.025
    flip: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.3
    light: float = 0.35
    noise: float = 0.03
    erase: float = 0.5
    erase_size: float = 0.4

    def __post_init__(self) -> None:
        for field in fields(self):
            value, most = getattr(self, field.name), math.inf
            if field.name in ("flip", "erase", "erase_size"):
                most = 1.0
            if not 0 <= value <= most or math.isinf(value):
                limit = "at least 0 and finite" if math.isinf(most) else "from 0 to 1"
                msg = f"{field.name} must be {limit}, got {value}; 0 leaves it out"
                raise ValueError(msg)

    @classmethod
    def none(cls) -> Augment:
        """No change at all: a start for ``replace(Augment.none(), flip=0.5)``.

        Example:
            >>> Augment.none().rotate
            0.0
        """
        return cls(**{field.name: 0.0 for field in fields(cls)})

    def __call__(
        self, images: Tensor, generator: torch.Generator, *, places: Tensor | None = None
    ) -> Tensor:
        """Change pictures, floats from 0 to 1 of shape (n, c, h, w); the result is like them.

        Args:
            images: the pictures.
            generator: on the CPU; the same one, at the same place, makes the same changes.
            places: which pictures of a batch these are, where they are not all of it: they come
                out as they would among the others.

        Raises:
            ValueError: where the pictures are not floats of four axes.
        """
        if images.ndim != 4 or not images.is_floating_point():
            msg = (
                "images must be floats from 0 to 1 of shape (n, c, h, w), got "
                f"{images.dtype} of shape {tuple(images.shape)}; divide bytes by 255"
            )
            raise ValueError(msg)
        # Two streams, for the noise to begin at the same place whatever the number of pictures.
        first, second = torch.randint(2**62, (2,), generator=generator).tolist()
        if places is None:
            places = torch.arange(len(images))
        draw = _Draw(places, first, images.device)
        grid = self._grid(draw, *images.shape[-2:])
        if grid is not None:
            grid = grid.to(images.dtype).permute(0, 2, 3, 1)
            images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
        images = self._tones(images, draw)
        images = self._grain(images, draw, places, second)
        return self._gaps(images, draw)

    def _grid(self, draw: _Draw, height: int, width: int) -> Tensor | None:
        """Where each pixel is taken from (n, 2, h, w), x before y, or nothing where it stays."""
        ranges = self.rotate, self.scale, self.aspect, self.shear, self.shift, self.warp, self.flip
        bends = 2 * self.warp * draw.evenly(2 * WARP * WARP).view(-1, 2, WARP, WARP)
        matrix, shift = self._affine(draw, width / height)
        if not any(ranges):
            return None
        # A plane and the bends are both sums of products of one function of y and one of x.
        terms = bends.new_zeros(len(bends), 2, 2 + WARP, 2 + WARP)
        terms[:, :, 0, 0] = shift
        terms[:, :, 0, 1], terms[:, :, 1, 0] = matrix[..., 0], matrix[..., 1]
        terms[:, :, 2:, 2:] = bends
        return _surface(terms, height, width, WARP)

    def _affine(self, draw: _Draw, ratio: float) -> tuple[Tensor, Tensor]:
        """Matrix (n, 2, 2) and shift (n, 2) from places after to places before, each in -1..1."""
        turn = math.radians(self.rotate) * draw.evenly()
        size, aspect = self.scale * draw.evenly(), self.aspect / 2 * draw.evenly()
        shear, shift = self.shear * draw.evenly(), 2 * self.shift * draw.evenly(2)
        mirror = 1 - 2 * (draw.chance() < self.flip).float()
        cosine, sine = turn.cos(), turn.sin()
        wide, high = (size + aspect).exp(), (size - aspect).exp()
        # Turn after stretch after shear, in pixels of equal sides; then in halves of each side.
        rows = [
            [cosine * wide * mirror, (cosine * wide * shear - sine * high) / ratio],
            [sine * wide * ratio * mirror, sine * wide * shear + cosine * high],
        ]
        return torch.stack([torch.stack(row, -1) for row in rows], -2), shift

    def _tones(self, images: Tensor, draw: _Draw) -> Tensor:
        """Gamma and uneven light, then contrast and brightness."""
        gamma, contrast = (self.gamma * draw.evenly()).exp(), (self.contrast * draw.evenly()).exp()
        brightness = self.brightness * draw.evenly()
        terms = gamma.new_zeros(len(images), 1, 2 + LIGHT, 2 + LIGHT)
        terms[:, :, 2:, 2:] = self.light * draw.evenly(LIGHT * LIGHT).view(-1, 1, LIGHT, LIGHT)

        def like(values: Tensor) -> Tensor:
            return values.to(images.dtype).view(-1, 1, 1, 1)

        if self.gamma:
            # The slope of a power below one is infinite at zero.
            images = images.clamp(min=1e-3).pow(like(gamma))
        if self.light:
            light = _surface(terms, images.shape[-2], images.shape[-1], LIGHT)
            images = images * light.exp_().to(images.dtype)
        if self.contrast or self.brightness:
            mean = images.mean((1, 2, 3), keepdim=True)
            images = mean + (images - mean) * like(contrast) + like(brightness)
        return images.clamp(0, 1) if any((self.light, self.contrast, self.brightness)) else images

    def _grain(self, images: Tensor, draw: _Draw, places: Tensor, seed: int) -> Tensor:
        """Noise of a strength that differs between pictures."""
        strength = self.noise * draw.chance().view(-1, 1, 1, 1)
        if not self.noise:
            return images
        # Even noise, whose deviation is the root of a twelfth, is a third of the price of normal.
        noise = _noise(images, draw, places, seed)
        noise = noise.sub_(0.5).mul_(strength * math.sqrt(12)).to(images.dtype)
        return (images + noise).clamp_(0, 1)

    def _gaps(self, images: Tensor, draw: _Draw) -> Tensor:
        """A rectangle of the picture's mean over some pictures."""
        chosen = draw.chance() < self.erase
        sides = self.erase_size * (0.25 + 0.75 * draw.chance(2))
        middle = draw.chance(2)
        if not self.erase:
            return images
        hidden = []
        for axis, length in enumerate(images.shape[-2:]):
            places = (torch.arange(length, device=images.device) + 0.5) / length
            hidden.append((places - middle[:, axis, None]).abs() < sides[:, axis, None] / 2)
        rows, columns = hidden
        gap = (rows & chosen[:, None])[:, None, :, None] & columns[:, None, None]
        return torch.where(gap, images.mean((2, 3), keepdim=True), images)


class _Draw:
    """Random numbers for n pictures on a device, those of a picture depending on its place alone.

    Attributes:
        places: of the pictures, there.
    """

    def __init__(self, places: Tensor, seed: int, device: torch.device) -> None:
        numbers = 2 * WARP * WARP + LIGHT * LIGHT + 17
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.rand(_before(places), numbers, generator=generator)
        # One copy for both: places are whole numbers, also as floats.
        there = moved(torch.cat([drawn[places], places[:, None].to(drawn)], dim=1), device)
        self.numbers, self.places, self.used = there, there[:, -1], 0

    def chance(self, many: int | None = None) -> Tensor:
        """Numbers from 0 to 1 (n,), or (n, many)."""
        first, self.used = self.used, self.used + (many or 1)
        return self.numbers[:, first] if many is None else self.numbers[:, first : self.used]

    def evenly(self, many: int | None = None) -> Tensor:
        """Numbers from -1 to 1 (n,), or (n, many)."""
        return 2 * self.chance(many) - 1


def _before(places: Tensor) -> int:
    """For how many pictures to draw, so that the last of these places is among them."""
    return int(places.max()) + 1 if len(places) else 0


def _noise(images: Tensor, draw: _Draw, places: Tensor, seed: int) -> Tensor:
    """Numbers from 0 to 1 for each pixel, those of a picture depending on its place alone."""
    if images.device.type == "cpu":
        shape = _before(places), *images.shape[1:]
        noise = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
        return noise if torch.equal(places, torch.arange(len(noise))) else noise[places]
    return hashed_noise(images, draw.places, seed)


def hashed_noise(images: Tensor, places: Tensor, seed: int) -> Tensor:
    """Numbers from 0 to 1 for each pixel, where the pictures and their places are.

    A generator of a GPU would draw other numbers for a picture where there are more of them.

    Example:
        >>> hashed_noise(torch.zeros(2, 1, 28, 23), torch.tensor([0.0, 1.0]), 7).shape
        torch.Size([2, 1, 28, 23])
    """
    pixels = torch.arange(math.prod(images.shape[1:]), device=images.device)
    key = scattered(places.long() + seed).view(-1, 1, 1, 1)
    return scattered(pixels.view(images.shape[1:]) ^ key).float().div_(2**32)


def _surface(terms: Tensor, height: int, width: int, points: int) -> Tensor:
    """Smooth surfaces (n, k, h, w) from the factors of products of functions of y and of x."""
    down, across = (
        _functions(length, points, terms.dtype, terms.device) for length in (height, width)
    )
    return down @ (terms @ across.T)


@lru_cache(maxsize=16)
def _functions(length: int, points: int, kind: torch.dtype, device: torch.device) -> Tensor:
    """One, the place from -1 to 1, and a bump around each control point: (length, 2 + points)."""
    place = (2 * torch.arange(length, dtype=kind) + 1) / length - 1
    bumps = F.interpolate(
        torch.eye(points, dtype=kind)[None, None],
        size=(length, points),
        mode="bicubic",
        align_corners=True,
    )
    table = torch.cat([torch.ones(length, 1, dtype=kind), place[:, None], bumps[0, 0]], dim=1)
    return moved(table, device)

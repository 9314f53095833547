"""Pictures small enough to stand in a page by the hundred."""

from __future__ import annotations

import base64
import io
from typing import final

from jaxtyping import UInt8
from torch import Tensor

from siamlearn.embeddings import Embeddings

__all__ = ["Thumbnails", "data_uri"]

# Of all pictures of a page together: few may be large, many are small.
BYTES = 3_000_000
LARGEST, SMALLEST = 256, 32  # longer sides
QUALITY = 82  # of JPEG


def data_uri(picture: UInt8[Tensor, "c h w"], side: int = LARGEST) -> str:
    """A picture as a JPEG inside an address, so that a page needs no other file.

    Args:
        side: the longer side at most, in pixels; a smaller picture stays as it is.

    Example:
        >>> import torch
        >>> data_uri(torch.zeros(1, 8, 8, dtype=torch.uint8))[:23]
        'data:image/jpeg;base64,'
    """
    from PIL import Image

    grey = len(picture) == 1
    pixels = picture[0] if grey else picture.movedim(0, -1)
    image = Image.fromarray(pixels.contiguous().cpu().numpy())
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    image.save(written, "JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(written.getvalue()).decode()}"


@final
class Thumbnails:
    """The pictures that a page shows, each once, with whom they show.

    Args:
        parts: embeddings whose pictures are shown; a picture is asked for by part and index.

    Example:
        >>> from siamlearn import DrawnFaces, pixels
        >>> shown = Thumbnails(pixels(DrawnFaces(2, 2)))
        >>> shown.place(0, 3), shown.place(0, 1), shown.place(0, 3)
        (0, 1, 0)
        >>> [(each["who"], each["name"]) for each in shown.pictures()]
        [('s2', 's2/2'), ('s1', 's1/2')]
    """

    def __init__(self, *parts: Embeddings) -> None:
        self._parts = parts
        self._places: dict[tuple[int, int], int] = {}

    def place(self, part: int, index: int) -> int:
        """Where among the shown pictures this one stands; it is added if it is new."""
        return self._places.setdefault((part, index), len(self._places))

    def pictures(self) -> list[dict[str, str | None]]:
        """Name, person and address of each; None for the address where no picture is at hand."""
        side = self._side()
        sources = self._sources(side)
        while (total := sum(map(len, filter(None, sources)))) > BYTES and side > SMALLEST:
            side = max(SMALLEST, int(0.9 * side * (BYTES / total) ** 0.5))
            sources = self._sources(side)
        return [
            {"name": of.names[index], "who": of.identities[int(of.labels[index])], "src": source}
            for (of, index), source in zip(self._shown(), sources, strict=True)
        ]

    def _shown(self) -> list[tuple[Embeddings, int]]:
        return [(self._parts[part], index) for part, index in self._places]

    def _side(self) -> int:
        """The longer side of the largest picture, or what a page has room for."""
        sides = [max(part.images.shape) for part in self._parts if part.images is not None]
        return min(LARGEST, max(sides, default=LARGEST))

    def _sources(self, side: int) -> list[str | None]:
        return [
            None if of.images is None else data_uri(of.images.pixels[index], side)
            for of, index in self._shown()
        ]

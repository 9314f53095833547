"""Arrays of pictures of any layout to bytes (n, c, h, w), and bytes to another shape.

Axes: n pictures, c channels (1 grey, 3 colour), h height, w width.
"""

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import ArrayLike
from PIL import Image
from torch import Tensor

from siamlearn.data.reading import decode
from siamlearn.wording import some

__all__ = ["as_bytes", "as_shape", "require_shape"]


def as_bytes(images: ArrayLike | Tensor) -> UInt8[Tensor, "n c h w"]:
    """Pictures as bytes, channels first.

    Args:
        images: (n, h, w), (n, h, w, c) or (n, c, h, w), uint8 or floats from 0 to 1. Where the
            shape leaves open which axis is c, it is the last of an array, the first of a tensor.

    Raises:
        ValueError: when shape, type or range are others.

    Example:
        >>> as_bytes(np.full((1, 2, 2, 3), 0.5)).shape
        torch.Size([1, 3, 2, 2])
    """
    # A copy, so that nobody changes the pictures from behind.
    block = images.detach().cpu().clone() if isinstance(images, Tensor) else _copied(images)
    if block.ndim == 3:
        block = block[:, None]
    elif block.ndim == 4:
        first, last = block.shape[1] in (1, 3), block.shape[3] in (1, 3)
        if last and not (first and isinstance(images, Tensor)):
            block = block.permute(0, 3, 1, 2)
    if block.ndim != 4 or block.shape[1] not in (1, 3) or 0 in block.shape[1:]:
        msg = (
            "pictures must be (n, h, w), (n, h, w, c) or (n, c, h, w) with 1 channel (grey) or 3 "
            f"(colour), got shape {tuple(block.shape)}; reshape them, and drop transparency"
        )
        raise ValueError(msg)
    return _quantised(block).contiguous()


def _copied(array: ArrayLike) -> Tensor:
    copy = np.array(array)
    if copy.dtype.kind not in "buif":
        msg = f"pictures must be uint8, or floats from 0 to 1, got {copy.dtype}; convert them"
        raise ValueError(msg)
    return torch.from_numpy(copy)


def _quantised(block: Tensor) -> UInt8[Tensor, "n c h w"]:
    if block.dtype == torch.uint8:
        return block
    if not block.is_floating_point():
        msg = f"pictures must be uint8, or floats from 0 to 1, got {block.dtype}; convert them"
        raise ValueError(msg)
    broken = block.isnan().flatten(1).any(dim=1).nonzero().flatten().tolist()
    if broken:
        msg = (
            f"pictures of floats must lie from 0 to 1, but {len(broken)} of {len(block)} hold NaN, "
            f"counted from 0: {some(broken)}; repair them, or leave them out"
        )
        raise ValueError(msg)
    if len(block) and not (block.min() >= 0 and block.max() <= 1):
        msg = (
            f"pictures of floats must lie from 0 to 1, got {float(block.min()):g} to "
            f"{float(block.max()):g}; scale them, or give bytes"
        )
        raise ValueError(msg)
    return (block.float() * 255).round().to(torch.uint8)


def as_shape(
    pixels: UInt8[Tensor, "n c h w"], shape: tuple[int, int, int]
) -> UInt8[Tensor, "n C H W"]:
    """The pictures in another shape: stretched, made grey, or their grey in all three colours.

    The same bytes as if they had been read from files of that size, by `decode`.

    Args:
        shape: channels (1 or 3), height and width.

    Raises:
        ValueError: when no picture has such a shape.

    Example:
        >>> colour = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1)
        >>> as_shape(colour, (1, 2, 2)).flatten().tolist()
        [76, 76, 76, 76]
    """
    require_shape(shape)
    channels, height, width = shape
    pictures = pixels.cpu().permute(0, 2, 3, 1).numpy()
    block = np.empty((len(pictures), *shape), np.uint8)
    for index, picture in enumerate(pictures):
        image = Image.fromarray(picture if picture.shape[2] == 3 else picture[:, :, 0])
        block[index] = decode(image, size=(height, width), grey=channels == 1)
    return torch.from_numpy(block)


def require_shape(shape: tuple[int, int, int]) -> None:
    """Refuse a shape that no picture has.

    Raises:
        ValueError: unless there are 1 or 3 channels, and a pixel or more.

    Example:
        >>> require_shape((1, 112, 92))
    """
    if len(shape) != 3 or shape[0] not in (1, 3) or min(shape) < 1:
        msg = f"a shape is (1 or 3 channels, height, width) of a pixel or more, got {shape}"
        raise ValueError(msg)

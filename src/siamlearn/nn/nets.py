"""Nets that turn a picture into an embedding, described by data: a list of convolution blocks."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self, final

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from siamlearn.nn.files import write_whole
from siamlearn.nn.whitening import Whitening

__all__ = ["ConvBlock", "EmbeddingNet", "NetConfig"]

Shape = tuple[int, int, int]

THUMBNAIL = 128  # length of what is made of a thumbnail, where no length is asked for


@dataclass(frozen=True)
class ConvBlock:
    """One block of a net: convolution, leaky ReLU, max-pool, batch norm, dropout.

    Args:
        channels: what the convolution gives out.
        kernel: side of the convolution, in pixels.
        stride: step of the convolution, in pixels.
        padding: pixels of zeros around the picture; ``kernel // 2`` keeps its size.
        pool: side and step of the max-pool; 1 leaves it out.
        slope: of the leaky ReLU below zero; 1 leaves it out.
        norm: whether there is a batch norm.
        norm_first: the batch norm stands before the leaky ReLU, not after the pool.
        dropout: chance of a value to be dropped, from 0 to below 1.

    Example:
        >>> ConvBlock(6, 5, pool=4).output((1, 100, 100))
        (6, 24, 24)
    """

    channels: int
    kernel: int = 3
    stride: int = 1
    padding: int = 0
    pool: int = 1
    slope: float = 0.01
    norm: bool = True
    norm_first: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("channels", "kernel", "stride", "pool"):
            if getattr(self, name) < 1:
                msg = f"{name} of a ConvBlock must be at least 1, got {getattr(self, name)}"
                raise ValueError(msg)
        if self.padding < 0:
            msg = f"padding of a ConvBlock must not be negative, got {self.padding}"
            raise ValueError(msg)
        if not 0 <= self.dropout < 1:
            msg = f"dropout must be from 0 to below 1, got {self.dropout}: 1 would leave nothing"
            raise ValueError(msg)

    def output(self, shape: Shape) -> Shape:
        """The (channels, height, width) that comes out for what goes in; below 1 does not fit."""
        height, width = (
            ((side + 2 * self.padding - self.kernel) // self.stride + 1) // self.pool
            for side in shape[1:]
        )
        return self.channels, height, width

    def build(self, channels: int) -> nn.Sequential:
        """The layers of this block, for pictures of so many channels."""
        norm = [nn.BatchNorm2d(self.channels)] if self.norm else []
        return nn.Sequential(
            nn.Conv2d(channels, self.channels, self.kernel, self.stride, self.padding),
            *(norm if self.norm_first else []),
            *([nn.LeakyReLU(self.slope)] if self.slope != 1 else []),
            *([nn.MaxPool2d(self.pool)] if self.pool > 1 else []),
            *([] if self.norm_first else norm),
            *([nn.Dropout(self.dropout)] if self.dropout > 0 else []),
        )


@dataclass(frozen=True)
class NetConfig:
    """A net as data: what goes in, the blocks it passes, what comes out.

    Args:
        input: channels, height and width of the pictures.
        blocks: in the order that a picture passes them.
        embedding: length of the learned embedding; None gives what the last block gives,
            flattened, and 128 numbers from a thumbnail.
        dropout: chance of a value to be dropped before a linear layer to the embedding.
        thumbnail: height and width, in pixels, of a shrunken copy of the picture, of which one
            linear layer makes the second half of the learned embedding. It sees what is broad
            and plain (hair, tone, outline), needs few identities to learn that, and errs on
            other pictures than the blocks do. None leaves it out.
        standardize: shift and scale each picture to mean 0 and contrast 1 first, so that
            neither brightness nor contrast of the light matters.
        whitened: height and width of another shrunken copy, whose `Whitening` stands behind the
            learned embedding. It is not trained but computed, by ``fit`` or ``net.whiten``, and
            is zero before and while training. None leaves it out.
        mirror: outside training, embed a picture and its mirror image, and take the mean.
        unit_length: scale the learned embedding (with a thumbnail: each of its two parts first)
            to length 1.

    Raises:
        ValueError: a block shrinks the picture to nothing; the message says which.

    Example:
        >>> config = NetConfig(input=(3, 64, 64), blocks=(ConvBlock(8, pool=4),), embedding=16)
        >>> config.flat
        1800
        >>> NetConfig.from_dict(config.to_dict()) == config
        True
    """

    input: Shape = (1, 112, 92)
    blocks: tuple[ConvBlock, ...] = field(default_factory=tuple)
    embedding: int | None = 64
    dropout: float = 0.0
    thumbnail: tuple[int, int] | None = None
    whitened: tuple[int, int] | None = None
    standardize: bool = False
    mirror: bool = False
    unit_length: bool = True

    def __post_init__(self) -> None:
        if len(self.input) != 3 or min(self.input) < 1:
            msg = f"input must be (channels, height, width), each at least 1, got {self.input}"
            raise ValueError(msg)
        if self.embedding is not None and self.embedding < 1:
            msg = f"embedding must be at least 1 long, got {self.embedding}"
            raise ValueError(msg)
        if not 0 <= self.dropout < 1:
            msg = f"dropout must be from 0 to below 1, got {self.dropout}: 1 would leave nothing"
            raise ValueError(msg)
        if self.thumbnail is not None and self.embedding is not None and self.embedding % 2:
            msg = f"with a thumbnail, embedding must be an even number, got {self.embedding}"
            raise ValueError(msg)
        shape = self.input
        for number, block in enumerate(self.blocks, start=1):
            out = block.output(shape)
            if min(out) < 1:
                msg = (
                    f"block {number} of {len(self.blocks)} ({block}) shrinks its input of "
                    f"{shape[1]}x{shape[2]} pixels to {max(out[1], 0)}x{max(out[2], 0)}; use "
                    f"larger pictures than {self.input[1]}x{self.input[2]}, fewer blocks, "
                    f"a smaller kernel or pool, or padding"
                )
                raise ValueError(msg)
            shape = out

    @property
    def output(self) -> Shape:
        """Channels, height and width of what leaves the last block."""
        shape = self.input
        for block in self.blocks:
            shape = block.output(shape)
        return shape

    @property
    def flat(self) -> int:
        """How many numbers leave the last block."""
        channels, height, width = self.output
        return channels * height * width

    @classmethod
    def preset(cls, name: str, *, input: Shape | None = None, **changes: Any) -> NetConfig:
        """A net that is known to work: "small", our default, or "notebook".

        "notebook" is the net of 1,516 parameters that siamlearn grew out of, on pictures of
        100x100. "small" is sized to the pictures: each block halves them until the shorter side
        is below 8 pixels. It was made for pictures of about 60 pixels, as ``fit`` gives it.

        Args:
            name: which one.
            input: channels, height and width of the pictures, ``images.shape``.
            changes: other arguments of ``NetConfig`` to be set, such as ``embedding=128``.

        Example:
            >>> len(NetConfig.preset("small", input=(3, 64, 64)).blocks)
            6
        """
        presets = {"notebook": notebook, "small": small}
        if name not in presets:
            msg = f"there is no preset {name!r}; the presets are {', '.join(sorted(presets))}"
            raise ValueError(msg)
        config = presets[name]() if input is None else presets[name](input)
        return replace(config, **changes)

    def to_dict(self) -> dict[str, Any]:
        """This configuration as plain numbers, lists and dictionaries, ready for JSON."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NetConfig:
        """The configuration that ``to_dict`` described."""
        blocks = tuple(ConvBlock(**block) for block in values["blocks"])
        channels, height, width = values["input"]
        pairs = {
            name: None if values[name] is None else tuple(values[name])
            for name in ("thumbnail", "whitened")
        }
        return cls(**values | pairs | {"input": (channels, height, width), "blocks": blocks})


def notebook(shape: Shape = (1, 100, 100)) -> NetConfig:
    return NetConfig(
        input=shape,
        blocks=(
            ConvBlock(6, 5, pool=4),
            ConvBlock(5, 3, pool=2),
            ConvBlock(5, 4, pool=2),
            ConvBlock(8, 4, slope=1.0, norm=False),
        ),
        embedding=None,
        unit_length=False,
    )


def small(shape: Shape = (1, 112, 92)) -> NetConfig:
    _, height, width = shape
    blocks, channels, shorter = [], 24, min(height, width)
    while shorter >= 8:
        blocks.append(ConvBlock(channels, padding=1, pool=2, norm_first=True))
        channels, shorter = min(2 * channels, 160), shorter // 2
    blocks.append(ConvBlock(channels, padding=1, norm_first=True))
    # The last map is kept as it is, narrowed to 16 channels: it tells what is where, which a
    # linear layer over few identities unlearns.
    blocks.append(ConvBlock(16, kernel=1, slope=1.0, norm=False))
    return NetConfig(
        input=shape,
        blocks=tuple(blocks),
        embedding=None,
        dropout=0.2,
        thumbnail=shrunk(height, width, 14),
        standardize=True,
    )


def shrunk(height: int, width: int, longer: int) -> tuple[int, int]:
    """Height and width divided by the whole number that brings the longer side nearest."""
    factor = max(1, round(max(height, width) / longer))
    return max(1, height // factor), max(1, width // factor)


@final
class EmbeddingNet(nn.Module):
    """A net that gives every picture an embedding: blocks of convolutions, then a linear layer.

    Takes pictures (n, channels, height, width) as bytes, or as floats from 0 to 1, and gives
    embeddings (n, d). Pictures of another height and width than ``config.input`` are resized.

    ``trained_on`` is SHA-256 of the name of each identity that it was trained on, as far as
    ``Trainer`` knew: it is saved along, and on those no threshold is chosen.

    Args:
        config: what the net looks like.

    Example:
        >>> net = EmbeddingNet(NetConfig.preset("small", input=(1, 56, 46), embedding=32))
        >>> net(torch.zeros(2, 1, 112, 92, dtype=torch.uint8)).shape
        torch.Size([2, 32])
    """

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.config = config
        self.trained_on: tuple[str, ...] = ()
        widths = [config.input[0], *(block.channels for block in config.blocks)]
        self.blocks = nn.Sequential(
            *(block.build(width) for block, width in zip(config.blocks, widths, strict=False)),
            nn.Flatten(),
        )
        self.thumbnail = None
        self.whitening = None
        length = config.embedding
        if config.thumbnail is not None:
            half = THUMBNAIL if length is None else length // 2
            length = None if length is None else half
            pixels = config.input[0] * config.thumbnail[0] * config.thumbnail[1]
            self.thumbnail = nn.Sequential(
                nn.AdaptiveAvgPool2d(config.thumbnail),
                nn.Flatten(),
                nn.BatchNorm1d(pixels),
                nn.Dropout(config.dropout),
                nn.Linear(pixels, half, bias=False),
            )
        if length is not None:
            self.blocks.extend([nn.Dropout(config.dropout), nn.Linear(config.flat, length)])
        if config.whitened is not None:
            self.whitening = Whitening(config.whitened, channels=config.input[0])
        # Convolutions are faster with the channels of a pixel side by side, on every device.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings of a batch of pictures."""
        if images.ndim != 4 or images.shape[1] != self.config.input[0]:
            msg = (
                f"this net takes pictures of shape (n, {', '.join(map(str, self.config.input))}), "
                f"got {tuple(images.shape)}; build the net with input=images.shape"
            )
            raise ValueError(msg)
        images = self._prepared(images)
        learned = self._learned(images)
        if self.config.mirror and not self.training:
            learned = (learned + self._learned(images.flip(3))) / 2
            if self.config.unit_length:
                learned = F.normalize(learned, dim=1)
        if self.whitening is None:
            return learned
        return torch.cat([learned, self._whitened(images, self.whitening)], dim=1)

    def _prepared(self, images: Tensor) -> Tensor:
        if not images.is_floating_point():
            images = images.float() / 255
        if images.shape[2:] == (size := self.config.input[1:]):
            return images
        return F.interpolate(images, size, mode="bilinear", antialias=True)

    def _learned(self, images: Tensor) -> Tensor:
        if self.config.standardize:
            images = standardized(images)
        parts = [part(images) for part in (self.blocks, self.thumbnail) if part is not None]
        if self.config.unit_length:
            # In full precision: a rounded length would move every distance.
            parts = [F.normalize(part.float(), dim=1) / len(parts) ** 0.5 for part in parts]
        return torch.cat(parts, dim=1)

    def _whitened(self, images: Tensor, whitening: Whitening) -> Tensor:
        if self.training:
            # The loss does not see it: on the pictures it was computed from it is too good.
            return images.new_zeros(len(images), whitening.axes.shape[1])
        parts: Tensor = whitening(images)
        if self.config.mirror:
            parts = (parts + whitening(images.flip(3))) / 2
        return parts

    @torch.no_grad()
    def whiten(self, images: Tensor, labels: Tensor) -> Self:
        """Compute the `Whitening` from the training pictures, if the net has one.

        Args:
            images: bytes or floats (n, channels, height, width).
            labels: the identity of each, integers of shape (n,).
        """
        if self.whitening is not None:
            # In parts, because floats take four times the memory of bytes.
            parts = [self._prepared(part) for part in torch.split(images, 256)]
            small = torch.cat([self.whitening.shrunk(part) for part in parts])
            mirrored = torch.cat([self.whitening.shrunk(part.flip(3)) for part in parts])
            self.whitening.fit(small, labels, mirrored if self.config.mirror else None)
        return self

    @property
    def parameter_count(self) -> int:
        """How many numbers the net learns."""
        return sum(parameter.numel() for parameter in self.parameters())

    def save(self, folder: str | Path) -> Path:
        """Write ``net.json`` and ``net.safetensors`` into a folder, which is made if need be."""
        (folder := Path(folder)).mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.config.to_dict() | {"trained_on": list(self.trained_on)}, indent=1)
        values = {name: value.contiguous() for name, value in self.state_dict().items()}
        write_whole(folder / "net.json", lambda path: path.write_text(f"{text}\n"))
        write_whole(folder / "net.safetensors", lambda path: save_file(values, path))
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The net that ``save`` wrote into a folder, on the CPU and ready to embed.

        Raises:
            ValueError: a file is missing or damaged; the message says which.
        """
        folder = Path(folder)
        try:
            content = json.loads((folder / "net.json").read_text())
            trained_on = content.pop("trained_on", [])  # earlier versions did not know it
            net = cls(NetConfig.from_dict(content))
            net.trained_on = tuple(trained_on)
            net.load_state_dict(load_file(folder / "net.safetensors"))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            msg = f"{folder} holds no whole net (net.json and net.safetensors): {error}"
            raise ValueError(msg) from error
        return net.eval()


def standardized(images: Tensor) -> Tensor:
    """Each picture with mean 0 and standard deviation 1; a picture of one shade becomes 0."""
    centred = images - images.mean(dim=(1, 2, 3), keepdim=True)
    # 1/255 is one step of grey: less contrast than that is noise, not to be blown up.
    return centred / centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp(min=1 / 255)

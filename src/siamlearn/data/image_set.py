"""Pictures with the people they show, in memory.

Axes: n pictures, c channels (1 grey, 3 colour), h height, w width.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import final

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from siamlearn.data import splits
from siamlearn.data.pixels import as_shape
from siamlearn.data.reading import natural

__all__ = ["ImageSet"]


@final
class ImageSet(Dataset[tuple[Tensor, int]]):
    """Pictures of one shape in memory, each with the identity it shows and a name of its own.

    A part of it (`subset`, `only`, the splits) keeps the numbering and the names of the whole,
    so that label 7 is the same person everywhere.

    Args:
        pixels: the pictures, uint8 of shape (n, c, h, w), grey (c = 1) or colour (c = 3).
        labels: whom each shows, int64 of shape (n,): the place of the name in ``identities``.
        identities: the name of every identity.
        names: the name of every picture, such as ``"anna/3.jpg"``.

    Raises:
        ValueError: when shapes, types or lengths do not fit together.

    Example:
        >>> images = ImageSet(
        ...     torch.zeros(3, 1, 112, 92, dtype=torch.uint8),
        ...     torch.tensor([0, 0, 1]),
        ...     identities=["anna", "bob"],
        ...     names=["a1", "a2", "b1"],
        ... )
        >>> images
        ImageSet(3 pictures of 2 people: anna, bob; grey, 112 x 92; 1 to 2 each)
        >>> images.only(["anna"]).names
        ('a1', 'a2')
    """

    def __init__(
        self,
        pixels: UInt8[Tensor, "n c h w"],
        labels: Int64[Tensor, " n"],
        *,
        identities: Sequence[str],
        names: Sequence[str],
    ) -> None:
        self.pixels, self.labels = pixels, labels
        self.identities, self.names = tuple(identities), tuple(names)
        self._check()

    def _check(self) -> None:
        count = len(self.pixels)
        if self.pixels.dtype != torch.uint8 or self.pixels.ndim != 4:
            msg = (
                f"pixels must be uint8 of shape (n, c, h, w), got {self.pixels.dtype} of shape "
                f"{tuple(self.pixels.shape)}; from_arrays takes other kinds"
            )
            raise ValueError(msg)
        if self.shape[0] not in (1, 3) or 0 in self.shape:
            msg = (
                "pictures must have 1 channel (grey) or 3 (colour), and a pixel or more, "
                f"got (c, h, w) = {self.shape}"
            )
            raise ValueError(msg)
        if self.labels.dtype != torch.int64 or self.labels.shape != (count,):
            msg = (
                f"labels must be int64 with one entry for each of the {count} pictures, "
                f"got {self.labels.dtype} of shape {tuple(self.labels.shape)}"
            )
            raise ValueError(msg)
        if len(self.names) != count:
            msg = (
                f"names must have one entry for each of the {count} pictures, got {len(self.names)}"
            )
            raise ValueError(msg)
        if len(set(self.identities)) < len(self.identities):
            twice = next(name for name in self.identities if self.identities.count(name) > 1)
            msg = f"every identity must have a name of its own, but two are called {twice!r}"
            raise ValueError(msg)
        if count and not 0 <= self.labels.min() <= self.labels.max() < len(self.identities):
            msg = (
                f"labels must be from 0 to {len(self.identities) - 1}, places in identities, "
                f"got {int(self.labels.min())} to {int(self.labels.max())}"
            )
            raise ValueError(msg)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of each picture."""
        _, channels, height, width = self.pixels.shape
        return channels, height, width

    @property
    def people(self) -> tuple[str, ...]:
        """The names of the identities that are present, in the order of their labels."""
        return tuple(self.identities[label] for label in torch.unique(self.labels).tolist())

    @property
    def digest(self) -> str:
        """A SHA-256 of the pictures, whom they show and what they are called.

        Example:
            >>> from siamlearn.data.images import from_arrays
            >>> images = from_arrays(torch.zeros((2, 8, 8)), ["anna", "bob"])
            >>> images.digest == images.subset([0, 1]).digest
            True
            >>> images.digest == images.subset([1, 0]).digest
            False
        """
        who = [self.identities[label] for label in self.labels.tolist()]
        text = repr((self.shape, self.labels.tolist(), who, self.names))
        digest = hashlib.sha256(text.encode())
        digest.update(self.pixels.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.pixels[index], int(self.labels[index])

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, int]]:
        # A DataLoader asks for a batch at once: one gather instead of one for each picture.
        at = torch.as_tensor(indices)
        return list(zip(self.pixels[at], self.labels[at].tolist(), strict=True))

    def __repr__(self) -> str:
        channels, height, width = self.shape
        kind = f"{'grey' if channels == 1 else 'colour'}, {height} x {width}"
        if not len(self):
            return f"ImageSet(no pictures; {kind})"
        people, counts = self.people, torch.unique(self.labels, return_counts=True)[1]
        shown = people if len(people) <= 4 else (*people[:3], "…", people[-1])
        few, many = int(counts.min()), int(counts.max())
        pictures = "1 picture" if len(self) == 1 else f"{len(self)} pictures"
        of = "1 person" if len(people) == 1 else f"{len(people)} people"
        return (
            f"ImageSet({pictures} of {of}: {', '.join(shown)}; "
            f"{kind}; {many if few == many else f'{few} to {many}'} each)"
        )

    def subset(self, indices: Sequence[int] | Tensor) -> "ImageSet":
        """The pictures at these indices, in this order; or those where a mask is true.

        Example:
            >>> from siamlearn.data.images import from_arrays
            >>> from_arrays(torch.zeros((3, 8, 8)), ["anna", "anna", "bob"]).subset([2, 0]).names
            ('bob/1', 'anna/1')
        """
        chosen = torch.as_tensor(indices)
        at = torch.arange(len(self))[chosen if len(chosen) else chosen.long()]
        return ImageSet(
            self.pixels[at],
            self.labels[at],
            identities=self.identities,
            names=[self.names[index] for index in at.tolist()],
        )

    def only(self, identities: Iterable[str]) -> "ImageSet":
        """The pictures of these people.

        Raises:
            ValueError: when somebody is not among the people.

        Example:
            >>> from siamlearn.data.images import from_arrays
            >>> from_arrays(torch.zeros((3, 8, 8)), ["anna", "anna", "bob"]).only(["bob"]).people
            ('bob',)
        """
        wanted = set(identities)
        unknown = sorted(wanted - set(self.people), key=natural)
        if unknown:
            msg = f"no pictures of {', '.join(unknown)}; the people are {', '.join(self.people)}"
            raise ValueError(msg)
        chosen = [self.identities[label] in wanted for label in self.labels.tolist()]
        return self.subset(torch.tensor(chosen, dtype=torch.bool))

    def split_identities(
        self, *, held_out: float = 0.4, seed: int = 0
    ) -> "tuple[ImageSet, ImageSet]":
        """Split the people in two, so that nobody is in both: to learn from, and to test on.

        Args:
            held_out: the share of the people that is held out, or their number as an int.

        Returns:
            The pictures of the people kept, and of those held out.

        Raises:
            ValueError: when there are fewer than two people, or a side would be empty.

        Example:
            >>> from siamlearn.data.images import from_arrays
            >>> images = from_arrays(torch.zeros((4, 8, 8)), ["anna", "bob", "carol", "dave"])
            >>> [part.people for part in images.split_identities(held_out=1, seed=0)]
            [('bob', 'carol', 'dave'), ('anna',)]
        """
        kept, held = splits.between_identities(self.labels, held_out=held_out, seed=seed)
        return self.subset(kept), self.subset(held)

    def split_gallery(self, *, pictures: int, seed: int = 0) -> "tuple[ImageSet, ImageSet]":
        """Split the pictures of each person: some to be known by, the rest to be asked with.

        Args:
            pictures: how many of each person go into the gallery.

        Returns:
            The gallery and the probes.

        Raises:
            ValueError: when somebody has too few pictures to be on both sides.

        Example:
            >>> from siamlearn.data.images import from_arrays
            >>> images = from_arrays(torch.zeros((4, 8, 8)), ["anna", "anna", "bob", "bob"])
            >>> [len(part) for part in images.split_gallery(pictures=1)]
            [2, 2]
        """
        gallery, probes = splits.within_identities(
            self.labels, pictures=pictures, seed=seed, called=self.identities.__getitem__
        )
        return self.subset(gallery), self.subset(probes)

    def resized(self, size: tuple[int, int]) -> "ImageSet":
        """The same pictures, stretched to another height and width.

        Args:
            size: height and width in pixels.

        Example:
            >>> from siamlearn.data.images import from_arrays
            >>> from_arrays(torch.zeros((2, 9, 6)), ["anna", "bob"]).resized((3, 2)).shape
            (1, 3, 2)
        """
        return self.shaped((self.shape[0], *size))

    def grey(self) -> "ImageSet":
        """The same pictures without colour.

        Example:
            >>> from siamlearn.data.images import from_arrays
            >>> from_arrays(torch.zeros((2, 3, 8, 8)), ["anna", "bob"]).grey().shape
            (1, 8, 8)
        """
        return self.shaped((1, *self.shape[1:]))

    def shaped(self, shape: tuple[int, int, int]) -> "ImageSet":
        """The same pictures in another shape: resized, made grey, or a grey value in each colour.

        Args:
            shape: channels (1 or 3), height and width.

        Example:
            >>> from siamlearn.data.images import from_arrays
            >>> from_arrays(torch.zeros((2, 9, 6)), ["anna", "bob"]).shaped((3, 8, 8)).shape
            (3, 8, 8)
        """
        if shape == self.shape:
            return self
        return ImageSet(
            as_shape(self.pixels, shape),
            self.labels,
            identities=self.identities,
            names=self.names,
        )

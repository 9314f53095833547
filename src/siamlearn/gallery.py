"""Who is this? People enrolled with some pictures, and answers about new ones.

Axes: n enrolled pictures, d embedding dimensions, q probes, k people.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias, Union, final, overload

import safetensors.torch
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from siamlearn.comparison import BLOCK
from siamlearn.data.images import ImageSet, read_image
from siamlearn.embeddings import Embeddings, embed, require_net
from siamlearn.folders import check, replacing
from siamlearn.functional.pairs import Distance
from siamlearn.nn.nets import EmbeddingNet
from siamlearn.operating import OperatingPoint

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

__all__ = ["Gallery", "Match", "Verdict"]

Picture: TypeAlias = Union[str, PathLike[str], "Image.Image", "NDArray[np.generic]", Tensor]
# Not Sequence: a string is one too, and a path is one picture.
Pictures: TypeAlias = ImageSet | list[Any] | tuple[Any, ...]

FORMAT = 1
INDEX, VECTORS, NET = "gallery.json", "gallery.safetensors", "net"


@final
@dataclass(frozen=True)
class Match:
    """Who a picture shows, as far as a gallery can tell.

    Args:
        name: the person, or None for nobody: no enrolled picture is near enough, or pictures of
            two people are exactly as near.
        distance: to the nearest enrolled picture.
        runner_up: the next nearest person; None where only one is enrolled.
        runner_up_distance: to the nearest picture of the runner-up.
        threshold: the largest distance that is accepted.
        nearest: who is on the nearest enrolled picture, near enough or not.

    Example:
        >>> print(Match("anna", 0.31, "bob", 0.8, threshold=0.5, nearest="anna"))
        anna: distance 0.31 ≤ threshold 0.5; next is bob at 0.8
    """

    name: str | None
    distance: float
    runner_up: str | None
    runner_up_distance: float | None
    threshold: float
    nearest: str | None = None

    def __str__(self) -> str:
        following = ""
        if self.runner_up is not None:
            following = f"; next is {self.runner_up} at {self.runner_up_distance:.4g}"
        if self.name is not None:
            near = f"distance {self.distance:.4g} ≤ threshold {self.threshold:.4g}"
            return f"{self.name}: {near}{following}"
        if self.distance == self.runner_up_distance:
            return f"nobody: {self.nearest} and {self.runner_up} are both at {self.distance:.4g}"
        far = f"{self.distance:.4g} > threshold {self.threshold:.4g}"
        return f"nobody: the nearest, {self.nearest}, is at {far}{following}"


@final
@dataclass(frozen=True)
class Verdict:
    """Whether two pictures show one person. True and False as the verdict is.

    Args:
        same: whether the distance is at most the threshold.
        distance: between the two pictures.
        threshold: the largest distance that is accepted.
        basis: where the threshold comes from.

    Example:
        >>> print(Verdict(same=True, distance=0.31, threshold=0.52, basis="FMR 1 % on 12 people"))
        same person: distance 0.31 ≤ threshold 0.52 (FMR 1 % on 12 people)
    """

    same: bool
    distance: float
    threshold: float
    basis: str = ""

    def __bool__(self) -> bool:
        return self.same

    def __str__(self) -> str:
        answer, relation = ("same person", "≤") if self.same else ("different people", ">")
        near = f"distance {self.distance:.4g} {relation} threshold {self.threshold:.4g}"
        return f"{answer}: {near}" + (f" ({self.basis})" if self.basis else "")


@final
class Gallery:
    """People who are known by some pictures, with a net and a threshold to recognise them by.

    A picture is a path, a PIL image, or an array or tensor (h, w), (h, w, c) or (c, h, w) of
    bytes or of floats from 0 to 1. It is brought to the shape that the net takes.

    Args:
        net: gives pictures their embeddings.
        point: when two embeddings are near enough; chosen on other people.
        shape: channels, height and width of the pictures that the net takes. An
            ``EmbeddingNet`` says so itself.

    Raises:
        TypeError: the net is no torch module, or the point no ``OperatingPoint``.
        ValueError: the net is not an ``EmbeddingNet``, and there is no ``shape``.

    Example:
        >>> from siamlearn.data.drawn import DrawnFaces
        >>> faces = DrawnFaces(identities=12, pictures=4, size=(28, 23))
        >>> others, staff = faces.split_identities(held_out=2)
        >>> net = nn.Flatten()  # pixels serve as an example
        >>> point = OperatingPoint.fit(embed(net, others), fmr=0.1)
        >>> gallery = Gallery(net, point, shape=faces.shape).enroll(staff)
        >>> match = gallery.identify(staff.pixels[0])
        >>> match.name == staff.people[0], match.distance
        (True, 0.0)
    """

    def __init__(
        self,
        net: nn.Module,
        point: OperatingPoint,
        *,
        shape: tuple[int, int, int] | None = None,
    ) -> None:
        require_net(net)
        if not isinstance(point, OperatingPoint):
            msg = f"point must be an OperatingPoint, got {type(point).__name__}; see its fit"
            raise TypeError(msg)
        if shape is None:
            if not isinstance(net, EmbeddingNet):
                msg = (
                    f"shape must be given for a net that is not an EmbeddingNet, got "
                    f"{type(net).__name__}; pass the shape of its pictures, shape=(c, h, w)"
                )
                raise ValueError(msg)
            shape = net.config.input
        self.net, self.point, self.shape = net, point, shape
        self._vectors = torch.empty(0, 0)
        self._people: tuple[str, ...] = ()
        self._pictures: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Who is enrolled, in the order of their first picture."""
        return tuple(dict.fromkeys(self._people))

    def __len__(self) -> int:
        """How many people are enrolled."""
        return len(self.names)

    def __repr__(self) -> str:
        return f"Gallery({len(self)} people, {len(self._people)} pictures, {self.point})"

    def enroll(self, pictures: Picture | Pictures, *, name: str | None = None) -> Self:
        """Add people, or pictures of one person; who is there already gets more pictures.

        A picture of a person that is there already, told by its embedding, is not added again.

        Args:
            pictures: an ``ImageSet``, which says itself whom it shows, or one or more pictures.
            name: whom the pictures show; not with an ``ImageSet``.

        Returns:
            The gallery itself.

        Raises:
            ValueError: a name is missing or not needed, or an embedding is not finite. The
                gallery is then as it was.
        """
        if isinstance(pictures, ImageSet) == bool(name):
            msg = (
                f"pictures without names need name=, and an ImageSet brings the names of its "
                f"people: got {type(pictures).__name__} with name={name!r}"
            )
            raise ValueError(msg)
        found = self._embedded(pictures)
        people = [name or found.identities[i] for i in found.labels.tolist()]
        new = self._unseen(people, found.vectors)
        held = [self._vectors] if self._people else []
        self._vectors = torch.cat([*held, found.vectors[new]])
        self._people += tuple(people[i] for i in new)
        self._pictures += tuple(found.names[i] for i in new)
        return self

    def _unseen(self, people: list[str], vectors: Float[Tensor, "n d"]) -> list[int]:
        """Which of these embeddings are not there yet for their person."""
        asked = set(people)
        held = [i for i, person in enumerate(self._people) if person in asked]
        there = {(self._people[i], tuple(self._vectors[i].tolist())) for i in held}
        new = []
        for i, (person, vector) in enumerate(zip(people, vectors.tolist(), strict=True)):
            key = person, tuple(vector)
            if key not in there:
                there.add(key)
                new.append(i)
        return new

    def remove(self, name: str) -> Self:
        """Forget a person with all their pictures.

        Raises:
            ValueError: nobody of that name is enrolled.
        """
        if name not in self._people:
            msg = (
                f"only people who are enrolled can be removed, got {name!r}; there are {self.names}"
            )
            raise ValueError(msg)
        keep = [i for i, other in enumerate(self._people) if other != name]
        self._vectors = self._vectors[keep]
        self._people = tuple(self._people[i] for i in keep)
        self._pictures = tuple(self._pictures[i] for i in keep)
        return self

    @overload
    def identify(self, picture: Picture) -> Match: ...
    @overload
    def identify(self, picture: Pictures) -> list[Match]: ...
    def identify(self, picture: Picture | Pictures) -> Match | list[Match]:
        """Say whom a picture shows, or that it shows nobody who is enrolled.

        Each person is as near as their nearest picture.

        Args:
            picture: one picture, or many: an ``ImageSet`` or a list of pictures.

        Returns:
            A match for one picture, a list of matches for many.

        Raises:
            ValueError: nobody is enrolled, or an embedding is not finite.
        """
        if not self._people:
            msg = "somebody must be enrolled before pictures are identified; call enroll first"
            raise ValueError(msg)
        probes = self._embedded(picture).vectors
        height = max(1, BLOCK // len(self._people))
        matches = [
            match
            for start in range(0, len(probes), height)
            for match in self._matches(probes[start : start + height])
        ]
        return matches if isinstance(picture, (ImageSet, list, tuple)) else matches[0]

    def _matches(self, probes: Float[Tensor, "q d"]) -> Iterator[Match]:
        numbers = {name: number for number, name in enumerate(self.names)}
        who = torch.tensor([numbers[name] for name in self._people]).expand(len(probes), -1)
        distance = self.point.distance(probes, self._vectors)
        nearest = distance.new_full((len(probes), len(numbers)), torch.inf)
        # Beside the runner-up there may be nobody: a person at infinity stands for that.
        nearest = F.pad(nearest.scatter_reduce(1, who, distance, "amin"), (0, 1), value=torch.inf)
        first, order = nearest.sort(dim=1, stable=True)
        names = (*self.names, None)
        pairs = zip(first[:, :2].tolist(), order[:, :2].tolist(), strict=True)
        for (near, far), (best, other) in pairs:
            accepted = self.point.accepts(near) and near < far
            yield Match(
                name=names[best] if accepted else None,
                distance=near,
                runner_up=names[other],
                runner_up_distance=None if names[other] is None else far,
                threshold=self.point.threshold,
                nearest=names[best],
            )

    def verify(self, a: Picture, b: Picture) -> Verdict:
        """Say whether two pictures show one person; who is enrolled does not matter.

        Raises:
            ValueError: an embedding is not finite.
        """
        vectors = self._embedded([a, b]).vectors
        distance = self.point.distance(vectors[:1], vectors[1:]).item()
        return Verdict(
            same=self.point.accepts(distance),
            distance=distance,
            threshold=self.point.threshold,
            basis=str(self.point),
        )

    def _embedded(self, pictures: Picture | Pictures) -> Embeddings:
        if isinstance(pictures, ImageSet):
            return embed(self.net, pictures.shaped(self.shape), distance=self.point.distance)
        many = pictures if isinstance(pictures, (list, tuple)) else [pictures]
        if not many:
            msg = "there must be at least one picture, got an empty list"
            raise ValueError(msg)
        images = ImageSet(
            torch.stack([read_image(picture, shape=self.shape) for picture in many]),
            torch.zeros(len(many), dtype=torch.int64),
            identities=("unknown",),
            names=[
                os.fspath(picture) if isinstance(picture, (str, PathLike)) else f"picture {number}"
                for number, picture in enumerate(many, start=1)
            ],
        )
        return embed(self.net, images, distance=self.point.distance)

    def save(self, folder: str | Path) -> Path:
        """Write net, operating point and enrolled embeddings into a folder.

        The folder appears whole or not at all; a gallery that was there before is replaced. All
        is JSON and safetensors; the pictures themselves are not kept.

        Raises:
            ValueError: the net is not an ``EmbeddingNet``, or the folder holds something else.
        """
        if not isinstance(self.net, EmbeddingNet):
            msg = (
                f"only an EmbeddingNet can be saved with its gallery, got "
                f"{type(self.net).__name__}; keep that net yourself and enroll the pictures anew"
            )
            raise ValueError(msg)
        folder = Path(folder)
        if folder.exists() and any(folder.iterdir()) and not (folder / INDEX).exists():
            msg = f"a gallery must have a folder of its own, but {folder} holds other files"
            raise ValueError(msg)
        content = {
            "format": FORMAT,
            "shape": list(self.shape),
            "point": self.point.to_dict(),
            "people": list(self._people),
            "pictures": list(self._pictures),
        }
        with replacing(folder) as temporary:
            self.net.save(temporary / NET)
            vectors = {"vectors": self._vectors.contiguous()}
            (temporary / VECTORS).write_bytes(safetensors.torch.save(vectors))
            (temporary / INDEX).write_text(json.dumps(content, indent=1) + "\n")
        return folder

    @classmethod
    def load(cls, folder: str | Path, *, distance: Distance | None = None) -> Self:
        """The gallery that ``save`` wrote, with its net on the CPU.

        Args:
            folder: where it is.
            distance: needed only where it is not one of ``siamlearn.functional.distances``.

        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: a file is missing, or is not as it was written; the message says which.
        """
        folder = Path(folder)
        check(folder)
        content = json.loads((folder / INDEX).read_text())
        if content["format"] != FORMAT:
            msg = (
                f"{folder} must be a gallery of format {FORMAT}, got {content['format']}; "
                f"update siamlearn, or enroll the pictures anew"
            )
            raise ValueError(msg)
        gallery = cls(
            EmbeddingNet.load(folder / NET),
            OperatingPoint.from_dict(content["point"], distance=distance),
            shape=tuple(content["shape"]),
        )
        gallery._vectors = safetensors.torch.load((folder / VECTORS).read_bytes())["vectors"]
        gallery._people = tuple(content["people"])
        gallery._pictures = tuple(content["pictures"])
        return gallery

"""Who is this? People enrolled with some pictures, and answers about new ones.

Axes: n enrolled pictures, d embedding dimensions, q probes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias, Union, final, overload

import safetensors.torch
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from siamlearn.answers import Match, Verdict
from siamlearn.comparison import BLOCK
from siamlearn.data.images import ImageSet, read_image
from siamlearn.embeddings import Embeddings, embed, require_net
from siamlearn.folders import check, replacing
from siamlearn.functional.pairs import Distance
from siamlearn.nn.nets import EmbeddingNet
from siamlearn.normalisation import require_strangers
from siamlearn.operating import OperatingPoint

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

__all__ = ["Gallery"]

Picture: TypeAlias = Union[str, PathLike[str], "Image.Image", "NDArray[np.generic]", Tensor]
# Not Sequence: a string is one too, and a path is one picture.
Pictures: TypeAlias = ImageSet | list[Any] | tuple[Any, ...]

FORMAT = 2  # 1 had a single point, and is read as well
INDEX, VECTORS, NET = "gallery.json", "gallery.safetensors", "net"


@final
class Gallery:
    """People who are known by some pictures, with a net and a threshold to recognise them by.

    A picture is a path, a PIL image, or an array or tensor (h, w), (h, w, c) or (c, h, w) of
    bytes or of floats from 0 to 1. It is brought to the shape that the net takes.

    Args:
        net: gives pictures their embeddings.
        points: when two embeddings are near enough, chosen on other people: one operating point,
            or several of different names. The first decides where no other is asked for.
        shape: channels, height and width of the pictures that the net takes. An
            ``EmbeddingNet`` says so itself.

    Raises:
        TypeError: the net is no torch module, or a point no ``OperatingPoint``.
        ValueError: the net is not an ``EmbeddingNet``, and there is no ``shape``; there is no
            point, or two have the same name or different distances.

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
        points: OperatingPoint | Sequence[OperatingPoint],
        *,
        shape: tuple[int, int, int] | None = None,
    ) -> None:
        require_net(net)
        points = (points,) if isinstance(points, OperatingPoint) else listed(points)
        if shape is None:
            if not isinstance(net, EmbeddingNet):
                msg = (
                    f"shape must be given for a net that is not an EmbeddingNet, got "
                    f"{type(net).__name__}; pass the shape of its pictures, shape=(c, h, w)"
                )
                raise ValueError(msg)
            shape = net.config.input
        self.net, self.points, self.shape = net, points, shape
        self._vectors = torch.empty(0, 0)
        self._people: tuple[str, ...] = ()
        self._pictures: tuple[str, ...] = ()

    @property
    def point(self) -> OperatingPoint:
        """The operating point that decides where no other is asked for: the first."""
        return self.points[0]

    def at(self, name: str) -> OperatingPoint:
        """The operating point of this name.

        Raises:
            ValueError: there is none.
        """
        for point in self.points:
            if point.name == name:
                return point
        names = ", ".join(repr(point.name) for point in self.points)
        msg = f"at= must be the name of one of this gallery's points, {names}, got {name!r}"
        raise ValueError(msg)

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
            ValueError: a name is missing or not needed, an embedding is not finite, or somebody is
                in the cohort of a normalised distance. The gallery is then as it was.
        """
        if isinstance(pictures, ImageSet) == bool(name):
            msg = (
                f"pictures without names need name=, and an ImageSet brings the names of its "
                f"people: got {type(pictures).__name__} with name={name!r}"
            )
            raise ValueError(msg)
        found = self._embedded(pictures)
        people = [name or found.identities[i] for i in found.labels.tolist()]
        require_strangers(self.point.distance, people, what="enrolled")
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
    def identify(self, picture: Picture, *, at: str | None = None) -> Match: ...
    @overload
    def identify(self, picture: Pictures, *, at: str | None = None) -> list[Match]: ...
    def identify(
        self, picture: Picture | Pictures, *, at: str | None = None
    ) -> Match | list[Match]:
        """Say whom a picture shows, or that it shows nobody who is enrolled.

        Each person is as near as their nearest picture.

        Args:
            picture: one picture, or many: an ``ImageSet`` or a list of pictures.
            at: name of the operating point that decides; the first if left out.

        Returns:
            A match for one picture, a list of matches for many.

        Raises:
            ValueError: nobody is enrolled, an embedding is not finite, or there is no such point.
        """
        point = self.point if at is None else self.at(at)
        if not self._people:
            msg = "somebody must be enrolled before pictures are identified; call enroll first"
            raise ValueError(msg)
        probes = self._embedded(picture).vectors
        height = max(1, BLOCK // len(self._people))
        matches = [
            match
            for start in range(0, len(probes), height)
            for match in self._matches(probes[start : start + height], point)
        ]
        return matches if isinstance(picture, (ImageSet, list, tuple)) else matches[0]

    def _matches(self, probes: Float[Tensor, "q d"], point: OperatingPoint) -> Iterator[Match]:
        numbers = {name: number for number, name in enumerate(self.names)}
        who = torch.tensor([numbers[name] for name in self._people]).expand(len(probes), -1)
        distance = point.distance(probes, self._vectors)
        nearest = distance.new_full((len(probes), len(numbers)), torch.inf)
        # Beside the runner-up there may be nobody: a person at infinity stands for that.
        nearest = F.pad(nearest.scatter_reduce(1, who, distance, "amin"), (0, 1), value=torch.inf)
        first, order = nearest.sort(dim=1, stable=True)
        names = (*self.names, None)
        pairs = zip(first[:, :2].tolist(), order[:, :2].tolist(), strict=True)
        for (near, far), (best, other) in pairs:
            accepted = point.accepts(near) and near < far
            yield Match(
                name=names[best] if accepted else None,
                distance=near,
                runner_up=names[other],
                runner_up_distance=None if names[other] is None else far,
                threshold=point.threshold,
                nearest=names[best],
            )

    def verify(
        self, a: Picture, b: Picture, *, prior: float = 0.5, at: str | None = None
    ) -> Verdict:
        """Say whether two pictures show one person; who is enrolled does not matter.

        Args:
            a: one picture.
            b: the other.
            prior: how likely one person was before they were seen. The probability that comes
                out depends on it; the decision, which keeps a false match rate, does not.
            at: name of the operating point that decides; the first if left out.

        Raises:
            ValueError: an embedding is not finite, the prior is no probability above 0 and below
                1, or there is no such point.
        """
        point = self.point if at is None else self.at(at)
        vectors = self._embedded([a, b]).vectors
        distance = point.distance(vectors[:1], vectors[1:]).item()
        return Verdict(
            same=point.accepts(distance),
            distance=distance,
            threshold=point.threshold,
            basis=str(point),
            probability=point.probability(distance, prior=prior),
            prior=prior,
            why=point.why(distance, prior=prior),
        )

    def _embedded(self, pictures: Picture | Pictures) -> Embeddings:
        if isinstance(pictures, ImageSet):
            return embed(
                self.net,
                pictures.shaped(self.shape),
                distance=self.point.distance,
                shared=False,
            )
        many = pictures if isinstance(pictures, (list, tuple)) else [pictures]
        if not many:
            msg = (
                "there must be at least one picture, got an empty list; give a picture, a list of "
                "some, or an ImageSet, such as from_folder(…)"
            )
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
        return embed(self.net, images, distance=self.point.distance, shared=False)

    def save(self, folder: str | Path) -> Path:
        """Write net, operating points and enrolled embeddings into a folder.

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
            "points": [point.to_dict() for point in self.points],
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
        if content["format"] not in range(1, FORMAT + 1):
            msg = (
                f"{folder} must be a gallery of format 1 to {FORMAT}, got {content['format']}; "
                f"update siamlearn, or enroll the pictures anew"
            )
            raise ValueError(msg)
        points = content["points"] if "points" in content else [content["point"]]
        gallery = cls(
            EmbeddingNet.load(folder / NET),
            [OperatingPoint.from_dict(point, distance=distance) for point in points],
            shape=tuple(content["shape"]),
        )
        gallery._vectors = safetensors.torch.load((folder / VECTORS).read_bytes())["vectors"]
        gallery._people = tuple(content["people"])
        gallery._pictures = tuple(content["pictures"])
        return gallery


def listed(points: object) -> tuple[OperatingPoint, ...]:
    """Several operating points, of different names and one distance."""
    if not isinstance(points, (list, tuple)):
        msg = f"points must be OperatingPoint objects, got {type(points).__name__}; see its fit"
        raise TypeError(msg)
    for point in points:
        if not isinstance(point, OperatingPoint):
            msg = f"points must be OperatingPoint objects, got {type(point).__name__}; see its fit"
            raise TypeError(msg)
    names = [point.name for point in points]
    if not points or len({*names}) < len(names):
        msg = f"a gallery needs at least one point, each with a name of its own, got {names}"
        raise ValueError(msg)
    if any(point.distance is not points[0].distance for point in points):
        msg = (
            f"all points of a gallery must be for one distance, got "
            f"{', '.join(str(point.distance) for point in points)}; fit them on the same embeddings"
        )
        raise ValueError(msg)
    return tuple(points)

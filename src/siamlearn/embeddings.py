"""Pictures to embeddings.

Axes: n pictures, d embedding dimensions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from siamlearn.data.images import ImageSet
from siamlearn.functional.distances import euclidean
from siamlearn.functional.pairs import Distance
from siamlearn.nn.nets import EmbeddingNet
from siamlearn.ranks import gathered, world
from siamlearn.wording import several, some

__all__ = ["Embeddings", "embed"]

DIGITS = 64  # of a SHA-256 in hexadecimal


@final
@dataclass(frozen=True, eq=False)
class Embeddings:
    """The embeddings of some pictures, with who is on them.

    Args:
        vectors: one embedding a picture.
        labels: who is on each picture, as an index into ``identities``.
        identities: names of people; some of them may be on none of the pictures.
        names: one name for each picture, such as "s1/3.pgm".
        images: the pictures themselves, where they are at hand; ``evaluate`` makes its
            baselines from them.
        distance: how far apart two embeddings are.
        sessions: when or by which camera each picture was taken, where that matters: two
            pictures of one identity from the same session are then never compared.
        trained_on: SHA-256 of the name of each identity that the net was trained on, as far as
            it knows: on those no threshold is chosen.

    Raises:
        TypeError: vectors or labels are no tensor.
        ValueError: the lengths do not agree, a label names nobody, or an embedding is not finite.

    Example:
        >>> two = Embeddings(torch.eye(2), torch.tensor([0, 1]), ("anna", "bob"), ("1", "2"))
        >>> len(two), two.people
        (2, ('anna', 'bob'))
    """

    vectors: Float[Tensor, "n d"]
    labels: Int[Tensor, " n"]
    identities: tuple[str, ...]
    names: tuple[str, ...]
    images: ImageSet | None = None
    distance: Distance = euclidean
    sessions: tuple[str, ...] | None = None
    trained_on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for what, given in (("vectors", self.vectors), ("labels", self.labels)):
            if not isinstance(given, Tensor):
                msg = (
                    f"{what} must be a tensor, got {type(given).__name__}; "
                    f"torch.as_tensor({what}) makes one of an array or a list of numbers"
                )
                raise TypeError(msg)
        if self.vectors.ndim != 2:
            msg = (
                f"embeddings must be of shape (n, d), got {tuple(self.vectors.shape)}; flatten "
                f"each to one row, vectors.flatten(1)"
            )
            raise ValueError(msg)
        if not len(self.vectors) == len(self.labels) == len(self.names):
            msg = (
                f"every embedding must have one label and one name: got {len(self.labels)} labels "
                f"and {len(self.names)} names for {len(self.vectors)} embeddings; take those of "
                f"the very pictures that were embedded, in their order"
            )
            raise ValueError(msg)
        if self.labels.is_floating_point() or self.labels.dtype == torch.bool:
            msg = (
                f"labels must be whole numbers, places in identities, got {self.labels.dtype}; "
                "labels.long() makes them so"
            )
            raise ValueError(msg)
        last = len(self.identities) - 1
        if len(self) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) <= last:
            msg = (
                f"labels must be from 0 to {last}, places in identities, got "
                f"{int(self.labels.min())} to {int(self.labels.max())}; "
                f"torch.unique(labels, return_inverse=True) numbers them anew"
            )
            raise ValueError(msg)
        _require_finite(self)
        _require_parts_that_fit(self)

    def __len__(self) -> int:
        return len(self.vectors)

    def __repr__(self) -> str:
        return (
            f"Embeddings({several(len(self), 'picture')} of "
            f"{several(len(self.people), 'person', 'people')}, "
            f"{several(self.vectors.shape[1], 'dimension')})"
        )

    @property
    def people(self) -> tuple[str, ...]:
        """Names of the identities that are on at least one picture."""
        return tuple(self.identities[label] for label in sorted(set(self.labels.tolist())))

    def subset(self, indices: Sequence[int] | Int[Tensor, " k"]) -> Embeddings:
        """The embeddings of some of the pictures, in the order asked for.

        Example:
            >>> three = Embeddings(torch.eye(3), torch.arange(3), ("a", "b", "c"), ("1", "2", "3"))
            >>> three.subset([2, 0]).people
            ('a', 'c')
        """
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return replace(
            self,
            vectors=self.vectors[chosen],
            labels=self.labels[chosen],
            names=tuple(self.names[i] for i in chosen.tolist()),
            images=None if self.images is None else self.images.subset(chosen.tolist()),
            sessions=None
            if self.sessions is None
            else tuple(self.sessions[i] for i in chosen.tolist()),
        )


def _require_finite(embeddings: Embeddings) -> None:
    broken = (~embeddings.vectors.isfinite().all(dim=1)).nonzero().flatten().tolist()
    if broken:
        shown = ", ".join(embeddings.names[i] for i in broken[:5])
        msg = (
            f"embeddings must be finite numbers, but those of {len(broken)} of {len(embeddings)} "
            f"pictures hold NaN or infinity ({shown}{', …' if len(broken) > 5 else ''}); "
            f"the net's weights have probably diverged: go back to a checkpoint before that"
        )
        raise ValueError(msg)


def _require_parts_that_fit(embeddings: Embeddings) -> None:
    """What would go wrong much later, or not be seen at all."""
    twice = [name for name, times in Counter(embeddings.identities).items() if times > 1]
    if twice:
        msg = (
            f"identities must have a name of their own, but {twice[0]!r} stands more than once: "
            f"its pictures would be taken for those of several people; give them one label"
        )
        raise ValueError(msg)
    if not callable(embeddings.distance):
        msg = (
            "a distance must be a function of queries and references, such as siamlearn.cosine, "
            f"got {embeddings.distance!r}"
        )
        raise TypeError(msg)
    sessions = embeddings.sessions
    if sessions is not None and len(sessions) != len(embeddings):
        msg = (
            f"every embedding must have one session, or none has: got {len(sessions)} "
            f"sessions for {len(embeddings)} embeddings; take those of the very pictures that were "
            f"embedded, or sessions=None"
        )
        raise ValueError(msg)
    if embeddings.images is not None and len(embeddings.images) != len(embeddings):
        msg = (
            f"images must be those that were embedded, in the same order, got "
            f"{len(embeddings.images)} images for {len(embeddings)} embeddings; "
            f"images.subset() takes some of them"
        )
        raise ValueError(msg)
    plain = [each for each in embeddings.trained_on if len(each) != DIGITS]
    if plain:
        msg = (
            f"trained_on must hold the SHA-256 of names, {DIGITS} digits each, or nobody would be "
            f"known again, got {plain[0]!r}; siamlearn.known.known(names) makes them"
        )
        raise ValueError(msg)


def embed(
    net: nn.Module,
    images: ImageSet,
    *,
    batch: int = 256,
    device: torch.device | str | None = None,
    distance: Distance = euclidean,
    shared: bool = True,
    progress: bool | None = None,
) -> Embeddings:
    """Give every picture its embedding.

    The net runs without dropout and without gradients; afterwards each of its modules is in
    the mode, and on the device, that it was in before. An ``EmbeddingNet`` is given the
    pictures as bytes, any other net as floats from 0 to 1. Grey and colour pictures are made
    what an ``EmbeddingNet`` takes; what is kept in the result are the pictures as they came.

    Args:
        net: takes pictures (n, channels, height, width) and gives embeddings (n, d).
        images: the pictures.
        batch: pictures embedded at once; fewer need less memory.
        device: where to compute; where the net is, if left out.
        distance: how far apart two embeddings are, kept with them for all that follows.
        shared: on several ranks, each embeds its share, and all are given everything: call it on
            all of them. If not, this rank embeds all pictures.
        progress: True shows a progress bar, False none, None one at a terminal if it takes long.

    Raises:
        TypeError: the net is no torch module, or the pictures are no ``ImageSet``.
        ValueError: there are no pictures, what the net gives is not of shape (n, d), or
            embeddings are not finite; the message names their pictures.

    Example:
        >>> images = ImageSet(
        ...     torch.arange(8, dtype=torch.uint8).reshape(2, 1, 2, 2),
        ...     torch.tensor([0, 1]),
        ...     identities=("anna", "bob"),
        ...     names=("1.png", "2.png"),
        ... )
        >>> embed(nn.Flatten(), images).vectors.mul(255).tolist()
        [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]]
    """
    require_net(net)
    if not isinstance(images, ImageSet):
        msg = (
            f"pictures to embed must be an ImageSet, got {type(images).__name__}; "
            f"make one with from_folder or from_arrays"
        )
        raise TypeError(msg)
    if len(images) == 0:
        msg = "there must be at least one picture to embed, got none; from_folder(…) reads some"
        raise ValueError(msg)
    if batch < 1:
        msg = f"batch must be at least 1 picture, got {batch}"
        raise ValueError(msg)
    rank, count = world() if shared else (0, 1)
    begin, end = (len(images) * which // count for which in (rank, rank + 1))
    bar = tqdm(
        range(begin, end, batch),
        desc="embed",
        leave=False,
        delay=0 if progress else 2,  # seconds: what is done at once needs no bar
        disable=None if progress is None and rank == 0 else not (progress and rank == 0),
    )
    taken = images
    if isinstance(net, EmbeddingNet):
        taken = images.shaped((net.config.input[0], *images.shape[1:]))
    with embedding(net, device) as run:
        parts = [run(taken.pixels[start : min(start + batch, end)]) for start in bar]
        parts = parts or [run(taken.pixels[:0])]
    # Outside of the inference, so that one may learn from them afterwards.
    vectors = torch.cat(parts)
    return Embeddings(
        gathered(vectors) if shared else vectors,
        images.labels,
        images.identities,
        images.names,
        images,
        distance,
        trained_on=tuple(getattr(net, "trained_on", ())),
    )


def require_own_names(what: str, embeddings: Embeddings) -> None:
    times = Counter(embeddings.names)
    twice = [name for name, count in times.items() if count > 1]
    if twice:
        names = "1 name is that" if len(twice) == 1 else f"{len(twice)} names are those"
        msg = (
            f"every picture must have a name of its own, but in the {what} {names} of several "
            f"({some(twice)}); nobody could say which of them was told wrongly: name them apart, "
            f"as with the folder, or leave copies out"
        )
        raise ValueError(msg)


def require_net(net: object) -> None:
    if not isinstance(net, nn.Module):
        inside = isinstance(getattr(net, "net", None), nn.Module)
        advice = "; pass its .net" if inside else ""
        msg = f"a net must be a torch nn.Module, got {type(net).__name__}{advice}"
        raise TypeError(msg)


@contextmanager
def embedding(
    net: nn.Module, device: torch.device | str | None
) -> Iterator[Callable[[Tensor], Tensor]]:
    """The net as a function from bytes to embeddings; its modes and device are put back."""
    weight = next(net.parameters(), None)
    home = torch.device("cpu") if weight is None else weight.device
    place = home if device is None else torch.device(device)
    training = [module for module in net.modules() if module.training]

    def run(pixels: Tensor) -> Tensor:
        pixels = pixels.to(place)
        embeddings: Tensor = net(pixels if isinstance(net, EmbeddingNet) else pixels / 255)
        if embeddings.ndim != 2 or len(embeddings) != len(pixels):
            msg = (
                f"a net must give one embedding (d,) for each picture, but for pictures of shape "
                f"{tuple(pixels.shape)} it gave {tuple(embeddings.shape)}; flatten its output"
            )
            raise ValueError(msg)
        return embeddings.float().cpu()

    try:
        if place != home:
            net.to(place)
        net.eval()
        with torch.inference_mode():
            yield run
    finally:
        if place != home:
            net.to(home)
        for module in training:
            module.training = True

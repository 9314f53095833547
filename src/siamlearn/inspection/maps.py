"""Embeddings laid out in the plane, so that they can be looked at.

Axes: n pictures, d embedding dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from siamlearn.embeddings import Embeddings
from siamlearn.functional.distances import cosine

__all__ = ["Directions", "Map", "directions", "pca_map", "tsne_map", "umap_map"]

FEWEST = 4  # pictures whose neighbourhoods say anything


@final
@dataclass(frozen=True, eq=False)
class Map:
    """A place in the plane for each picture.

    Args:
        points: the places.
        axes: what the two axes are; empty where they mean nothing.
        name: what the map was made by.
        embeddings: what was laid out.

    Example:
        >>> two = Embeddings(torch.eye(2), torch.tensor([0, 1]), ("anna", "bob"), ("1", "2"))
        >>> Map(torch.eye(2), ("left to right", "up"), "by hand", two).name
        'by hand'
    """

    points: Float[Tensor, "n 2"]
    axes: tuple[str, str]
    name: str
    embeddings: Embeddings


@final
@dataclass(frozen=True, eq=False)
class Directions:
    """A place along each of several directions for each picture.

    Args:
        points: the places.
        axes: what each of the directions is.
        embeddings: what was laid out.

    Example:
        >>> two = Embeddings(torch.eye(2), torch.tensor([0, 1]), ("anna", "bob"), ("1", "2"))
        >>> Directions(torch.eye(2), ("left to right", "up"), two).axes[1]
        'up'
    """

    points: Float[Tensor, "n k"]
    axes: tuple[str, ...]
    embeddings: Embeddings


def directions(embeddings: Embeddings, *, most: int = 12) -> Directions:
    """The dimensions themselves or, where they are more than that, all principal axes.

    Args:
        most: up to how many dimensions are taken as they are.

    Example:
        >>> two = Embeddings(torch.eye(2), torch.tensor([0, 1]), ("anna", "bob"), ("1", "2"))
        >>> directions(two).axes, directions(two, most=1).axes
        (('dimension 1', 'dimension 2'), ('principal axis 1 (100 %)',))
    """
    _require(embeddings)
    vectors = embeddings.vectors
    if vectors.shape[1] <= most:
        axes = tuple(f"dimension {d + 1}" for d in range(vectors.shape[1]))
        return Directions(vectors, axes, embeddings)
    points, share = _principal(vectors)
    share = share[: max(1, len(vectors) - 1)]  # n points span n - 1 axes
    return Directions(points[:, : len(share)], _named(share), embeddings)


def pca_map(embeddings: Embeddings) -> Map:
    """The plane in which the embeddings spread most: nothing is bent, far apart is far apart.

    Example:
        >>> line = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
        >>> two = Embeddings(line, torch.tensor([0, 1]), ("anna", "bob"), ("1", "2"))
        >>> pca_map(two).points[:, 0].diff().abs().round(decimals=4), pca_map(two).axes[0]
        (tensor([5.]), 'principal axis 1 (100 %)')
    """
    _require(embeddings)
    vectors = F.pad(embeddings.vectors, (0, max(0, 2 - embeddings.vectors.shape[1])))
    points, share = _first_two(vectors)
    first, second = _named(share)
    return Map(points, (first, second), "PCA", embeddings)


def tsne_map(embeddings: Embeddings, *, perplexity: float | None = None, seed: int = 0) -> Map:
    """Neighbours stay neighbours; how far apart groups are, and how large, means nothing.

    Embeddings that are compared by cosine are laid out as unit vectors, all others as they are.

    Args:
        perplexity: about how many neighbours each picture is kept near to; 30, or a third of
            the pictures where they are few, if left out.
        seed: of the descent.

    Raises:
        ValueError: there are too few pictures for so many neighbours.

    Example:
        >>> import siamlearn as sl
        >>> found = sl.embed(torch.nn.Flatten(), sl.DrawnFaces(3, 2))
        >>> tsne_map(found).points.shape
        torch.Size([6, 2])

    Source:
        van der Maaten, Hinton: Visualizing Data using t-SNE, JMLR 9, 2008, as in scikit-learn.
    """
    _require(embeddings)
    count = _counted(embeddings, "t-SNE")
    perplexity = min(30.0, (count - 1) / 3) if perplexity is None else perplexity
    if not 0 < perplexity < count:
        msg = f"perplexity must be above 0 and below the {count} pictures, got {perplexity:g}"
        raise ValueError(msg)
    from sklearn.manifold import TSNE

    vectors = _compared(embeddings)
    start, _ = _first_two(F.pad(vectors, (0, max(0, 2 - vectors.shape[1]))))
    # Small at first, as the descent wants it; all in one place is left there.
    start = 1e-4 * start / start[:, 0].std().clamp(min=1e-12)
    descent = TSNE(perplexity=perplexity, init=start.numpy(), random_state=seed)
    points = torch.from_numpy(descent.fit_transform(vectors.numpy()))
    return Map(points, ("", ""), "t-SNE", embeddings)


def umap_map(embeddings: Embeddings, *, neighbours: int = 15, seed: int = 0) -> Map:
    """As :func:`tsne_map`, but quicker for many pictures, and groups that touch lie side by side.

    Args:
        neighbours: how many each picture is kept near to; fewer where there are not so many.
        seed: of the descent.

    Raises:
        ModuleNotFoundError: if umap-learn is not installed, with the pip command to run.
        ValueError: there are too few pictures.

    Example:
        >>> import siamlearn as sl
        >>> found = sl.embed(torch.nn.Flatten(), sl.DrawnFaces(3, 2))
        >>> umap_map(found).points.shape  # doctest: +SKIP
        torch.Size([6, 2])

    Source:
        McInnes, Healy, Melville: UMAP, arXiv 1802.03426, 2018, as in umap-learn.
    """
    _require(embeddings)
    count = _counted(embeddings, "UMAP")
    try:
        from umap import UMAP
    except ModuleNotFoundError as missing:
        msg = "this map needs umap-learn; install it with: pip install umap-learn"
        raise ModuleNotFoundError(msg, name="umap") from missing
    # One thread: with a seed it takes no more, and says so in a warning.
    descent = UMAP(n_neighbors=min(neighbours, count - 1), random_state=seed, n_jobs=1)
    points = torch.as_tensor(descent.fit_transform(_compared(embeddings).numpy()))
    return Map(points, ("", ""), "UMAP", embeddings)


def _require(embeddings: object) -> None:
    if not isinstance(embeddings, Embeddings):
        what = type(embeddings).__name__
        msg = f"a map is of Embeddings, as embed(net, images) returns them, got {what}"
        raise TypeError(msg)


def _counted(embeddings: Embeddings, name: str) -> int:
    count = len(embeddings)
    if count < FEWEST:
        msg = f"{name} needs at least {FEWEST} pictures, got {count}; pca_map takes any number"
        raise ValueError(msg)
    return count


def _compared(embeddings: Embeddings) -> Float[Tensor, "n d"]:
    vectors = embeddings.vectors.float()
    return F.normalize(vectors) if embeddings.distance is cosine else vectors


def _principal(vectors: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n k"], Float[Tensor, " k"]]:
    """Places along the principal axes, and the share of the variance along each."""
    left, scale, _ = torch.linalg.svd(vectors - vectors.mean(dim=0), full_matrices=False)
    return left * scale, scale.square() / scale.square().sum().clamp(min=1e-12)


def _first_two(vectors: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n 2"], Float[Tensor, " 2"]]:
    points, share = _principal(vectors)
    missing = max(0, 2 - len(share))
    return F.pad(points[:, :2], (0, missing)), F.pad(share[:2], (0, missing))


def _named(share: Float[Tensor, " k"]) -> tuple[str, ...]:
    parts = enumerate(share.tolist(), start=1)
    return tuple(f"principal axis {d} ({100 * part:.0f} %)" for d, part in parts)

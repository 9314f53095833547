"""What simple methods reach on the same pictures: pixels, PCA, and PCA with LDA.

A net that does not beat them has learned nothing that is worth its weight. They start from small
pictures, and were settled on splits of the training people of the AT&T faces (s2 to s31).
On s32 to s40, all pairs, trained on s2 to s31 (AUC / best balanced accuracy): pixels
0.970 / 0.907, PCA 0.975 / 0.915, PCA+LDA 0.986 / 0.944.

Axes: n pictures, d pixels or components, k axes that are kept.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from siamlearn.data.images import ImageSet
from siamlearn.data.randomness import address
from siamlearn.embeddings import Embeddings, embed
from siamlearn.known import known
from siamlearn.nn.nets import EmbeddingNet, NetConfig, shrunk
from siamlearn.nn.whitening import principal_axes, shrunk_covariance

__all__ = ["pca", "pca_lda", "pixels", "untrained"]

# Longer side of the small pictures, in pixels: a quarter of the 112x92 of the AT&T faces.
SIDE = 28


def pixels(images: ImageSet) -> Embeddings:
    """Compare small pictures pixel by pixel: nothing is learned.

    Pictures are shrunk, each output pixel an average, until the longer side is 28 pixels; smaller
    ones stay as they are. All grey or colour values together, from 0 to 1, are the embedding.

    Args:
        images: the pictures that get embeddings.

    Example:
        >>> images = ImageSet(
        ...     torch.zeros(2, 1, 112, 92, dtype=torch.uint8),
        ...     torch.tensor([0, 1]),
        ...     identities=("anna", "bob"),
        ...     names=("1.png", "2.png"),
        ... )
        >>> pixels(images).vectors.shape  # 28 * 23
        torch.Size([2, 644])
    """
    return embedded(small(images), images)


def pca(
    images: ImageSet,
    *,
    train: ImageSet | None = None,
    components: int = 50,
    whitened: bool = False,
) -> Embeddings:
    """Compare pictures by their principal components, also known as eigenfaces.

    Args:
        images: the pictures that get embeddings.
        train: the pictures that the components are learned from; ``images`` if left out.
        components: how many to keep; fewer where there are not so many pictures or pixels.
        whitened: whether all components count alike, each divided by its standard deviation
            over the pictures that it is learned from, or in their own scale. There is then at
            most one component for every four of these pictures: with one for each, all of them
            would be equally far apart.

    Raises:
        ValueError: the pictures of the two sets differ in shape, or there is only one picture.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> images = ImageSet(
        ...     torch.randint(256, (6, 1, 8, 8), generator=generator, dtype=torch.uint8),
        ...     torch.arange(6) // 2,
        ...     identities=("anna", "bob", "carl"),
        ...     names=tuple("123456"),
        ... )
        >>> pca(images, components=3).vectors.shape
        torch.Size([6, 3])
        >>> pca(images, components=3, whitened=True).vectors.std(dim=0)
        tensor([1.])

    Source:
        Turk, Pentland: Eigenfaces for Recognition, Journal of Cognitive Neuroscience 3(1), 1991.
    """
    from_these = images if train is None else train
    if whitened:
        components = min(components, max(1, len(from_these) // 4))
    learned_from, projected = principal(from_these, images, components=components)
    if whitened:
        # Where all pictures are equal, or vary in one direction only, there is no scale.
        projected = projected / learned_from.std(dim=0).clamp(min=1e-6)
    return embedded(projected, images)


def untrained(images: ImageSet, *, seed: int = 0) -> Embeddings:
    """Compare pictures by a net that has learned nothing: what its shape alone is worth.

    It is the small net of :meth:`~siamlearn.NetConfig.preset` for pictures of this shape, with
    weights as they are drawn before training.

    Args:
        images: the pictures that get embeddings.
        seed: the same seed gives the same weights.

    Example:
        >>> from siamlearn.data.drawn import DrawnFaces
        >>> len(untrained(DrawnFaces(2, 2, size=(28, 23))))
        4
    """
    channels, height, width = images.shape
    config = NetConfig.preset("small", input=(channels, *shrunk(height, width, 2 * SIDE)))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(address("untrained", seed))
        net = EmbeddingNet(config)
    found = embed(net, images.shaped(config.input), shared=False, progress=False)
    return embedded(found.vectors, images)


def pca_lda(images: ImageSet, *, train: ImageSet, components: int = 30) -> Embeddings:
    """Compare pictures along the directions that tell the training people apart: Fisherfaces.

    Principal components first, then linear discriminant analysis. The covariance within people
    is shrunk as Ledoit and Wolf have it, so that few pictures are enough and there is nothing to
    tune.

    Args:
        images: the pictures that get embeddings.
        train: the pictures that everything is learned from, with their labels.
        components: how many principal components come before the discriminant analysis.

    Raises:
        ValueError: the pictures of the two sets differ in shape, or the training pictures do not
            show at least two people, one of them twice.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> images = ImageSet(
        ...     torch.randint(256, (9, 1, 8, 8), generator=generator, dtype=torch.uint8),
        ...     torch.arange(9) // 3,
        ...     identities=("anna", "bob", "carl"),
        ...     names=tuple("123456789"),
        ... )
        >>> pca_lda(images, train=images).vectors.shape  # one direction fewer than people
        torch.Size([9, 2])

    Source:
        Belhumeur, Hespanha, Kriegman: Eigenfaces vs. Fisherfaces, IEEE TPAMI 19(7), 1997.
        Ledoit, Wolf: A well-conditioned estimator for large-dimensional covariance matrices,
        Journal of Multivariate Analysis 88(2), 2004.
        Deviation: 30 components and shrinkage, instead of n - c components and none.
    """
    if not 1 < len(train.people) < len(train):
        msg = (
            f"PCA+LDA learns from at least two people, one of them on two pictures: got "
            f"{len(train)} pictures of {len(train.people)} people; train on more"
        )
        raise ValueError(msg)
    learned_from, projected = principal(train, images, components=components)
    found = embedded(projected @ discriminant_axes(learned_from, train.labels), images)
    return replace(found, trained_on=known(train.people))


def principal(train: ImageSet, images: ImageSet, *, components: int) -> tuple[Tensor, Tensor]:
    """The principal components of ``train``, of its own pictures and of ``images``."""
    if train.shape != images.shape:
        msg = (
            f"a baseline learns from pictures of the shape that it is tested on, "
            f"{images.shape}, got {train.shape}; resize one of them"
        )
        raise ValueError(msg)
    if len(train) < 2 or components < 1:
        msg = (
            f"principal components are at least one, of at least two pictures, "
            f"got components={components} of {len(train)} pictures"
        )
        raise ValueError(msg)
    learned_from = small(train).double()
    mean = learned_from.mean(dim=0)
    axes = principal_axes(learned_from - mean, components)
    return (learned_from - mean) @ axes, (small(images).double() - mean) @ axes


def discriminant_axes(x: Float[Tensor, "n d"], labels: Int[Tensor, " n"]) -> Float[Tensor, "d k"]:
    """Directions, one a column, along which people differ and the pictures of one do not.

    Lengths are such that pictures of one person scatter by 1 in every direction.
    """
    who = torch.from_numpy(np.unique(labels.numpy(), return_inverse=True)[1])
    count = who.bincount()
    means = x.new_zeros(len(count), x.shape[1]).index_add(0, who, x) / count[:, None]
    within = x - means[who]
    # Shrunk in units of each component's own scatter: that of the first is many times that of
    # the last. Where copies of a picture leave none, a thousandth of a grey value stands for it.
    scale = within.square().mean(dim=0).sqrt().clamp(min=1e-3)
    values, vectors = torch.linalg.eigh(shrunk_covariance(within / scale))
    whiten = vectors / values.clamp(min=1e-6).sqrt() / scale[:, None]
    between = (means - means.mean(dim=0)) @ whiten
    rows: Tensor = torch.linalg.svd(between, full_matrices=False).Vh
    axes: Tensor = whiten @ rows[: len(count) - 1].mT
    return axes


def small(images: ImageSet) -> Float[Tensor, "n d"]:
    """Every picture as one row of values from 0 to 1, its longer side at most ``SIDE`` pixels."""
    _, height, width = images.shape
    shrink = min(1.0, SIDE / max(height, width))
    size = max(1, round(height * shrink)), max(1, round(width * shrink))
    return torch.cat(
        [
            F.interpolate(part / 255, size, mode="bilinear", antialias=True).flatten(1)
            # In parts, because floats take four times the memory of bytes.
            for part in images.pixels.tensor_split(tuple(range(256, len(images), 256)))
        ]
    )


def embedded(vectors: Tensor, images: ImageSet) -> Embeddings:
    return Embeddings(vectors.float(), images.labels, images.identities, images.names, images)

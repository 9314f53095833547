"""A picture's own pixels, weighed by how little they vary from one picture of a person to another.

Axes: n pictures, p pixels (all channels), k components.
"""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from siamlearn.functional.distances import squared_euclidean
from siamlearn.functional.pairs import between
from siamlearn.functional.verification import roc_auc

__all__ = ["Whitening", "principal_axes", "several", "shrunk_covariance", "told_apart"]

COMPONENTS = 60


@final
class Whitening(nn.Module):
    """Principal components of small pictures, scaled to vary alike within every identity.

    It is computed from the training pictures, not trained: what differs between two pictures of
    one person (the light, the pose) counts little, and all the rest counts in full. Until ``fit``
    is called it gives zeros, which add nothing to any distance.

    Args:
        size: height and width that pictures are shrunk to, in pixels.
        channels: of the pictures.

    Example:
        >>> images, labels = torch.rand(6, 1, 8, 8), torch.arange(6) // 2
        >>> whitening = Whitening((4, 4), channels=1)
        >>> whitening(images).abs().max()
        tensor(0.)
        >>> whitening.fit(whitening.shrunk(images), labels)(images).shape
        torch.Size([6, 60])

    Source:
        Hatch, Kajarekar, Stolcke: Within-Class Covariance Normalization for SVM-Based Speaker
        Recognition, Interspeech 2006; the covariance shrunk as in Ledoit, Wolf: A
        Well-Conditioned Estimator for Large-Dimensional Covariance Matrices, Journal of
        Multivariate Analysis 88(2), 2004.
    """

    def __init__(self, size: tuple[int, int], *, channels: int) -> None:
        super().__init__()
        self.size = size
        pixels = channels * size[0] * size[1]
        self.mean: Tensor
        self.axes: Tensor
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("axes", torch.zeros(pixels, COMPONENTS))

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """The components of pictures, on average about 1 apart."""
        return (self.shrunk(images) - self.mean) @ self.axes

    @torch.no_grad()
    def fit(
        self,
        small: Float[Tensor, "n p"],
        labels: Int[Tensor, " n"],
        mirrored: Float[Tensor, "n p"] | None = None,
    ) -> Whitening:
        """Learn from pictures of at least two identities, one of them with two pictures.

        What varies within few identities need not vary within others. So it is tried first
        whether whitening that is computed from every second identity tells the others apart
        better than their pixels do; where it does not, the components keep their own scale.

        Args:
            small: the pictures as ``shrunk`` gives them.
            labels: whom each shows.
            mirrored: their mirror images, if these show the same identities.
        """
        small, who = small.double(), torch.unique(labels, return_inverse=True)[1]
        whiten = carries_over(small, who)
        if mirrored is not None:
            small, who = torch.cat([small, mirrored.double()]), who.repeat(2)
        mean = small.mean(dim=0)
        axes = whitening_axes(small, who) if whiten else principal_axes(small - mean, COMPONENTS)
        # The mean square distance of two pictures is twice their variance.
        axes /= (2 * ((small - mean) @ axes).square().sum(dim=1).mean()).sqrt().clamp(min=1e-12)
        self.mean.copy_(mean)
        self.axes.zero_()[:, : axes.shape[1]] = axes
        return self

    def shrunk(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n p"]:
        """Pictures as rows of the pixels of their small copies."""
        return F.adaptive_avg_pool2d(images.float(), self.size).flatten(1)


def whitening_axes(small: Float[Tensor, "n p"], who: Int[Tensor, " n"]) -> Float[Tensor, "p k"]:
    """Directions, one a column, along each of which the pictures of one identity vary by 1."""
    centred = small - small.mean(dim=0)
    axes = principal_axes(centred, COMPONENTS)
    parts = centred @ axes
    count = who.bincount()
    centres = parts.new_zeros(len(count), parts.shape[1]).index_add(0, who, parts)
    within = (parts - (centres / count.clamp(min=1)[:, None])[who])[count[who] > 1]
    values, vectors = torch.linalg.eigh(shrunk_covariance(within))
    # Copies of a picture do not vary at all; a thousandth of a grey value stands for that.
    whitened: Tensor = axes @ vectors / values.clamp(min=1e-6).sqrt()
    return whitened


def carries_over(small: Float[Tensor, "n p"], who: Int[Tensor, " n"]) -> bool:
    """Whether whitening helps with identities that it was not computed from."""
    some = several(who)
    half = torch.zeros_like(who.bincount())
    half[torch.unique(who[some])[::2]] = 1  # one identity learns, the next is asked
    gain = 0.0
    for side in (0, 1):
        learned, asked = half[who] != side, some[half[who[some]] == side]
        if len(torch.unique(who[asked])) < 2 or int(who[learned].bincount().max()) < 2:
            return False  # no two to tell apart, or nothing that varies within one
        axes = whitening_axes(small[learned], who[learned])
        gain += told_apart(small[asked] @ axes, who[asked]) - told_apart(small[asked], who[asked])
    return gain > 0


def several(
    who: Int[Tensor, " n"], *, identities: int = 100, pictures: int = 10
) -> Int[Tensor, " m"]:
    """Some pictures of some identities that have two: enough to judge by, few enough to compare.

    Returns:
        Places of the pictures, always the same ones for the same labels.

    Example:
        >>> several(torch.tensor([0, 1, 1, 2, 2, 2]), pictures=2).shape
        torch.Size([4])
    """
    order = torch.randperm(len(who), generator=torch.Generator().manual_seed(0)).to(who.device)
    order = order[who[order].argsort(stable=True)]
    count = who.bincount()
    turn = torch.arange(len(who), device=who.device) - (count.cumsum(0) - count)[who[order]]
    able = (count > 1).nonzero()[:, 0]
    drawn = torch.randperm(len(able), generator=torch.Generator().manual_seed(0)).to(who.device)
    chosen = torch.zeros_like(count, dtype=torch.bool)
    chosen[able[drawn[:identities]]] = True
    return order[chosen[who[order]] & (turn < pictures)].sort().values


def told_apart(
    vectors: Float[Tensor, "n k"],
    who: Int[Tensor, " n"],
    others: Float[Tensor, "n k"] | None = None,
) -> float:
    """Area under the ROC of the distances from each picture to all the others.

    Args:
        others: the others in another form, such as mirrored; the vectors themselves if left out.

    Example:
        >>> told_apart(torch.tensor([[0.0], [1.0], [5.0], [6.0]]), torch.tensor([3, 3, 8, 8]))
        1.0
    """
    others = vectors if others is None else others
    order = torch.arange(len(who), device=who.device)
    pairs = between(vectors, who, others, who, distance=squared_euclidean, own=order)
    return float(roc_auc(pairs.distance[pairs.positive], pairs.distance[pairs.negative]))


def principal_axes(centred: Float[Tensor, "n d"], components: int) -> Float[Tensor, "d k"]:
    """Directions of the largest variance, one a column, the largest first.

    Example:
        >>> line = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
        >>> principal_axes(line, 1).abs()
        tensor([[1.],
                [0.]])
    """
    n, d = centred.shape
    # n pictures span n - 1 directions: whatever came after them would be noise of rounding.
    most = min(components, n - 1, d)
    if n < d:
        rows: Tensor = torch.linalg.svd(centred, full_matrices=False).Vh
        return rows[:most].mT
    # The same, and twenty times as fast where there are more pictures than pixels.
    columns: Tensor = torch.linalg.eigh(centred.mT @ centred).eigenvectors
    return columns.flip(1)[:, :most]


def shrunk_covariance(centred: Float[Tensor, "n d"]) -> Float[Tensor, "d d"]:
    """Covariance of rows with mean zero, shrunk as Ledoit and Wolf have it.

    Example:
        >>> shrunk_covariance(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
        tensor([[0.5000, 0.0000],
                [0.0000, 0.5000]])
    """
    from sklearn.covariance import ledoit_wolf

    covariance, _ = ledoit_wolf(centred.cpu().numpy(), assume_centered=True)
    return torch.from_numpy(covariance).to(centred)

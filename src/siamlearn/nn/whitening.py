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

__all__ = ["Whitening", "principal_axes", "shrunk_covariance", "told_apart"]

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
        >>> whitening.fit(images, labels)(images).shape
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
        return (self._small(images) - self.mean) @ self.axes

    @torch.no_grad()
    def fit(self, images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"]) -> Whitening:
        """Learn from pictures of at least two identities, one of them with two pictures.

        What varies within few identities need not vary within others. So it is tried first
        whether whitening that is computed from every second identity tells the others apart
        better than their pixels do; where it does not, the components keep their own scale.
        """
        small = self._small(images).double()
        who = torch.unique(labels, return_inverse=True)[1]
        mean = small.mean(dim=0)
        axes = (
            whitening_axes(small, who)
            if carries_over(small, who)
            else principal_axes(small - mean, COMPONENTS)
        )
        # The mean square distance of two pictures is twice their variance.
        axes /= (2 * ((small - mean) @ axes).square().sum(dim=1).mean()).sqrt().clamp(min=1e-12)
        self.mean.copy_(mean)
        self.axes.zero_()[:, : axes.shape[1]] = axes
        return self

    def _small(self, images: Tensor) -> Tensor:
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
    gain = 0.0
    for half in (0, 1):
        learned = who % 2 != half
        # At most about a thousand pictures, of whole identities, are compared with each other.
        few = (who.bincount().cumsum(0) <= 1000).sum().clamp(min=4)
        asked = ~learned & (who < few)
        counts = who[learned].bincount(), who[asked].bincount()
        if min(int(count.amax()) for count in counts) < 2 or int((counts[1] > 0).sum()) < 2:
            return False  # nothing varies within people, or there are no two to tell apart
        axes = whitening_axes(small[learned], who[learned])
        gain += told_apart(small[asked] @ axes, who[asked]) - told_apart(small[asked], who[asked])
    return gain > 0


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
    """Covariance of rows with mean zero, shrunk as Ledoit and Wolf have it: never singular.

    Example:
        >>> rows = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
        >>> torch.linalg.eigvalsh(shrunk_covariance(rows)).min() > 0
        tensor(True)
    """
    from sklearn.covariance import ledoit_wolf

    covariance, _ = ledoit_wolf(centred.cpu().numpy(), assume_centered=True)
    return torch.from_numpy(covariance).to(centred)

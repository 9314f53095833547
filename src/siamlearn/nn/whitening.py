"""A picture's own pixels, weighed by how little they vary from one picture of a person to another.

Axes: n pictures, p pixels (all channels), k components.
"""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

__all__ = ["Whitening", "principal_axes", "shrunk_covariance"]

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
        """Learn from pictures of at least two identities, one of them with two pictures."""
        small = self._small(images).double()
        mean = small.mean(dim=0)
        axes = principal_axes(small - mean, COMPONENTS)
        parts = (small - mean) @ axes
        who = torch.unique(labels, return_inverse=True)[1]
        count = who.bincount()
        centres = parts.new_zeros(len(count), parts.shape[1]).index_add(0, who, parts)
        within = (parts - (centres / count[:, None])[who])[count[who] > 1]
        values, vectors = torch.linalg.eigh(shrunk_covariance(within))
        # Copies of a picture do not vary at all; a thousandth of a grey value stands for that.
        axes = axes @ vectors / values.clamp(min=1e-6).sqrt()
        # The mean square distance of two pictures is twice their variance.
        axes /= (2 * ((small - mean) @ axes).square().sum(dim=1).mean()).sqrt().clamp(min=1e-12)
        self.mean.copy_(mean)
        self.axes.zero_()[:, : axes.shape[1]] = axes
        return self

    def _small(self, images: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(images.float(), self.size).flatten(1)


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

"""Losses over classes that look at more than angles: at quality, progress, several centres."""

import math
from dataclasses import replace
from functools import partial
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Unpack

from siamlearn.functional import losses
from siamlearn.functional.margins import (
    adaptive_margin,
    angular_margin,
    magnitude_cost,
    magnitude_margin,
)
from siamlearn.functional.pairs import Pairs, Terms
from siamlearn.functional.vectors import unit
from siamlearn.nn.losses.classification import ClassChoices, ClassificationLoss
from siamlearn.nn.settings import above_zero, at_least_zero, below_pi, number, share

__all__ = ["AdaFaceLoss", "CurricularFaceLoss", "MagFaceLoss", "SubCentreArcFaceLoss"]


@final
class SubCentreArcFaceLoss(ClassificationLoss):
    """ArcFace with several centres a class, so that wrong labels gather around one of their own.

    See :func:`siamlearn.functional.losses.over_nearest_centres`. Once trained, :meth:`outliers`
    finds pictures whose label may be wrong; the authors train anew without them.

    Args:
        classes: how many identities there are.
        dimensions: of the embeddings.
        centres: of each class.
        margin: m, in radians, below π.
        scale: s, what cosines are multiplied by.
        choices: see :class:`ClassificationLoss`.

    Raises:
        ValueError: where a setting is out of range, or the labels are not those of classes.

    Example:
        >>> loss = SubCentreArcFaceLoss(3, 2, centres=2, margin=torch.pi / 6, scale=2.0)
        >>> round(loss(torch.zeros(1, 2), torch.tensor([2])).item(), 4)  # log(1 + 2 e)
        1.862

    Source:
        Deng et al.: Sub-center ArcFace, ECCV 2020, eq. 2 and sec. 3.2 to 3.4.
    """

    def __init__(
        self,
        classes: int,
        dimensions: int,
        *,
        centres: int = 3,
        margin: float = 0.5,
        scale: float = 64.0,
        **choices: Unpack[ClassChoices],
    ) -> None:
        super().__init__(classes, dimensions, scale=scale, centres=centres, **choices)
        self.margin = below_pi("margin", margin)

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        margin = partial(angular_margin, margin=self.margin)
        loss = partial(losses.normalised_softmax, scale=self.scale, margin=margin)
        return losses.over_nearest_centres(loss, pairs, centres=self.proxies.centres)

    @torch.no_grad()
    def outliers(self, embeddings: Tensor, labels: Tensor, *, threshold: float = 75.0) -> Tensor:
        """Which pictures are far from where most of their class are, and may be mislabelled.

        Show it all pictures of a class at once: most of them say which of its centres is right.

        Args:
            embeddings: of shape (n, d).
            labels: of shape (n,).
            threshold: the angle from the centre, in degrees, beyond which a picture is one.

        Returns:
            True for each that is, of shape (n,).

        Source:
            Deng et al.: Sub-center ArcFace, ECCV 2020, sec. 3.4.
        """
        self.proxies._check(embeddings, labels)
        k, names = self.proxies.centres, labels.long()
        centres = unit(self.proxies.vectors).reshape(self.proxies.classes, k, -1)
        parts = zip(*(torch.split(each, 4096) for each in (unit(embeddings), names)), strict=True)
        cosines = torch.cat([torch.einsum("nd,nkd->nk", x, centres[y]) for x, y in parts])
        nearest = F.one_hot(cosines.argmax(dim=-1), k)
        votes = nearest.new_zeros(self.proxies.classes, k).index_add(0, names, nearest)
        chosen = votes.argmax(dim=-1)[names]
        return cosines.gather(1, chosen[:, None])[:, 0] < math.cos(math.radians(threshold))


@final
class CurricularFaceLoss(ClassificationLoss):
    """ArcFace that looks at hard negatives more and more as training goes on.

    See :func:`siamlearn.functional.margins.curricular_margin`. How far training has come is the
    running mean of the cosines of pictures to their class, over batches in training mode. It is
    saved with the proxies, under ``progress``.

    Args:
        classes: how many identities there are.
        dimensions: of the embeddings.
        margin: m, in radians, below π.
        scale: s, what cosines are multiplied by.
        momentum: how much of the running mean is kept in each step, as in the authors' code.
        choices: see :class:`ClassificationLoss`.

    Raises:
        ValueError: where a setting is out of range, or the labels are not those of classes.

    Example:
        >>> loss = CurricularFaceLoss(3, 2, scale=2.0, momentum=0.5)
        >>> cost = loss(loss.proxies.vectors.detach(), torch.arange(3))
        >>> loss.progress  # halfway from 0 to 1
        tensor(0.5000)
    """

    def __init__(
        self,
        classes: int,
        dimensions: int,
        *,
        margin: float = 0.5,
        scale: float = 64.0,
        momentum: float = 0.99,
        **choices: Unpack[ClassChoices],
    ) -> None:
        super().__init__(classes, dimensions, scale=scale, watch=self._remember, **choices)
        self.margin = below_pi("margin", margin)
        self.momentum = share("momentum", momentum)
        self.progress: Tensor
        self.register_buffer("progress", torch.zeros(()))

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.curricular_softmax(
            pairs, progress=self.progress, margin=self.margin, scale=self.scale
        )

    def _remember(self, embeddings: Tensor, labels: Tensor) -> None:
        own = unit(F.embedding(labels.long(), self.proxies.vectors))
        alike = (unit(embeddings) * own).sum(dim=-1).mean()
        _move(self.progress, alike, 1 - self.momentum)


@final
class AdaFaceLoss(ClassificationLoss):
    """A margin that asks less of pictures of poor quality, which have short embeddings.

    See :func:`siamlearn.functional.margins.adaptive_margin`. What is short is said by the running
    mean and deviation of lengths, over batches in training mode. They are saved with the proxies,
    under ``mean`` and ``deviation``. A net that gives embeddings of length 1 has no use for it.

    Args:
        classes: how many identities there are.
        dimensions: of the embeddings.
        margin: m, in radians and in units of cosine.
        concentration: h, how soon a length is as short or as long as can be.
        scale: s, what cosines are multiplied by.
        momentum: how much of the running mean and deviation is kept in each step.
        choices: see :class:`ClassificationLoss`.

    Raises:
        ValueError: where a setting is out of range, or the labels are not those of classes.

    Example:
        >>> loss = AdaFaceLoss(3, 2, momentum=0.5)
        >>> cost = loss(torch.tensor([[6.0, 8.0], [0.0, 20.0]]), torch.tensor([0, 2]))
        >>> loss.mean  # halfway from 20, where it starts, to 15
        tensor(17.5000)
    """

    def __init__(
        self,
        classes: int,
        dimensions: int,
        *,
        margin: float = 0.4,
        concentration: float = 0.333,
        scale: float = 64.0,
        momentum: float = 0.99,
        **choices: Unpack[ClassChoices],
    ) -> None:
        super().__init__(classes, dimensions, scale=scale, watch=self._remember, **choices)
        self.margin = below_pi("margin", margin)
        self.concentration = above_zero("concentration", concentration, "else all are alike")
        self.momentum = share("momentum", momentum)
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.tensor(20.0))
        self.register_buffer("deviation", torch.tensor(100.0))

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        margin = partial(
            adaptive_margin,
            mean=self.mean,
            deviation=self.deviation,
            margin=self.margin,
            concentration=self.concentration,
        )
        return losses.normalised_softmax(pairs, scale=self.scale, margin=margin)

    def _remember(self, embeddings: Tensor, labels: Tensor) -> None:
        length = torch.linalg.vector_norm(embeddings, dim=-1).clamp(1e-3, 100)
        _move(self.mean, length.mean(), 1 - self.momentum)
        if len(length) > 1:  # one alone has no deviation
            _move(self.deviation, length.std(), 1 - self.momentum)


@final
class MagFaceLoss(ClassificationLoss):
    """An angular margin that is wider for longer embeddings, which all are asked to be.

    See :func:`siamlearn.functional.margins.magnitude_margin`, and there ``magnitude_cost``, which
    is added to the cost of each picture.

    Args:
        classes: how many identities there are.
        dimensions: of the embeddings.
        lowest: margin, in radians, of embeddings that are ``shortest`` or shorter.
        highest: margin, in radians, of embeddings that are ``longest`` or longer.
        shortest: length, in units of the embedding space.
        longest: length, in units of the embedding space.
        regularisation: λ_g, the weight of the cost of lengths.
        scale: s, what cosines are multiplied by.
        choices: see :class:`ClassificationLoss`.

    Raises:
        ValueError: where a setting is out of range, or the labels are not those of classes.

    Example:
        >>> loss = MagFaceLoss(3, 2, shortest=1.0, longest=2.0)
        >>> short, long = (loss(length * torch.ones(1, 2), torch.tensor([2])) for length in (1, 3))
        >>> bool(short < long)  # as its margin is narrower; its class is far from both
        True
    """

    def __init__(
        self,
        classes: int,
        dimensions: int,
        *,
        lowest: float = 0.45,
        highest: float = 0.8,
        shortest: float = 10.0,
        longest: float = 110.0,
        regularisation: float = 35.0,
        scale: float = 64.0,
        **choices: Unpack[ClassChoices],
    ) -> None:
        super().__init__(classes, dimensions, scale=scale, **choices)
        for name, value in (("shortest", shortest), ("longest", longest)):
            number(name, value)
        self.lowest, self.highest = below_pi("lowest", lowest), below_pi("highest", highest)
        if not lowest <= highest or not 0 < shortest < longest < math.inf:
            msg = (
                f"margins and lengths must rise, got margins from {lowest} to {highest} for "
                f"lengths from {shortest} to {longest}"
            )
            raise ValueError(msg)
        self.shortest, self.longest = shortest, longest
        self.regularisation = at_least_zero("regularisation", regularisation)

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        margin = partial(
            magnitude_margin,
            lowest=self.lowest,
            highest=self.highest,
            shortest=self.shortest,
            longest=self.longest,
        )
        terms = losses.normalised_softmax(pairs, scale=self.scale, margin=margin)
        assert pairs.length is not None  # pairs of embeddings have them
        cost = magnitude_cost(pairs.length, shortest=self.shortest, longest=self.longest)
        cost = torch.where(pairs.positive.any(dim=-1), cost, 0).sum()
        # Lengths have a gradient too, which autograd finds.
        return replace(terms, total=terms.total + self.regularisation * cost, slope=None)


def _move(usual: Tensor, now: Tensor, share: float) -> None:
    """A share of the way to what is seen now; a bad batch is not remembered."""
    now = now.to(usual)
    usual.lerp_(torch.where(now.isfinite(), now, usual), share)

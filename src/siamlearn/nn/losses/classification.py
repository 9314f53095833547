"""Losses of pictures beside learned classes (what they compute: ``functional.losses``)."""

from abc import ABC
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypedDict, final

import torch
from torch import Tensor
from typing_extensions import Unpack

from siamlearn.functional import losses
from siamlearn.functional.distances import cosine
from siamlearn.functional.margins import (
    additive_margin,
    angular_margin,
    combined_margin,
    multiplicative_margin,
)
from siamlearn.functional.pairings import References
from siamlearn.functional.pairs import Pairs, Terms
from siamlearn.functional.vectors import full_precision
from siamlearn.nn.losses.pair_loss import PairLoss
from siamlearn.nn.references import Proxies
from siamlearn.nn.settings import above_zero, at_least_one, at_least_zero, below_pi, number

__all__ = [
    "ArcFaceLoss",
    "ClassChoices",
    "ClassificationLoss",
    "CombinedMarginLoss",
    "CosFaceLoss",
    "NormalisedSoftmaxLoss",
    "SphereFaceLoss",
]

Watch = Callable[[Tensor, Tensor], None]
"""What a loss wants to remember of a batch and its labels."""


class ClassChoices(TypedDict, total=False):
    """What every loss over classes lets one choose; see :class:`ClassificationLoss`.

    Example:
        >>> choices: ClassChoices = {"sample": 0.1}
        >>> ArcFaceLoss(1_000, 8, **choices).proxies.sample
        0.1
    """

    sample: float | None
    seed: int
    sparse: bool
    rows: int | None


class ClassificationLoss(PairLoss, ABC):
    """A loss of a batch beside ``proxies``: one learned vector, or several, for each class.

    Each picture has one label, from 0 up to the number of classes; others are refused. Where
    looking at labels would be waiting, on a GPU, others are an assertion that fails on the device.

    Args:
        classes: how many identities there are, two or more.
        dimensions: of the embeddings.
        scale: s, what cosines are multiplied by before the softmax; 1 / temperature.
        watch: called with the batch and its labels, in training mode.
        centres: vectors of each class.
        sample, seed, sparse: see :class:`~siamlearn.nn.references.Proxies`; with a sample of the
            classes in each step, a million of them can be trained on.
        rows: see :class:`PairLoss`.

    Raises:
        ValueError: where a setting is out of range, or the labels are not those of classes.

    Example:
        >>> class Plain(ClassificationLoss):
        ...     def terms(self, pairs):
        ...         return losses.normalised_softmax(pairs, scale=self.scale)
        >>> loss = Plain(3, 2, scale=1.0)
        >>> round(loss(torch.zeros(1, 2), torch.tensor([2])).item(), 4)  # log 3
        1.0986
    """

    needs_rivals = True
    needs_own_references = True

    def __init__(
        self,
        classes: int,
        dimensions: int,
        *,
        scale: float,
        watch: Watch | None = None,
        centres: int = 1,
        sample: float | None = None,
        seed: int = 0,
        sparse: bool = False,
        rows: int | None = None,
    ) -> None:
        if at_least_one("classes", classes, "each has a vector") < 2:
            msg = f"classes must be at least 2, got {classes}: one alone has no rivals"
            raise ValueError(msg)
        super().__init__(cosine, references=self.beside, rows=rows)
        self.proxies = Proxies(
            classes, dimensions, centres=centres, sample=sample, seed=seed, sparse=sparse
        )
        self.scale = above_zero("scale", scale, "cosines are multiplied by it")
        self._watch = watch

    def beside(self, embeddings: Tensor, labels: Tensor) -> References:
        """The classes to compare a batch with.

        Raises:
            ValueError: where the labels are not one class for each picture.
        """
        if labels.dtype == torch.bool:
            msg = (
                "a loss over classes needs one label for each picture, got true and false; for "
                "pictures of several use InfoNCELoss(references=Proxies(...)), with a margin as "
                "its miner"
            )
            raise ValueError(msg)
        references: References = self.proxies(embeddings, labels)
        if labels.device.type != "cpu" or torch.compiler.is_compiling():
            known = (labels >= 0) & (labels < self.proxies.classes)
            torch._assert_async(known.all(), "labels must be from 0 to the number of classes")
        if self.training and self._watch is not None and len(labels):
            with torch.no_grad():
                self._watch(full_precision(embeddings), labels)
        return references


@final
class NormalisedSoftmaxLoss(ClassificationLoss):
    """Tell the class of each picture from all others, by angles alone.

    See :func:`siamlearn.functional.losses.normalised_softmax`.

    Args:
        classes: how many identities there are.
        dimensions: of the embeddings.
        temperature: distances are divided by it.
        choices: see :class:`ClassificationLoss`.

    Raises:
        ValueError: where a setting is out of range, or the labels are not those of classes.

    Example:
        >>> loss = NormalisedSoftmaxLoss(3, 2)
        >>> round(loss(torch.zeros(1, 2), torch.tensor([2])).item(), 4)  # log 3: no class is nearer
        1.0986
    """

    def __init__(
        self,
        classes: int,
        dimensions: int,
        *,
        temperature: float = 0.05,
        **choices: Unpack[ClassChoices],
    ) -> None:
        above_zero("temperature", temperature, "distances are divided by it")
        super().__init__(classes, dimensions, scale=1 / temperature, **choices)

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        return losses.normalised_softmax(pairs, scale=self.scale)


@final
class CosFaceLoss(ClassificationLoss):
    """The cosine to the own class must be larger than all others by a margin.

    See :func:`siamlearn.functional.margins.additive_margin`.

    Args:
        classes: how many identities there are.
        dimensions: of the embeddings.
        margin: m, in units of cosine.
        scale: s, what cosines are multiplied by.
        choices: see :class:`ClassificationLoss`.

    Raises:
        ValueError: where a setting is out of range, or the labels are not those of classes.

    Example:
        >>> loss = CosFaceLoss(3, 2, margin=0.25, scale=4.0)
        >>> round(loss(torch.zeros(1, 2), torch.tensor([2])).item(), 4)  # log(1 + 2 e)
        1.862
    """

    def __init__(
        self,
        classes: int,
        dimensions: int,
        *,
        margin: float = 0.35,
        scale: float = 64.0,
        **choices: Unpack[ClassChoices],
    ) -> None:
        super().__init__(classes, dimensions, scale=scale, **choices)
        self.margin = above_zero("margin", margin, "NormalisedSoftmaxLoss is without")

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        margin = partial(additive_margin, margin=self.margin)
        return losses.normalised_softmax(pairs, scale=self.scale, margin=margin)


@final
class ArcFaceLoss(ClassificationLoss):
    """The angle to the own class must be smaller than all others by a margin.

    See :func:`siamlearn.functional.margins.angular_margin`.

    Args:
        classes: how many identities there are.
        dimensions: of the embeddings.
        margin: m, in radians, below π.
        scale: s, what cosines are multiplied by.
        choices: see :class:`ClassificationLoss`.

    Raises:
        ValueError: where a setting is out of range, or the labels are not those of classes.

    Example:
        >>> loss = ArcFaceLoss(3, 2, margin=torch.pi / 6, scale=2.0)
        >>> round(loss(torch.zeros(1, 2), torch.tensor([2])).item(), 4)  # log(1 + 2 e)
        1.862
    """

    def __init__(
        self,
        classes: int,
        dimensions: int,
        *,
        margin: float = 0.5,
        scale: float = 64.0,
        **choices: Unpack[ClassChoices],
    ) -> None:
        super().__init__(classes, dimensions, scale=scale, **choices)
        self.margin = below_pi("margin", margin)

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        margin = partial(angular_margin, margin=self.margin)
        return losses.normalised_softmax(pairs, scale=self.scale, margin=margin)


@final
class CombinedMarginLoss(ClassificationLoss):
    """Margins of three kinds at once: cos(m₁ θ + m₂) - m₃.

    See :func:`siamlearn.functional.margins.combined_margin`.

    Args:
        classes: how many identities there are.
        dimensions: of the embeddings.
        multiplicative: m₁, what the angle is multiplied by.
        angular: m₂, what is added to the angle, in radians, from 0 to below π.
        additive: m₃, what is taken from the cosine.
        scale: s, what cosines are multiplied by.
        choices: see :class:`ClassificationLoss`.

    Raises:
        ValueError: where a setting is out of range, or the labels are not those of classes.

    Example:
        >>> loss = CombinedMarginLoss(3, 2, angular=torch.pi / 6, additive=0.5, scale=1.0)
        >>> round(loss(torch.zeros(1, 2), torch.tensor([2])).item(), 4)  # log(1 + 2 e)
        1.862
    """

    def __init__(
        self,
        classes: int,
        dimensions: int,
        *,
        multiplicative: float = 1.0,
        angular: float = 0.3,
        additive: float = 0.2,
        scale: float = 64.0,
        **choices: Unpack[ClassChoices],
    ) -> None:
        super().__init__(classes, dimensions, scale=scale, **choices)
        self.multiplicative = above_zero("multiplicative", multiplicative, "1 leaves the angle")
        self.angular = below_pi("angular", angular) if angular else 0.0
        self.additive = at_least_zero("additive", additive)

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        margin = partial(
            combined_margin,
            multiplicative=self.multiplicative,
            angular=self.angular,
            additive=self.additive,
        )
        return losses.normalised_softmax(pairs, scale=self.scale, margin=margin)


@final
class SphereFaceLoss(ClassificationLoss):
    """The angle to the own class must be smaller than all others by a factor.

    See :func:`siamlearn.functional.margins.multiplicative_margin`.

    Args:
        classes: how many identities there are.
        dimensions: of the embeddings.
        margin: m, a whole number, 2 or more.
        annealing: λ, how much of the plain cosine is blended in. It may be set during training;
            the authors go from 1,000 down to 5.
        scale: s, what cosines are multiplied by: if left out, as in the paper, the length of each
            picture's embedding.
        choices: see :class:`ClassificationLoss`.

    Raises:
        ValueError: where a setting is out of range, or the labels are not those of classes.

    Example:
        >>> loss = SphereFaceLoss(3, 2, margin=2, annealing=0.0, scale=1.0)
        >>> round(loss(torch.zeros(1, 2), torch.tensor([2])).item(), 4)  # log(1 + 2 e)
        1.862
    """

    def __init__(
        self,
        classes: int,
        dimensions: int,
        *,
        margin: int = 4,
        annealing: float = 5.0,
        scale: float | None = None,
        **choices: Unpack[ClassChoices],
    ) -> None:
        super().__init__(classes, dimensions, scale=1.0 if scale is None else scale, **choices)
        if number("margin", margin) % 1 != 0 or margin < 2:
            msg = f"margin must be a whole number of at least 2, got {margin}: it multiplies angles"
            raise ValueError(msg)
        self.margin, self.scaled = int(margin), scale is not None
        self.annealing = at_least_zero("annealing", annealing)

    def terms(self, pairs: Pairs) -> Terms:
        """Sums and counts of the loss over one block of pairs."""
        margin = partial(multiplicative_margin, margin=self.margin, annealing=self.annealing)
        if self.scaled:
            return losses.normalised_softmax(pairs, scale=self.scale, margin=margin)
        assert pairs.length is not None  # pairs of embeddings have them
        terms = losses.normalised_softmax(pairs, scale=pairs.length[:, None], margin=margin)
        return replace(terms, slope=None)  # lengths have a gradient too, which autograd finds

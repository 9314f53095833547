"""Margins: they make a task harder than it is, so that what is learned holds by a margin.

A margin takes a block of pairs to the same with its positives farther away, so that the loss after
it is content only when they are closer than they need be. All of them are of *cosine* distances
d = 1 - cos θ, where θ is the angle between the two; they work without arc cosines, which have no
derivative where two embeddings point the same way.

The sine is taken as √(d (2 - d)), infinitely steep at d = 0; below the machine epsilon, which is
as much as rounding lets one tell, a straight line goes to zero instead. So the derivative there is
large, as it is beside it, but finite.

Axes: q queries, r references.
"""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from siamlearn.functional.pairs import Pairs

__all__ = [
    "adaptive_margin",
    "additive_margin",
    "angular_margin",
    "combined_margin",
    "curricular_margin",
    "hard_negatives",
    "magnitude_cost",
    "magnitude_margin",
    "multiplicative_margin",
]


def additive_margin(pairs: Pairs, *, margin: float = 0.35) -> Pairs:
    """Positives count as farther than they are, by a cosine: cos θ - m (CosFace).

    When: the simplest margin, and the easiest to train; of use for any distance.

    Args:
        margin: m, in units of distance.

    Example:
        >>> pairs = Pairs(torch.tensor([[0.5, 0.5]]), *torch.eye(2).bool()[:, None])
        >>> additive_margin(pairs, margin=0.25).distance
        tensor([[0.7500, 0.5000]])

    Source:
        Wang et al.: CosFace, CVPR 2018, eq. 4.
    """
    return _with_positives(pairs, pairs.distance + margin)


def angular_margin(pairs: Pairs, *, margin: float = 0.5) -> Pairs:
    """Positives count as farther than they are, by an angle: cos(θ + m) (ArcFace).

    Beyond θ = π - m, where the cosine would rise again, it is cos θ - m sin m, so that it falls
    all the way; it leaps down by cos m + m sin m - 1 there.

    When: the usual margin for faces, with many pictures of each identity.

    Args:
        margin: m, in radians, from 0 to π.

    Example:
        >>> pairs = Pairs(torch.tensor([[0.5, 0.5]]), *torch.eye(2).bool()[:, None])
        >>> angular_margin(pairs, margin=math.pi / 6).distance  # of 60 and 30 degrees
        tensor([[1.0000, 0.5000]])

    Source:
        Deng et al.: ArcFace, CVPR 2019, eq. 3; what happens beyond π - m is not in the paper, but
        in its authors' code.
    """
    return _with_positives(pairs, _turned(pairs.distance, pairs.distance.new_full((), margin)))


def combined_margin(
    pairs: Pairs, *, multiplicative: float = 1.0, angular: float = 0.3, additive: float = 0.2
) -> Pairs:
    """Positives count as farther than they are, in three ways: cos(m₁ θ + m₂) - m₃.

    Beyond m₁ θ + m₂ = π, where the cosine would rise again, it is cos θ less what lets it fall
    all the way; with m₁ = 1 as in :func:`angular_margin`, which this is with m₃ = 0.

    When: to search for a margin between ArcFace and CosFace.

    Args:
        multiplicative: m₁, what the angle is multiplied by, above 0.
        angular: m₂, what is added to the angle, in radians, from 0 to π.
        additive: m₃, what is taken from the cosine.

    Example:
        >>> pairs = Pairs(torch.tensor([[0.5, 0.5]]), *torch.eye(2).bool()[:, None])
        >>> combined_margin(pairs, multiplicative=1.5, angular=0, additive=0.25).distance
        tensor([[1.2500, 0.5000]])

    Source:
        Deng et al.: ArcFace, CVPR 2019, eq. 4; the defaults are the first of the two in its
        table 2. The paper says nothing of m₁ θ + m₂ beyond π.
    """
    cosine = 1 - pairs.distance
    angle = multiplicative * torch.atan2(_sine(pairs.distance), cosine) + angular
    last = math.cos(min(math.pi, (math.pi - angular) / multiplicative))
    beyond = pairs.distance + max(angular * math.sin(angular), 1 + last)
    moved = torch.where(cosine < last, beyond, 1 - angle.cos())
    return _with_positives(pairs, moved + additive)


def multiplicative_margin(pairs: Pairs, *, margin: int = 4, annealing: float = 0.0) -> Pairs:
    """Positives count as farther than they are, by a multiple of the angle (SphereFace).

    Instead of cos θ it is ψ(θ) = (-1)^k cos(m θ) - 2k for θ between kπ/m and (k+1)π/m, which
    falls all the way from 1 to 1 - 2m. As m = 4 is hard to begin with, it may be blended:
    (λ cos θ + ψ(θ)) / (1 + λ), with λ made smaller as training goes on.

    When: to compare with; angular and additive margins train more easily.

    Args:
        margin: m, a whole number; 1 is no margin.
        annealing: λ; the authors go from 1,000 down to 5.

    Example:
        >>> pairs = Pairs(torch.tensor([[0.5, 0.5]]), *torch.eye(2).bool()[:, None])
        >>> multiplicative_margin(pairs, margin=3).distance  # cos 180° of three times 60°
        tensor([[2.0000, 0.5000]])

    Source:
        Liu et al.: SphereFace, CVPR 2017, eq. 7; the blend: Liu et al.: Large-Margin Softmax Loss
        for Convolutional Neural Networks, ICML 2016, sec. 5.1.
    """
    cosine = 1 - pairs.distance
    inside = _within(cosine, -1, 1)  # beyond, for distances that are not of cosines, a line
    before, times = torch.ones_like(inside), inside
    for _ in range(margin - 1):  # Chebyshev: cos(nθ) = 2 cos θ cos((n-1)θ) - cos((n-2)θ)
        before, times = times, 2 * inside * times - before
    halves = torch.zeros_like(cosine)  # k
    for half in range(1, margin):
        halves = halves + (cosine < math.cos(half * math.pi / margin))
    fallen = (1 - 2 * halves.remainder(2)) * times - 2 * halves + (cosine - inside)
    return _with_positives(pairs, 1 - (annealing * cosine + fallen) / (1 + annealing))


def curricular_margin(pairs: Pairs, *, progress: Float[Tensor, ""], margin: float = 0.5) -> Pairs:
    """An angular margin, and hard negatives that count more the further training has come.

    Negatives nearer than a positive, with its margin, are hard: cos θ becomes cos θ (t + cos θ),
    so that they count for less in the beginning, when t = 0, and for more in the end.

    When: large sets of faces, from scratch.

    Args:
        progress: t, how alike positives are by now: the running mean of their cosines, which
            :class:`~siamlearn.nn.losses.CurricularFaceLoss` keeps.
        margin: m, in radians.

    Example:
        >>> pairs = Pairs(torch.tensor([[0.5, 0.5]]), *torch.eye(2).bool()[:, None])
        >>> curricular_margin(pairs, progress=torch.tensor(0.25), margin=math.pi / 6).distance
        tensor([[1.0000, 0.6250]])

    Source:
        Huang et al.: CurricularFace, CVPR 2020, arXiv:2004.00288, sec. 3.2, with the positives of
        :func:`angular_margin`. With several positives, a negative nearer than one of them is hard.
        t: eq. 9, where the newest mean weighs 0.99; in the authors' code, and here, it weighs 0.01.
    """
    cosine = 1 - pairs.distance
    harder = 1 - cosine * (progress + cosine)
    moved = torch.where(hard_negatives(pairs, margin=margin), harder, pairs.distance)
    turned = _turned(pairs.distance, pairs.distance.new_full((), margin))
    return _with_positives(pairs, turned, moved)


def hard_negatives(pairs: Pairs, *, margin: float) -> Bool[Tensor, "q r"]:
    """Negatives nearer to the query than one of its positives is with an angular margin.

    Example:
        >>> pairs = Pairs(torch.tensor([[0.5, 0.5]]), *torch.eye(2).bool()[:, None])
        >>> hard_negatives(pairs, margin=0.0), hard_negatives(pairs, margin=0.1)
        (tensor([[False, False]]), tensor([[False,  True]]))
    """
    positives = angular_margin(pairs, margin=margin).distance.detach()
    positives = positives.masked_fill(~pairs.positive, -torch.inf)
    # One more column, as there is no largest of none.
    farthest = F.pad(positives, (1, 0), value=-torch.inf).amax(dim=-1, keepdim=True)
    return pairs.negative & (pairs.distance < farthest)


def adaptive_margin(
    pairs: Pairs,
    *,
    mean: Float[Tensor, ""],
    deviation: Float[Tensor, ""],
    margin: float = 0.4,
    concentration: float = 0.333,
) -> Pairs:
    """A margin that asks less of pictures of poor quality, which have short embeddings (AdaFace).

    With ẑ = h (length - mean) / deviation, within -1 and 1, it is cos(θ - m ẑ) - m ẑ - m: for
    short embeddings an angular margin, for long ones an additive one. The margin has no gradient.

    When: faces of very uneven quality, such as those of surveillance cameras.

    Args:
        mean: of the lengths of embeddings, and their deviation: running means, which
            :class:`~siamlearn.nn.losses.AdaFaceLoss` keeps.
        deviation: the standard deviation of the lengths.
        margin: m, in radians and in units of distance.
        concentration: h; a third lets most pictures fall within -1 and 1.

    Example:
        >>> pairs = Pairs(torch.tensor([[0.5, 0.5]]), *torch.eye(2).bool()[:, None])
        >>> pairs = replace(pairs, length=torch.tensor([20.0]))
        >>> adaptive_margin(pairs, mean=torch.tensor(20.0), deviation=torch.tensor(9.0)).distance
        tensor([[0.9000, 0.5000]])

    Source:
        Kim, Jain, Liu: AdaFace, CVPR 2022, eq. 16 to 19. Where θ would become negative it is 0,
        as in the authors' code; beyond π it goes on as in :func:`angular_margin`, where their code
        is flat and learns nothing.
    """
    assert pairs.length is not None  # pairs of embeddings have them
    length = _within(pairs.length.detach(), 1e-3, 100)
    quality = concentration * (length - mean) / (deviation + 1e-3)
    quality = _within(quality, -1, 1)[:, None]
    turned = _turned(pairs.distance, -margin * quality)
    return _with_positives(pairs, turned + margin * quality + margin)


def magnitude_margin(
    pairs: Pairs,
    *,
    lowest: float = 0.45,
    highest: float = 0.8,
    shortest: float = 10.0,
    longest: float = 110.0,
) -> Pairs:
    """An angular margin that is wider for longer embeddings (MagFace).

    It grows in a line with the length a, from the lowest at the shortest to the highest at the
    longest. Together with :func:`magnitude_cost`, which asks for long embeddings, a length then
    says how good a picture is: those that are easy to tell become long.

    When: the quality of a picture is wanted beside its identity.

    Args:
        lowest: margin, in radians, of embeddings that are ``shortest`` or shorter.
        highest: margin, in radians, of embeddings that are ``longest`` or longer.
        shortest: length, in units of the embedding space.
        longest: length, in units of the embedding space.

    Example:
        >>> pairs = Pairs(torch.tensor([[0.0, 0.5]]), *torch.eye(2).bool()[:, None])
        >>> pairs = replace(pairs, length=torch.tensor([60.0]))
        >>> magnitude_margin(pairs).distance[0, 0], 1 - torch.tensor(0.625).cos()
        (tensor(0.1890), tensor(0.1890))

    Source:
        Meng et al.: MagFace, CVPR 2021, arXiv:2103.06627, sec. 3.2; m(a): sec. 4.1. The margins
        are those of the authors' code; in the paper they go from 0.4 to 0.8.
    """
    assert pairs.length is not None  # pairs of embeddings have them
    share = (_within(pairs.length, shortest, longest) - shortest) / (longest - shortest)
    margin = (lowest + (highest - lowest) * share)[:, None]
    return _with_positives(pairs, _turned(pairs.distance, margin))


def magnitude_cost(
    length: Float[Tensor, " q"], *, shortest: float = 10.0, longest: float = 110.0
) -> Float[Tensor, " q"]:
    """What an embedding of this length a costs in MagFace: g(a) = 1/a + a/u², up to u.

    Beyond the longest, u, it is flat. Below the shortest, where the paper has no lengths and its
    authors' code has no gradient, it goes on in a line, so that what is short becomes longer.

    Example:
        >>> magnitude_cost(torch.tensor([1.0, 2.0, 8.0]), shortest=2.0, longest=4.0)
        tensor([0.8125, 0.6250, 0.5000])

    Source:
        Meng et al.: MagFace, CVPR 2021, arXiv:2103.06627, sec. 3.2 and 4.1.
    """
    inside = _within(length, shortest, longest)
    steepness = 1 / longest**2 - 1 / shortest**2
    return (
        1 / inside
        + inside / longest**2
        + steepness * torch.where(length < shortest, length - shortest, 0)
    )


def _with_positives(
    pairs: Pairs, moved: Float[Tensor, "q r"], others: Float[Tensor, "q r"] | None = None
) -> Pairs:
    others = pairs.distance if others is None else others
    return replace(pairs, distance=torch.where(pairs.positive, moved, others))


def _turned(distance: Float[Tensor, "q r"], margin: Tensor) -> Float[Tensor, "q r"]:
    """From 1 - cos θ to 1 - cos(θ + m), falling all the way; margins may differ from row to row."""
    cosine, sine = margin.cos(), margin.sin()
    turned = distance * cosine + _sine(distance) * sine + (1 - cosine)
    beyond = (margin >= 0) & (1 - distance < -cosine)
    turned = torch.where(beyond, distance + margin * sine, turned)
    # A negative margin turns the other way, but never past the place itself.
    return torch.where((margin < 0) & (1 - distance > cosine), 0, turned)


def _sine(distance: Float[Tensor, "q r"]) -> Float[Tensor, "q r"]:
    square = distance * (2 - distance)
    tiny = torch.finfo(distance.dtype).eps
    line = torch.where(square < 0, 0, square) * tiny**-0.5
    return torch.where(square > tiny, square.clamp(min=tiny).sqrt(), line)


def _within(value: Float[Tensor, "*n"], lowest: float, highest: float) -> Float[Tensor, "*n"]:
    """Clamp, but for the derivative on the edges, which is 1 here and, by version, 0 in torch."""
    return torch.where(value < lowest, lowest, torch.where(value > highest, highest, value))

"""Distances as evidence: log-likelihood ratios, what they cost, and probabilities made of them.

A log-likelihood ratio (LLR) says how much likelier a distance is between two pictures of one
person than between pictures of two: above 0 it speaks for one person. It is natural, base e, and
may be infinite; costs are in bits. Bayes makes a probability of it where somebody says how likely
one person was before the pictures were seen: the prior. All is computed in float64.

Axes: m genuine pairs, n impostor pairs, p pairs of either kind, t thresholds, k pools; b any axes
before, such as resamples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from siamlearn.functional.accepted import Accepted, accepted

__all__ = [
    "Pools",
    "calibration_loss",
    "cllr",
    "cost",
    "least_cost",
    "log_odds",
    "min_cllr",
    "pools",
    "posterior",
    "shifted",
]


def posterior(llr: Float[Tensor, "*p"], prior: float = 0.5) -> Float[Tensor, "*p"]:
    """The probability of one person: Bayes' rule in log odds.

    Args:
        llr: log-likelihood ratios; infinite ones give 0 and 1.
        prior: the probability of one person before the pictures were seen, above 0 and below 1.

    Example:
        >>> posterior(torch.tensor([0.0, 3.0]).log1p())  # at a ratio of 1 and of 4
        tensor([0.5000, 0.8000], dtype=torch.float64)
        >>> posterior(torch.tensor([3.0]).log1p(), prior=0.2)
        tensor([0.5000], dtype=torch.float64)
    """
    return (llr.double() + log_odds(prior)).sigmoid()


def shifted(
    probability: Float[Tensor, "*p"], *, from_prior: float, to_prior: float
) -> Float[Tensor, "*p"]:
    """What a probability becomes where one person is likelier, or less likely, beforehand.

    Probabilities that were right among as many genuine as impostor pairs, a prior of 0.5, are far
    too high at a door where one visitor in a thousand is who they say.

    Args:
        probability: of one person, right under ``from_prior``.
        from_prior: the share of genuine pairs that it was made for, above 0 and below 1.
        to_prior: the share where it is used.

    Example:
        >>> shifted(torch.tensor([0.8]), from_prior=0.5, to_prior=0.2)
        tensor([0.5000], dtype=torch.float64)

    Source:
        Saerens, Latinne, Decaestecker: Adjusting the Outputs of a Classifier to New a Priori
        Probabilities, Neural Computation 14(1), 2002, eq. 2.4.
    """
    return posterior(probability.double().logit() - log_odds(from_prior), to_prior)


def cllr(genuine_llr: Float[Tensor, " m"], impostor_llr: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """What log-likelihood ratios cost, in bits: 0 where they are perfect, 1 where they say nothing.

    The cost is averaged over all priors and all costs of a wrong decision. Above 1 one would do
    better without looking at the pictures. A single infinite ratio on the wrong side costs
    everything.

    Args:
        genuine_llr: natural log-likelihood ratios of pairs of one person.
        impostor_llr: those of pairs of two persons.

    Raises:
        ValueError: where one of the two is empty or holds NaN.

    Example:
        >>> cllr(torch.tensor([0.0]), torch.tensor([0.0])).item()
        1.0
        >>> three = torch.tensor([3.0]).log()
        >>> round(cllr(three, -three).item(), 4)  # log2(4 / 3)
        0.415

    Source:
        Brümmer, du Preez: Application-independent evaluation of speaker detection, Computer
        Speech and Language 20(2-3), 2006, C_llr.
    """
    _check(genuine=genuine_llr, impostor=impostor_llr)
    genuine = F.softplus(-genuine_llr.double()).mean()
    impostor = F.softplus(impostor_llr.double()).mean()
    return (genuine + impostor) / (2 * math.log(2))


def min_cllr(genuine: Float[Tensor, " m"], impostor: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """The least that distances can cost, in bits: Cllr after the best monotone calibration.

    It depends on the order of the distances alone. No calibration that gives a smaller ratio to
    a larger distance costs less, on these very pairs: quote it as a bound.

    Args:
        genuine: distances of pairs of one person, in any order.
        impostor: distances of pairs of two persons, in any order.

    Raises:
        ValueError: where one of the two is empty or holds NaN.

    Example:
        >>> min_cllr(torch.tensor([0.2, 0.4]), torch.tensor([0.6, 0.9])).item()
        0.0
        >>> min_cllr(torch.tensor([0.5]), torch.tensor([0.5])).item()
        1.0

    Source:
        Brümmer, du Preez 2006, C_llr^min.
    """
    _check(genuine=genuine, impostor=impostor)
    return pools(accepted(genuine, impostor)).cllr()


def cost(seen: Accepted, llr: Float[Tensor, " t"]) -> Float[Tensor, "*b"]:
    """Cllr read off counts, such as those of a histogram or of people drawn anew, in bits.

    Args:
        seen: pairs accepted at each threshold; leading axes are as many separate costs.
        llr: natural log-likelihood ratio at each threshold; the first, where nothing is
            accepted, does not matter.

    Example:
        >>> seen = accepted(torch.tensor([0.2]), torch.tensor([0.6]))
        >>> round(cost(seen, torch.tensor([0.0, 3.0, 1 / 3]).log()).item(), 4)  # log2(4 / 3)
        0.415
    """
    llr = llr[1:].double()
    lost = torch.zeros_like(seen.genuine[..., -1], dtype=torch.float64)
    for kind, sign in ((seen.genuine, -1), (seen.impostor, 1)):
        share = kind.diff(dim=-1).double() / kind[..., -1:]
        # Where there is no pair, an infinite ratio costs nothing.
        lost = lost + torch.where(share > 0, share * F.softplus(sign * llr), 0).sum(dim=-1)
    return lost / (2 * math.log(2))


def least_cost(seen: Accepted) -> Float[Tensor, "*b"]:
    """:func:`min_cllr` read off counts; leading axes are as many separate costs.

    Example:
        >>> least_cost(accepted(torch.tensor([0.2, 0.6]), torch.tensor([0.6, 0.9]))).item()
        0.5
    """
    if seen.genuine.ndim == 1:
        return pools(seen).cllr()
    rows = zip(seen.genuine.flatten(0, -2), seen.impostor.flatten(0, -2), strict=True)
    costs = [pools(Accepted(seen.threshold, right, wrong)).cllr() for right, wrong in rows]
    return torch.stack(costs).reshape(seen.genuine.shape[:-1])


def calibration_loss(
    genuine_llr: Float[Tensor, " m"], impostor_llr: Float[Tensor, " n"]
) -> Float[Tensor, ""]:
    """What log-likelihood ratios cost, in bits, because they are not calibrated.

    Cllr is this and the least that their order can cost, :func:`min_cllr`.

    Raises:
        ValueError: where one of the two is empty or holds NaN.

    Example:
        >>> calibration_loss(torch.tensor([0.0, 0.0]), torch.tensor([-3.0, 0.0])).item() > 0
        True

    Source:
        Brümmer, du Preez 2006, C_llr - C_llr^min.
    """
    return cllr(genuine_llr, impostor_llr) - min_cllr(-genuine_llr, -impostor_llr)


@final
@dataclass(frozen=True, eq=False)
class Pools:
    """Neighbouring distances pooled until nearer pools hold a larger share of genuine pairs.

    Args:
        nearest: the smallest distance in each pool, ascending.
        farthest: the largest distance in each pool.
        genuine: how many genuine pairs each holds.
        impostor: how many impostor pairs.

    Example:
        >>> found = pools(accepted(torch.tensor([0.1, 0.3]), torch.tensor([0.2, 0.9])))
        >>> found.genuine.tolist(), found.impostor.tolist()
        ([1.0, 1.0, 0.0], [0.0, 1.0, 1.0])
    """

    nearest: Float[Tensor, " k"]
    farthest: Float[Tensor, " k"]
    genuine: Float[Tensor, " k"]
    impostor: Float[Tensor, " k"]

    def llr(self) -> Float[Tensor, " k"]:
        """Log-likelihood ratio of each pool, never rising; infinite where it holds one kind alone.

        Example:
            >>> found = pools(accepted(torch.tensor([0.1, 0.3]), torch.tensor([0.2, 0.9])))
            >>> found.llr()
            tensor([inf, 0., -inf], dtype=torch.float64)
        """
        genuine = self.genuine / self.genuine.sum()
        impostor = self.impostor / self.impostor.sum()
        # Between pools whose ratios are all but equal, rounding could make it rise.
        falling: Tensor = (genuine.log() - impostor.log()).cummin(dim=0).values
        return falling

    def cllr(self) -> Float[Tensor, ""]:
        """What these ratios cost on the pairs that they were made of, in bits.

        Example:
            >>> found = pools(accepted(torch.tensor([0.1, 0.3]), torch.tensor([0.2, 0.9])))
            >>> found.cllr().item()
            0.5
        """
        genuine = self.genuine / self.genuine.sum()
        impostor = self.impostor / self.impostor.sum()
        both = genuine + impostor
        # As xlogy, a kind of which a pool holds nothing costs nothing there.
        lost = torch.xlogy(genuine, genuine / both) + torch.xlogy(impostor, impostor / both)
        return lost.sum().abs() / (2 * math.log(2))


def pools(seen: Accepted) -> Pools:
    """Pool adjacent violators: the isotonic regression of "one person" on the distance.

    These are the straight pieces of the convex hull of the ROC curve; the slope of a piece is the
    likelihood ratio of its distances. Equal distances always share a pool.

    Args:
        seen: pairs accepted at each threshold, without leading axes.

    Example:
        >>> found = pools(accepted(torch.tensor([0.1, 0.3]), torch.tensor([0.2, 0.9])))
        >>> found.nearest, found.farthest
        (tensor([0.1000, 0.2000, 0.9000]), tensor([0.1000, 0.3000, 0.9000]))

    Source:
        Ayer, Brunk, Ewing, Reid, Silverman: An Empirical Distribution Function for Sampling with
        Incomplete Information, Annals of Mathematical Statistics 26(4), 1955.
        Fawcett, Niculescu-Mizil: PAV and the ROC convex hull, Machine Learning 68, 2007.
    """
    genuine, impostor = seen.genuine.double(), seen.impostor.double()
    # A threshold of a grid at which nothing is added makes no difference.
    added = F.pad(genuine.diff() + impostor.diff() > 0, (1, 0), value=True)
    threshold, genuine, impostor = seen.threshold[added], genuine[added], impostor[added]
    corner = _upper_hull(impostor, genuine)
    return Pools(
        threshold[corner[:-1] + 1],
        threshold[corner[1:]],
        genuine[corner].diff(),
        impostor[corner].diff(),
    )


def _upper_hull(x: Float[Tensor, " t"], y: Float[Tensor, " t"]) -> Int[Tensor, " k"]:
    """Which points are corners of the hull from the first to the last, seen from above."""
    kept = torch.arange(len(x), device=x.device)
    while len(kept) > 2:
        across, up = x[kept].diff(), y[kept].diff()
        # A point at or below the line between its neighbours is no corner, whatever they are.
        corner = F.pad(up[:-1] * across[1:] > across[:-1] * up[1:], (1, 1), value=True)
        before, kept = len(kept), kept[corner]
        if len(kept) == before:
            return kept
        if len(kept) > 0.9 * before:
            break
    # What is left is convex but for a few places, which the rounds above would mend one by one.
    corners: list[tuple[int, float, float]] = []
    for point in zip(kept.tolist(), x[kept].tolist(), y[kept].tolist(), strict=True):
        while len(corners) > 1 and not _turns_down(corners[-2], corners[-1], point):
            corners.pop()
        corners.append(point)
    return torch.tensor([index for index, _, _ in corners], device=x.device)


def _turns_down(
    a: tuple[int, float, float], b: tuple[int, float, float], c: tuple[int, float, float]
) -> bool:
    return (b[2] - a[2]) * (c[1] - b[1]) > (b[1] - a[1]) * (c[2] - b[2])


def log_odds(prior: float) -> float:
    """The natural logarithm of the odds of a prior.

    Raises:
        ValueError: where it is no probability above 0 and below 1.

    Example:
        >>> log_odds(0.5)
        0.0
    """
    if not 0 < prior < 1:
        msg = (
            f"a prior is a probability above 0 and below 1, got {prior:g}; where nothing is known "
            f"beforehand it is 0.5"
        )
        raise ValueError(msg)
    return math.log(prior) - math.log1p(-prior)


def _check(**kinds: Float[Tensor, " _"]) -> None:
    for kind, ratios in kinds.items():
        if len(ratios) == 0:
            msg = f"a cost in bits needs at least one {kind} pair, got none; compare more people"
            raise ValueError(msg)
        unknown = int(ratios.isnan().sum())
        if unknown:
            msg = (
                f"distances and ratios must be numbers, got NaN for {unknown:,} of the {kind} "
                f"pairs; look where 0 was divided by 0, or infinity taken from infinity"
            )
            raise ValueError(msg)

"""Whether probabilities mean what they say: how often pairs are of one person, as predicted.

Axes: p pairs, k bins, e edges between them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from siamlearn.functional.calibration import log_odds

__all__ = [
    "Reliability",
    "brier",
    "equal_mass",
    "equal_width",
    "expected_calibration_error",
    "reliability",
]

Edges = Callable[[Tensor, int], Tensor]


def equal_width(probability: Float[Tensor, " p"], bins: int) -> Float[Tensor, " e"]:
    """Edges between bins of one width from 0 to 1.

    Example:
        >>> equal_width(torch.tensor([0.1]), 4)
        tensor([0.2500, 0.5000, 0.7500], dtype=torch.float64)
    """
    return torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=probability.device)[1:-1]


def equal_mass(probability: Float[Tensor, " p"], bins: int) -> Float[Tensor, " e"]:
    """Edges between bins that hold about as many pairs each; equal probabilities share a bin.

    Example:
        >>> equal_mass(torch.tensor([0.1, 0.2, 0.3, 0.9]), 2)
        tensor([0.2000], dtype=torch.float64)
    """
    ordered = probability.double().sort().values
    last = torch.arange(1, bins, device=ordered.device) * len(ordered) // bins - 1
    edges: Tensor = torch.unique_consecutive(ordered[last.clamp(min=0)])
    return edges


@final
@dataclass(frozen=True, eq=False)
class Reliability:
    """Predicted and observed shares of genuine pairs, by how high the prediction was.

    Args:
        predicted: mean predicted probability in each bin that is not empty, ascending.
        observed: share of genuine pairs in it.
        share: of all pairs that fall into it, weighted as asked; they sum to 1.
        count: how many pairs fall into it.
        error_ends: between what the error may well lie, had other people been asked; None where
            nobody was drawn.

    Example:
        >>> same = torch.tensor([False, True, True])
        >>> found = reliability(torch.tensor([0.25, 0.5, 0.75]), same, bins=2)
        >>> found.predicted.tolist(), found.observed.tolist()
        ([0.25, 0.625], [0.0, 1.0])
    """

    predicted: Float[Tensor, " k"]
    observed: Float[Tensor, " k"]
    share: Float[Tensor, " k"]
    count: Int[Tensor, " k"]
    error_ends: tuple[float, float] | None = None

    @property
    def error(self) -> Float[Tensor, ""]:
        """The expected calibration error: how far both are apart, on average over pairs."""
        return (self.share * (self.predicted - self.observed).abs()).sum()


def reliability(
    probability: Float[Tensor, " p"],
    same: Bool[Tensor, " p"],
    *,
    bins: int = 15,
    edges: Edges = equal_mass,
    prior: float | None = None,
) -> Reliability:
    """How often pairs are of one person, beside how often they were said to be.

    Args:
        probability: of one person, for each pair.
        same: whether the pair is genuine.
        bins: into how many the pairs are sorted; empty ones are left out.
        edges: where bins end: ``equal_mass``, or ``equal_width``, which leaves most bins nearly
            empty where most pairs are easy.
        prior: the share that genuine pairs count as; if left out, the share that they are. Put
            here the prior that the probabilities were made with: made for 0.5, they are all too
            high among fifty impostors to each genuine pair, however well they are calibrated.

    Raises:
        ValueError: where there are no pairs, what is no probability, or, with a prior, no
            genuine or no impostor pair.

    Example:
        >>> probability = torch.tensor([0.2, 0.2, 0.2, 0.2, 0.2, 0.8])
        >>> same = torch.tensor([True, False, False, False, False, True])
        >>> reliability(probability, same, bins=2).observed
        tensor([0.2000, 1.0000], dtype=torch.float64)

    Source:
        Murphy, Winkler: Reliability of Subjective Probability Forecasts of Precipitation and
        Temperature, Applied Statistics 26(1), 1977.
    """
    _check_pairs(probability, same, prior)
    probability = probability.double()
    weight = torch.full_like(probability, 1 / len(same))
    if prior is not None:
        weight = torch.where(
            same, prior / same.sum().double(), (1 - prior) / (~same).sum().double()
        )
    edge = edges(probability, bins)
    where = torch.bucketize(probability, edge)
    size = len(edge) + 1
    count = where.bincount(minlength=size)
    share = where.bincount(weight, minlength=size)
    filled = count > 0
    predicted = where.bincount(weight * probability, minlength=size) / share
    observed = where.bincount(weight * same, minlength=size) / share
    return Reliability(predicted[filled], observed[filled], share[filled], count[filled])


def expected_calibration_error(
    probability: Float[Tensor, " p"],
    same: Bool[Tensor, " p"],
    *,
    bins: int = 15,
    edges: Edges = equal_width,
    prior: float | None = None,
) -> Float[Tensor, ""]:
    """How far predicted and observed shares are apart, on average over the pairs.

    It falls with fewer bins and rises with fewer pairs, so compare only what was binned alike;
    Cllr needs no bins.

    Args:
        edges: where bins end; ``equal_width`` is how it was published, ``equal_mass`` scatters
            less.

    The other arguments, and what is refused, are those of :func:`reliability`.

    Example:
        >>> probability, same = torch.tensor([0.75, 0.75]), torch.tensor([True, False])
        >>> expected_calibration_error(probability, same).item()
        0.25

    Source:
        Naeini, Cooper, Hauskrecht: Obtaining Well Calibrated Probabilities Using Bayesian
        Binning, AAAI 2015; Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural
        Networks, ICML 2017, eq. 3. Deviation: the probability of one person, not that of the
        likelier answer.
    """
    return reliability(probability, same, bins=bins, edges=edges, prior=prior).error


def brier(probability: Float[Tensor, " p"], same: Bool[Tensor, " p"]) -> Float[Tensor, ""]:
    """Mean square of probability minus truth: 0 is perfect, 0.25 what saying 0.5 always costs.

    Raises:
        ValueError: where there are no pairs, or what is no probability.

    Example:
        >>> brier(torch.tensor([0.5, 1.0]), torch.tensor([True, True])).item()
        0.125

    Source:
        Brier: Verification of Forecasts Expressed in Terms of Probability, Monthly Weather
        Review 78(1), 1950; half of its two-class sum.
    """
    _check_pairs(probability, same, None)
    return (probability.double() - same.double()).square().mean()


def _check_pairs(probability: Tensor, same: Tensor, prior: float | None) -> None:
    if len(probability) == 0 or not bool(((probability >= 0) & (probability <= 1)).all()):
        msg = (
            f"probabilities of at least one pair must lie from 0 to 1, got {len(probability):,} "
            f"pairs; distances become probabilities with a Calibration"
        )
        raise ValueError(msg)
    if prior is not None:
        log_odds(prior)
        if not 0 < int(same.sum()) < len(same):
            msg = (
                f"a prior weighs genuine against impostor pairs, and there must be some of both: "
                f"got {int(same.sum()):,} genuine of {len(same):,} pairs; leave prior out"
            )
            raise ValueError(msg)

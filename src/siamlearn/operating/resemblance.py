"""How often a stranger is taken for somebody in a gallery, and what that becomes in a larger one.

Axes: p pictures, u people.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Self, final

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from siamlearn.estimates import Estimate

__all__ = ["Resemblance", "resemblance"]

POSSIBLE = 100  # rates that the mean is taken over
REACH = 10  # how many times as many people as were seen a gallery may have


@final
@dataclass(frozen=True)
class Resemblance:
    """How often a picture passes as another person, and how unlike pictures are in that.

    Were all alike and people independent, 1 - (1 - rate)^N would pass among N people. But some
    pictures resemble many people: they raise one alarm instead of several, and less pass. So the
    rate of a picture is taken to be drawn from a beta distribution.

    Args:
        rate: share of the people that a picture passes as, where it shows none of them.
        alike: the beta distribution's a + b: infinite where all pictures have the same rate, near
            zero where few of them pass as everybody and the others as nobody.
        people: how many people were seen.
        worth: how many independent comparisons would tell the rate as well; infinite where it is
            known.

    Example:
        >>> both = Resemblance(Estimate(0.01, 0.002, 0.03), 100.0, people=20)
        >>> print(both.fpir(1), both.fpir(50))
        0.01 [0.002, 0.03] 0.3356 [0.07826, 0.7097]
    """

    rate: Estimate
    alike: float
    people: int
    worth: float = math.inf

    def fpir(self, gallery: int) -> Estimate:
        """The share of strangers that is taken for one of so many people, with its interval.

        It is the mean over what the rate may be: twice as high a rate does not take twice as many
        strangers, and so of few people less is expected than their rate alone would make. The
        interval is that of ``rate``; how unlike pictures are is taken as it was seen.

        Raises:
            TypeError: the gallery is no whole number of people.
            ValueError: it is empty, or of more than 10 times as many people as were seen.

        Example:
            >>> alone = Resemblance(Estimate(0.01, 0.01, 0.01), math.inf, people=20)
            >>> round(alone.fpir(100), 4)  # 1 - 0.99 ** 100
            0.634
        """
        if isinstance(gallery, bool) or not isinstance(gallery, Integral):
            msg = f"gallery= is a whole number of people, such as 100, got {gallery!r}"
            raise TypeError(msg)
        if gallery < 1:
            msg = f"gallery= is how many people are enrolled, at least one, got {gallery}"
            raise ValueError(msg)
        if gallery > REACH * self.people:
            msg = (
                f"an FPIR is predicted for galleries of 1 to {REACH * self.people:,} people, "
                f"{REACH} times the {self.people} that the point was chosen on, got {gallery:,}; "
                f"choose it on more people, or ask for fewer"
            )
            raise ValueError(msg)
        low, high = (self._among(gallery, rate) for rate in (self.rate.low, self.rate.high))
        value = sum(self._among(gallery, rate) for rate in self._possible()) / POSSIBLE
        return Estimate(min(max(value, low), high), low, high, self.rate.level)

    def _possible(self) -> list[float]:
        """Rates that the true one may be, one as likely as the other."""
        rate = float(self.rate)
        if self.worth == math.inf or rate in (0.0, 1.0):
            return [rate] * POSSIBLE
        from scipy.special import betaincinv  # here, because it takes a while

        share = (torch.arange(POSSIBLE, dtype=torch.float64) + 0.5) / POSSIBLE
        right, wrong = rate * self.worth, (1 - rate) * self.worth
        return [float(betaincinv(right, wrong, each)) for each in share.tolist()]

    def _among(self, gallery: int, rate: float) -> float:
        if rate in (0.0, 1.0):
            return rate
        if self.alike == math.inf:
            return -math.expm1(gallery * math.log1p(-rate))
        alike = max(self.alike, 1e-9)  # at zero itself there is no such distribution
        # Of a picture that passed as nobody so far: how often it does not pass as the next, either.
        # Gamma functions would lose all digits where pictures are all but alike.
        before = torch.arange(gallery, dtype=torch.float64)
        return -math.expm1(torch.log1p(-rate * alike / (alike + before)).sum().item())

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON; the estimate as a dictionary."""
        kept = {"alike": self.alike, "worth": self.worth}
        finite = {k: None if v == math.inf else v for k, v in kept.items()}
        return {"rate": self.rate.to_dict(), **finite, "people": self.people}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """What ``to_dict`` described."""
        alike, worth = (math.inf if values[k] is None else values[k] for k in ("alike", "worth"))
        return cls(Estimate.from_dict(values["rate"]), alike, values["people"], worth)


def resemblance(
    rate: Estimate,
    passed: Bool[Tensor, " k"],
    picture: Int[Tensor, " k"],
    *,
    people: int,
    worth: float = math.inf,
) -> Resemblance:
    """How unlike pictures are in how many people they pass as.

    Args:
        rate: the share that passed.
        passed: whether a picture passes as a person who is not on it.
        picture: which picture that is.
        people: how many people there are.
        worth: how many independent comparisons would tell the rate as well.

    Example:
        >>> picture = torch.tensor([0, 0, 0, 1, 1, 1])
        >>> everybody = torch.tensor([True, True, True, False, False, False])
        >>> resemblance(Estimate(0.5, 0, 1), everybody, picture, people=4).alike
        0.0

    Source:
        The moments of the beta-binomial distribution: Skellam, A probability distribution derived
        from the binomial distribution, Journal of the Royal Statistical Society B 10(2), 1948.
    """
    count = torch.bincount(picture).double()
    often = torch.bincount(picture, weights=passed.double())
    # Of two people that a picture is compared with, how often it passes as both.
    pairs = (count * (count - 1)).sum()
    both = float((often * (often - 1)).sum() / pairs) if pairs > 0 else 0.0
    mean = float(often.sum() / count.sum())
    if both <= mean**2:
        return Resemblance(rate, math.inf, people, worth)
    return Resemblance(rate, max(0.0, (mean - both) / (both - mean**2)), people, worth)

"""What a gallery answers: who that is, or whether two are one, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

__all__ = ["Match", "Verdict"]


@final
@dataclass(frozen=True)
class Match:
    """Who a picture shows, as far as a gallery can tell.

    It has no probability: that of two pictures would be too high for the nearest of many people,
    and how likely the person is to be among them at all is not known to a gallery.

    Args:
        name: the person, or None for nobody: no enrolled picture is near enough, or pictures of
            two people are exactly as near.
        distance: to the nearest enrolled picture.
        runner_up: the next nearest person; None where only one is enrolled.
        runner_up_distance: to the nearest picture of the runner-up.
        threshold: the largest distance that is accepted.
        nearest: who is on the nearest enrolled picture, near enough or not.

    Example:
        >>> print(Match("anna", 0.31, "bob", 0.8, threshold=0.5, nearest="anna"))
        anna: distance 0.31 ≤ threshold 0.5; next is bob at 0.8
    """

    name: str | None
    distance: float
    runner_up: str | None
    runner_up_distance: float | None
    threshold: float
    nearest: str | None = None

    def __str__(self) -> str:
        following = ""
        if self.runner_up is not None:
            following = f"; next is {self.runner_up} at {self.runner_up_distance:.4g}"
        if self.name is not None:
            near = f"distance {self.distance:.4g} ≤ threshold {self.threshold:.4g}"
            return f"{self.name}: {near}{following}"
        if self.distance == self.runner_up_distance:
            return f"nobody: {self.nearest} and {self.runner_up} are both at {self.distance:.4g}"
        far = f"{self.distance:.4g} > threshold {self.threshold:.4g}"
        return f"nobody: the nearest, {self.nearest}, is at {far}{following}"


@final
@dataclass(frozen=True)
class Verdict:
    """Whether two pictures show one person. True and False as the verdict is.

    Args:
        same: whether the distance is at most the threshold.
        distance: between the two pictures.
        threshold: the largest distance that is accepted.
        basis: where the threshold comes from.
        probability: of one person, at this distance and with this ``prior``; None where the
            threshold was chosen without genuine pairs.
        prior: the probability of one person before the pictures were seen.
        why: where the distance lies among pairs that are known, in a sentence.

    Example:
        >>> print(Verdict(same=True, distance=0.31, threshold=0.52, basis="FMR 1 % on 12 people"))
        same person: distance 0.31 ≤ threshold 0.52 (FMR 1 % on 12 people)
    """

    same: bool
    distance: float
    threshold: float
    basis: str = ""
    probability: float | None = None
    prior: float = 0.5
    why: str = ""

    def __bool__(self) -> bool:
        return self.same

    def __str__(self) -> str:
        answer, relation = ("same person", "≤") if self.same else ("different people", ">")
        near = f"distance {self.distance:.4g} {relation} threshold {self.threshold:.4g}"
        text = f"{answer}: {near}" + (f" ({self.basis})" if self.basis else "")
        return f"{text}\n{self.why}" if self.why else text

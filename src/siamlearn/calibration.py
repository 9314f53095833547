"""Distances to probabilities: how much likelier a distance is for one person than for two.

Axes: m genuine pairs, n impostor pairs, k distances of a curve; b any axes before, such as
resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self, TypeAlias, final, overload

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from siamlearn.comparison import compare
from siamlearn.embeddings import Embeddings
from siamlearn.functional.accepted import Accepted, accepted
from siamlearn.functional.calibration import cost, pools, posterior
from siamlearn.known import known, known_by
from siamlearn.normalisation import require_strangers

__all__ = ["Calibration", "Curve", "logistic", "monotone"]

FORMAT = 1
# Log-likelihood ratios that a slope of the usual size gives to distances one deviation apart.
SLOPE = 7.0

Curve: TypeAlias = Callable[[Accepted, int], tuple[Tensor, Tensor]]


def logistic(seen: Accepted, people: int) -> tuple[Float[Tensor, " 2"], Float[Tensor, " 2"]]:
    """A straight line from the nearest to the farthest distance seen: logistic regression.

    Genuine and impostor pairs count alike, however many there are of each, so that no prior is
    built in. The line never rises. So that distances which part all pairs do not make it
    infinitely steep, its slope over one standard deviation of the distances is taken to be
    normal, with mean 0 and standard deviation 7, beforehand, against as many observations as
    there are people: ten people who never were confused give ratios of about 100, not of millions.

    Args:
        seen: pairs accepted at each threshold, without leading axes.
        people: how many people they are of.

    Returns:
        Two distances, and their natural log-likelihood ratios.

    Example:
        >>> seen = accepted(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 3.0]))
        >>> distance, llr = logistic(seen, people=2)
        >>> distance.tolist(), llr.round(decimals=3).tolist()
        ([1.0, 3.0], [3.343, -3.343])

    Source:
        Brümmer et al.: Fusion of Heterogeneous Speaker Recognition Systems in the STBU Submission
        for the NIST SRE 2006, IEEE TASLP 15(7), 2007, sec. II, with a normal prior on the slope.
    """
    distance, genuine, impostor = _weighed(seen)
    both = (genuine + impostor) / 2
    mean = (both * distance).sum()
    spread = (both * (distance - mean).square()).sum().sqrt()
    ends = distance[[0, -1]]
    if not spread > 0:
        return ends[:1], torch.zeros_like(ends[:1])
    features = torch.stack([torch.ones_like(distance), (mean - distance) / spread])
    penalty = spread.new_tensor([0, 1 / (people * SLOPE**2)])

    def cost(line: Tensor) -> Tensor:
        llr = line @ features
        lost = genuine * F.softplus(-llr) + impostor * F.softplus(llr)
        return (lost.sum() + (penalty * line.square()).sum()) / 2

    line = torch.zeros_like(penalty)
    for _ in range(100):
        probability = (line @ features).sigmoid()
        missed = impostor * probability - genuine * (1 - probability)
        gradient = features @ missed / 2 + penalty * line
        bend = both * probability * (1 - probability)
        step = torch.linalg.solve((features * bend) @ features.mT + penalty.diag(), gradient)
        # Newton's step may go too far where nearly all pairs are told right.
        while cost(line - step) > cost(line) and step.abs().max() > 1e-12:
            step = step / 2
        line = line - step
        if step.abs().max() < 1e-10:
            break
    if line[1] <= 0:
        return ends[:1], torch.zeros_like(ends[:1])
    return ends, line @ features[:, [0, -1]]


def monotone(seen: Accepted, people: int) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """Whatever never rises and fits best: pools of distances, joined by straight lines.

    It needs many people to be better than a straight line, and follows the distances where the
    straight line cannot. So that no ratio is infinite, one pair of each kind more is thought at
    the nearest and at the farthest distance seen: one out of as many as the geometric mean of the
    people and the pairs of the rarer kind, as pairs of one person are little news of each other.

    Args:
        seen: pairs accepted at each threshold, without leading axes.
        people: how many people they are of.

    Returns:
        The middle of each pool, and its natural log-likelihood ratio.

    Example:
        >>> seen = accepted(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 3.0]))
        >>> distance, llr = monotone(seen, people=2)
        >>> distance.tolist(), llr.round(decimals=3).tolist()
        ([1.0, 2.0, 3.0], [0.693, 0.0, -0.693])

    Source:
        Zadrozny, Elkan: Transforming Classifier Scores into Accurate Multiclass Probability
        Estimates, KDD 2002; Brümmer, du Preez 2006, sec. 5, for the pairs at both ends.
    """
    distance, genuine, impostor = _weighed(seen)
    ends = torch.zeros_like(distance)
    ends[0] = 1
    ends[-1] += 1
    thought = ends / math.sqrt(min(seen.pairs) * people)
    grown = [F.pad((share + thought).cumsum(dim=0), (1, 0)) for share in (genuine, impostor)]
    found = pools(Accepted(F.pad(distance, (1, 0), value=-torch.inf), *grown))
    return found.nearest + (found.farthest - found.nearest) / 2, found.llr()


@final
@dataclass(frozen=True)
class Calibration:
    """From how far apart two pictures are to how likely they show one person.

    The log-likelihood ratio runs straight between some distances, and beyond the nearest and the
    farthest it stays as it is there: of what was never seen no more is claimed. Like a
    threshold it is fitted on some people and used, and reported, on others, and remembers whom
    it has seen, as hashes of their names.

    Args:
        distances: ascending.
        llrs: natural log-likelihood ratio at each of them, never rising.
        name: what it is called.
        people: SHA-256 of the name of each identity that it was fitted on.
        genuine: how many genuine pairs it was fitted on.
        impostor: how many impostor pairs.

    Raises:
        ValueError: these are not as many finite distances as ratios, ascending and falling.

    Example:
        >>> calibration = Calibration((0.0, 2.0), (3.0, -3.0))
        >>> calibration.llr(0.5), calibration.llr(9.0)
        (1.5, -3.0)
        >>> calibration.probability(1.0), round(calibration.probability(1.0, prior=0.001), 4)
        (0.5, 0.001)
    """

    distances: tuple[float, ...]
    llrs: tuple[float, ...]
    name: str = "by hand"
    people: tuple[str, ...] = ()
    genuine: int = 0
    impostor: int = 0

    def __post_init__(self) -> None:
        near, ratio = self.distances, self.llrs
        if (
            not 0 < len(near) == len(ratio)
            or not all(map(math.isfinite, (*near, *ratio)))
            or any(a >= b for a, b in pairwise(near))
            or any(a < b for a, b in pairwise(ratio))
        ):
            msg = (
                f"a calibration takes finite, ascending distances to as many ratios that never "
                f"rise, got {len(near)} distances and {len(ratio)} ratios: {near[:4]}, "
                f"{ratio[:4]}; see Calibration.fit"
            )
            raise ValueError(msg)

    @classmethod
    def fit(cls, embeddings: Embeddings, *, curve: Curve = logistic) -> Self:
        """Fit it on all pairs of these pictures.

        Args:
            embeddings: of people on whom nothing will be reported, nor the net was trained.
            curve: ``logistic``, or ``monotone``, or a function of the accepted pairs and the
                number of people that returns distances and their ratios.

        Raises:
            ValueError: there is no genuine or no impostor pair, or some of the people are in the
                cohort of a normalised distance.

        Example:
            >>> embeddings = Embeddings(
            ...     torch.tensor([[0.0], [1.0], [5.0], [7.0]]),
            ...     torch.tensor([0, 0, 1, 1]),
            ...     ("anna", "bob"),
            ...     ("1.png", "2.png", "3.png", "4.png"),
            ... )
            >>> calibration = Calibration.fit(embeddings)
            >>> print(calibration)
            logistic, fitted on 2 people (2 genuine, 4 impostor pairs)
            >>> calibration.probability(1.0) > 0.9 > 0.1 > calibration.probability(7.0)
            True
        """
        if not isinstance(embeddings, Embeddings):
            msg = (
                f"a calibration is fitted on Embeddings, such as sl.embed(net, images), got "
                f"{type(embeddings).__name__}; for distances there is Calibration.from_distances"
            )
            raise TypeError(msg)
        require_strangers(embeddings.distance, embeddings.people)
        found = compare(embeddings)
        return cls.from_distances(
            found.genuine, found.impostor, people=embeddings.people, curve=curve
        )

    @classmethod
    def from_distances(
        cls,
        genuine: Float[Tensor, " m"],
        impostor: Float[Tensor, " n"],
        *,
        people: Iterable[str] = (),
        curve: Curve = logistic,
    ) -> Self:
        """Fit it on distances that are there already.

        Args:
            genuine: distances of pairs of one person.
            impostor: distances of pairs of two persons.
            people: whose they are. Without names every pair counts as if of people of its own,
                and the fit claims more than few people can support.
            curve: see ``fit``.

        Raises:
            ValueError: there is no genuine or no impostor pair, or a distance is not finite.

        Example:
            >>> near, far = torch.tensor([0.1, 0.2, 0.4]), torch.tensor([0.3, 0.6, 0.7])
            >>> Calibration.from_distances(near, far, people=["anna", "bob"]).llr(0.15) > 0
            True
        """
        for kind, values in (("genuine", genuine), ("impostor", impostor)):
            if len(values) == 0 or not bool(values.isfinite().all()):
                msg = (
                    f"a calibration needs finite distances of both kinds of pairs, got "
                    f"{int(values.isfinite().sum()):,} of {len(values):,} {kind} pairs; take "
                    f"at least two people, one of them with two pictures"
                )
                raise ValueError(msg)
        return cls.of(accepted(genuine.double(), impostor.double()), people=people, curve=curve)

    @classmethod
    def of(cls, seen: Accepted, *, people: Iterable[str] = (), curve: Curve = logistic) -> Self:
        """Fit it on how many pairs are accepted at each threshold, such as those of a histogram.

        Args:
            seen: pairs accepted at each threshold, without leading axes.
            people: whose they are; see ``from_distances``.
            curve: see ``fit``.

        Example:
            >>> seen = accepted(torch.tensor([0.1, 0.2, 0.4]), torch.tensor([0.3, 0.6, 0.7]))
            >>> Calibration.of(seen).llr(0.9) < 0
            True
        """
        genuine, impostor = seen.pairs
        hashes = known(people)
        distance, llr = curve(seen, len(hashes) or min(genuine, impostor))
        return cls(
            tuple(distance.tolist()),
            tuple(llr.tolist()),
            name=getattr(curve, "__name__", type(curve).__name__),
            people=hashes,
            genuine=genuine,
            impostor=impostor,
        )

    def __str__(self) -> str:
        pairs = f"({self.genuine:,} genuine, {self.impostor:,} impostor pairs)"
        return f"{self.name}, fitted on {len(self.people)} people {pairs}"

    @overload
    def llr(self, distance: float) -> float: ...
    @overload
    def llr(self, distance: Tensor) -> Tensor: ...
    def llr(self, distance: float | Tensor) -> float | Tensor:
        """Natural log-likelihood ratio of one person against two; elementwise for a tensor.

        Example:
            >>> Calibration((0.0, 2.0), (3.0, -3.0)).llr(torch.tensor([0.0, 1.0]))
            tensor([3., 0.], dtype=torch.float64)
        """
        if not isinstance(distance, Tensor):
            return float(self.llr(torch.tensor(distance, dtype=torch.float64)))
        knots, llrs = (distance.new_tensor(v, dtype=torch.float64) for v in self._ends())
        after = torch.searchsorted(knots, distance.double().contiguous()).clamp(1, len(knots) - 1)
        near, far = llrs[after - 1], llrs[after]
        share = (distance - knots[after - 1]) / (knots[after] - knots[after - 1])
        # Rounded, a piece may end a digit below where the next one begins, which would be a rise.
        return (near - share.clamp(0, 1) * (near - far)).maximum(far)

    def _ends(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        if len(self.distances) > 1:
            return self.distances, self.llrs
        # A single distance says the same of all: two of them do, too.
        only = self.distances[0]
        return (only, only + 1 + abs(only)), self.llrs * 2

    @overload
    def probability(self, distance: float, prior: float = 0.5) -> float: ...
    @overload
    def probability(self, distance: Tensor, prior: float = 0.5) -> Tensor: ...
    def probability(self, distance: float | Tensor, prior: float = 0.5) -> float | Tensor:
        """How likely two pictures so far apart show one person; elementwise for a tensor.

        Args:
            distance: between the two pictures.
            prior: how likely it was before the pictures were seen, above 0 and below 1.

        Raises:
            ValueError: the prior is 0, 1 or no probability.

        Example:
            >>> calibration = Calibration((0.0, 2.0), (3.0, -3.0))
            >>> round(calibration.probability(0.0), 3), round(calibration.probability(0.0, 0.01), 3)
            (0.953, 0.169)
        """
        if isinstance(distance, Tensor):
            return posterior(self.llr(distance), prior)
        return float(posterior(torch.tensor(self.llr(distance), dtype=torch.float64), prior))

    def cllr(self, seen: Accepted) -> Float[Tensor, "*b"]:
        """What its ratios cost on these pairs, in bits: 0 is perfect, 1 says nothing.

        Args:
            seen: pairs of other people accepted at each threshold; leading axes, such as people
                drawn anew for an interval, are as many separate costs.

        Example:
            >>> calibration = Calibration((0.0, 2.0), (3.0, -3.0))
            >>> seen = accepted(torch.tensor([0.1, 0.4]), torch.tensor([1.0, 2.0, 3.0]))
            >>> round(calibration.cllr(seen).item(), 3)
            0.269
        """
        return cost(seen, self.llr(seen.threshold))

    def seen(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of these identities that it was fitted on.

        Example:
            >>> near, far = torch.tensor([0.1]), torch.tensor([0.6])
            >>> fitted = Calibration.from_distances(near, far, people=["anna", "bob"])
            >>> fitted.seen(["bob", "carl"])
            ('bob',)
        """
        return known_by(self.people, names)

    def to_dict(self) -> dict[str, Any]:
        """It as plain numbers, lists and dictionaries, ready for JSON."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}
        return {"format": FORMAT, **values}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The calibration that ``to_dict`` described.

        Raises:
            ValueError: something is missing, or of a newer format.
        """
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        if (written := values.pop("format", None)) != FORMAT:
            msg = f"a calibration must be of format {FORMAT}, got {written}; update siamlearn"
            raise ValueError(msg)
        try:
            return cls(**values)
        except TypeError as error:
            msg = f"this describes no whole calibration: {error}"
            raise ValueError(msg) from error


def _weighed(seen: Accepted) -> tuple[Tensor, Tensor, Tensor]:
    """The distances seen, and the share of the pairs of each kind that lies at each."""
    shares = [k.double().diff() / k[-1] for k in (seen.genuine, seen.impostor)]
    filled = (shares[0] + shares[1]) > 0
    return seen.threshold[1:].double()[filled], shares[0][filled], shares[1][filled]

"""Operating points: a threshold with a name, and the rates it was seen to give."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any, Self, final, overload

import torch
from torch import Tensor

from siamlearn.comparison import compare
from siamlearn.embeddings import Embeddings
from siamlearn.functional import distances
from siamlearn.functional.pairs import Distance
from siamlearn.functional.verification import threshold_at_fmr

__all__ = ["OperatingPoint"]

FORMAT = 1
GROUPS = 10  # of people, for leaving some out


@final
@dataclass(frozen=True)
class OperatingPoint:
    """A threshold on the distance: at or below it two pictures pass as one person.

    It is chosen on some people and used, and reported, on others: ``evaluate`` refuses to
    report at a point that has seen any of the people. That is why it remembers whom it has
    seen, as hashes of their names.

    Args:
        name: what it is called in reports.
        threshold: the largest distance that is accepted.
        fmr: the false match rate that was asked for.
        seen_fmr: the false match rate on the pairs that it was chosen on.
        seen_fnmr: the false non-match rate on those pairs; None where none was genuine.
        people: SHA-256 of the name of each identity that it was chosen on.
        pictures: how many pictures it was chosen on.
        genuine: how many genuine pairs.
        impostor: how many impostor pairs.
        distance: how far apart two embeddings are.

    Example:
        >>> point = OperatingPoint("by hand", 0.5, 0.01, 0.01, None, (), 0, 0, 0)
        >>> point.accepts(0.5), point.accepts(0.6)
        (True, False)
    """

    name: str
    threshold: float
    fmr: float
    seen_fmr: float
    seen_fnmr: float | None
    people: tuple[str, ...]
    pictures: int
    genuine: int
    impostor: int
    distance: Distance = distances.euclidean

    @classmethod
    def fit(
        cls,
        embeddings: Embeddings,
        *,
        fmr: float = 1e-2,
        name: str | None = None,
        cross_validated: bool = True,
    ) -> Self:
        """Choose the largest threshold at which at most a share ``fmr`` of strangers will pass.

        The threshold that just keeps the rate on few people lets too many others pass: one pair
        of people who look alike is missing among them, or decides alone. So it is made smaller
        by a factor that is learned by leaving people out: all people, in ten groups if there are
        more, are left out two at a time, a threshold is chosen without them, and the factor is
        the largest with which those who were left out pass at the asked rate.

        Args:
            embeddings: of people on whom nothing will be reported, all compared with each other.
            fmr: the false match rate that is accepted, above 0 and below 1.
            name: what to call the point; "FMR 1 %" and the like if left out.
            cross_validated: False takes the threshold that keeps the rate on these very people.
                With three people or fewer there is no other.

        Raises:
            ValueError: the impostor pairs are too few for such a low rate.

        Example:
            >>> import torch
            >>> line = Embeddings(
            ...     torch.tensor([[0.0], [1.0], [5.0], [7.0]]),
            ...     torch.tensor([0, 0, 1, 1]),
            ...     ("anna", "bob"),
            ...     ("1.png", "2.png", "3.png", "4.png"),
            ... )
            >>> point = OperatingPoint.fit(line, fmr=0.75)  # impostors at 4, 5, 6 and 7
            >>> point.threshold, point.seen_fmr, point.accepts(2.0)
            (6.5, 0.75, True)
        """
        if not isinstance(embeddings, Embeddings):
            msg = (
                "a threshold is chosen on Embeddings, such as sl.embed(net, images), got "
                f"{type(embeddings).__name__}"
            )
            raise TypeError(msg)
        if not 0 < fmr < 1:
            msg = f"fmr must be above 0 and below 1, got {fmr}; 0.01 accepts 1 impostor in 100"
            raise ValueError(msg)
        found = compare(embeddings)
        if len(found.impostor) == 0:
            msg = (
                f"a threshold is chosen on pictures of at least two people, got "
                f"{len(embeddings.people)}; hold out more identities"
            )
            raise ValueError(msg)
        # In float64 there is always room between two distances for a threshold.
        threshold = float(threshold_at_fmr(found.impostor.double(), fmr))
        if cross_validated and threshold > 0:
            threshold *= left_out_factor(embeddings, fmr)
        return cls(
            name=f"FMR {100 * fmr:.3g} %" if name is None else name,
            threshold=threshold,
            fmr=fmr,
            seen_fmr=share(found.impostor.double() <= threshold),
            seen_fnmr=share(found.genuine.double() > threshold) if len(found.genuine) else None,
            people=tuple(sorted(hashed(name) for name in embeddings.people)),
            pictures=len(embeddings),
            genuine=len(found.genuine),
            impostor=len(found.impostor),
            distance=embeddings.distance,
        )

    def __str__(self) -> str:
        return f"{self.name}, chosen on {len(self.people)} people"

    @overload
    def accepts(self, distance: float) -> bool: ...
    @overload
    def accepts(self, distance: Tensor) -> Tensor: ...
    def accepts(self, distance: float | Tensor) -> bool | Tensor:
        """Whether two pictures so far apart pass as one person; elementwise for a tensor."""
        # In float64 on both sides: the same pair must not pass here and fail there.
        return (distance.double() if isinstance(distance, Tensor) else distance) <= self.threshold

    def seen(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of these identities that the threshold was chosen on.

        Example:
            >>> import torch
            >>> line = Embeddings(
            ...     torch.tensor([[0.0], [1.0], [5.0], [7.0]]),
            ...     torch.tensor([0, 0, 1, 1]),
            ...     ("anna", "bob"),
            ...     ("1.png", "2.png", "3.png", "4.png"),
            ... )
            >>> OperatingPoint.fit(line, fmr=0.75).seen(["bob", "carl"])
            ('bob',)
        """
        people = frozenset(self.people)
        return tuple(name for name in names if hashed(name) in people)

    def to_dict(self) -> dict[str, Any]:
        """This point as plain numbers, lists and dictionaries, ready for JSON."""
        values = {k: v for k, v in vars(self).items() if k != "distance"}
        name = getattr(self.distance, "__name__", type(self.distance).__name__)
        return {"format": FORMAT, **values, "people": list(self.people), "distance": name}

    @classmethod
    def from_dict(cls, values: dict[str, Any], *, distance: Distance | None = None) -> Self:
        """The point that ``to_dict`` described.

        Args:
            values: what ``to_dict`` gave.
            distance: needed only where it is not one of ``siamlearn.functional.distances``.

        Raises:
            ValueError: something is missing, of a newer format, or the distance is not known.
        """
        values = dict(values)
        if (written := values.pop("format", None)) != FORMAT:
            msg = f"an operating point must be of format {FORMAT}, got {written}; update siamlearn"
            raise ValueError(msg)
        name = values.pop("distance", None)
        if distance is None and name in distances.__all__:
            distance = getattr(distances, name)
        if distance is None:
            msg = (
                f"the distance must be one of {', '.join(distances.__all__)}, got {name!r}; "
                f"pass the function itself as distance="
            )
            raise ValueError(msg)
        try:
            point = cls(**{**values, "people": tuple(values["people"]), "distance": distance})
        except (KeyError, TypeError) as error:
            msg = f"this describes no whole operating point: {error}"
            raise ValueError(msg) from error
        return point

    def save(self, path: str | Path) -> Path:
        """Write the point to a JSON file."""
        path = Path(path)
        path.write_text(json.dumps(self.to_dict(), indent=1) + "\n")
        return path

    @classmethod
    def load(cls, path: str | Path, *, distance: Distance | None = None) -> Self:
        """Read the point that ``save`` wrote.

        Raises:
            ValueError: the file holds no whole operating point.
        """
        try:
            values = json.loads(Path(path).read_text())
        except ValueError as error:
            msg = f"{path} must be a JSON file with an operating point: {error}"
            raise ValueError(msg) from error
        return cls.from_dict(values, distance=distance)


def left_out_factor(embeddings: Embeddings, fmr: float) -> float:
    """By which factor a threshold has to shrink for people it was not chosen on; at most 1."""
    groups = min(GROUPS, len(embeddings.people))
    turn = {name: number % groups for number, name in enumerate(embeddings.people)}
    of_group = torch.tensor([turn.get(name, 0) for name in embeddings.identities])
    parts = [
        embeddings.subset((of_group[embeddings.labels] == number).nonzero()[:, 0].tolist())
        for number in range(groups)
    ]
    impostor = {
        (one, other): compare(parts[one], None if one == other else parts[other]).impostor.double()
        for one, other in combinations_with_replacement(range(groups), 2)
    }
    relative = []
    for pair, left_out in impostor.items():
        others = [found for who, found in impostor.items() if not {*who} & {*pair}]
        rest = torch.cat([*others, left_out[:0]])
        if len(rest):
            # Constant scores have no threshold, and then there is nothing to shrink.
            relative.append(left_out / lowest(rest, fmr).clamp(min=torch.finfo(rest.dtype).tiny))
    factors = torch.cat([*relative, torch.ones(0)])
    return min(1.0, float(lowest(factors, fmr))) if len(factors) else 1.0


def lowest(values: Tensor, share: float) -> Tensor:
    """A threshold at or below which at most this share of the values lies; between two of them."""
    ordered = values.sort().values
    following = ordered[min(int(share * len(values) + 1e-9), len(values) - 1)]
    # Values that are equal are accepted together, or not at all.
    last = int(torch.searchsorted(ordered, following))
    return following * (1 - 1e-6) if last == 0 else (ordered[last - 1] + following) / 2


def hashed(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def share(chosen: Tensor) -> float:
    return chosen.double().mean().item()

"""An operating point: what it knows, how it is chosen, saved and read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, final, overload

from torch import Tensor

from siamlearn.calibration import Calibration
from siamlearn.comparison import Protocol
from siamlearn.embeddings import Embeddings, require_own_names
from siamlearn.estimates import Estimate
from siamlearn.functional import distances
from siamlearn.functional.accepted import accepted
from siamlearn.functional.pairs import Distance
from siamlearn.known import known, known_by
from siamlearn.normalisation import require_strangers
from siamlearn.operating.aims import Aim, aim
from siamlearn.operating.evidence import Counts, among, thinned
from siamlearn.operating.left_out import PairsOfPeople, chosen_without, pairs_of, rates
from siamlearn.operating.resemblance import Resemblance
from siamlearn.wording import several, some

__all__ = ["OperatingPoint"]

FORMAT = 2  # 1 had neither intervals nor predictions, and is read as well


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
        fmr: the false match rate that was asked for; None where something else was.
        seen_fmr: the false match rate on the pairs that it was chosen on, with its interval.
        seen_fnmr: the false non-match rate on those pairs; None where none was genuine.
        people: SHA-256 of the name of each identity that it was chosen on.
        pictures: how many pictures it was chosen on.
        genuine: how many genuine pairs.
        impostor: how many impostor pairs.
        distance: how far apart two embeddings are.
        expected_fmr: the false match rate to expect of other people, with the interval in which
            it lies: that of people who were left out in turn. None where nobody could be.
        expected_fnmr: the same of the false non-match rate.
        digest: SHA-256 of exactly which pictures of whom it was chosen on.
        calibration: what probability of one person a distance stands for.
        resemblance: how often a picture passes as another person; see ``predicted``.
        seen_pairs: some distances, each with how many genuine and how many impostor pairs it was
            chosen on lie at or below it.

    Example:
        >>> point = OperatingPoint("by hand", 0.5, 0.01, 0.01, None, (), 0, 0, 0)
        >>> point.accepts(0.5), point.accepts(0.6)
        (True, False)
    """

    name: str
    threshold: float
    fmr: float | None
    seen_fmr: float
    seen_fnmr: float | None
    people: tuple[str, ...]
    pictures: int
    genuine: int
    impostor: int
    distance: Distance = distances.euclidean
    expected_fmr: Estimate | None = None
    expected_fnmr: Estimate | None = None
    digest: str = ""
    calibration: Calibration | None = None
    resemblance: Resemblance | None = None
    seen_pairs: Counts = ()

    @classmethod
    def fit(
        cls,
        embeddings: Embeddings,
        *,
        fmr: float | None = None,
        fpir: float | None = None,
        gallery: int | None = None,
        precision: float | None = None,
        f_beta: float | None = None,
        prior: float | None = None,
        eer: bool = False,
        balanced: bool = False,
        name: str | None = None,
        cross_validated: bool = True,
    ) -> Self:
        """Choose the largest threshold at which at most a share ``fmr`` of strangers will pass.

        Or choose it for another aim; an FMR of 0.01 is asked for if none is named.

        A threshold that just keeps a rate on few people lets too many others pass. So people are
        left out in turn, and it is made stricter until those who were left out pass at the asked
        rate: see :func:`~siamlearn.operating.left_out.chosen_without`. On average over the people
        that it might have been chosen on, the rate of others then is what was asked;
        ``expected_fmr`` says how far from it these very people may be.

        Args:
            embeddings: of people on whom nothing will be reported, nor the net was trained; all
                are compared with each other.
            fmr: the false match rate that is accepted.
            fpir: the share of strangers that may be taken for one of the people in a gallery.
            gallery: how many people that gallery holds, with about as many pictures each as here.
            precision: the least share of genuine pairs among those accepted.
            f_beta: make the harmonic mean of precision and recall the largest, recall this many
                times as important.
            prior: for these two: the share of genuine pairs where the point is used; 0.5 if left
                out. At a door where one in a thousand is who they say it is 0.001.
            eer: take the threshold at which FMR and FNMR are equal.
            balanced: take the threshold at which their mean is the smallest.
            name: what to call the point; "FMR 1 %" and the like if left out.
            cross_validated: False takes the threshold that keeps the rate on these very people.
                With three people or fewer there is no other.

        Raises:
            ValueError: the pairs are too few for such an aim, the precision cannot be kept for
                people who are left out, the net was trained on some of the people, some are in the
                cohort of a normalised distance, or more than one aim is named.

        Example:
            >>> import torch
            >>> line = Embeddings(
            ...     torch.tensor([[0.0], [1.0], [5.0], [7.0]]),
            ...     torch.tensor([0, 0, 1, 1]),
            ...     ("anna", "bob"),
            ...     ("1.png", "2.png", "3.png", "4.png"),
            ... )
            >>> point = OperatingPoint.fit(line, fmr=0.75)  # impostors at 4, 5, 6 and 7
            >>> point.threshold, float(point.seen_fmr), point.accepts(2.0)
            (6.5, 0.75, True)
        """
        wanted = aim(
            fmr=fmr,
            fpir=fpir,
            gallery=gallery,
            precision=precision,
            f_beta=f_beta,
            prior=prior,
            eer=eer,
            balanced=balanced,
        )
        require_name(name)
        require_people(embeddings)
        pairs = pairs_of(embeddings)
        require_pairs(pairs, wanted, embeddings)
        compared = pairs.with_people() if wanted.people else pairs
        wanted.check(accepted(compared.genuine, compared.impostor))
        rule = chosen_without(compared, wanted, stricter=cross_validated)
        found = len(pairs.genuine) > 0
        return cls(
            name=wanted.name if name is None else name,
            threshold=rule.threshold,
            fmr=wanted.fmr,
            people=known(embeddings.people),
            pictures=len(embeddings),
            genuine=len(pairs.genuine),
            impostor=len(pairs.impostor),
            distance=embeddings.distance,
            digest=Protocol.of(embeddings).digest,
            calibration=Calibration.from_distances(
                pairs.genuine, pairs.impostor, people=embeddings.people
            )
            if found
            else None,
            seen_pairs=thinned(accepted(pairs.genuine, pairs.impostor)),
            **rates(pairs, rule),
        )

    def __str__(self) -> str:
        return f"{self.name}, chosen on {several(len(self.people), 'person', 'people')}"

    @overload
    def accepts(self, distance: float) -> bool: ...
    @overload
    def accepts(self, distance: Tensor) -> Tensor: ...
    def accepts(self, distance: float | Tensor) -> bool | Tensor:
        """Whether two pictures so far apart pass as one person; elementwise for a tensor."""
        # In float64 on both sides: the same pair must not pass here and fail there.
        # So a number of numpy's becomes one of Python's, which is not rounded to its type.
        number = distance.double() if isinstance(distance, Tensor) else float(distance)
        return number <= self.threshold

    def predicted(self, *, gallery: int) -> Estimate:
        """The FPIR to expect: how many strangers are taken for one of so many people.

        With about as many pictures of each as the people had whom the point was chosen on. What
        is assumed, and how well it was borne out: ``docs/howto/threshold.md``.

        Raises:
            ValueError: the point was chosen on too few people for such a gallery.

        Example:
            >>> from siamlearn.data.drawn import DrawnFaces
            >>> from siamlearn.baselines import pixels
            >>> point = OperatingPoint.fit(pixels(DrawnFaces(12, 4, size=(28, 23))))
            >>> 0 < point.predicted(gallery=10) < point.predicted(gallery=100) < 1
            True
        """
        if self.resemblance is None:
            msg = (
                f"an FPIR is predicted from people who were left out, but {self.name!r} was chosen "
                f"on {len(self.people)} people, too few for that, or by an older siamlearn; fit "
                f"it on four or more"
            )
            raise ValueError(msg)
        return self.resemblance.fpir(gallery)

    def probability(self, distance: float, *, prior: float = 0.5) -> float | None:
        """How likely two pictures so far apart show one person; None where it is not known.

        Args:
            distance: between the two pictures.
            prior: how likely it was before the pictures were seen, above 0 and below 1.
        """
        if self.calibration is None:
            return None
        return self.calibration.probability(distance, prior)

    def why(self, distance: float, *, prior: float = 0.5) -> str:
        """What a distance means, in a sentence: among which pairs it lies, and how likely it is.

        Empty where the point was not fitted, or by a siamlearn that did not keep the pairs.

        Example:
            >>> counts = (0.2, 1, 0), (0.5, 3, 1), (0.9, 4, 50)
            >>> OperatingPoint(
            ...     "by hand", 0.5, 0.01, 0.02, 0.25, ("0", "1"), 8, 4, 50, seen_pairs=counts
            ... ).why(0.2)
            'distance 0.2 is nearer than all of 50 impostor pairs and farther than 25 % of 4 ...'
        """
        if not self.seen_pairs:
            return ""
        text = among(distance, self.seen_pairs, people=len(self.people))
        probability = self.probability(distance, prior=prior)
        if probability is None:
            return text
        odds = "at even odds" if prior == 0.5 else f"at a prior of {prior:g}"
        return f"{text}; P(same) = {probability:.3g} {odds}"

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
        return known_by(self.people, names)

    def to_dict(self) -> dict[str, Any]:
        """This point as plain numbers, lists and dictionaries, ready for JSON."""
        values = {k: plain(v) for k, v in vars(self).items() if k != "distance"}
        name = getattr(self.distance, "__name__", type(self.distance).__name__)
        return {"format": FORMAT, **values, "distance": name}

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
        if (written := values.pop("format", None)) not in range(1, FORMAT + 1):
            msg = (
                f"an operating point must be of format 1 to {FORMAT}, got {written}; "
                f"update siamlearn"
            )
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
            point = cls(**{**read(values), "people": tuple(values["people"]), "distance": distance})
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


def require_name(name: object) -> None:
    if name is not None and (not isinstance(name, str) or not name.strip()):
        msg = (
            f"a point is told from others by its name, which is a text with a letter or more, got "
            f"{name!r}; leave name= out to have it named after its aim"
        )
        raise ValueError(msg)


def require_people(embeddings: object) -> None:
    if not isinstance(embeddings, Embeddings):
        msg = (
            "a threshold is chosen on Embeddings, such as sl.embed(net, images), got "
            f"{type(embeddings).__name__}"
        )
        raise TypeError(msg)
    if len(embeddings.people) < 2:
        msg = (
            f"a threshold is chosen on pictures of at least two people, got "
            f"{len(embeddings.people)}; hold out more identities"
        )
        raise ValueError(msg)
    require_own_names("pictures to choose on", embeddings)
    trained = known_by(embeddings.trained_on, embeddings.people)
    if trained:
        msg = (
            f"a threshold must be chosen on people whom the net was not trained on, as distances "
            f"between those are too good, but {len(trained)} of these {len(embeddings.people)} "
            f"({some(trained)}) it was; hold out some with images.split_identities() and train on "
            f"the rest"
        )
        raise ValueError(msg)
    require_strangers(embeddings.distance, embeddings.people)


def require_pairs(pairs: PairsOfPeople, wanted: Aim, embeddings: Embeddings) -> None:
    if wanted.genuine and not len(pairs.genuine):
        msg = (
            f"{wanted.name} is chosen on genuine pairs, too, but none of {embeddings} shows one "
            f"person with another; add pictures, or choose for fmr="
        )
        raise ValueError(msg)


def plain(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, tuple):
        return [plain(part) for part in value]
    return value


def read(values: dict[str, Any]) -> dict[str, Any]:
    """What ``plain`` made of a point's fields, made back into them."""
    made: dict[str, Callable[[dict[str, Any]], Any]] = {
        "calibration": Calibration.from_dict,
        "resemblance": Resemblance.from_dict,
    }
    for rate in ("seen_fmr", "seen_fnmr", "expected_fmr", "expected_fnmr"):
        made[rate] = Estimate.from_dict
    found = dict(values)
    for name, make in made.items():
        if isinstance(found.get(name), dict):
            found[name] = make(found[name])
    found["seen_pairs"] = tuple(tuple(row) for row in found.get("seen_pairs", ()))
    return found

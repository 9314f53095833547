"""What came out when embeddings were compared, as a value: every number with its interval."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from siamlearn.auditing import Audit
from siamlearn.comparison import Protocol
from siamlearn.embeddings import Embeddings
from siamlearn.estimates import Estimate
from siamlearn.evaluation.frames import frame
from siamlearn.evaluation.tables import ERRORS, notes, subject, table, verdict
from siamlearn.functional.accepted import Accepted
from siamlearn.functional.histogram import Bounds
from siamlearn.functional.resampling import Cells
from siamlearn.operating import OperatingPoint
from siamlearn.search import Found

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["AtPoint", "Difference", "Report", "require_reports"]

FORMAT = 1


@final
@dataclass(frozen=True, eq=False)
class AtPoint:
    """How often these people were told wrongly at an operating point fitted on others.

    Args:
        point: the threshold, and what it was chosen for.
        fmr: share of the impostor pairs that it accepts.
        fnmr: share of the genuine pairs that it rejects.
        cllr: what the likelihood ratios of its calibration cost here, in bits: 0 is perfect, 1
            says nothing; None where it has no calibration.
        least_cllr: the least that any monotone function of the distance would cost here; the
            rest is the fault of the calibration.

    Example:
        >>> point = OperatingPoint("by hand", 0.5, 0.01, 0.01, None, (), 0, 0, 0)
        >>> print(AtPoint(point, Estimate(0.02, 0.0, 0.05), Estimate(0.1, 0.0, 0.2)))
        by hand: threshold 0.5, FMR 2.00 % [0.00, 5.00], FNMR 10.00 % [0.00, 20.00]
    """

    point: OperatingPoint
    fmr: Estimate
    fnmr: Estimate
    cllr: Estimate | None = None
    least_cllr: float | None = None

    def __str__(self) -> str:
        return f"{self.rates}, {self.cost}" if self.cost else self.rates

    @property
    def rates(self) -> str:
        """Its threshold and its error rates, in words."""
        rates = f"FMR {self.fmr.percent()}, FNMR {self.fnmr.percent()}"
        return f"{self.point.name}: threshold {self.point.threshold:.4g}, {rates}"

    @property
    def cost(self) -> str:
        """What its calibration costs, in words; empty where it has none."""
        if self.cllr is None:
            return ""
        return f"Cllr {self.cllr} bits (at best {self.least_cllr:.4g})"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and dictionaries, ready for JSON."""
        rates = {"fmr": self.fmr.to_dict(), "fnmr": self.fnmr.to_dict()}
        cost = None if self.cllr is None else self.cllr.to_dict()
        return {
            "point": self.point.to_dict(),
            **rates,
            "cllr": cost,
            "least_cllr": self.least_cllr,
        }


@final
@dataclass(frozen=True, eq=False)
class Difference:
    """By how much the value of one system is above that of another on the same people.

    Args:
        first: the system whose value comes first, be it the better one or not.
        second: the other.
        what: which number of the report is compared, such as "AUC".
        value: that of the first minus that of the other, with its paired interval.
        p: how often people drawn anew would give so large a difference if there were none.

    Example:
        >>> print(Difference("net", "pixels", "AUC", Estimate(0.035, 0.012, 0.061), 0.004))
        net - pixels: AUC +0.035 [+0.012, +0.061], p = 0.004
    """

    first: str
    second: str
    what: str
    value: Estimate
    p: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves no doubt about the sign."""
        return self.value.low > 0 or self.value.high < 0

    @property
    def says(self) -> str:
        """Which of the two is better, where that is clear: of errors less is better.

        Example:
            >>> Difference("net", "pixels", "EER", Estimate(0.03, 0.01, 0.06), 0.004).says
            'pixels is better'
        """
        if not self.clear:
            return "may be chance"
        first = (self.value > 0) is not self.what.startswith(ERRORS)
        return f"{self.first if first else self.second} is better"

    @property
    def shown(self) -> str:
        """The value with its interval and p."""
        ends = f"[{self.value.low:+.3g}, {self.value.high:+.3g}]"
        return f"{float(self.value):+.3g} {ends}, p = {self.p:.2g}"

    def __str__(self) -> str:
        return f"{self.first} - {self.second}: {self.what} {self.shown}"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and texts, ready for JSON."""
        # Files that were written before the two were renamed have these keys.
        names = {"better": self.first, "than": self.second, "what": self.what}
        return {**names, **self.value.to_dict(), "p": self.p}


@final
@dataclass(frozen=True, eq=False)
class Report:
    """What came out when embeddings were compared: verification, identification, baselines.

    Rates are shares from 0 to 1, each an :class:`~siamlearn.Estimate`, a number with its interval
    over *people*. ``str(report)`` is a table for people, ``to_dict`` and ``save`` are for programs,
    and :mod:`siamlearn.report` makes a page of it.

    Args:
        name: which system this is.
        protocol: what was compared with what, with a hash: two reports can be compared if they
            agree in it.
        people: identities that were compared, gallery included.
        pictures: pictures that were compared with each other, or the probes.
        gallery_pictures: pictures in the gallery; None where all were compared with all.
        genuine: pairs of pictures of one identity.
        impostor: pairs of pictures of two identities.
        resamples: how often people were drawn anew for the intervals.
        auc: chance that a genuine pair is closer than an impostor pair; a tie counts half.
        eer: the rate at which FMR and FNMR are equal.
        eer_threshold: the distance at which they are.
        fnmr_at: for each FMR the FNMR; None where the impostor pairs are too few to tell.
        partial_auc: for each FMR the area under the ROC curve up to it, from 0.5, a constant
            scorer's, to 1; None likewise.
        best_threshold: the distance that parts these very pairs best.
        balanced_accuracy: mean of the shares of genuine and of impostor pairs told right at
            ``best_threshold``, and so an upper bound for any threshold chosen elsewhere.
        accuracy: share of all pairs told right at ``best_threshold``.
        best_accuracy: the largest such share, at whatever threshold is best for it.
        best_accuracy_threshold: that threshold.
        average_precision: precision of the accepted pairs, averaged over recall.
        d_prime: standard deviations between the mean genuine and the mean impostor pair.
        rank1: share of the pictures whose nearest other picture is of the right identity.
        cmc: share of the pictures with a right one among the nearest 1, 2, 3 … pictures.
        map_at_r: mean average precision at R, R the number of right pictures of each.
        r_precision: share of right ones among the R nearest.
        precision_at: for some k the share of right ones among the k nearest.
        recall_at: for some k the share of the right ones that are among the k nearest.
        ndcg: normalised discounted cumulative gain: what is found later counts less.
        mean_average_precision: of the ranking of all pictures.
        reciprocal_rank: mean of 1 / rank of the first right picture.
        fnir_at: for each FPIR, how often somebody in the gallery is missed or taken for somebody
            else; None where the pictures are too few to tell.
        trained_on: people among them that the net says it was trained on: of these its numbers
            say nothing about new people.
        bounds: how far the numbers may be off for having been counted in bins, as so many pairs
            are that they cannot be kept; nothing, otherwise.
        without_answer: pictures left out of all that is asked of a ranking: no other picture
            shows that identity.
        points: the rates at operating points that were fitted on other people.
        baselines: reports of simpler systems on the same pictures.
        differences: this system against each baseline, on the same people drawn anew.
        audit: what was found that makes such numbers wrong; None where nobody looked.
        accepted: how many pairs are accepted at each threshold.
        cells: the same by people, from which the intervals are made.
        found: what each picture found among the others.
        embeddings: what was compared.
        gallery: and with what, where not with itself.

    Example:
        >>> import siamlearn as sl
        >>> report = sl.evaluate(sl.pixels(sl.DrawnFaces(6, 4, size=(28, 23))), baselines=False)
        >>> report.people, report.genuine, report.auc.low < report.auc < report.auc.high
        (6, 36, True)
    """

    name: str
    protocol: Protocol
    people: int
    pictures: int
    gallery_pictures: int | None
    genuine: int
    impostor: int
    resamples: int
    auc: Estimate
    eer: Estimate
    eer_threshold: float
    fnmr_at: dict[float, Estimate | None]
    partial_auc: dict[float, Estimate | None]
    best_threshold: float
    balanced_accuracy: Estimate
    accuracy: Estimate
    best_accuracy: float
    best_accuracy_threshold: float
    average_precision: Estimate
    d_prime: Estimate
    rank1: Estimate
    cmc: tuple[Estimate, ...]
    map_at_r: Estimate
    r_precision: Estimate
    precision_at: dict[int, Estimate]
    recall_at: dict[int, Estimate]
    ndcg: Estimate
    mean_average_precision: Estimate
    reciprocal_rank: Estimate
    fnir_at: dict[float, Estimate | None]
    without_answer: int
    trained_on: int
    bounds: Bounds
    accepted: Accepted = field(repr=False)
    cells: Cells = field(repr=False)
    found: Found = field(repr=False)
    embeddings: Embeddings = field(repr=False)
    gallery: Embeddings | None = field(repr=False, default=None)
    points: tuple[AtPoint, ...] = ()
    baselines: tuple[Report, ...] = ()
    differences: tuple[Difference, ...] = ()
    audit: Audit | None = None

    @property
    def point(self) -> OperatingPoint | None:
        """The first operating point that was reported at."""
        return self.points[0].point if self.points else None

    @property
    def fmr(self) -> Estimate | None:
        """The false match rate at the first operating point."""
        return self.points[0].fmr if self.points else None

    @property
    def fnmr(self) -> Estimate | None:
        """The false non-match rate at the first operating point."""
        return self.points[0].fnmr if self.points else None

    @property
    def dir_at(self) -> dict[float, Estimate | None]:
        """For each FPIR the detection and identification rate: what FNIR is short of one."""
        return {
            fpir: None
            if rate is None
            else Estimate(1 - rate, 1 - rate.high, 1 - rate.low, rate.level)
            for fpir, rate in self.fnir_at.items()
        }

    @property
    def beaten_by(self) -> tuple[Report, ...]:
        """The baselines whose AUC is at least as high, best first."""
        better = [baseline for baseline in self.baselines if baseline.auc >= self.auc]
        return tuple(sorted(better, key=lambda baseline: -baseline.auc))

    @property
    def verdict(self) -> str:
        """The result in a sentence; whoever does not beat a baseline is told so first."""
        return verdict(self)

    def __str__(self) -> str:
        return "\n".join([self.verdict, subject(self), "", *table(self), "", *notes(self)])

    def to_dict(self) -> dict[str, Any]:
        """All but curves and distances: plain numbers, lists and dictionaries, ready for JSON."""
        values = {f.name: plain(getattr(self, f.name)) for f in fields(self) if f.repr}
        return {"format": FORMAT, "verdict": self.verdict, **values}

    def to_frame(self) -> DataFrame:
        """A pandas table: a row for each system, a column for each number and interval end.

        Raises:
            ModuleNotFoundError: pandas is not installed; the message has the pip command.
        """
        return frame(self)

    def save(self, path: str | Path) -> Path:
        """Write ``to_dict`` to a JSON file."""
        path = Path(path)
        path.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n")
        return path


def require_reports(*given: object) -> None:
    """Refuse what did not come from ``evaluate``, in words.

    Example:
        >>> require_reports("report.html")
        Traceback (most recent call last):
        TypeError: a Report is needed first, as evaluate(…) returns it, got str: 'report.html'
    """
    for each in given:
        if not isinstance(each, Report):
            shown = f": {each!r}" if isinstance(each, (str, Path)) else ""
            msg = (
                f"a Report is needed first, as evaluate(…) returns it, got "
                f"{type(each).__name__}{shown}"
            )
            raise TypeError(msg)


def plain(value: Any) -> Any:
    """The same as what JSON knows."""
    match value:
        case Report() | AtPoint() | Difference() | Estimate() | Audit() | Protocol():
            return value.to_dict()
        case Bounds():
            return plain(vars(value))
        case dict():
            return {str(key): plain(entry) for key, entry in value.items()}
        case tuple():
            return [plain(entry) for entry in value]
    return value

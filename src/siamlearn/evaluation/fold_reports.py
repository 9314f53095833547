"""What came out on a published list of pairs, fold by fold, as a value.

Axes: k folds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final

from siamlearn.comparison import Protocol
from siamlearn.estimates import Estimate, shown
from siamlearn.evaluation.judgement import Standing
from siamlearn.evaluation.tables import aligned
from siamlearn.functional.accepted import Accepted

if TYPE_CHECKING:
    from siamlearn.evaluation.reports import Difference

__all__ = ["FoldReport", "require_fold_reports"]

FORMAT = 1
Place: TypeAlias = Literal["below", "unknown", "level", "above"]


@final
@dataclass(frozen=True, eq=False)
class FoldReport:
    """What came out on a list of pairs, fold by fold.

    Args:
        name: which system this is.
        protocol: name and hash of the list.
        genuine: pairs of pictures of one person.
        impostor: pairs of two.
        resamples: how often folds were drawn anew for the intervals.
        accuracy: mean over the folds of the share of pairs told right, at the threshold that the
            other folds chose.
        standard_error: of that mean: the deviation of the folds, divided by the root of their
            number.
        accuracies: of each fold.
        thresholds: of each fold, chosen on the others.
        auc: chance that a genuine pair is closer than an impostor pair; of all pairs.
        eer: the rate at which FMR and FNMR are equal; of all pairs.
        fnmr_at: for each FMR the FNMR; None where the impostor pairs are too few to tell.
        trained_on: people on these pictures that the net says it was trained on.
        notes: what to know before one quotes it.
        accepted: how many pairs are accepted at each threshold.
        by_fold: the same in each fold, from which the intervals are made.
        baselines: reports of simpler systems on the same pairs.
        differences: this system against each baseline, on the same folds drawn anew.

    Example:
        >>> import siamlearn as sl
        >>> from siamlearn.evaluation.folds import _example
        >>> embeddings, pairs = _example()
        >>> print(str(sl.evaluate_folds(embeddings, pairs)).splitlines()[0])
        net on drawn (149f65d8): accuracy 1.0000 ± 0.0000 over 2 folds
    """

    name: str
    protocol: Protocol
    genuine: int
    impostor: int
    resamples: int
    accuracy: Estimate
    standard_error: float
    accuracies: tuple[float, ...]
    thresholds: tuple[float, ...]
    auc: Estimate
    eer: Estimate
    fnmr_at: dict[float, Estimate | None]
    trained_on: int
    notes: tuple[str, ...]
    accepted: Accepted = field(repr=False)
    by_fold: Accepted = field(repr=False)
    baselines: tuple[FoldReport, ...] = ()
    differences: tuple[Difference, ...] = ()

    @property
    def verdict(self) -> str:
        """The result in a sentence; what makes it doubtful or was not beaten comes first."""
        if not self.trained_on:
            return self._beside_baselines
        doubt = (
            f"! The net was trained on {self.trained_on:,} of the people: not how it does on new"
        )
        return f"{doubt} ones. {self._beside_baselines}"

    @property
    def _beside_baselines(self) -> str:
        stands = self.standing
        on = f"on {self.protocol}"
        reached = f"{self._reached} over {len(self.accuracies)} folds"
        if stands.best is None:
            return f"{self.name} {on}: {reached}"
        by = "" if stands.difference is None else f", a difference of {stands.difference.shown}"
        against = f"{float(stands.best.accuracy):.4f}{by}"
        if stands.place == "above":
            best = f"the best, {stands.best.name}: against {against}"
            return f"{self.name} {on}: {reached}; better than every baseline, {best}"
        return f"{stands.told(self.name)} {on}: {reached} against {against}"

    @property
    def standing(self) -> Standing:
        """How its accuracy stands beside that of the baselines, each of which it has to beat."""
        against = {each.second: each for each in self.differences if each.what == "accuracy"}
        better = [each for each in self.baselines if each.accuracy >= self.accuracy]
        unknown = [each for each in self.baselines if each.name not in against]
        level = [
            each for each in self.baselines if each not in unknown and not against[each.name].clear
        ]
        places: list[tuple[Place, Sequence[FoldReport]]] = [
            ("below", better),
            ("unknown", unknown),
            ("level", level),
            ("above", self.baselines),
        ]
        for place, those in places:
            if those:
                best = max(those, key=lambda baseline: float(baseline.accuracy))
                return Standing(place, best, against.get(best.name))
        return Standing("alone")

    @property
    def _reached(self) -> str:
        return f"accuracy {float(self.accuracy):.4f} ± {self.standard_error:.4f}"

    def __str__(self) -> str:
        rows = [
            ("accuracy", str(self.accuracy)),
            ("AUC", str(self.auc)),
            ("EER", self.eer.percent()),
            *(
                (f"FNMR at FMR {100 * fmr:g} %", "too few pairs" if e is None else e.percent())
                for fmr, e in self.fnmr_at.items()
            ),
        ]
        folds = zip(self.accuracies, self.thresholds, strict=True)
        drawn = "; folds drawn anew" if self.resamples else ""
        parts = [
            [
                self.verdict,
                f"{self.genuine:,} genuine and {self.impostor:,} impostor pairs{drawn}",
            ],
            [f"{what:<20}{value}" for what, value in rows],
            self._beside(),
            [
                "fold  accuracy  threshold of the others",
                *(f"{k:4}  {share:8.4f}  {at:.4g}" for k, (share, at) in enumerate(folds, 1)),
            ],
            [*self.notes],
        ]
        return "\n\n".join("\n".join(part) for part in parts if part)

    def _beside(self) -> list[str]:
        """A line for each baseline, and one for how far above it the accuracy is."""
        if not self.baselines:
            return []
        rows = [
            [each.name, each._reached, shown(float(each.auc)), shown(float(each.eer), percent=True)]
            for each in self.baselines
        ]
        told = [str(each) for each in self.differences if each.what == "accuracy"]
        return [*aligned(["baseline", "", "AUC", "EER"], rows), *told]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and dictionaries, ready for JSON."""
        fnmr = {f"{fmr:g}": None if e is None else e.to_dict() for fmr, e in self.fnmr_at.items()}
        return {
            "format": FORMAT,
            "verdict": self.verdict,
            "name": self.name,
            "protocol": self.protocol.to_dict(),
            "genuine": self.genuine,
            "impostor": self.impostor,
            "resamples": self.resamples,
            "accuracy": self.accuracy.to_dict(),
            "standard_error": self.standard_error,
            "accuracies": list(self.accuracies),
            "thresholds": list(self.thresholds),
            "auc": self.auc.to_dict(),
            "eer": self.eer.to_dict(),
            "fnmr_at": fnmr,
            "trained_on": self.trained_on,
            "notes": list(self.notes),
            "baselines": [each.to_dict() for each in self.baselines],
            "differences": [each.to_dict() for each in self.differences],
        }

    def save(self, path: str | Path) -> Path:
        """Write ``to_dict`` to a JSON file."""
        path = Path(path)
        path.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n")
        return path


def require_fold_reports(*given: object) -> None:
    """Refuse what did not come from ``evaluate_folds``, in words.

    Example:
        >>> require_fold_reports("report.json")
        Traceback (most recent call last):
        TypeError: two FoldReports are compared, as evaluate_folds(…) returns them, got str
    """
    for each in given:
        if not isinstance(each, FoldReport):
            msg = (
                f"two FoldReports are compared, as evaluate_folds(…) returns them, got "
                f"{type(each).__name__}"
            )
            raise TypeError(msg)

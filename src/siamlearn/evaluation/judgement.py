"""What a report comes to: how it stands beside its baselines, and what speaks against its numbers.

Decided here once; :mod:`siamlearn.evaluation.tables` and the pages put it into words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

from siamlearn.auditing import Audit, Severity
from siamlearn.functional.intervals import trials_needed
from siamlearn.wording import several

if TYPE_CHECKING:
    from siamlearn.evaluation.fold_reports import FoldReport
    from siamlearn.evaluation.reports import Difference, Report

__all__ = ["Caveat", "Standing", "caveats", "errors", "grave", "of_auc", "standing"]


@final
@dataclass(frozen=True)
class Standing:
    """How a report stands beside its baselines.

    Args:
        place: "alone" where there is no baseline, "below" where one has as high an AUC, "above"
            where the AUC is higher than that of every baseline beyond doubt, "level" where of one
            of them that may be chance, and "unknown" where nobody was drawn anew.
        best: the baseline that decides: that with the highest AUC, and where the report is level
            with some, that of those.
        difference: of the AUCs of the two; None where nobody was drawn anew.

    Example:
        >>> Standing("alone").best
    """

    place: Literal["alone", "below", "level", "unknown", "above"]
    best: Report | FoldReport | None = None
    difference: Difference | None = None

    def told(self, name: str) -> str:
        """Where a system of that name does not stand clearly above, in words.

        Example:
            >>> import siamlearn as sl
            >>> report = sl.evaluate(sl.pixels(sl.DrawnFaces(3, 4)), name="net")
            >>> standing(report).told("net")  # it is nothing but pixels
            'net does not beat pixels'
        """
        best = self.best.name if self.best else "any baseline"
        if self.place == "unknown":
            return f"not known whether {name} is better than {best}: no resamples"
        missed = "does not beat" if self.place == "below" else "is not clearly better than"
        return f"{name} {missed} {best}"


def standing(report: Report) -> Standing:
    """How a report stands beside its baselines, each of which it has to beat.

    Example:
        >>> import siamlearn as sl
        >>> standing(sl.evaluate(sl.pixels(sl.DrawnFaces(3, 4)), baselines=False)).place
        'alone'
    """
    if not report.baselines:
        return Standing("alone")
    against = {
        each.name: of_auc([found for found in report.differences if found.second == each.name])
        for each in report.baselines
    }

    def beside(place: Literal["below", "level", "unknown", "above"], *of: Report) -> Standing:
        best = max(of, key=lambda baseline: float(baseline.auc))
        return Standing(place, best, against[best.name])

    if report.beaten_by:
        return beside("below", *report.beaten_by)
    unknown = [each for each in report.baselines if against[each.name] is None]
    if unknown:
        return beside("unknown", *unknown)
    level = [each for each in report.baselines if not _clear(against[each.name])]
    return beside("level", *level) if level else beside("above", *report.baselines)


def _clear(difference: Difference | None) -> bool:
    return difference is not None and difference.clear


def of_auc(differences: Sequence[Difference]) -> Difference | None:
    """The first of these differences that is one of AUC, which a verdict goes by.

    Example:
        >>> of_auc([])
    """
    return next((each for each in differences if each.what == "AUC"), None)


@final
@dataclass(frozen=True)
class Caveat:
    """Something that one has to know before one quotes a number.

    Args:
        text: what it is, to be told after its mark, or as a sentence.
        mark: "?" for what is shown as a question mark, "!" for what makes all numbers doubtful.
        of: names of the numbers that it is about; empty where it is about all.

    Example:
        >>> str(Caveat("nobody was asked", "!")), Caveat("nobody was asked", "!").sentence
        ('! nobody was asked', 'Nobody was asked.')
    """

    text: str
    mark: Literal["", "?", "!"] = ""
    of: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.mark} {self.text}".lstrip()

    @property
    def sentence(self) -> str:
        """The same as a sentence; what explains a question mark begins with it."""
        begun = self.text[0].upper() + self.text[1:]
        return f"{'?: ' if self.mark == '?' else ''}{begun}."


def caveats(report: Report) -> tuple[Caveat, ...]:
    """What one has to know before one quotes the numbers of a report.

    Example:
        >>> import siamlearn as sl
        >>> caveats(sl.evaluate(sl.pixels(sl.DrawnFaces(6, 4)), fmrs=(0.5,), fpirs=(0.5,)))
        ()
    """
    found = []
    if report.bounds.widest:
        found.append(Caveat(f"so many pairs are counted in bins: all rates are {report.bounds}"))
    found += _missing(report)
    if report.trained_on:
        found.append(Caveat(f"{_trained_on(report)}: this says nothing about new ones", "!"))
    if report.without_answer:
        left_out = several(report.without_answer, "picture")
        found.append(Caveat(f"ranks leave out {left_out} whose identity is on no other"))
    return tuple(found)


def _missing(report: Report) -> list[Caveat]:
    """Which rates are not told, and what would be needed."""
    pairs = f"{report.impostor:,} impostor pairs"
    rates = [(f"FNMR at FMR {100 * fmr:g} %", fmr, rate) for fmr, rate in report.fnmr_at.items()]
    found = _too_few(pairs, rates)
    rates = [(f"FNIR at FPIR {100 * f:g} %", f, rate) for f, rate in report.fnir_at.items()]
    if report.without_answer < report.pictures:
        return found + _too_few(f"{report.pictures:,} pictures", rates)
    text = "nobody who was searched for is there: no FNIR can be told"
    return found + ([Caveat(text, "?", tuple(name for name, _, _ in rates))] if rates else [])


def _too_few(what: str, rates: Sequence[tuple[str, float, object]]) -> list[Caveat]:
    needed = {name: trials_needed(share) for name, share, rate in rates if rate is None}
    if not needed:
        return []
    takes = ", ".join(f"{name} takes {count:,}" for name, count in needed.items())
    return [Caveat(f"{what} are too few: {takes} (rule of three)", "?", tuple(needed))]


def grave(report: Report) -> tuple[str, ...]:
    """What makes all numbers of a report doubtful, to be told before any of them.

    Example:
        >>> import siamlearn as sl
        >>> grave(sl.evaluate(sl.pixels(sl.DrawnFaces(6, 4)), baselines=False))
        ()
    """
    found = [_trained_on(report)] if report.trained_on else []
    wrong = errors(report.audit)
    return (*found, f"the audit found {wrong}") if wrong else tuple(found)


def errors(audit: Audit | None) -> str:
    """How many errors an audit found, and of which kinds; empty where it found none.

    Example:
        >>> from siamlearn.auditing import Finding
        >>> pairs = Finding("self-pairs", Severity.ERROR, ("test",), "…", 1, ("s1/1",), "…")
        >>> errors(Audit((pairs,), ())), errors(None)
        ('1 error (self-pairs)', '')
    """
    kinds = [each.kind for each in audit or () if each.severity is Severity.ERROR]
    if not kinds:
        return ""
    return f"{len(kinds)} error{'s' * (len(kinds) > 1)} ({', '.join(dict.fromkeys(kinds))})"


def _trained_on(report: Report) -> str:
    return f"the net was trained on {report.trained_on:,} of the {report.people:,} people"

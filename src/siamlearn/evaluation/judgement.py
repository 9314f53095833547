"""What a report comes to: how it stands beside its baselines, and what speaks against its numbers.

Decided here once; :mod:`siamlearn.evaluation.tables` and the pages put it into words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

if TYPE_CHECKING:
    from siamlearn.evaluation.reports import Difference, Report

__all__ = ["Caveat", "Standing", "caveats", "of_auc", "standing"]


@final
@dataclass(frozen=True)
class Standing:
    """How a report stands beside its best baseline.

    Args:
        place: "alone" where there is no baseline, "below" or "level" with the best one, "above"
            where its AUC is higher beyond doubt.
        best: the baseline with the highest AUC.
        difference: of the AUCs of the two; None where nobody was drawn anew.

    Example:
        >>> Standing("alone").best
    """

    place: Literal["alone", "below", "level", "above"]
    best: Report | None = None
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
        missed = "does not beat" if self.place == "below" else "is not clearly better than"
        return f"{name} {missed} {best}"


def standing(report: Report) -> Standing:
    """How a report stands beside its best baseline.

    Example:
        >>> import siamlearn as sl
        >>> standing(sl.evaluate(sl.pixels(sl.DrawnFaces(3, 4)), baselines=False)).place
        'alone'
    """
    if not report.baselines:
        return Standing("alone")
    best = max(report.baselines, key=lambda baseline: float(baseline.auc))
    difference = of_auc([each for each in report.differences if each.second == best.name])
    if report.beaten_by:
        return Standing("below", best, difference)
    doubtful = difference is not None and not difference.clear
    return Standing("level" if doubtful else "above", best, difference)


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

    Example:
        >>> str(Caveat("nobody was asked", "!")), Caveat("nobody was asked", "!").sentence
        ('! nobody was asked', 'Nobody was asked.')
    """

    text: str
    mark: Literal["", "?", "!"] = ""

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
    if None in (*report.fnmr_at.values(), *report.fnir_at.values()):
        text = (
            f"{report.impostor:,} impostor pairs and {report.pictures:,} pictures are too few to "
            f"tell (rule of three)"
        )
        found.append(Caveat(text, "?"))
    if report.trained_on:
        text = (
            f"the net was trained on {report.trained_on:,} of the {report.people:,} people: this "
            f"says nothing about new ones"
        )
        found.append(Caveat(text, "!"))
    if report.without_answer:
        text = f"ranks leave out {report.without_answer:,} pictures whose identity is on no other"
        found.append(Caveat(text))
    return tuple(found)

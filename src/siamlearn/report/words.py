"""What stands on top of a page: the verdict, in a sentence that needs no table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from siamlearn.evaluation.judgement import caveats, errors, of_auc, standing

if TYPE_CHECKING:
    from siamlearn.auditing import Audit
    from siamlearn.evaluation import AtPoint, Difference, Report

__all__ = ["Said", "said", "said_of_two"]

POINTS = 3  # operating points told on top; the slider has all


@final
@dataclass(frozen=True)
class Said:
    """The top of a page.

    Args:
        headline: the verdict.
        lines: what it rests on.
        tone: "good", "bad" or "plain": the colour of the edge.

    Example:
        >>> Said("net beats every baseline", (), "good").tone
        'good'
    """

    headline: str
    lines: tuple[str, ...]
    tone: str


def said(report: Report, audit: Audit | None = None) -> Said:
    """Whether a system beats its baselines, what its thresholds give, and what speaks against it.

    Example:
        >>> import siamlearn as sl
        >>> report = sl.evaluate(sl.pixels(sl.DrawnFaces(3, 4)), name="net")
        >>> said(report).headline  # it is nothing but pixels
        'net does not beat pixels'
    """
    headline, line, tone = _beside_baselines(report)
    points = [_at(each) for each in report.points[:POINTS]]
    if len(report.points) > POINTS:
        points.append(f"What {len(report.points) - POINTS} more give is shown beside the slider.")
    if not points:
        points = ["No threshold was chosen on other people: those named below flatter."]
    grave = [each.sentence for each in caveats(report) if each.mark == "!"]
    if grave:
        tone, points = "bad", [*grave, *points]
    if wrong := errors(audit):
        tone = "bad"
        points.append(f"The audit found {wrong}: read below before you believe a number.")
    return Said(headline, (line, *points), tone)


def said_of_two(one: Report, other: Report, differences: Sequence[Difference]) -> Said:
    """Whether one system is better than another on the same people.

    Example:
        >>> import siamlearn as sl
        >>> report = sl.evaluate(sl.pixels(sl.DrawnFaces(3, 4)), baselines=False, name="net")
        >>> said_of_two(report, report, ()).headline
        'net and net cannot be told apart on these people'
    """
    lines = tuple(f"{each.what}: {each.shown}: {each.says}" for each in differences)
    told = of_auc(differences)
    if told is None or not told.clear:
        headline = f"{one.name} and {other.name} cannot be told apart on these people"
        return Said(headline, lines, "plain")
    first, second = (one, other) if told.value > 0 else (other, one)
    return Said(f"{first.name} is better than {second.name}", lines, "good")


def _beside_baselines(report: Report) -> tuple[str, str, str]:
    reached, stands = f"AUC {report.auc}", standing(report)
    if stands.best is None:
        eer = report.eer.percent()
        return f"{report.name}: AUC {report.auc:.3f}", f"{reached}, EER {eer}.", "plain"
    by = "" if stands.difference is None else f": a difference of {stands.difference.shown}"
    line = f"{reached} against {stands.best.auc:.4g} of {stands.best.name}{by}."
    if stands.place == "above":
        return f"{report.name} beats every baseline", line, "good"
    return stands.told(report.name), line, "bad" if stands.place == "below" else "plain"


def _at(each: AtPoint) -> str:
    people = len(each.point.people)
    chosen = f", chosen on {people:,} other people" if people else ""
    return (
        f"At {each.point.name} (threshold {each.point.threshold:.4g}{chosen}) "
        f"{each.fmr.percent()} of strangers are let in, and {each.fnmr.percent()} of genuine "
        f"pairs are turned away."
    )

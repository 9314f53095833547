"""A report in words: its verdict, its table, its notes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from siamlearn.auditing import Severity
from siamlearn.estimates import Estimate, shown
from siamlearn.evaluation.judgement import caveats, grave, standing

if TYPE_CHECKING:
    from siamlearn.evaluation.reports import AtPoint, Report

__all__ = ["measured", "notes", "subject", "table", "verdict"]

Cell = Callable[[Estimate], str]
ERRORS = ("EER", "FNMR", "FNIR")  # how numbers begin of which less is better


def verdict(report: Report) -> str:
    """The result in a sentence. What makes it doubtful, and what was not beaten, comes first.

    Example:
        >>> import siamlearn as sl
        >>> report = sl.evaluate(sl.pixels(sl.DrawnFaces(6, 4, size=(28, 23))), baselines=False)
        >>> verdict(report)[:8]
        'net: AUC'
    """
    doubts = "; ".join(grave(report))
    return f"! {doubts[0].upper()}{doubts[1:]}. {_reached(report)}" if doubts else _reached(report)


def _reached(report: Report) -> str:
    reached = f"AUC {report.auc}, EER {report.eer.percent()}"
    stands = standing(report)
    if stands.best is None:
        return f"{report.name}: {reached}"
    by = "" if stands.difference is None else f", a difference of {stands.difference.shown}"
    against = f"AUC {report.auc:.4f} against {stands.best.auc:.4f}{by}"
    if stands.place == "above":
        best = stands.best.name
        return f"{report.name}: {reached}; better than every baseline, the best, {best}: {against}"
    return f"{stands.told(report.name)}: {against}"


def subject(report: Report) -> str:
    """What was compared, and how much of it.

    Example:
        >>> import siamlearn as sl
        >>> report = sl.evaluate(sl.pixels(sl.DrawnFaces(6, 4, size=(28, 23))), baselines=False)
        >>> subject(report)[-43:]
        '6 people, 36 genuine and 240 impostor pairs'
    """
    against = ""
    if report.gallery_pictures is not None:
        against = f" against a gallery of {report.gallery_pictures:,}"
    return (
        f"{report.protocol}: {report.pictures:,} pictures{against}, {report.people:,} people, "
        f"{report.genuine:,} genuine and {report.impostor:,} impostor pairs"
    )


def measured(report: Report) -> list[tuple[str, Estimate | None, bool]]:
    """Every number of the table: what it is called, its value, and whether it is a share in %.

    Example:
        >>> import siamlearn as sl
        >>> report = sl.evaluate(sl.pixels(sl.DrawnFaces(6, 4, size=(28, 23))), baselines=False)
        >>> [name for name, _, share in measured(report) if not share]
        ['AUC', 'average precision', "d'"]
    """
    return [
        ("AUC", report.auc, False),
        ("EER", report.eer, True),
        *((f"FNMR at FMR {100 * fmr:g} %", rate, True) for fmr, rate in report.fnmr_at.items()),
        ("balanced accuracy*", report.balanced_accuracy, True),
        ("average precision", report.average_precision, False),
        ("d'", report.d_prime, False),
        ("rank-1", report.rank1, True),
        ("MAP@R", report.map_at_r, True),
        *((f"FNIR at FPIR {100 * fpir:g} %", r, True) for fpir, r in report.fnir_at.items()),
    ]


def table(report: Report) -> list[str]:
    """A line for each number, a column for each system; intervals for the first of them.

    Example:
        >>> import siamlearn as sl
        >>> report = sl.evaluate(sl.pixels(sl.DrawnFaces(6, 4, size=(28, 23))), baselines=False)
        >>> table(report)[1].split()[0]
        'AUC'
    """
    rows = [[name, shown(value, percent=share)] for name, value, share in measured(report)]
    for baseline in report.baselines:
        for row, (_, value, share) in zip(rows, measured(baseline), strict=True):
            row.append(shown(value if value is None else float(value), percent=share))
    head = ["", report.name, *(baseline.name for baseline in report.baselines)]
    return aligned(head, rows)


def notes(report: Report) -> list[str]:
    """What one has to know to read the table.

    Example:
        >>> import siamlearn as sl
        >>> report = sl.evaluate(sl.pixels(sl.DrawnFaces(6, 4, size=(28, 23))), baselines=False)
        >>> notes(report)[0][:14]
        '* at threshold'
    """
    lines = told_at(report.points)
    lines += [f"{each}: {each.says}" for each in report.differences if each.what == "AUC"]
    lines.append(
        f"* at threshold {report.best_threshold:.4g}, the best for these very pairs: an upper "
        f"bound ({shown(float(report.accuracy), percent=True)} of all pairs told right)"
    )
    if report.auc.known:
        lines.append(
            f"[ ] {100 * report.auc.level:.4g} % intervals, had other people been measured "
            f"({report.resamples:,} draws)"
        )
    lines += map(str, caveats(report))
    if report.audit is not None and not report.audit.clean:
        found = [each.kind for each in report.audit if each.severity is not Severity.NOTE]
        kinds = ", ".join(dict.fromkeys(found))
        lines.append(f"! the audit found {kinds}: print(report.audit)")
    return lines


def told_at(points: Sequence[AtPoint]) -> list[str]:
    """A line for each operating point; what calibrations cost is told once where it is the same."""
    costs = {each.cost for each in points}
    if len(points) < 2 or len(costs) > 1 or "" in costs:
        return [str(each) for each in points]
    return [*(each.rates for each in points), f"at each of them: {costs.pop()}"]


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table: the first column to the left, the others to the right, each as wide as need be."""
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]

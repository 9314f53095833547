"""A report as Markdown, for a README, an issue or a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from siamlearn.estimates import shown
from siamlearn.evaluation.reports import require_reports
from siamlearn.evaluation.tables import measured, notes, subject

if TYPE_CHECKING:
    from siamlearn.evaluation import Report

__all__ = ["markdown"]


def markdown(report: Report) -> str:
    """A report as Markdown, with a table as GitHub shows it.

    A line for each number, a column for each system, every number with its interval. Names are
    shown as they are: what would be markup in them is escaped.

    Example:
        >>> import siamlearn as sl
        >>> faces = sl.pixels(sl.DrawnFaces(3, 4))
        >>> text = markdown(sl.evaluate(faces, baselines=False, name="a|b"))
        >>> text.splitlines()[4]
        '|  | a\\\\|b |'
    """
    require_reports(report)
    systems = [report, *report.baselines]
    rows = [
        [first[0], *(shown(value, percent=share) for _, value, share in (first, *others))]
        for first, *others in zip(*(measured(system) for system in systems), strict=True)
    ]
    head = ["", *(system.name for system in systems)]
    lines = [
        f"**{escaped(report.verdict)}**",
        "",
        escaped(subject(report)),
        "",
        _line(map(escaped, head)),
        _line(["---", *("---:" for _ in systems)]),
        *(_line(map(escaped, row)) for row in rows),
        "",
        *(f"- {escaped(note)}" for note in notes(report)),
    ]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """The text with everything that Markdown or HTML would take for markup made harmless."""
    text = " ".join(text.split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_|~\[\]#@])", r"\\\1", text)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"

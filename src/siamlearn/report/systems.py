"""The table of a page: a row for each system, a column for each number, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from siamlearn.estimates import Estimate, shown
from siamlearn.evaluation.judgement import caveats
from siamlearn.evaluation.tables import ERRORS, measured

if TYPE_CHECKING:
    from siamlearn.evaluation import Report

__all__ = ["Bar", "Cell", "Row", "Table", "main_table", "more_table"]

# Numbers of the first table, by how their names begin; the others are a click away.
MAIN = ("AUC", "EER", "FNMR", "rank-1")
SPACE, DASH = "\u00a0", "\u2009\u2013\u2009"  # a space that keeps a unit with its number


@final
@dataclass(frozen=True)
class Bar:
    """Where an interval lies between the lowest and the highest end of its column, in per cent.

    Example:
        >>> Bar(10.0, 50.0, 30.0).left
        10.0
    """

    left: float
    width: float
    dot: float


@final
@dataclass(frozen=True)
class Cell:
    """A number as it is shown.

    Args:
        text: the number, or "?" where it cannot be told.
        ends: its interval; empty where there is none.
        best: whether no other system has a better one.
        bar: where the interval lies.

    Example:
        >>> Cell("0.98", "0.95-0.99", True, None).best
        True
    """

    text: str
    ends: str
    best: bool
    bar: Bar | None


@final
@dataclass(frozen=True)
class Row:
    """The numbers of one system.

    Example:
        >>> Row("net", True, ()).name
        'net'
    """

    name: str
    own: bool
    cells: tuple[Cell, ...]


@final
@dataclass(frozen=True)
class Table:
    """Some numbers of some systems.

    Args:
        columns: what the numbers are called.
        rows: those of one system each.
        notes: why some of them are "?".

    Example:
        >>> Table(("AUC",), (Row("net", True, ()),)).columns
        ('AUC',)
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def main_table(reports: Sequence[Report]) -> Table:
    """The numbers that are asked for first; the first report's own row leads.

    Example:
        >>> import siamlearn as sl
        >>> report = sl.evaluate(sl.pixels(sl.DrawnFaces(3, 4)), baselines=False, fmrs=(0.1,))
        >>> main_table([report]).columns
        ('AUC', 'EER', 'FNMR at FMR 10\\xa0%', 'rank-1')
    """
    return _table(reports, main=True)


def more_table(reports: Sequence[Report]) -> Table:
    """All other numbers.

    Example:
        >>> import siamlearn as sl
        >>> report = sl.evaluate(sl.pixels(sl.DrawnFaces(3, 4)), baselines=False)
        >>> "MAP@R" in more_table([report]).columns
        True
    """
    return _table(reports, main=False)


def _table(reports: Sequence[Report], *, main: bool) -> Table:
    systems = [
        [each for each in measured(report) if each[0].startswith(MAIN) is main]
        for report in reports
    ]
    columns = [_column(column) for column in zip(*systems, strict=True)]
    rows = zip(*columns, strict=True)
    return Table(
        tuple(name.replace(" %", f"{SPACE}%") for name, _, _ in systems[0]),
        tuple(
            Row(report.name, number == 0, cells)
            for number, (report, cells) in enumerate(zip(reports, rows, strict=True))
        ),
        tuple(
            each.sentence
            for each in caveats(reports[0])
            if any(name.startswith(MAIN) is main for name in each.of)
        ),
    )


def _column(column: Sequence[tuple[str, Estimate | None, bool]]) -> list[Cell]:
    """One number of all systems."""
    values = [value for _, value, _ in column if value is not None]
    shown = [v for value in values for v in (value, value.low, value.high) if math.isfinite(v)]
    low, high = min(shown, default=0.0), max(shown, default=1.0)
    fewest = column[0][0].startswith(ERRORS)
    best = (min if fewest else max)(values, default=None)
    return [
        Cell("?", "", False, None)
        if value is None
        else Cell(
            shown_number(value, share),
            _interval(value, share),
            len(column) > 1 and best is not None and float(value) == float(best),
            _bar(value, low, high),
        )
        for _, value, share in column
    ]


def _bar(value: Estimate, low: float, high: float) -> Bar | None:
    if not value.known or high <= low or not math.isfinite(value):
        return None
    left, right, dot = (100 * (v - low) / (high - low) for v in (value.low, value.high, value))
    return Bar(round(left, 2), round(max(0.0, right - left), 2), round(dot, 2))


def shown_number(value: float, share: bool) -> str:
    """A share in per cent, or a number with four digits behind the point."""
    text = shown(float(value), percent=share, digits=None if share else ".4f")
    return text.replace(" ", SPACE)


def _interval(value: Estimate, share: bool) -> str:
    """Both ends, with one sign for per cent behind them."""
    if not value.known:
        return ""
    low, high = (shown_number(end, share) for end in (value.low, value.high))
    return f"{low.removesuffix(f'{SPACE}%')}{DASH}{high}"

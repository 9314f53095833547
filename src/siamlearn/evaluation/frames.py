"""The numbers of a report as a table for pandas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from siamlearn.estimates import Estimate

if TYPE_CHECKING:
    from pandas import DataFrame

    from siamlearn.evaluation.reports import Report

__all__ = ["frame"]


def frame(report: Report) -> DataFrame:
    """A row for each system, the report's own first; a column for each number and interval end.

    An estimate ``auc`` has the columns ``auc``, ``auc_low`` and ``auc_high``; the FNMR at an FMR
    of 0.01 has ``fnmr_at_0.01`` and so on, NaN where the pairs are too few to tell; rank k of the
    CMC is ``cmc_k``. What was seen at an operating point begins with its name: ``FMR 1 % fmr``.
    How far the first system is above a baseline stands in the baseline's row: ``difference AUC``,
    its ends, and ``difference AUC p``. Frames of several reports may be put below each other with
    ``pandas.concat``: each row says its protocol.

    Raises:
        ModuleNotFoundError: pandas is not installed; the message has the pip command.

    Example:
        >>> import siamlearn as sl
        >>> table = frame(sl.evaluate(sl.pixels(sl.DrawnFaces(3, 4)), name="net"))
        >>> list(table.index)[:2], bool((table.auc_low <= table.auc).all())
        (['net', 'pixels'], True)
    """
    try:
        from pandas import DataFrame
    except ModuleNotFoundError as missing:
        msg = 'a frame needs pandas; install it with: pip install "siamlearn[frames]"'
        raise ModuleNotFoundError(msg, name="pandas") from missing
    systems = (report, *report.baselines)
    rows = [
        dict([*_numbers(system), *_at_points(system), *_beneath(report, system)])
        for system in systems
    ]
    index = [system.name for system in systems]
    table: DataFrame = DataFrame(rows, index=index).rename_axis("system")
    return table


def _numbers(report: Report) -> Iterator[tuple[str, Any]]:
    """Names and values of one row."""
    yield "protocol", report.protocol.name
    yield "digest", report.protocol.digest
    for each in fields(report):
        value = getattr(report, each.name)
        if isinstance(value, dict):
            for key, rate in value.items():
                yield from _ends(f"{each.name}_{key:g}", rate)
        elif isinstance(value, Estimate):
            yield from _ends(each.name, value)
        elif isinstance(value, int | float):
            yield each.name, value
    for rank, rate in enumerate(report.cmc, start=1):
        yield from _ends(f"cmc_{rank}", rate)


def _at_points(report: Report) -> Iterator[tuple[str, float]]:
    """What was seen at each operating point."""
    for each in report.points:
        yield f"{each.point.name} threshold", each.point.threshold
        yield from _ends(f"{each.point.name} fmr", each.fmr)
        yield from _ends(f"{each.point.name} fnmr", each.fnmr)
        if each.cllr is not None and each.least_cllr is not None:
            yield from _ends(f"{each.point.name} cllr", each.cllr)
            yield f"{each.point.name} least_cllr", each.least_cllr


def _beneath(report: Report, system: Report) -> Iterator[tuple[str, float]]:
    """How far the report is above one of its baselines."""
    for each in report.differences:
        if each.second == system.name and system is not report:
            yield from _ends(f"difference {each.what}", each.value)
            yield f"difference {each.what} p", each.p


def _ends(name: str, value: Estimate | None) -> Iterator[tuple[str, float]]:
    known = Estimate(float("nan")) if value is None else value
    yield name, float(known)
    yield f"{name}_low", known.low
    yield f"{name}_high", known.high

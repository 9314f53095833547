"""A report as a page that one wants to look at: one file, without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siamlearn.evaluation.judgement import caveats
from siamlearn.evaluation.reports import require_reports
from siamlearn.evaluation.tables import subject
from siamlearn.inspection import Pair, WorstPairs, worst_pairs
from siamlearn.report.figures import FIGURES, Drawing, pictures
from siamlearn.report.rendering import made_with, write_page
from siamlearn.report.systems import main_table, more_table
from siamlearn.report.thresholds import slider
from siamlearn.report.thumbnails import Thumbnails
from siamlearn.report.words import said

if TYPE_CHECKING:
    from siamlearn.auditing import Audit
    from siamlearn.evaluation import Report

__all__ = ["html"]

WORST = 150  # pairs of each kind to click through


def html(
    report: Report,
    path: str | Path,
    *,
    audit: Audit | None = None,
    made: Mapping[str, object] | None = None,
    when: datetime | None = None,
    pairs: int = WORST,
    figures: Sequence[Drawing] = FIGURES,
) -> Path:
    """Write a report as one page for a browser, and return where.

    The page needs no other file and no network. It says the verdict, shows the table with
    intervals and baselines, a threshold to move, the pairs that are told wrongly at it, the
    figures, what an audit found, and how it was made. It is dark where the reader's system is, and
    prints.

    Args:
        audit: what ``sl.audit`` found, to be told on the page; the report's own, if left out.
        made: what else to say of how the numbers came about, such as ``{"net": net.config}``.
        when: the time to write on the page; now, if left out. With it the same report gives the
            same bytes.
        pairs: how many of the worst genuine and of the worst impostor pairs to take along; their
            pictures are made small enough to need about 3 MB together.
        figures: which to draw.

    Raises:
        TypeError: this is no ``Report``.
        ModuleNotFoundError: Jinja2 or matplotlib is not installed.

    Example:
        >>> import tempfile
        >>> import siamlearn as sl
        >>> report = sl.evaluate(sl.pixels(sl.DrawnFaces(3, 4)), baselines=False, name="pixels")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     text = html(report, f"{folder}/report.html", figures=()).read_text()
        >>> text[:15], "<h1>pixels: AUC" in text
        ('<!doctype html>', True)
    """
    require_reports(report)
    worst = worst_pairs(report, count=pairs)
    audit = report.audit if audit is None else audit
    return write_page(
        "report.html.j2",
        path,
        report=report,
        subject=subject(report),
        said=said(report, audit),
        caveats=[each.sentence for each in caveats(report) if not (each.mark == "!" or each.of)],
        main=main_table([report, *report.baselines]),
        more=more_table([report, *report.baselines]),
        data={"kind": "report", "kept": pairs, **slider(report), **pairs_of(worst)},
        figures=pictures(report, figures),
        audit=audit,
        made=made_with(when, {**provenance(report), **(made or {})}),
    )


def pairs_of(worst: WorstPairs) -> dict[str, Any]:
    """The worst pairs and their pictures, ready for JSON."""
    thumbnails = Thumbnails(worst.probes, worst.references)
    apart = worst.probes is not worst.references

    def listed(pairs: Sequence[Pair]) -> list[list[float]]:
        return [
            [
                thumbnails.place(0, pair.probe),
                thumbnails.place(int(apart), pair.reference),
                pair.distance,
            ]
            for pair in pairs
        ]

    kinds = {"genuine": listed(worst.genuine), "impostor": listed(worst.impostor)}
    return {"pairs": kinds, "pictures": thumbnails.pictures()}


def provenance(report: Report) -> dict[str, str]:
    """How the numbers of a report came about."""
    against = report.embeddings if report.gallery is None else report.gallery
    gallery = "" if report.gallery is None else f"; gallery of {len(against):,}"
    interval = (
        f"{100 * report.auc.level:.4g} %, from {report.people:,} people drawn anew with replacement"
        if report.auc.known
        else "none"
    )
    return {
        "protocol": report.protocol.name,
        "protocol hash": report.protocol.digest,
        **({"hash of the pixels": shown} if (shown := report.protocol.pictures) else {}),
        "compared": f"{report.pictures:,} pictures of {report.people:,} people{gallery}",
        "pairs": f"{report.genuine:,} genuine, {report.impostor:,} impostor",
        "distance": getattr(against.distance, "__name__", type(against.distance).__name__),
        "embedding": f"{against.vectors.shape[1]:,} dimensions",
        "intervals": interval,
    }

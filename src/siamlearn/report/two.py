"""Two runs on one page: which is better, and which pairs flipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siamlearn.evaluation import differences
from siamlearn.evaluation.judgement import caveats
from siamlearn.evaluation.reports import require_reports
from siamlearn.evaluation.tables import subject
from siamlearn.report.figures import OF_TWO, Drawing, pictures
from siamlearn.report.flips import Flip, Flips, flips
from siamlearn.report.page import provenance
from siamlearn.report.rendering import made_with, write_page
from siamlearn.report.systems import main_table, more_table
from siamlearn.report.thumbnails import Thumbnails
from siamlearn.report.words import said_of_two

if TYPE_CHECKING:
    from siamlearn.evaluation import Report

__all__ = ["comparison"]

CLEAREST = 75  # pairs of each of four kinds


def comparison(
    one: Report,
    other: Report,
    path: str | Path,
    *,
    thresholds: tuple[float, float] | None = None,
    when: datetime | None = None,
    pairs: int = CLEAREST,
    figures: Sequence[Drawing] = OF_TWO,
) -> Path:
    """Write a page of two systems that compared the same pictures, and return where.

    It says which is better and how sure that is, people drawn anew for both alike, and shows the
    pairs that one tells right and the other wrong.

    Args:
        thresholds: distances up to which each of the two accepts; if left out, those of the
            first operating points of one name that both have, or else of their equal error rates.
        when: the time to write on the page; now, if left out.
        pairs: how many of the pairs that flipped to take along, of each kind: genuine and
            impostor, told right by the one and by the other.
        figures: which to draw; they are given the first report with the second as its baseline.

    Raises:
        TypeError: one of them is no ``Report``.
        ValueError: the two did not compare the same pictures of the same people.
        ModuleNotFoundError: Jinja2 or matplotlib is not installed.

    Example:
        >>> import tempfile
        >>> import siamlearn as sl
        >>> faces = sl.DrawnFaces(3, 4, size=(28, 23))
        >>> one, other = (sl.evaluate(f(faces), baselines=False) for f in (sl.pixels, sl.pca))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     comparison(one, other, f"{folder}/two.html", figures=()).name
        'two.html'
    """
    require_reports(one, other)
    found = flips(one, other, thresholds, count=pairs)
    one, other = _named_apart(one, other)
    told = differences(one, other)
    thumbnails = Thumbnails(one.embeddings, *([one.gallery] if one.gallery is not None else []))
    listed = [_listed(flip, one, other, found, thumbnails) for flip in found.pairs]
    counts = {"first": found.flipped(first_right=True), "second": found.flipped(first_right=False)}
    data = {"kind": "flips", "flips": listed, "pictures": thumbnails.pictures(), "kept": pairs}
    return write_page(
        "two.html.j2",
        path,
        one=one,
        other=other,
        subject=subject(one),
        said=said_of_two(one, other, told),
        caveats=[each.sentence for each in caveats(one) if not each.of],
        main=main_table([one, other]),
        more=more_table([one, other]),
        flips=found,
        data={**data, "counts": {"all": sum(counts.values()), **counts}},
        figures=pictures(replace(one, baselines=(other,)), figures),
        made=made_with(when, _made(one, other)),
    )


def _made(one: Report, other: Report) -> dict[str, str]:
    """How the numbers of both came about; where they differ, with whose it is."""
    first, second = provenance(one), provenance(other)
    return {
        what: told
        if told == second[what]
        else f"{told} ({one.name}); {second[what]} ({other.name})"
        for what, told in first.items()
    }


def _named_apart(one: Report, other: Report) -> tuple[Report, Report]:
    """Two reports that can be told apart by name, as two runs of one net often cannot."""
    if one.name != other.name:
        return one, other
    return replace(one, name=f"{one.name} (first)"), replace(other, name=f"{other.name} (second)")


def _listed(
    flip: Flip, one: Report, other: Report, found: Flips, thumbnails: Thumbnails
) -> dict[str, Any]:
    """A pair as the page's script shows it."""
    told = [
        f"{report.name} {'✓' if right else '✗'} {distance:.3g}"
        for report, right, distance in (
            (one, flip.first_right, flip.distances[0]),
            (other, not flip.first_right, flip.distances[1]),
        )
    ]
    whose = "One person" if flip.genuine else "Two people"
    limits = " and ".join(f"{limit:.4g}" for limit in found.thresholds)
    return {
        "pictures": [
            thumbnails.place(0, flip.probe),
            thumbnails.place(int(one.gallery is not None), flip.reference),
        ],
        "kind": "first" if flip.first_right else "second",
        "mark": "genuine" if flip.genuine else "impostor",
        "far": "\n".join(told),
        "says": f"{whose}: {', '.join(told)}; thresholds {limits}.",
    }

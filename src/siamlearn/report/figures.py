"""The figures of a page, as addresses of SVG pictures."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from siamlearn import inspection, plots

if TYPE_CHECKING:
    from siamlearn.embeddings import Embeddings
    from siamlearn.evaluation import Report
    from siamlearn.inspection import Bands

__all__ = ["FIGURES", "OF_TWO", "Drawing", "Picture", "pictures"]

# Bytes beyond which an SVG, of very many dots or pictures, is made of pixels instead.
LARGE = 250_000
PICTURE = 26.0  # points: how tall the pictures on the map are


@final
@dataclass(frozen=True)
class Drawing:
    """One figure of a page.

    Args:
        title: what it is called above the picture.
        caption: what to look for, in a sentence.
        draw: makes it from a report: matplotlib Axes, or a Figure.
        as_it_is: whether its tones mean something, as in pictures of people, and so must not be
            turned round in the dark.
        wide: whether it takes a whole line of the page.

    Example:
        >>> Drawing("ROC", "Up and left is better.", plots.roc).wide
        False
    """

    title: str
    caption: str
    draw: Callable[[Report], Any]
    as_it_is: bool = False
    wide: bool = False


@final
@dataclass(frozen=True)
class Picture:
    """A figure that was drawn, or why it was not.

    Example:
        >>> Picture(Drawing("ROC", "", plots.roc), None, "there is one person only").source
    """

    drawing: Drawing
    source: str | None
    missing: str = ""


FIGURES: tuple[Drawing, ...] = (
    Drawing(
        "Distances of pairs",
        "The less the two hills overlap, the better people are told apart.",
        plots.distance_histogram,
    ),
    Drawing(
        "Error rates at every threshold",
        "A stricter threshold, to the left, trades false matches for lost ones.",
        lambda report: plots.error_rates(report, bands=banded(report)),
    ),
    Drawing(
        "Errors against each other (DET)",
        "Down and left is better; both axes stretch the rare errors.",
        plots.det,
    ),
    Drawing(
        "True matches against false ones (ROC)",
        "Up and left is better; the band is the interval.",
        lambda report: plots.roc(report, bands=banded(report)),
    ),
    Drawing(
        "Ranks (CMC)",
        "How often the right person is among the nearest k pictures.",
        plots.cmc,
    ),
    Drawing(
        "Do probabilities mean what they say?",
        "On the line they do; below it they promise too much. For as many genuine pairs as others.",
        lambda report: plots.reliability(inspection.reliability(report)),
    ),
    Drawing(
        "Easy and difficult people",
        "Down and right it gets worse: far from one's own pictures, near to those of others.",
        lambda report: plots.zoo(inspection.zoo(report)),
    ),
    Drawing(
        "Map of the embeddings",
        "The two directions in which the pictures differ most; a colour for each person.",
        lambda report: mapped(report.embeddings),
        as_it_is=True,
        wide=True,
    ),
    Drawing(
        "Distances between people",
        "Groups of people who look alike to the system are dark blocks.",
        lambda report: plots.people_distances(inspection.people_distances(report)),
        as_it_is=True,
    ),
    Drawing(
        "Who passes for whom",
        "People of whom half of the pairs pass at the threshold, or who are linked through others.",
        lambda report: confused(report),
        as_it_is=True,
    ),
)

# Of two runs: those that draw baselines beside a report.
OF_TWO: tuple[Drawing, ...] = (
    Drawing("True matches against false ones (ROC)", "Up and left is better.", plots.roc),
    FIGURES[2],
    FIGURES[4],
)


def pictures(report: Report, drawings: Sequence[Drawing] = FIGURES) -> list[Picture]:
    """Every figure, drawn; one that needs what the report has not says so in its place.

    Raises:
        ModuleNotFoundError: matplotlib is not installed; the message has the pip command.

    Example:
        >>> import siamlearn as sl
        >>> report = sl.evaluate(sl.pixels(sl.DrawnFaces(3, 4)), baselines=False)
        >>> [picture] = pictures(report, [Drawing("ROC", "", plots.roc)])
        >>> picture.source[:26]
        'data:image/svg+xml;base64,'
    """
    return [_picture(report, drawing) for drawing in drawings]


def banded(report: Report) -> Bands | None:
    """The intervals of all rates, where any were asked for."""
    return inspection.bands(report, level=report.auc.level) if report.auc.known else None


def mapped(embeddings: Embeddings) -> Any:
    """The embeddings in the plane, with the pictures where they are at hand."""
    tall = None if embeddings.images is None else PICTURE
    return plots.embedding_map(embeddings, None, pictures=tall)


def confused(report: Report) -> Any:
    """People who pass for each other, with a picture of each."""
    against = report.embeddings if report.gallery is None else report.gallery
    if against.images is None:
        msg = "the report has no pictures; evaluate embeddings that carry them"
        raise ValueError(msg)
    groups = inspection.confusions(report)
    if not groups:
        msg = (
            "of no two people half of the pairs pass at this threshold; single ones that do are "
            "among the errors above"
        )
        raise ValueError(msg)
    return plots.confusions(groups, against.images)


def _picture(report: Report, drawing: Drawing) -> Picture:
    try:
        drawn = drawing.draw(report)
    except ValueError as why:  # such as one person only: the other figures are still worth a look
        return Picture(drawing, None, str(why).rstrip("."))
    return Picture(drawing, _address(drawn, tones=drawing.as_it_is))


def _address(drawn: Any, *, tones: bool) -> str:
    """The figure as an address; tones are those of photographs, which JPEG makes small."""
    figure = drawn
    if not hasattr(drawn, "savefig"):
        figure = drawn.get_figure()
        drawn.set_title("")  # the page has one
    svg = _same_names(_saved(figure, "svg", transparent=True, metadata={"Date": None}).decode())
    if len(svg) <= LARGE:
        return _inside("svg+xml", svg.encode())
    if tones:
        return _inside("jpeg", _saved(figure, "jpeg", dpi=150, pil_kwargs={"quality": 88}))
    return _inside("png", _saved(figure, "png", dpi=160, transparent=True))


def _saved(figure: Any, kind: str, **how: Any) -> bytes:
    written = io.BytesIO()
    figure.savefig(written, format=kind, **how)
    return written.getvalue()


def _inside(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _same_names(svg: str) -> str:
    """The same drawing with the same bytes each time: matplotlib names its parts at random."""
    names: dict[str, str] = {}

    def named(found: re.Match[str]) -> str:
        return found[1] + names.setdefault(found[2], f"part{len(names)}")

    return re.sub(r'((?:id="|href="#|url\(#))([A-Za-z]\w*?[0-9a-f]{10})(?=["\)])', named, svg)

"""The figures of a page, as addresses of SVG pictures."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from siamlearn import plots

if TYPE_CHECKING:
    from siamlearn.reports import Report

__all__ = ["FIGURES", "OF_TWO", "Drawing", "Picture", "pictures"]

# Bytes beyond which an SVG, of very many dots, is a PNG instead.
LARGE = 250_000


@final
@dataclass(frozen=True)
class Drawing:
    """One figure of a page.

    Args:
        title: what it is called above the picture.
        caption: what to look for, in a sentence.
        draw: makes it from a report: matplotlib Axes, or a Figure.
        photographs: whether it shows pictures of people, whose tones must stay as they are in
            the dark.
        wide: whether it takes a whole line of the page.

    Example:
        >>> Drawing("ROC", "Up and left is better.", plots.roc).wide
        False
    """

    title: str
    caption: str
    draw: Callable[[Report], Any]
    photographs: bool = False
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
        "The less the two hills overlap, the better two people are told apart.",
        plots.distance_histogram,
    ),
    Drawing(
        "Error rates against each other (DET)",
        "Down and left is better; both axes stretch the rare errors.",
        plots.det,
    ),
    Drawing("ROC", "True matches found for false ones let in: up is better.", plots.roc),
    Drawing("CMC", "How often the right person is among the nearest k pictures.", plots.cmc),
    Drawing(
        "Map of the embeddings",
        "The two directions in which the pictures differ most; a colour for each person.",
        lambda report: plots.embedding_map(report.embeddings, None),
        wide=True,
    ),
)

# Of two runs: those that draw baselines beside a report.
OF_TWO = tuple(each for each in FIGURES if each.draw in (plots.roc, plots.det, plots.cmc))


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


def _picture(report: Report, drawing: Drawing) -> Picture:
    try:
        drawn = drawing.draw(report)
    except ValueError as why:  # such as one person only: the other figures are still worth a look
        return Picture(drawing, None, str(why))
    return Picture(drawing, _address(drawn))


def _address(drawn: Any) -> str:
    figure = drawn if hasattr(drawn, "savefig") else drawn.figure
    written = io.BytesIO()
    figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    svg = _same_names(written.getvalue().decode())
    if len(svg) <= LARGE:
        return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
    written = io.BytesIO()
    figure.savefig(written, format="png", transparent=True, dpi=160)
    return f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode()}"


def _same_names(svg: str) -> str:
    """The same drawing with the same bytes each time: matplotlib names its parts at random."""
    names: dict[str, str] = {}

    def named(found: re.Match[str]) -> str:
        return found[1] + names.setdefault(found[2], f"{found[2][0]}{len(names)}")

    return re.sub(r'((?:id="|href="#|url\(#))([a-z][0-9a-f]{10})(?=["\)])', named, svg)

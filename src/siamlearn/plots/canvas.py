"""What all figures share: where they are drawn, their colours, and how they are saved.

The colours are from Okabe and Ito and from Paul Tol, chosen so that colour-blind readers tell them
apart; where colour alone would say something, a marker, a dash or a word says it too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "FAINT",
    "GENUINE",
    "IMPOSTOR",
    "INK",
    "MARKERS",
    "NAME",
    "OTHERS",
    "PEOPLE",
    "POINTS",
    "RIGHT",
    "WRONG",
    "canvas",
    "dressed",
    "legend",
    "new_figure",
    "require",
    "save",
    "short",
    "thinned",
    "whole",
]

INK, FAINT = "#333333", "#BBBBBB"
GENUINE, IMPOSTOR = "#0072B2", "#D55E00"
RIGHT, WRONG = "#009E73", "#D55E00"
OTHERS = ("#777777", "#AA4499", "#999933", "#56B4E9", "#117733", "#CC6677")
PEOPLE = (
    *("#332288", "#88CCEE", "#44AA99", "#117733", "#999933"),
    *("#DDCC77", "#CC6677", "#882255", "#AA4499"),
)
MARKERS = "osD^vP*"  # seven against nine colours: 63 people before a pair of both comes again
NAME = 32  # letters of a name in a legend
PIECE = 2**20  # points of a curve looked at together
POINTS = "osD^v"  # of operating points, the same in every figure


def new_figure(size: tuple[float, float]) -> Figure:
    """An empty white figure that belongs to nobody else.

    Args:
        size: width and height, in inches.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed, with the pip command to run.

    Example:
        >>> new_figure((4, 3)).axes
        []
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ModuleNotFoundError as missing:
        msg = 'figures need matplotlib; install it with: pip install "siamlearn[plots]"'
        raise ModuleNotFoundError(msg, name="matplotlib") from missing
    return Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))


def canvas(ax: Axes | None, *, size: tuple[float, float] = (5.0, 4.0)) -> Axes:
    """The Axes that were given, or else those of a new figure.

    Args:
        ax: where the caller wants it drawn; None for a figure of its own.
        size: width and height of the new figure, in inches.

    Example:
        >>> ax = canvas(None)
        >>> canvas(ax) is ax
        True
    """
    return new_figure(size).add_subplot() if ax is None else ax


def require(given: object, kind: type, source: str) -> None:
    """Refuse to draw anything but what a figure is of, and say where that comes from.

    Example:
        >>> require("report.json", dict, "json.load(…)")
        Traceback (most recent call last):
        TypeError: this figure draws a dict, as json.load(…) returns it, got str
    """
    if not isinstance(given, kind):
        name = kind.__name__
        what = f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"
        msg = f"this figure draws {what}, as {source} returns it, got {type(given).__name__}"
        raise TypeError(msg)


def dressed(ax: Axes, title: str, x: str, y: str) -> Axes:
    """The same Axes with a title, named axes, a faint grid and no box around them.

    Example:
        >>> dressed(canvas(None), "ROC", "false match rate", "true match rate").get_title()
        'ROC'
    """
    ax.set_title(title, fontsize=10, color=INK)
    ax.set_xlabel(x, fontsize=9, color=INK)
    ax.set_ylabel(y, fontsize=9, color=INK)
    ax.tick_params(labelsize=8, colors=INK, which="both")
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(INK)
    ax.grid(color=FAINT, alpha=0.4, lw=0.5)
    ax.set_axisbelow(True)
    return ax


def legend(
    ax: Axes,
    place: Literal["upper left", "upper right", "lower left", "lower right", "below"] = "below",
) -> None:
    """The names of the curves in small print, under the axes, where they cover nothing.

    Args:
        place: within the axes instead, where a corner is known to be empty.

    Example:
        >>> ax = canvas(None)
        >>> curve = ax.plot([0, 1], label="net")
        >>> legend(ax, "upper left")
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['net']
    """
    if place != "below":
        ax.legend(loc=place, fontsize=8, labelcolor=INK, edgecolor="none", framealpha=0.85)
        return
    names = ax.get_legend_handles_labels()[1]
    ax.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        borderaxespad=3.9,  # in heights of a letter: under the name of the axis
        ncols=2 if len(names) > 1 and max(map(len, names)) <= 26 else 1,
        fontsize=8,
        labelcolor=INK,
        frameon=False,
        columnspacing=1.2,
    )


def short(name: str, most: int = 16) -> str:
    """The end of a long name, which tells pictures of one folder apart.

    Example:
        >>> short("s1/3.pgm"), short("a/very/long/folder/3.pgm", 12)
        ('s1/3.pgm', '…older/3.pgm')
    """
    return name if len(name) <= most else "…" + name[1 - most :]


def whole(ax: Axes) -> None:
    """Only whole numbers under the horizontal axis, as for epochs and ranks.

    Example:
        >>> ax = canvas(None)
        >>> limits = ax.set_xlim(1, 3)
        >>> whole(ax)
        >>> ax.get_xticks().tolist()
        [1.0, 2.0, 3.0]
    """
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


def thinned(x: Tensor, y: Tensor, *, log: bool = False, cells: int = 2000) -> tuple[Tensor, Tensor]:
    """The points of a curve without those that fall into the dot of the one before.

    Millions of pairs give curves of millions of points; a page shows some thousand.

    Args:
        x: shape (n,), in the order of the curve.
        y: shape (n,).
        log: whether an axis will be logarithmic, where small values take more room.
        cells: how many dots an axis has.

    Example:
        >>> x = torch.linspace(0, 1, 1_000_001)
        >>> len(thinned(x, x.square())[0]) < 5_000
        True
    """
    keep = torch.zeros(len(x), dtype=torch.bool)
    keep[0] = keep[-1] = True
    for values in (x, y):
        for scale in (Tensor.double, _log10) if log else (Tensor.double,):
            low, high = scale(values.amin()), scale(values.amax())
            size = (high - low).clamp(min=1e-12) / cells
            for start in range(0, len(x) - 2, PIECE):
                # Each piece begins with the last of the one before.
                cell = ((scale(values[start : start + PIECE + 1]) - low) / size).round()
                keep[start + 1 : start + len(cell)] |= cell.diff() != 0
    return x[keep], y[keep]


def _log10(values: Tensor) -> Tensor:
    return values.double().clamp(min=1e-12).log10()


def save(drawn: Figure | Axes, path: str | Path, *, dpi: int = 160) -> Path:
    """Write a figure to a file and return where; folders on the way are made.

    Args:
        drawn: a figure, or Axes on it.
        path: the suffix says the kind: .png, .pdf or .svg.
        dpi: dots per inch of a .png.

    Raises:
        ValueError: if the Axes are on no figure, or on a part of one.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(canvas(None), f"{folder}/plots/empty.png").name
        'empty.png'
    """
    from matplotlib.figure import Figure

    figure = drawn if isinstance(drawn, Figure) else drawn.figure
    if not isinstance(figure, Figure):
        msg = f"a whole figure can be saved, or Axes on one, but these are on {figure}"
        raise ValueError(msg)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi)
    return path

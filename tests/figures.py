"""What figures show, read back from their Axes."""

import numpy as np

__all__ = ["curve"]


def curve(ax, start):
    """The points of the one line whose name starts so."""
    (line,) = [line for line in ax.lines if line.get_label().startswith(start)]
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())

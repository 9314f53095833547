"""Every figure: a result in, matplotlib Axes out.

A function draws one thing on the Axes that it is given, or on a new Figure of its own, and returns
the Axes, or the Figure where it takes a whole one. It works nothing out but what it draws. There is
no pyplot here: no window opens, nothing is global, and a figure is freed like any other object.
"""

from siamlearn.plots.canvas import save
from siamlearn.plots.curves import (
    accuracy,
    cmc,
    det,
    distance_histogram,
    precision_recall,
    roc,
    training_curves,
)
from siamlearn.plots.page import overview
from siamlearn.plots.people import embedding_map, embedding_maps, faces, matches

__all__ = [
    "accuracy",
    "cmc",
    "det",
    "distance_histogram",
    "embedding_map",
    "embedding_maps",
    "faces",
    "matches",
    "overview",
    "precision_recall",
    "roc",
    "save",
    "training_curves",
]

"""Every figure: a result in, matplotlib Axes out.

A function draws one thing on the Axes that it is given, or on a new Figure of its own, and returns
the Axes; those that need several of them, `overview`, `matches` and `embedding_maps`, return the
Figure. None works anything out: that is done in :mod:`siamlearn.inspection`. There is no pyplot
here: no window opens, nothing is global, and a figure is freed like any other object.
"""

from siamlearn.plots.canvas import save
from siamlearn.plots.curves import cmc, det, precision_recall, reliability, roc
from siamlearn.plots.errors import confusions, people_distances, worst_pairs, zoo
from siamlearn.plots.maps import embedding_map, embedding_maps
from siamlearn.plots.page import overview
from siamlearn.plots.people import faces, matches
from siamlearn.plots.runs import training_compared
from siamlearn.plots.thresholds import accuracy, distance_histogram, error_rates
from siamlearn.plots.training import range_test, training_curves

__all__ = [
    "accuracy",
    "cmc",
    "confusions",
    "det",
    "distance_histogram",
    "embedding_map",
    "embedding_maps",
    "error_rates",
    "faces",
    "matches",
    "overview",
    "people_distances",
    "precision_recall",
    "range_test",
    "reliability",
    "roc",
    "save",
    "training_compared",
    "training_curves",
    "worst_pairs",
    "zoo",
]

"""What is behind the numbers of a report: which pairs are told wrongly, of whom, and how surely.

Everything comes from pairs in strips that are used and thrown away, so it fits into memory
wherever the report did. What is found here, :mod:`siamlearn.plots` draws.
"""

from siamlearn.inspection.maps import Directions, Map, directions, pca_map, tsne_map, umap_map
from siamlearn.inspection.pairs import Pair, WorstPairs, worst_pairs
from siamlearn.inspection.people import (
    PeopleDistances,
    Zoo,
    confusions,
    people_distances,
    zoo,
)
from siamlearn.inspection.rates import Bands, bands, reliability

__all__ = [
    "Bands",
    "Directions",
    "Map",
    "Pair",
    "PeopleDistances",
    "WorstPairs",
    "Zoo",
    "bands",
    "confusions",
    "directions",
    "pca_map",
    "people_distances",
    "reliability",
    "tsne_map",
    "umap_map",
    "worst_pairs",
    "zoo",
]

"""Metric-learning losses: pure functions from a block of pairs to its terms."""

from siamlearn.functional.losses.pairwise import contrastive
from siamlearn.functional.losses.softmax import info_nce, sup_con
from siamlearn.functional.losses.triplets import triplet

__all__ = ["contrastive", "info_nce", "sup_con", "triplet"]

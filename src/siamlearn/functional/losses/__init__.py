"""Metric-learning losses: pure functions from a block of pairs to its terms."""

from siamlearn.functional.losses.angles import angular, outside_angle, pairs_beside_all
from siamlearn.functional.losses.classification import (
    curricular_softmax,
    normalised_softmax,
    over_nearest_centres,
)
from siamlearn.functional.losses.pairwise import (
    contrastive,
    intra_pair_variance,
    margin_based,
    mean_distances,
    sigmoid,
    threshold_consistent,
)
from siamlearn.functional.losses.proxies import proxy_anchor, proxy_nca, soft_triple
from siamlearn.functional.losses.ranking import (
    fast_ap,
    histograms,
    pnp,
    pnp_dq,
    pnp_ds,
    pnp_ib,
    pnp_iu,
    pnp_o,
    smooth_ap,
)
from siamlearn.functional.losses.regularisers import (
    centre_distance,
    embedding_norm,
    nearest_rival,
    zero_mean,
)
from siamlearn.functional.losses.softmax import decoupled, info_nce, n_pairs, nca, sup_con
from siamlearn.functional.losses.triplets import (
    batch_hard,
    ranked_list,
    semi_hard_triplet,
    soft_triplet,
    triplet,
)
from siamlearn.functional.losses.tuples import (
    circle,
    crowding,
    generalised_lifted,
    lifted_structure,
    multi_similarity,
    rivalry,
    tuplet_margin,
)

__all__ = [
    "angular",
    "batch_hard",
    "centre_distance",
    "circle",
    "contrastive",
    "crowding",
    "curricular_softmax",
    "decoupled",
    "embedding_norm",
    "fast_ap",
    "generalised_lifted",
    "histograms",
    "info_nce",
    "intra_pair_variance",
    "lifted_structure",
    "margin_based",
    "mean_distances",
    "multi_similarity",
    "n_pairs",
    "nca",
    "nearest_rival",
    "normalised_softmax",
    "outside_angle",
    "over_nearest_centres",
    "pairs_beside_all",
    "pnp",
    "pnp_dq",
    "pnp_ds",
    "pnp_ib",
    "pnp_iu",
    "pnp_o",
    "proxy_anchor",
    "proxy_nca",
    "ranked_list",
    "rivalry",
    "semi_hard_triplet",
    "sigmoid",
    "smooth_ap",
    "soft_triple",
    "soft_triplet",
    "sup_con",
    "threshold_consistent",
    "triplet",
    "tuplet_margin",
    "zero_mean",
]

"""Metric-learning losses: pure functions from a block of pairs to its terms."""

from siamlearn.functional.losses.pairwise import contrastive
from siamlearn.functional.losses.proxies import proxy_anchor, proxy_nca, soft_triple
from siamlearn.functional.losses.ranking import (
    fast_ap,
    pnp,
    pnp_dq,
    pnp_ds,
    pnp_ib,
    pnp_iu,
    pnp_o,
    smooth_ap,
)
from siamlearn.functional.losses.softmax import decoupled, info_nce, n_pairs, nca, sup_con
from siamlearn.functional.losses.triplets import (
    batch_hard,
    semi_hard_triplet,
    soft_triplet,
    triplet,
)

__all__ = [
    "batch_hard",
    "contrastive",
    "decoupled",
    "fast_ap",
    "info_nce",
    "n_pairs",
    "nca",
    "pnp",
    "pnp_dq",
    "pnp_ds",
    "pnp_ib",
    "pnp_iu",
    "pnp_o",
    "proxy_anchor",
    "proxy_nca",
    "semi_hard_triplet",
    "smooth_ap",
    "soft_triple",
    "soft_triplet",
    "sup_con",
    "triplet",
]

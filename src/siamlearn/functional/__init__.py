"""Pure functions of tensors: pairs, losses, margins, miners, error rates."""

from siamlearn.functional import (
    accepted,
    calibration,
    distances,
    histogram,
    identification,
    intervals,
    losses,
    margins,
    mining,
    pairings,
    pairs,
    prepared,
    reliability,
    resampling,
    retrieval,
    verification,
)

__all__ = [
    "accepted",
    "calibration",
    "distances",
    "histogram",
    "identification",
    "intervals",
    "losses",
    "margins",
    "mining",
    "pairings",
    "pairs",
    "prepared",
    "reliability",
    "resampling",
    "retrieval",
    "verification",
]

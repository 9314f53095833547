"""Pure functions of tensors: pairs, losses, margins, miners, error rates."""

from siamlearn.functional import (
    calibration,
    distances,
    identification,
    intervals,
    losses,
    margins,
    mining,
    pairings,
    pairs,
    reliability,
    resampling,
    verification,
)

__all__ = [
    "calibration",
    "distances",
    "identification",
    "intervals",
    "losses",
    "margins",
    "mining",
    "pairings",
    "pairs",
    "reliability",
    "resampling",
    "verification",
]

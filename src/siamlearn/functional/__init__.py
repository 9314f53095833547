"""Pure functions of tensors: pairs, losses, margins, miners, error rates."""

from siamlearn.functional import (
    distances,
    identification,
    losses,
    margins,
    mining,
    pairings,
    pairs,
    verification,
)

__all__ = [
    "distances",
    "identification",
    "losses",
    "margins",
    "mining",
    "pairings",
    "pairs",
    "verification",
]

"""Proof that a loss of one's own keeps the laws that every loss here keeps."""

from siamlearn.testing.checking import LAWS, Checked, check_loss
from siamlearn.testing.distributed import check_distributed
from siamlearn.testing.processes import RankError, on_ranks
from siamlearn.testing.trials import LawBroken, Trial

__all__ = [
    "LAWS",
    "Checked",
    "LawBroken",
    "RankError",
    "Trial",
    "check_distributed",
    "check_loss",
    "on_ranks",
]

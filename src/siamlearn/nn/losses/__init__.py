"""Losses as modules: a choice of pairs, of distance and of miner around a pure function."""

from siamlearn.nn.losses.pair_loss import Miner, PairLoss
from siamlearn.nn.losses.pairwise import ContrastiveLoss
from siamlearn.nn.losses.softmax import InfoNCELoss, SupConLoss
from siamlearn.nn.losses.triplets import TripletLoss

__all__ = ["ContrastiveLoss", "InfoNCELoss", "Miner", "PairLoss", "SupConLoss", "TripletLoss"]

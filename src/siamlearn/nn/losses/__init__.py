"""Losses as modules: a choice of pairs, of distance and of miner around a pure function."""

from siamlearn.nn.losses.pair_loss import Miner, PairLoss
from siamlearn.nn.losses.pairwise import ContrastiveLoss
from siamlearn.nn.losses.proxies import ProxyAnchorLoss, ProxyNCALoss, SoftTripleLoss, swapped
from siamlearn.nn.losses.ranking import FastAPLoss, HistogramLoss, PNPLoss, SmoothAPLoss
from siamlearn.nn.losses.softmax import DecoupledLoss, InfoNCELoss, NCALoss, NPairsLoss, SupConLoss
from siamlearn.nn.losses.triplets import (
    BatchHardLoss,
    SemiHardTripletLoss,
    SoftTripletLoss,
    TripletLoss,
)

__all__ = [
    "BatchHardLoss",
    "ContrastiveLoss",
    "DecoupledLoss",
    "FastAPLoss",
    "HistogramLoss",
    "InfoNCELoss",
    "Miner",
    "NCALoss",
    "NPairsLoss",
    "PNPLoss",
    "PairLoss",
    "ProxyAnchorLoss",
    "ProxyNCALoss",
    "SemiHardTripletLoss",
    "SmoothAPLoss",
    "SoftTripleLoss",
    "SoftTripletLoss",
    "SupConLoss",
    "TripletLoss",
    "swapped",
]

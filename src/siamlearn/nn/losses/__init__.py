"""Losses as modules: a choice of pairs, of distance and of miner around a pure function."""

from siamlearn.nn.losses.pair_loss import Miner, PairLoss
from siamlearn.nn.losses.pairwise import (
    ContrastiveLoss,
    IntraPairVarianceLoss,
    MarginLoss,
    SigmoidLoss,
    ThresholdConsistentLoss,
)
from siamlearn.nn.losses.proxies import ProxyAnchorLoss, ProxyNCALoss, SoftTripleLoss, swapped
from siamlearn.nn.losses.ranking import FastAPLoss, HistogramLoss, PNPLoss, SmoothAPLoss
from siamlearn.nn.losses.regularisers import (
    CentreLoss,
    EmbeddingNorm,
    RegularFace,
    Regulariser,
    ZeroMean,
)
from siamlearn.nn.losses.softmax import DecoupledLoss, InfoNCELoss, NCALoss, NPairsLoss, SupConLoss
from siamlearn.nn.losses.sums import SumLoss, Summand
from siamlearn.nn.losses.triplets import (
    BatchHardLoss,
    SemiHardTripletLoss,
    SoftTripletLoss,
    TripletLoss,
)

__all__ = [
    "BatchHardLoss",
    "CentreLoss",
    "ContrastiveLoss",
    "DecoupledLoss",
    "EmbeddingNorm",
    "FastAPLoss",
    "HistogramLoss",
    "InfoNCELoss",
    "IntraPairVarianceLoss",
    "MarginLoss",
    "Miner",
    "NCALoss",
    "NPairsLoss",
    "PNPLoss",
    "PairLoss",
    "ProxyAnchorLoss",
    "ProxyNCALoss",
    "RegularFace",
    "Regulariser",
    "SemiHardTripletLoss",
    "SigmoidLoss",
    "SmoothAPLoss",
    "SoftTripleLoss",
    "SoftTripletLoss",
    "SumLoss",
    "Summand",
    "SupConLoss",
    "ThresholdConsistentLoss",
    "TripletLoss",
    "ZeroMean",
    "swapped",
]

"""Losses as modules: a choice of pairs, of distance and of miner around a pure function."""

from siamlearn.nn.losses.classification import (
    ArcFaceLoss,
    ClassificationLoss,
    CombinedMarginLoss,
    CosFaceLoss,
    NormalisedSoftmaxLoss,
    SphereFaceLoss,
)
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
from siamlearn.nn.losses.recognition import (
    AdaFaceLoss,
    CurricularFaceLoss,
    MagFaceLoss,
    SubCentreArcFaceLoss,
)
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
    RankedListLoss,
    SemiHardTripletLoss,
    SoftTripletLoss,
    TripletLoss,
)

__all__ = [
    "AdaFaceLoss",
    "ArcFaceLoss",
    "BatchHardLoss",
    "CentreLoss",
    "ClassificationLoss",
    "CombinedMarginLoss",
    "ContrastiveLoss",
    "CosFaceLoss",
    "CurricularFaceLoss",
    "DecoupledLoss",
    "EmbeddingNorm",
    "FastAPLoss",
    "HistogramLoss",
    "InfoNCELoss",
    "IntraPairVarianceLoss",
    "MagFaceLoss",
    "MarginLoss",
    "Miner",
    "NCALoss",
    "NPairsLoss",
    "NormalisedSoftmaxLoss",
    "PNPLoss",
    "PairLoss",
    "ProxyAnchorLoss",
    "ProxyNCALoss",
    "RankedListLoss",
    "RegularFace",
    "Regulariser",
    "SemiHardTripletLoss",
    "SigmoidLoss",
    "SmoothAPLoss",
    "SoftTripleLoss",
    "SoftTripletLoss",
    "SphereFaceLoss",
    "SubCentreArcFaceLoss",
    "SumLoss",
    "Summand",
    "SupConLoss",
    "ThresholdConsistentLoss",
    "TripletLoss",
    "ZeroMean",
    "swapped",
]

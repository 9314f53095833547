"""Losses as modules: a choice of pairs, of distance and of miner around a pure function."""

from siamlearn.nn.losses.angular import AngularLoss
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
from siamlearn.nn.losses.proxies import ProxyAnchorLoss, ProxyNCALoss, SoftTripleLoss
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
from siamlearn.nn.losses.tuples import (
    CircleLoss,
    GeneralisedLiftedLoss,
    LiftedStructureLoss,
    MultiSimilarityLoss,
    TupletMarginLoss,
)

__all__ = [
    "AdaFaceLoss",
    "AngularLoss",
    "ArcFaceLoss",
    "BatchHardLoss",
    "CentreLoss",
    "CircleLoss",
    "ClassificationLoss",
    "CombinedMarginLoss",
    "ContrastiveLoss",
    "CosFaceLoss",
    "CurricularFaceLoss",
    "DecoupledLoss",
    "EmbeddingNorm",
    "FastAPLoss",
    "GeneralisedLiftedLoss",
    "HistogramLoss",
    "InfoNCELoss",
    "IntraPairVarianceLoss",
    "LiftedStructureLoss",
    "MagFaceLoss",
    "MarginLoss",
    "Miner",
    "MultiSimilarityLoss",
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
    "TupletMarginLoss",
    "ZeroMean",
]

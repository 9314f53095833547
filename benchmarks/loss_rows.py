"""What is measured beside what: the rows of ``benchmarks/losses.py``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import by_hand
import torch
from pytorch_metric_learning import distances as peer_distances
from pytorch_metric_learning import losses as peers
from pytorch_metric_learning import miners as peer_miners
from torch import Tensor, nn

import siamlearn as sl
from siamlearn.functional import distances, mining
from siamlearn.nn import losses as modules
from siamlearn.nn.references import Proxies


@dataclass(frozen=True)
class Work:
    """One row: a loss on a batch.

    Attributes:
        pictures: of each identity in the batch.
        references: how many, where the batch is not compared with itself.
        asked: the ratio that was aimed at, as it is shown.
        patience: seconds that the times may take together.
        differs: how the peer means something else; then only the times are compared.
    """

    name: str
    size: int
    ours: Callable[[], nn.Module]
    peer: Callable[[], nn.Module] | None = None
    dense: Callable[[], nn.Module] | None = None
    pictures: int = 4
    dimensions: int = 128
    references: int | None = None
    asked: str = ""
    patience: float = 8
    differs: str = ""


class Mined(nn.Module):
    """A loss of the peer with one of its miners, as its README has it."""

    def __init__(self, loss: nn.Module, miner: nn.Module) -> None:
        super().__init__()
        self.loss, self.miner = loss, miner

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        cost: Tensor = self.loss(x, labels, self.miner(x, labels))
        return cost


def arcface(classes: int) -> tuple[Callable[[], nn.Module], ...]:
    """All three ways, of the same weights; the same angle, which the peer has in degrees."""

    def ours() -> nn.Module:
        return modules.ArcFaceLoss(classes, 512, margin=0.5, scale=64.0)

    def peer() -> nn.Module:
        loss = peers.ArcFaceLoss(classes, 512, margin=math.degrees(0.5), scale=64)
        with torch.no_grad():
            loss.W.copy_(ours().proxies.vectors.T)
        return loss

    return ours, peer, lambda: by_hand.ArcFace(ours().proxies.vectors.detach().clone())


def works() -> list[Work]:
    """All rows, in the order of the table."""
    plain = peer_distances.LpDistance(normalize_embeddings=False)
    return [
        Work(
            "NT-Xent",
            512,
            lambda: sl.InfoNCELoss(0.07),
            lambda: peers.NTXentLoss(0.07),
            lambda: by_hand.Dense(by_hand.info_nce),
            pictures=2,
            asked="500 times, < 20 MB",
            patience=40,
        ),
        Work(
            "NT-Xent",
            4096,
            lambda: sl.InfoNCELoss(0.07),
            lambda: peers.NTXentLoss(0.07),
            lambda: by_hand.Dense(by_hand.info_nce),
            pictures=2,
            asked="< 100 MB",
        ),
        Work(
            "lifted structure",
            256,
            modules.LiftedStructureLoss,
            lambda: peers.LiftedStructureLoss(neg_margin=1.0, pos_margin=0.0, distance=plain),
            dense=lambda: by_hand.Dense(by_hand.lifted_structure),
            asked="300 times",
            patience=30,
        ),
        Work(
            "tuplet margin",
            256,
            modules.TupletMarginLoss,
            peers.TupletMarginLoss,
            dense=lambda: by_hand.Dense(by_hand.tuplet_margin),
            asked="300 times",
            patience=30,
        ),
        Work(
            "triplet, all",
            1024,
            lambda: sl.TripletLoss(0.2),
            lambda: peers.TripletMarginLoss(0.2, distance=plain),
            asked="10 times, < 60 MB",
        ),
        Work(
            "triplet, all",
            4096,
            lambda: sl.TripletLoss(0.2),
            lambda: peers.TripletMarginLoss(0.2, distance=plain),
            asked="< 200 MB",
        ),
        Work(
            "multi-similarity mining, then triplet",
            1024,
            lambda: sl.TripletLoss(
                0.05, distance=sl.cosine, miner=partial(mining.multi_similarity_mining, epsilon=0.1)
            ),
            lambda: Mined(
                peers.TripletMarginLoss(0.05, distance=peer_distances.CosineSimilarity()),
                peer_miners.MultiSimilarityMiner(epsilon=0.1),
            ),
            asked="30 times, < 100 MB",
            patience=30,
        ),
        Work(
            "triplet, semi-hard",
            1024,
            lambda: modules.SemiHardTripletLoss(0.2),
            lambda: Mined(
                peers.TripletMarginLoss(0.2, distance=plain),
                peer_miners.TripletMarginMiner(0.2, type_of_triplets="semihard", distance=plain),
            ),
            asked="15 times",
        ),
        Work(
            "supervised contrastive",
            4096,
            lambda: sl.SupConLoss(0.1),
            lambda: peers.SupConLoss(0.1),
            lambda: by_hand.Dense(by_hand.sup_con),
            asked="5 times, < 60 MB",
        ),
        Work(
            "multi-similarity",
            1024,
            lambda: modules.MultiSimilarityLoss(base=0.5),
            lambda: peers.MultiSimilarityLoss(alpha=2, beta=50, base=0.5),
            dense=lambda: by_hand.Dense(by_hand.multi_similarity),
            asked="3 times",
        ),
        Work(
            "circle",
            1024,
            lambda: modules.CircleLoss(relaxation=0.4, scale=80.0),
            lambda: peers.CircleLoss(m=0.4, gamma=80),
            dense=lambda: by_hand.Dense(by_hand.circle),
            asked="3 times",
        ),
        Work(
            "NCA",
            1024,
            modules.NCALoss,
            lambda: peers.NCALoss(
                distance=peer_distances.LpDistance(normalize_embeddings=False, power=2)
            ),
            dense=lambda: by_hand.Dense(by_hand.nca),
            asked="3 times",
        ),
        *(
            Work(
                "contrastive",
                size,
                lambda: sl.ContrastiveLoss(1.0, squared=False, apart=True),
                lambda: peers.ContrastiveLoss(distance=plain),
                lambda: by_hand.Dense(by_hand.contrastive_apart),
                asked=asked,
            )
            for size, asked in ((1024, "3 times"), (4096, "5 times, < 50 MB"))
        ),
        *(
            Work(
                "contrastive, squared",
                size,
                lambda: sl.ContrastiveLoss(1.0),
                None,
                lambda: by_hand.Dense(by_hand.contrastive),
            )
            for size in (1024, 4096)
        ),
        Work(
            "margin",
            1024,
            lambda: modules.MarginLoss(0.2, boundary=1.2, balanced=True),
            lambda: peers.MarginLoss(distance=plain),
            asked="5 times",
        ),
        Work("FastAP", 1024, modules.FastAPLoss, peers.FastAPLoss, asked="5 times"),
        *(
            Work(
                "PNP",
                size,
                modules.PNPLoss,
                peers.PNPLoss,
                asked="5 times",
                differs="takes every anchor for its own positive",
            )
            for size in (256, 1024)
        ),
        Work(
            "Smooth-AP",
            256,
            modules.SmoothAPLoss,
            peers.SmoothAPLoss,
            differs="is right only where labels stand in order",
        ),
        Work(
            "signal to noise",
            1024,
            lambda: sl.ContrastiveLoss(
                1.0, squared=False, apart=True, distance=distances.signal_to_noise
            ),
            lambda: peers.SignalToNoiseRatioContrastiveLoss(
                distance=peer_distances.SNRDistance(normalize_embeddings=False)
            ),
            dense=lambda: by_hand.Dense(by_hand.signal_to_noise),
            asked="5 times",
        ),
        *(
            Work(
                f"ArcFace, {classes:,} classes",
                256,
                *arcface(classes),
                dimensions=512,
                references=classes,
                asked="1.5 times",
            )
            for classes in (10_000, 100_000)
        ),
    ]


WORKS = works()
# The same of a batch as small as that of a first notebook, where what a call costs is all.
SMALL = (
    "NT-Xent",
    "triplet, all",
    "supervised contrastive",
    "multi-similarity",
    "NCA",
    "contrastive",
)
WORKS += [
    replace(next(work for work in WORKS if work.name == name), size=32, asked="", patience=3)
    for name in SMALL
]

# How many proxies, or classes, the losses have that are taken against them.
CLASSES = 1_000
OF_CLASSES: dict[str, Callable[[], nn.Module]] = {
    **{
        loss.__name__: partial(loss, CLASSES, 128)
        for loss in (
            modules.NormalisedSoftmaxLoss,
            modules.CosFaceLoss,
            modules.ArcFaceLoss,
            modules.CombinedMarginLoss,
            modules.SphereFaceLoss,
            modules.SubCentreArcFaceLoss,
            modules.CurricularFaceLoss,
            modules.AdaFaceLoss,
            modules.MagFaceLoss,
        )
    },
    "ProxyNCALoss": lambda: modules.ProxyNCALoss(references=Proxies(CLASSES, 128)),
    "ProxyAnchorLoss": lambda: modules.ProxyAnchorLoss(references=Proxies(CLASSES, 128)),
    "SoftTripleLoss": lambda: modules.SoftTripleLoss(references=Proxies(CLASSES, 128, centres=10)),
}

EVERY: dict[str, Callable[[], nn.Module]] = {
    "ContrastiveLoss": sl.ContrastiveLoss,
    "InfoNCELoss": sl.InfoNCELoss,
    "SupConLoss": sl.SupConLoss,
    "TripletLoss": sl.TripletLoss,
    "MultiSimilarityLoss": modules.MultiSimilarityLoss,
    "CircleLoss": modules.CircleLoss,
    "NCALoss": modules.NCALoss,
    "DecoupledLoss": modules.DecoupledLoss,
    "NPairsLoss": modules.NPairsLoss,
    "TupletMarginLoss": modules.TupletMarginLoss,
    "LiftedStructureLoss": modules.LiftedStructureLoss,
    "GeneralisedLiftedLoss": modules.GeneralisedLiftedLoss,
    "MarginLoss": modules.MarginLoss,
    "SigmoidLoss": modules.SigmoidLoss,
    "ThresholdConsistentLoss": modules.ThresholdConsistentLoss,
    "IntraPairVarianceLoss": modules.IntraPairVarianceLoss,
    "BatchHardLoss": modules.BatchHardLoss,
    "SemiHardTripletLoss": modules.SemiHardTripletLoss,
    "SoftTripletLoss": modules.SoftTripletLoss,
    "RankedListLoss": modules.RankedListLoss,
    "FastAPLoss": modules.FastAPLoss,
    "SmoothAPLoss": modules.SmoothAPLoss,
    "PNPLoss": modules.PNPLoss,
    "HistogramLoss": modules.HistogramLoss,
    "AngularLoss": modules.AngularLoss,
    **OF_CLASSES,
}
CURVES = ("ContrastiveLoss", "InfoNCELoss", "SupConLoss", "TripletLoss", "MultiSimilarityLoss")

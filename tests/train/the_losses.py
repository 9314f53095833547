"""One loss of each kind that a batch is shared or cut up for, small enough to be trained often."""

from functools import partial

import torch
from torch import nn

from siamlearn.functional.pairings import adjacent_pairs, two_towers
from siamlearn.nn.losses import (
    AdaFaceLoss,
    AngularLoss,
    ArcFaceLoss,
    BatchHardLoss,
    CentreLoss,
    CombinedMarginLoss,
    ContrastiveLoss,
    CosFaceLoss,
    CurricularFaceLoss,
    EmbeddingNorm,
    HistogramLoss,
    InfoNCELoss,
    IntraPairVarianceLoss,
    MagFaceLoss,
    MarginLoss,
    NormalisedSoftmaxLoss,
    ProxyAnchorLoss,
    ProxyNCALoss,
    RegularFace,
    SemiHardTripletLoss,
    SigmoidLoss,
    SmoothAPLoss,
    SoftTripleLoss,
    SphereFaceLoss,
    SubCentreArcFaceLoss,
    SupConLoss,
    ThresholdConsistentLoss,
    ZeroMean,
)
from siamlearn.nn.references import Memory, Proxies

LOSSES = {
    "contrastive": ContrastiveLoss,
    "pairs side by side": partial(ContrastiveLoss, pairing=adjacent_pairs),
    "two towers": partial(SupConLoss, pairing=two_towers),
    "supervised contrastive": SupConLoss,
    "proxies": lambda: ProxyAnchorLoss(references=Proxies(4, 4)),
    "a sample of proxies": lambda: ProxyAnchorLoss(references=Proxies(4, 4, sample=0.4)),
    "sparse proxies": lambda: SupConLoss(references=Proxies(40, 4, sample=0.3, sparse=True)),
    "a memory": lambda: ContrastiveLoss(references=Memory(11, warm_up=1)),
    "a sum": lambda: ContrastiveLoss() + 0.5 * SupConLoss(),
    "a function": lambda: by_hand,
    "a module": lambda: Centred(),
    "a sum with a function": lambda: ContrastiveLoss() + 0.1 * _module(by_hand),
    "a learned temperature": lambda: InfoNCELoss(0.5, learned=True),
    "a learned boundary": lambda: MarginLoss(learned=True, classes=4, regularisation=0.1),
    "a learned bias": SigmoidLoss,
    "proxies as classes": lambda: ProxyNCALoss(references=Proxies(4, 4)),
    "several proxies a class": lambda: SoftTripleLoss(references=Proxies(4, 4, centres=2)),
    "a softmax": lambda: NormalisedSoftmaxLoss(4, 4, temperature=0.5),
    "a margin of cosines": lambda: CosFaceLoss(4, 4, scale=8.0),
    "a margin of angles": lambda: ArcFaceLoss(4, 4, scale=8.0),
    "a margin of angles, a sample": lambda: ArcFaceLoss(9, 4, scale=8.0, sample=0.7),
    "a multiple of angles": lambda: SphereFaceLoss(4, 4),
    "three margins": lambda: CombinedMarginLoss(4, 4, scale=8.0),
    "several centres": lambda: SubCentreArcFaceLoss(4, 4, scale=8.0),
    "progress that is remembered": lambda: CurricularFaceLoss(4, 4, scale=8.0, momentum=0.5),
    "usual lengths": lambda: AdaFaceLoss(4, 4, scale=8.0, momentum=0.5),
    "lengths that cost": lambda: MagFaceLoss(4, 4, scale=8.0, shortest=0.1, longest=9.0),
    "centres beside": lambda: ContrastiveLoss() + 0.5 * CentreLoss(4, 4),
    "regularisers beside": lambda: regularised(),
    "a histogram": lambda: HistogramLoss(20),
    "variances": IntraPairVarianceLoss,
    "a threshold of all": ThresholdConsistentLoss,
    "the hardest": BatchHardLoss,
    "semi-hard ones": SemiHardTripletLoss,
    "precisions": SmoothAPLoss,
    "angles of pairs": AngularLoss,
    "centres": lambda: CentreLoss(4, 4),
    "lengths": EmbeddingNorm,
    "the mean": ZeroMean,
}


def regularised():
    loss = ArcFaceLoss(4, 4, scale=8.0)
    return loss + RegularFace(loss.proxies.vectors) + 0.1 * ZeroMean() + 0.1 * EmbeddingNorm()


def by_hand(embeddings, labels):
    """A loss that knows nothing of ranks."""
    alike = labels[:, None] == labels
    return (embeddings @ embeddings.T).sub(alike.double()).square().mean()


class Centred(nn.Module):
    """The same, with something to learn."""

    def __init__(self):
        super().__init__()
        self.centre = nn.Parameter(torch.full((4,), 0.3, dtype=torch.float64))

    def forward(self, embeddings, labels):
        return by_hand(embeddings - self.centre, labels)


def _module(loss):
    return SupConLoss() * 0.0 + loss

"""Losses that the laws are not all for: of classes, and with choices that change their way."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from siamlearn.functional import mining
from siamlearn.functional.distances import cosine
from siamlearn.functional.pairings import two_towers
from siamlearn.nn import losses
from siamlearn.nn.references import Proxies

OF_CLASSES = [
    losses.NormalisedSoftmaxLoss,
    losses.CosFaceLoss,
    losses.ArcFaceLoss,
    losses.CombinedMarginLoss,
    losses.SphereFaceLoss,
    losses.SubCentreArcFaceLoss,
    losses.CurricularFaceLoss,
    losses.AdaFaceLoss,
    losses.MagFaceLoss,
]


def soft_triple(classes: int) -> losses.SoftTripleLoss:
    """With several centres, which are drawn together."""
    return losses.SoftTripleLoss(references=Proxies(classes, 3, centres=3))


# For batches of four identities and three dimensions.
OTHERS: dict[str, Callable[[], nn.Module]] = {
    **{loss.__name__: partial(loss, 4, 3) for loss in OF_CLASSES},
    "soft triple": partial(soft_triple, 4),
    "a boundary for each identity": partial(losses.MarginLoss, classes=4, regularisation=0.3),
    "pairs beside all": losses.AngularLoss,
    "two towers": partial(losses.SigmoidLoss, pairing=two_towers),
    "a lifted structure of one way": partial(
        losses.LiftedStructureLoss, miner=partial(mining.hardest, negatives=2)
    ),
    "mined triplets": partial(
        losses.TripletLoss, distance=cosine, miner=mining.multi_similarity_mining
    ),
}


def another(name: str) -> nn.Module:
    """One of them, with the same parameters each time."""
    torch.manual_seed(0)
    return OTHERS[name]()

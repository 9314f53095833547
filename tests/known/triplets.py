"""Losses of triplets, with the loops of their papers and their peers."""

from functools import partial
from itertools import product

from pytorch_metric_learning import losses as peer_losses
from torch import Tensor

from known.loss import PLAIN, Loss, mean
from siamlearn.functional import losses
from siamlearn.functional.distances import euclidean
from siamlearn.nn.losses import TripletLoss


def triplet_loops(d: Tensor, y: list[int], margin: float) -> Tensor:
    triplets = product(range(len(y)), repeat=3)
    valid = [(a, p, n) for a, p, n in triplets if a != p and y[a] == y[p] and y[a] != y[n]]
    costs = [d[a, p] - d[a, n] + margin for a, p, n in valid]
    return mean([cost for cost in costs if cost > 0])


LOSSES = [
    Loss(
        name="triplet",
        terms=partial(losses.triplet, margin=0.3),
        module=partial(TripletLoss, 0.3),
        distance=euclidean,
        loops=partial(triplet_loops, margin=0.3),
        peer=peer_losses.TripletMarginLoss(margin=0.3, distance=PLAIN),
    ),
]

"""Losses of triplets, with the loops of their papers and their peers."""

from functools import partial
from itertools import product

from pytorch_metric_learning import losses as peer_losses
from pytorch_metric_learning import miners as peer_miners
from pytorch_metric_learning import reducers as peer_reducers
from torch import Tensor

from known.loss import PLAIN, Loss, mean
from siamlearn.functional import losses
from siamlearn.functional.distances import euclidean
from siamlearn.functional.pairings import all_pairs
from siamlearn.nn.losses import (
    AngularLoss,
    BatchHardLoss,
    RankedListLoss,
    SemiHardTripletLoss,
    SoftTripletLoss,
    TripletLoss,
)


def every_triplet(y: list[int]) -> list[tuple[int, int, int]]:
    triplets = product(range(len(y)), repeat=3)
    return [(a, p, n) for a, p, n in triplets if a != p and y[a] == y[p] and y[a] != y[n]]


def triplet_loops(d: Tensor, y: list[int], margin: float) -> Tensor:
    costs = [d[a, p] - d[a, n] + margin for a, p, n in every_triplet(y)]
    return mean([cost for cost in costs if cost > 0])


def semi_hard_loops(d: Tensor, y: list[int], margin: float) -> Tensor:
    semi_hard = [(a, p, n) for a, p, n in every_triplet(y) if d[a, n] > d[a, p]]
    costs = [d[a, p] - d[a, n] + margin for a, p, n in semi_hard]
    return mean([cost for cost in costs if cost > 0])


def soft_loops(d: Tensor, y: list[int], margin: float) -> Tensor:
    return mean([(d[a, p] - d[a, n] + margin).exp().log1p() for a, p, n in every_triplet(y)])


def batch_hard_loops(d: Tensor, y: list[int], margin: float) -> Tensor:
    costs = []
    for a in range(len(y)):
        near = [d[a, n] for n in range(len(y)) if y[n] != y[a]]
        far = [d[a, p] for p in range(len(y)) if p != a and y[p] == y[a]]
        if near and far:
            costs.append((max(far) - min(near) + margin).clamp(min=0))
    return mean(costs)


def ranked_list_loops(d: Tensor, y: list[int], margin: float, boundary: float) -> Tensor:
    costs, w = [], (10 * (boundary - d)).exp().detach()
    for i in range(len(y)):
        far = [j for j in range(len(y)) if j != i and y[j] == y[i] and d[i, j] > boundary - margin]
        near = [j for j in range(len(y)) if y[j] != y[i] and d[i, j] < boundary]
        pull = mean([d[i, j] - (boundary - margin) for j in far])
        push = sum(w[i, j] * (boundary - d[i, j]) for j in near)
        costs.append(pull + (push / sum(w[i, j] for j in near) if near else 0))
    return mean(costs)


def angular_loops(d: Tensor, y: list[int]) -> Tensor:
    away = [[d[i, j] for j in range(len(y)) if y[j] != y[i]] for i in range(len(y))]
    return mean([sum((-n).exp() for n in row).log1p() for row in away if row])


def mined_peer(
    embeddings: Tensor, labels: Tensor, miner: peer_miners.BaseMiner, **settings: object
) -> Tensor:
    """Its loss over the triplets that its miner finds."""
    found = miner(embeddings, labels)
    return peer_losses.TripletMarginLoss(distance=PLAIN, **settings)(embeddings, labels, found)


MEAN = peer_reducers.MeanReducer()

LOSSES = [
    Loss(
        name="triplet",
        terms=partial(losses.triplet, margin=0.3),
        module=partial(TripletLoss, 0.3),
        distance=euclidean,
        loops=partial(triplet_loops, margin=0.3),
        peer=peer_losses.TripletMarginLoss(margin=0.3, distance=PLAIN),
    ),
    Loss(
        name="semi_hard_triplet",
        terms=partial(losses.semi_hard_triplet, margin=0.3),
        module=partial(SemiHardTripletLoss, 0.3),
        distance=euclidean,
        loops=partial(semi_hard_loops, margin=0.3),
        peer=partial(
            mined_peer,
            miner=peer_miners.TripletMarginMiner(
                margin=0.3, type_of_triplets="semihard", distance=PLAIN
            ),
            margin=0.3,
        ),
        exempt={
            "test_one_positive_and_one_negative_nearer_than_it_cost_something": (
                "negatives nearer than the positive are left out on purpose"
            )
        },
    ),
    Loss(
        name="soft_triplet",
        terms=partial(losses.soft_triplet, margin=0.1),
        module=partial(SoftTripletLoss, 0.1),
        distance=euclidean,
        loops=partial(soft_loops, margin=0.1),
        peer=peer_losses.TripletMarginLoss(
            margin=0.1, smooth_loss=True, distance=PLAIN, reducer=MEAN
        ),
    ),
    Loss(
        name="batch_hard",
        terms=partial(losses.batch_hard, margin=0.5),
        module=partial(BatchHardLoss, 0.5),
        distance=euclidean,
        loops=partial(batch_hard_loops, margin=0.5),
        peer=partial(
            mined_peer, miner=peer_miners.BatchHardMiner(distance=PLAIN), margin=0.5, reducer=MEAN
        ),
    ),
    Loss(
        name="ranked_list",
        terms=partial(losses.ranked_list, margin=0.3, boundary=0.9),
        module=partial(RankedListLoss, 0.3, boundary=0.9),
        distance=euclidean,
        loops=partial(ranked_list_loops, margin=0.3, boundary=0.9),
        exempt={
            "test_gradient_is_that_of_small_steps": "its weights have no gradient, as in the paper"
        },
    ),
    Loss(
        # As a loss of rows; what rows it has usually is in test_angular.
        name="angular",
        terms=losses.angular,
        module=partial(AngularLoss, pairing=all_pairs, distance=euclidean),
        distance=euclidean,
        loops=angular_loops,
    ),
]

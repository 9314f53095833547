"""Losses of single pairs, with the loops of their papers and their peers."""

from functools import partial
from itertools import product

import torch
from pytorch_metric_learning import distances as peer_distances
from pytorch_metric_learning import losses as peer_losses
from pytorch_metric_learning import reducers as peer_reducers
from torch import Tensor

from known.loss import PLAIN, Loss, mean
from siamlearn.functional import losses
from siamlearn.functional.distances import cosine, euclidean, signal_to_noise
from siamlearn.nn.losses import (
    ContrastiveLoss,
    MarginLoss,
    SigmoidLoss,
    ThresholdConsistentLoss,
)


def both_kinds(d: Tensor, y: list[int]) -> tuple[list[Tensor], list[Tensor]]:
    """The distances of the positives, and of the negatives."""
    pairs = [(i, j) for i, j in product(range(len(y)), repeat=2) if i != j]
    return [d[p] for p in pairs if y[p[0]] == y[p[1]]], [d[p] for p in pairs if y[p[0]] != y[p[1]]]


def contrastive_loops(d: Tensor, y: list[int], margin: float, inner: float, power: int) -> Tensor:
    positives, negatives = both_kinds(d, y)
    pull = [(d - inner).clamp(min=0) ** power for d in positives]
    push = [(margin - d).clamp(min=0) ** power for d in negatives]
    return mean(pull + push)


def apart_loops(d: Tensor, y: list[int], margin: float, inner: float) -> Tensor:
    positives, negatives = both_kinds(d, y)
    return mean([d - inner for d in positives if d > inner]) + mean(
        [margin - d for d in negatives if d < margin]
    )


def margin_loops(d: Tensor, y: list[int], margin: float, boundary: float, weight: float) -> Tensor:
    positives, negatives = both_kinds(d, y)
    costs = [margin + d - boundary for d in positives] + [margin + boundary - d for d in negatives]
    return mean([cost for cost in costs if cost > 0]) + weight * boundary


def balanced_loops(d: Tensor, y: list[int], margin: float, boundary: float) -> Tensor:
    costs = []
    for a, p, n in product(range(len(y)), repeat=3):
        if a != p and y[a] == y[p] and y[a] != y[n]:
            costs += [margin + d[a, p] - boundary, margin + boundary - d[a, n]]
    return mean([cost for cost in costs if cost > 0])


def sigmoid_loops(d: Tensor, y: list[int], scale: float, bias: float) -> Tensor:
    costs = []
    for i, j in product(range(len(y)), repeat=2):
        z = 1 if y[i] == y[j] else -1
        costs += [(1 + (-z * (scale * (1 - d[i, j]) + bias)).exp()).log()] if i != j else []
    return sum(costs) / len(y)


def contrastive_peer(embeddings: Tensor, labels: Tensor) -> Tensor:
    # It does not square, and averages positives and negatives apart: both are put right here.
    single = peer_losses.ContrastiveLoss(
        neg_margin=1.5, distance=PLAIN, reducer=peer_reducers.DoNothingReducer()
    )(embeddings, labels)
    costs = [torch.as_tensor(part["losses"]).flatten() for part in single.values()]
    return torch.cat([cost for cost in costs if len(cost)]).square().mean()


LOSSES = [
    Loss(
        name="contrastive",
        terms=partial(losses.contrastive, margin=1.5),
        module=partial(ContrastiveLoss, 1.5),
        distance=euclidean,
        loops=partial(contrastive_loops, margin=1.5, inner=0.0, power=2),
        peer=contrastive_peer,
    ),
    Loss(
        name="contrastive_within_margins",
        terms=partial(losses.contrastive, margin=1.5, positive_margin=0.5),
        module=partial(ContrastiveLoss, 1.5, positive_margin=0.5),
        distance=euclidean,
        loops=partial(contrastive_loops, margin=1.5, inner=0.5, power=2),
    ),
    Loss(
        name="contrastive_plain",
        terms=partial(losses.contrastive, margin=1.5, positive_margin=0.5, squared=False),
        module=partial(ContrastiveLoss, 1.5, positive_margin=0.5, squared=False),
        distance=euclidean,
        loops=partial(contrastive_loops, margin=1.5, inner=0.5, power=1),
    ),
    Loss(
        name="contrastive_apart",
        terms=partial(losses.contrastive, margin=1.5, squared=False, apart=True),
        module=partial(ContrastiveLoss, 1.5, squared=False, apart=True),
        distance=euclidean,
        loops=partial(apart_loops, margin=1.5, inner=0.0),
        peer=peer_losses.ContrastiveLoss(neg_margin=1.5, distance=PLAIN),
    ),
    Loss(
        name="signal_to_noise",
        terms=partial(losses.contrastive, squared=False, apart=True),
        module=partial(ContrastiveLoss, squared=False, apart=True, distance=signal_to_noise),
        distance=signal_to_noise,
        loops=partial(apart_loops, margin=1.0, inner=0.0),
        peer=peer_losses.SignalToNoiseRatioContrastiveLoss(
            distance=peer_distances.SNRDistance(normalize_embeddings=False)
        ),
    ),
    Loss(
        name="threshold_consistent",
        terms=partial(losses.threshold_consistent, margin=0.5, positive_margin=0.125),
        module=partial(ThresholdConsistentLoss, 0.5, positive_margin=0.125),
        distance=cosine,
        loops=partial(apart_loops, margin=0.5, inner=0.125),
        peer=peer_losses.ThresholdConsistentMarginLoss(margin_plus=0.875, margin_minus=0.5),
    ),
    Loss(
        name="margin_based",
        terms=partial(losses.margin_based, margin=0.25, boundary=1.25),
        module=partial(MarginLoss, 0.25, boundary=1.25),
        distance=euclidean,
        loops=partial(margin_loops, margin=0.25, boundary=1.25, weight=0.0),
    ),
    Loss(
        name="margin_based_balanced",
        terms=partial(losses.margin_based, margin=0.25, boundary=1.25, balanced=True),
        module=partial(MarginLoss, 0.25, boundary=1.25, balanced=True),
        distance=euclidean,
        loops=partial(balanced_loops, margin=0.25, boundary=1.25),
        peer=peer_losses.MarginLoss(margin=0.25, beta=1.25, distance=PLAIN),
    ),
    Loss(
        name="margin_based_learned",
        terms=partial(
            losses.margin_based, margin=0.25, boundary=torch.tensor(1.25), regularisation=0.5
        ),
        module=partial(MarginLoss, 0.25, boundary=1.25, learned=True, regularisation=0.5),
        distance=euclidean,
        loops=partial(margin_loops, margin=0.25, boundary=1.25, weight=0.5),
    ),
    Loss(
        name="sigmoid",
        terms=partial(losses.sigmoid, scale=1.0, bias=-0.5),
        module=partial(SigmoidLoss, 1.0, bias=-0.5),
        distance=cosine,
        loops=partial(sigmoid_loops, scale=1.0, bias=-0.5),
    ),
]

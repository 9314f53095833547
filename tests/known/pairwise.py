"""Losses of single pairs, with the loops of their papers and their peers."""

from functools import partial
from itertools import product

import torch
from pytorch_metric_learning import losses as peer_losses
from pytorch_metric_learning import reducers as peer_reducers
from torch import Tensor

from known.loss import PLAIN, Loss, mean
from siamlearn.functional import losses
from siamlearn.functional.distances import euclidean
from siamlearn.nn.losses import ContrastiveLoss


def contrastive_loops(d: Tensor, y: list[int], margin: float) -> Tensor:
    pairs = [(i, j) for i, j in product(range(len(y)), repeat=2) if i != j]
    push = [(margin - d[i, j]).clamp(min=0) ** 2 for i, j in pairs if y[i] != y[j]]
    pull = [d[i, j] ** 2 for i, j in pairs if y[i] == y[j]]
    return mean(pull + push)


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
        loops=partial(contrastive_loops, margin=1.5),
        peer=contrastive_peer,
    ),
]

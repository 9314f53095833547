"""Losses that weigh pairs by exponentials, with the loops of their papers and their peers."""

from functools import partial
from itertools import product

from pytorch_metric_learning import losses as peer_losses
from torch import Tensor

from known.loss import Loss, mean
from siamlearn.functional import losses
from siamlearn.functional.distances import cosine
from siamlearn.nn.losses import InfoNCELoss, SupConLoss


def info_nce_loops(d: Tensor, y: list[int], temperature: float) -> Tensor:
    costs, e = [], (-d / temperature).exp()
    for a, p in product(range(len(y)), repeat=2):
        if a != p and y[a] == y[p]:
            rivals = sum(e[a, n] for n in range(len(y)) if y[n] != y[a])
            costs.append(-(e[a, p] / (e[a, p] + rivals)).log())
    return mean(costs)


def sup_con_loops(d: Tensor, y: list[int], temperature: float) -> Tensor:
    costs, e = [], (-d / temperature).exp()
    for i in range(len(y)):
        others = [a for a in range(len(y)) if a != i]
        positives = [p for p in others if y[p] == y[i]]
        if positives:
            costs.append(mean([-(e[i, p] / sum(e[i, a] for a in others)).log() for p in positives]))
    return mean(costs)


LOSSES = [
    Loss(
        name="info_nce",
        terms=partial(losses.info_nce, temperature=0.2),
        module=partial(InfoNCELoss, 0.2),
        distance=cosine,
        loops=partial(info_nce_loops, temperature=0.2),
        peer=peer_losses.NTXentLoss(temperature=0.2),
    ),
    Loss(
        name="sup_con",
        terms=partial(losses.sup_con, temperature=0.2),
        module=partial(SupConLoss, 0.2),
        distance=cosine,
        loops=partial(sup_con_loops, temperature=0.2),
        peer=peer_losses.SupConLoss(temperature=0.2),
    ),
]

"""Losses that weigh pairs by exponentials, with the loops of their papers and their peers."""

from functools import partial
from itertools import product

from pytorch_metric_learning import distances as peer_distances
from pytorch_metric_learning import losses as peer_losses
from torch import Tensor

from known.loss import Loss, mean
from siamlearn.functional import losses
from siamlearn.functional.distances import cosine, squared_euclidean
from siamlearn.functional.inner_product import negative_inner_product
from siamlearn.nn.losses import DecoupledLoss, InfoNCELoss, NCALoss, NPairsLoss, SupConLoss

SQUARED = peer_distances.LpDistance(normalize_embeddings=False, power=2)


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


def decoupled_loops(d: Tensor, y: list[int], temperature: float) -> Tensor:
    costs, e = [], (-d / temperature).exp()
    for a, p in product(range(len(y)), repeat=2):
        if a != p and y[a] == y[p]:
            rivals = [e[a, n] for n in range(len(y)) if y[n] != y[a]]
            costs.append(-e[a, p].log() + (sum(rivals).log() if rivals else 0))
    return mean(costs)


def nca_loops(d: Tensor, y: list[int], temperature: float) -> Tensor:
    costs, e = [], (-d / temperature).exp()
    for i in range(len(y)):
        others = [a for a in range(len(y)) if a != i]
        positives = [p for p in others if y[p] == y[i]]
        if positives:
            costs.append(-(sum(e[i, p] for p in positives) / sum(e[i, a] for a in others)).log())
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
        # A float32 logarithm of 1 is exact.
        name="info_nce with a learned temperature",
        terms=partial(losses.info_nce, temperature=1.0),
        module=partial(InfoNCELoss, 1.0, learned=True),
        distance=cosine,
        loops=partial(info_nce_loops, temperature=1.0),
        peer=peer_losses.NTXentLoss(temperature=1.0),
    ),
    Loss(
        name="sup_con",
        terms=partial(losses.sup_con, temperature=0.2),
        module=partial(SupConLoss, 0.2),
        distance=cosine,
        loops=partial(sup_con_loops, temperature=0.2),
        peer=peer_losses.SupConLoss(temperature=0.2),
    ),
    Loss(
        name="decoupled",
        terms=partial(losses.decoupled, temperature=0.2),
        module=partial(DecoupledLoss, 0.2),
        distance=cosine,
        loops=partial(decoupled_loops, temperature=0.2),
        below_zero="the positive is not among those that the denominator sums over",
    ),
    Loss(
        name="nca",
        terms=partial(losses.nca, temperature=2.0),
        module=partial(NCALoss, 2.0),
        distance=squared_euclidean,
        loops=partial(nca_loops, temperature=2.0),
        peer=peer_losses.NCALoss(softmax_scale=0.5, distance=SQUARED),
    ),
    Loss(
        name="n_pairs",
        terms=losses.n_pairs,
        module=NPairsLoss,
        distance=negative_inner_product,
        loops=partial(info_nce_loops, temperature=1.0),
        # Its own takes one pair of each identity: see functional/test_softmax.py.
        peer=peer_losses.NTXentLoss(
            temperature=1.0,
            distance=peer_distances.DotProductSimilarity(normalize_embeddings=False),
        ),
    ),
]

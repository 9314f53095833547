"""Losses of the ranking of each anchor, with the loops of their papers and their peers."""

from collections.abc import Callable
from functools import partial

import torch
from pytorch_metric_learning import losses as peer_losses
from torch import Tensor

from known.loss import Loss, mean
from siamlearn.functional import losses
from siamlearn.functional.distances import cosine
from siamlearn.nn.losses import FastAPLoss, PNPLoss, SmoothAPLoss


def fast_ap_loops(d: Tensor, y: list[int], bins: int, farthest: float) -> Tensor:
    costs, place = [], d.clamp(0, farthest) / farthest * bins
    weight = [(1 - (place - b).abs()).relu() for b in range(bins + 1)]
    for a in range(len(y)):
        others = [(j, y[j] == y[a]) for j in range(len(y)) if j != a]
        h = [sum(w[a, j] for j, same in others if same) for w in weight]
        n = [sum(w[a, j] for j, same in others if not same) for w in weight]
        if positives := sum(same for _, same in others):
            upto = [(h[b], sum(h[: b + 1]), sum(n[: b + 1])) for b in range(bins + 1)]
            costs.append(1 - sum(hb * hs / (hs + ns) for hb, hs, ns in upto if hb > 0) / positives)
    return mean(costs)


def ranking_loops(
    d: Tensor, y: list[int], cost: Callable[[Tensor, Tensor], Tensor], temperature: float
) -> Tensor:
    costs, everyone, none = [], range(len(y)), 0 * d.sum()
    for a in everyone:
        before = ((d[a, :, None] - d[a, None, :]) / temperature).sigmoid()  # [i, j]: j before i
        mine = [i for i in everyone if i != a and y[i] == y[a]]
        negatives = [sum((before[i, j] for j in everyone if y[j] != y[a]), none) for i in mine]
        among = [sum(before[i, j] for j in mine if j != i) for i in mine]
        if mine:
            costs.append(mean([cost(n, m) for n, m in zip(negatives, among, strict=True)]))
    return mean(costs)


def smooth_ap_cost(negatives: Tensor, among: Tensor) -> Tensor:
    return 1 - (1 + among) / (1 + among + negatives)


PENALTIES = [
    (losses.pnp_o, lambda n, _: n),
    (losses.pnp_iu, lambda n, _: (1 + n) * torch.log(1 + n)),
    (partial(losses.pnp_ib, bound=3.0), lambda n, _: (3 * n - torch.log(1 + 3 * n)) / 9),
    (losses.pnp_ds, lambda n, _: torch.log(1 + n)),
    (partial(losses.pnp_dq, power=2.0), lambda n, _: 1 - 1 / (1 + n) ** 2),
]

# That there is no peer for the others, and why, is in test_ranking.py.
LOSSES = [
    Loss(
        name="fast_ap",
        terms=partial(losses.fast_ap, bins=7),
        module=partial(FastAPLoss, 7),
        distance=cosine,
        loops=partial(fast_ap_loops, bins=7, farthest=2.0),
        peer=peer_losses.FastAPLoss(num_bins=7),
    ),
    Loss(
        name="smooth_ap",
        terms=partial(losses.smooth_ap, temperature=0.2),
        module=partial(SmoothAPLoss, 0.2),
        distance=cosine,
        loops=partial(ranking_loops, cost=smooth_ap_cost, temperature=0.2),
    ),
    *(
        Loss(
            name=getattr(penalty, "func", penalty).__name__,
            terms=partial(losses.pnp, penalty=penalty, temperature=0.2),
            module=partial(PNPLoss, penalty, temperature=0.2),
            distance=cosine,
            loops=partial(ranking_loops, cost=cost, temperature=0.2),
        )
        for penalty, cost in PENALTIES
    ),
]

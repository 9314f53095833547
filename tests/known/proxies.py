"""Losses against proxies, with the loops of their papers.

As every loss they are held to the laws with the batch as its own references: any pictures may
stand for proxies. Against real proxies, and beside pytorch-metric-learning, they are compared in
``functional/test_proxies.py``.
"""

from functools import partial

import torch
from torch import Tensor

from known.loss import Loss, mean
from siamlearn.functional import losses
from siamlearn.functional.distances import cosine
from siamlearn.functional.pairings import all_pairs, itself
from siamlearn.nn.losses import ProxyAnchorLoss, ProxyNCALoss, SoftTripleLoss


def proxy_nca_loops(d: Tensor, y: list[int], temperature: float, margin: float = 0.0) -> Tensor:
    costs, everyone = [], range(len(y))
    for i in everyone:
        for p in (p for p in everyone if p != i and y[p] == y[i]):
            rivals = [-2 * d[i, n] / temperature for n in everyone if y[n] != y[i]]
            own = -2 * (d[i, p] + margin) / temperature
            costs.append(torch.stack([own, *rivals]).logsumexp(0) - own)
    return mean(costs)


def proxy_anchor_loops(d: Tensor, y: list[int], margin: float, scale: float) -> Tensor:
    pull, push, s = [], [], 1 - d
    for p in range(len(y)):
        own = [-scale * (s[p, x] - margin) for x in range(len(y)) if x != p and y[x] == y[p]]
        others = [scale * (s[p, x] + margin) for x in range(len(y)) if y[x] != y[p]]
        pull += [torch.stack([0 * d[p, p], *own]).logsumexp(0)] * bool(own)
        push += [torch.stack([0 * d[p, p], *others]).logsumexp(0)]
    return mean(pull) + mean(push)


LOSSES = [
    Loss(
        name="proxy_nca",
        terms=partial(losses.proxy_nca, temperature=0.3),
        module=partial(ProxyNCALoss, 0.3, references=itself),
        distance=cosine,
        loops=partial(proxy_nca_loops, temperature=0.3),
    ),
    Loss(
        name="proxy_anchor",
        terms=partial(losses.proxy_anchor, margin=0.2, scale=4.0),
        module=partial(ProxyAnchorLoss, 0.2, scale=4.0, references=itself, pairing=all_pairs),
        distance=cosine,
        loops=partial(proxy_anchor_loops, margin=0.2, scale=4.0),
    ),
    Loss(
        name="soft_triple",
        terms=partial(losses.soft_triple, centres=1, margin=0.1, scale=8.0),
        module=partial(SoftTripleLoss, 0.1, scale=8.0, references=itself),
        distance=cosine,
        loops=partial(proxy_nca_loops, temperature=2 / 8, margin=0.1),
    ),
]

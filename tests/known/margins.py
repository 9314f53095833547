"""Margins, as miners before a loss that all laws hold for, with what the papers say of a pair.

Losses over classes have a row with one positive in each, which a batch beside itself is not: they
are compared with pytorch-metric-learning and with loops in ``nn/test_classification.py``.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product

import torch
from torch import Tensor

from known.loss import Loss, mean
from siamlearn.functional import losses
from siamlearn.functional.distances import cosine
from siamlearn.functional.margins import (
    additive_margin,
    angular_margin,
    combined_margin,
    curricular_margin,
    multiplicative_margin,
)
from siamlearn.functional.pairs import Pairs, Terms
from siamlearn.nn.losses import InfoNCELoss


def angular(s: Tensor, m: float) -> Tensor:
    return torch.cos(s.acos() + m) if s > -math.cos(m) else s - m * math.sin(m)


def combined(s: Tensor, m1: float, m2: float, m3: float) -> Tensor:
    last = math.cos((math.pi - m2) / m1)
    inside = s > last
    return torch.cos(m1 * s.acos() + m2) - m3 if inside else s - last - 1 - m3


def multiplicative(s: Tensor, m: int, annealing: float) -> Tensor:
    angle = s.acos() if s > -1 else 0 * s + math.pi
    k = min(int(angle * m / math.pi), m - 1)
    fallen = (-1) ** k * torch.cos(m * angle) - 2 * k + (0 if s > -1 else s + 1)
    return (annealing * s + fallen) / (1 + annealing)


def info_nce_loops(d: Tensor, y: list[int]) -> Tensor:
    # By logarithms: some margins make distances that no exponential can hold.
    costs, n = [], range(len(y))
    for a, p in product(n, repeat=2):
        if a != p and y[a] == y[p]:
            rivals = [-d[a, r] / 0.2 for r in n if y[r] != y[a]]
            costs.append(torch.stack([-d[a, p] / 0.2, *rivals]).logsumexp(0) + d[a, p] / 0.2)
    return mean(costs)


def margin_loops(d: Tensor, y: list[int], moved: Callable[[Tensor], Tensor]) -> Tensor:
    far = [
        1 - moved(1 - d[i, j]) if i != j and y[i] == y[j] else d[i, j]
        for i, j in product(range(len(y)), repeat=2)
    ]
    return info_nce_loops(torch.stack(far).reshape(d.shape), y)


def curricular_loops(d: Tensor, y: list[int], m: float, t: float) -> Tensor:
    s, n = 1 - d, range(len(y))
    rows = [[s[i, j] for j in n] for i in n]
    for i in n:
        own = [j for j in n if j != i and y[j] == y[i]]
        easiest = min((angular(s[i, p], m) for p in own), default=math.inf)
        for j in n:
            hard = y[i] != y[j] and s[i, j] > easiest
            rows[i][j] = s[i, j] * (t + s[i, j]) if hard else s[i, j]
            rows[i][j] = angular(s[i, j], m) if j in own else rows[i][j]
    return info_nce_loops(1 - torch.stack([torch.stack(row) for row in rows]), y)


def behind(margin: Callable[[Pairs], Pairs], pairs: Pairs) -> Terms:
    return replace(losses.info_nce(margin(pairs), temperature=0.2), slope=None)


def a_margin(
    name: str, margin: Callable[[Pairs], Pairs], loops: Callable[[Tensor, list[int]], Tensor]
) -> Loss:
    return Loss(
        name=name,
        terms=partial(behind, margin),
        module=partial(InfoNCELoss, 0.2, miner=margin),
        distance=cosine,
        loops=loops,
    )


LOSSES = [
    a_margin(
        "additive_margin",
        partial(additive_margin, margin=0.3),
        partial(margin_loops, moved=lambda s: s - 0.3),
    ),
    a_margin(
        "angular_margin",
        partial(angular_margin, margin=0.6),
        partial(margin_loops, moved=partial(angular, m=0.6)),
    ),
    a_margin(
        "combined_margin",
        partial(combined_margin, multiplicative=1.4, angular=0.3, additive=0.2),
        partial(margin_loops, moved=partial(combined, m1=1.4, m2=0.3, m3=0.2)),
    ),
    a_margin(
        "multiplicative_margin",
        partial(multiplicative_margin, margin=3, annealing=0.5),
        partial(margin_loops, moved=partial(multiplicative, m=3, annealing=0.5)),
    ),
    a_margin(
        "curricular_margin",
        partial(curricular_margin, margin=0.5, progress=torch.tensor(0.4, dtype=torch.float64)),
        partial(curricular_loops, m=0.5, t=0.4),
    ),
]

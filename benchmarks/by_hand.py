"""Losses as one would write them in torch: the whole matrix at once, and autograd."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, softplus


class Dense(nn.Module):
    """A cost of all embeddings, and of the masks of positives and negatives."""

    def __init__(self, cost: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.cost = cost

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        same = labels[:, None] == labels
        itself = torch.eye(len(x), dtype=torch.bool, device=x.device)
        return self.cost(x, same & ~itself, ~same)


class ArcFace(nn.Module):
    """A margin of 0.5 and a scale of 64."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        cosine = normalize(x, dim=1) @ normalize(self.weights, dim=1).T
        mine = cosine.gather(1, labels[:, None]).clamp(-1 + 1e-7, 1 - 1e-7)
        moved = (mine.acos() + 0.5).cos()
        return cross_entropy(64 * cosine.scatter(1, labels[:, None], moved), labels)


def among(logits: Tensor, mask: Tensor) -> Tensor:
    """Logarithm of the sum of the exponentials of some of each row."""
    return logits.masked_fill(~mask, -1e9).logsumexp(dim=1)


def contrastive(x: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    d = torch.cdist(x, x)
    cost = torch.where(positive, d.square(), 0) + torch.where(negative, (1 - d).relu().square(), 0)
    return cost.sum() / (positive.sum() + negative.sum())


def contrastive_apart(x: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    return apart(torch.cdist(x, x), positive, negative)


def signal_to_noise(x: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    x = x - x.mean(dim=1, keepdim=True)
    square = x.square().sum(dim=1)
    return apart((square[:, None] + square - 2 * x @ x.T) / square[:, None], positive, negative)


def apart(d: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    pull, push = torch.where(positive, d, 0), torch.where(negative, (1 - d).relu(), 0)
    return pull.sum() / (pull > 0).sum().clamp(min=1) + push.sum() / (push > 0).sum().clamp(min=1)


def info_nce(x: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    x = normalize(x, dim=1)
    logits = x @ x.T / 0.07
    cost = softplus(among(logits, negative)[:, None] - logits)
    return torch.where(positive, cost, 0).sum() / positive.sum()


def sup_con(x: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    x = normalize(x, dim=1)
    logits = x @ x.T / 0.1
    pulled = torch.where(positive, logits, 0).sum(dim=1) / positive.sum(dim=1)
    return (among(logits, positive | negative) - pulled).mean()


def nca(x: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    square = x.square().sum(dim=1)
    logits = 2 * x @ x.T - square[:, None] - square
    return (among(logits, positive | negative) - among(logits, positive)).mean()


def multi_similarity(x: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    x = normalize(x, dim=1)
    above = x @ x.T - 0.5
    pull = softplus(among(-2 * above, positive)) / 2
    return (pull + softplus(among(50 * above, negative)) / 50).mean()


def circle(x: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    x = normalize(x, dim=1)
    s, m, scale = x @ x.T, 0.4, 80
    pull = -scale * (1 + m - s.detach()).relu() * (s - (1 - m))
    push = scale * (s.detach() + m).relu() * (s - m)
    return softplus(among(pull, positive) + among(push, negative)).mean()


def lifted_structure(x: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    d = torch.cdist(x, x)
    crowd = among(1 - d, negative)
    lack = (torch.logaddexp(crowd[:, None], crowd) + d).relu()
    return torch.where(positive, lack.square(), 0).sum() / (2 * positive.sum())


def tuplet_margin(x: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    x = normalize(x, dim=1)
    cosine = x @ x.T
    moved = (cosine.clamp(-1 + 1e-6, 1 - 1e-6).acos() - 0.1).cos()
    cost = softplus(among(64 * cosine, negative)[:, None] - 64 * moved)
    return torch.where(positive, cost, 0).sum() / positive.sum()

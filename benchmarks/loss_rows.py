"""What is measured beside what: the rows of ``benchmarks/losses.py``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from pytorch_metric_learning import losses as peers
from pytorch_metric_learning import miners as peer_miners
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

import siamlearn as sl
from siamlearn.functional import losses
from siamlearn.nn import losses as modules


@dataclass(frozen=True)
class Work:
    """One row: a loss on a batch.

    Attributes:
        pictures: of each identity in the batch.
        references: how many, where the batch is not compared with itself.
        asked: the ratio that was aimed at, as it is shown.
        patience: seconds that the times may take together.
        peer_needs_small: the peer may be run on a small batch first, to load its code.
    """

    name: str
    size: int
    ours: Callable[[], nn.Module]
    peer: Callable[[], nn.Module] | None = None
    dense: Callable[[], nn.Module] | None = None
    pictures: int = 4
    dimensions: int = 128
    references: int | None = None
    asked: str = ""
    patience: float = 8
    peer_needs_small: bool = True


class Dense(nn.Module):
    """The whole matrix at once, as one would write it by hand."""

    def __init__(self, cost: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.cost = cost

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        same = labels[:, None] == labels
        itself = torch.eye(len(x), dtype=torch.bool, device=x.device)
        return self.cost(x, same & ~itself, ~same)


def contrastive_by_hand(x: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    d = torch.cdist(x, x)
    cost = torch.where(positive, d.square(), 0) + torch.where(negative, (1 - d).relu().square(), 0)
    return cost.sum() / (positive.sum() + negative.sum())


def info_nce_by_hand(x: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    x = normalize(x, dim=1)
    logits = x @ x.T / 0.07
    rivals = logits.masked_fill(~negative, -1e9).logsumexp(dim=1, keepdim=True)
    cost = softplus(rivals - logits)
    return torch.where(positive, cost, 0).sum() / positive.sum()


def sup_con_by_hand(x: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    x = normalize(x, dim=1)
    logits = x @ x.T / 0.1
    everyone = logits.masked_fill(~(positive | negative), -1e9).logsumexp(dim=1)
    pulled = torch.where(positive, logits, 0).sum(dim=1) / positive.sum(dim=1)
    return (everyone - pulled).mean()


class Mined(nn.Module):
    """A loss of the peer with one of its miners, as its README has it."""

    def __init__(self, loss: nn.Module, miner: nn.Module) -> None:
        super().__init__()
        self.loss, self.miner = loss, miner

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        cost: Tensor = self.loss(x, labels, self.miner(x, labels))
        return cost


WORKS = [
    Work(
        "NT-Xent",
        512,
        lambda: sl.InfoNCELoss(0.07),
        lambda: peers.NTXentLoss(0.07),
        lambda: Dense(info_nce_by_hand),
        pictures=2,
        asked="500 times, < 20 MB",
        patience=40,
    ),
    Work(
        "NT-Xent",
        4096,
        lambda: sl.InfoNCELoss(0.07),
        lambda: peers.NTXentLoss(0.07),
        lambda: Dense(info_nce_by_hand),
        pictures=2,
        asked="< 100 MB",
    ),
    Work(
        "supervised contrastive",
        4096,
        lambda: sl.SupConLoss(0.1),
        lambda: peers.SupConLoss(0.1),
        lambda: Dense(sup_con_by_hand),
        asked="5 times, < 60 MB",
    ),
    *(
        Work(
            "contrastive, squared",
            size,
            lambda: sl.ContrastiveLoss(1.0),
            None,
            lambda: Dense(contrastive_by_hand),
        )
        for size in (1024, 4096)
    ),
]

CURVES: dict[str, Callable[[], nn.Module]] = {
    "ContrastiveLoss": sl.ContrastiveLoss,
    "TripletLoss": sl.TripletLoss,
    "InfoNCELoss": sl.InfoNCELoss,
    "SupConLoss": sl.SupConLoss,
}

"""Losses on several ranks and on one: what each is tried on, and the processes that try it.

The ranks are started once for all cases, with uneven parts of each batch.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn

from known import LOSSES
from known.loss import Loss
from known.others import soft_triple
from known.trials import a_module
from siamlearn.functional import losses, mining
from siamlearn.functional.distances import cosine, signal_to_noise
from siamlearn.functional.pairings import References, adjacent_pairs, two_towers
from siamlearn.functional.pairs import Pairs, Terms
from siamlearn.nn import ranks
from siamlearn.nn.losses import (
    AdaFaceLoss,
    AngularLoss,
    ArcFaceLoss,
    CentreLoss,
    CombinedMarginLoss,
    ContrastiveLoss,
    CurricularFaceLoss,
    HistogramLoss,
    InfoNCELoss,
    IntraPairVarianceLoss,
    LiftedStructureLoss,
    MagFaceLoss,
    MarginLoss,
    PairLoss,
    PNPLoss,
    ProxyAnchorLoss,
    RegularFace,
    SigmoidLoss,
    SphereFaceLoss,
    SubCentreArcFaceLoss,
    SupConLoss,
    TripletLoss,
    ZeroMean,
)
from siamlearn.nn.references import Memory, Proxies
from siamlearn.ranks import rows_of_all

# How many rows the batch of each rank has, and a block.
WAYS = [((5, 3), None), ((5, 3), 8), ((8, 0), None), ((3, 0, 5), None)]
TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Case:
    """A loss on the parts of one batch.

    Attributes:
        sizes: of the parts, one a rank.
        module: makes the loss, the same on each rank.
        labels: from whole numbers to whatever the loss is given.
        halves: the loss is of rows side by side, so that one process must be given the first
            halves of all parts and then the second halves.
        steps: how often the batch is shown.
        broken: the gather forgets the gradient.
    """

    sizes: tuple[int, ...]
    module: Callable[[], nn.Module]
    labels: Callable[[Tensor], Tensor] = lambda labels: labels
    halves: bool = False
    steps: int = 1
    broken: bool = False
    dtype: torch.dtype = torch.float64

    def batch(self) -> tuple[Tensor, Tensor]:
        n = sum(self.sizes)
        x = torch.randn(n, 3, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
        return x.to(self.dtype), self.labels(torch.arange(n) % 3)

    def part(self, rank: int) -> slice:
        start = sum(self.sizes[:rank])
        return slice(start, start + self.sizes[rank])

    def order(self) -> Tensor:
        """The order in which one process is to be given the batch."""
        parts = torch.arange(sum(self.sizes)).split(self.sizes)
        if not self.halves:
            return torch.cat(parts)
        halves = [part.chunk(2) for part in parts]
        return torch.cat([half[side] for side in (0, 1) for half in halves])


class Remembering:
    """A fake memory: all that it was shown before, and the batch itself."""

    def __init__(self) -> None:
        self.past: list[tuple[Tensor, Tensor]] = []

    def __call__(self, embeddings: Tensor, labels: Tensor) -> References:
        seen = [*self.past, (embeddings, labels)]
        before = sum(len(names) for _, names in self.past)
        self.past.append((embeddings.detach(), labels))
        own = before + torch.arange(len(labels))
        return References(*(torch.cat(side) for side in zip(*seen, strict=True)), own)


class Silent(PairLoss):
    """A loss that looks at nothing where there is nothing, so that no gradient leads back."""

    def terms(self, pairs: Pairs) -> Terms:
        if len(pairs.distance) == 0:
            return Terms(torch.zeros(()).double(), torch.zeros((), dtype=torch.int64))
        return losses.contrastive(pairs)


class BesideThree(nn.Module):
    """A loss beside three references."""

    def __init__(self, loss: PairLoss) -> None:
        super().__init__()
        self.loss, self.references = loss, nn.Parameter(torch.eye(3, dtype=torch.float64))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return self.loss(embeddings, labels, (self.references, torch.arange(3)))


def outcome(case: Case, whole: Tensor, labels: Tensor) -> list[Tensor]:
    """The cost, its gradient by the batch, and by each parameter."""
    module, batch = case.module(), whole.clone().requires_grad_()
    forgetful = mock.patch.object(
        ranks._Gather, "apply", lambda mine, sizes, start: rows_of_all(mine.detach(), sizes)
    )
    with forgetful if case.broken else nullcontext():
        costs = torch.stack([module(batch, labels) for _ in range(case.steps)])
        costs.sum().backward()
    learned = [parameter.grad for parameter in module.parameters()]
    return [costs.detach(), batch.grad, *(torch.zeros(()) if g is None else g for g in learned)]


def alone(case: Case) -> list[Tensor]:
    """The outcome in one process."""
    batch, labels = case.batch()
    cost, gradient, *learned = outcome(case, batch[case.order()], labels[case.order()])
    return [cost, gradient[case.order().argsort()], *learned]


def of_every_loss() -> dict[str, Case]:
    def module(loss: Loss, rows: int | None) -> Callable[[], PairLoss]:
        return lambda: a_module(loss, rows=rows)

    return {
        f"{loss.name} {sizes} {rows}": Case(sizes, module(loss, rows))
        for loss in LOSSES
        for sizes, rows in WAYS
    }


def a_sum() -> nn.Module:
    return (ContrastiveLoss() + 0.5 * ZeroMean() + 0.1 * CentreLoss(3, 3)).double()


def a_case(module: Callable[[], nn.Module], sizes: tuple[int, ...] = (5, 3), **how: int) -> Case:
    return Case(sizes, lambda: module().double(), **how)


def remembering(loss: type[PairLoss]) -> Callable[[], PairLoss]:
    return lambda: loss(references=Memory(30))


def spread() -> nn.Module:
    proxies = Proxies(3, 3)
    return SupConLoss(references=proxies) + 0.3 * RegularFace(proxies.vectors)


def of_every_choice() -> dict[str, Case]:
    info_nce = partial(InfoNCELoss, 0.5, distance=cosine)

    def on(proxies: Callable[[], object]) -> Callable[[], PairLoss]:
        return lambda: info_nce(references=proxies()).double()

    def anchors(proxies: Proxies) -> Callable[[], PairLoss]:
        return lambda: ProxyAnchorLoss(references=deepcopy(proxies), scale=4.0, rows=2).double()

    return {
        "pairs side by side": Case(
            (2, 6), partial(ContrastiveLoss, 1.5, pairing=adjacent_pairs), halves=True
        ),
        "two towers": Case((2, 6), partial(info_nce, pairing=two_towers), halves=True),
        "several labels": Case(
            (5, 3), info_nce, lambda labels: torch.nn.functional.one_hot(labels, 4).bool()
        ),
        "labels of eight bits": Case((5, 3), info_nce, lambda labels: labels.to(torch.uint8)),
        "labels of sixteen bits": Case((5, 3), info_nce, lambda labels: labels.short()),
        "huge labels": Case((5, 3), info_nce, lambda labels: labels - 2**63),
        "proxies": Case((5, 3), on(lambda: Proxies(3, 3))),
        "a sample of proxies": Case((5, 3), on(lambda: Proxies(50, 3, sample=0.2)), steps=2),
        "all that was shown": Case((5, 3), on(Remembering), steps=3),
        "a memory": Case((5, 3), on(partial(Memory, 12, warm_up=1)), steps=4),
        "nothing said of an empty batch": Case((8, 0), Silent),
        "a memory that wraps around": Case((5, 3), on(lambda: Memory(11)), steps=3),
        "a memory after its warm-up": Case((3, 0, 5), on(lambda: Memory(50, warm_up=1)), steps=3),
        "proxies as anchors": Case((5, 3), anchors(Proxies(3, 3))),
        "proxies as anchors, some ranks empty": Case((3, 0, 5), anchors(Proxies(9, 3, sample=0.9))),
        "references that are given": Case((5, 3), lambda: BesideThree(info_nce())),
        "a mean of the whole batch": Case((5, 3), partial(IntraPairVarianceLoss, 0.1, slack=0.3)),
        "a histogram of the whole batch": Case((5, 3), partial(HistogramLoss, 20)),
        "a sum of losses": Case((5, 3), a_sum),
        "a margin of angles": Case((5, 3), lambda: ArcFaceLoss(3, 3, scale=8.0).double()),
        "hard negatives that are remembered": Case(
            (5, 3), lambda: CurricularFaceLoss(3, 3, scale=8.0, momentum=0.5).double(), steps=3
        ),
        "lengths and what is usual": Case(
            (5, 3), lambda: AdaFaceLoss(3, 3, scale=8.0).double(), steps=3
        ),
        "lengths that cost": Case((5, 3), lambda: MagFaceLoss(3, 3, scale=8.0).double()),
        "a margin that multiplies angles": a_case(partial(SphereFaceLoss, 3, 3)),
        "several margins": a_case(partial(CombinedMarginLoss, 3, 3, scale=8.0)),
        "several centres of a sample": a_case(
            partial(SubCentreArcFaceLoss, 50, 3, scale=8.0, sample=0.3), steps=2
        ),
        "centres that merge": a_case(partial(soft_triple, 3)),
        "a boundary for each identity": a_case(partial(MarginLoss, classes=3, regularisation=0.3)),
        "pairs beside all": a_case(AngularLoss, (2, 6), halves=True),
        "two towers that learn": a_case(
            partial(SigmoidLoss, pairing=two_towers), (2, 6), halves=True
        ),
        "proxies that spread": a_case(spread),
        "a lifted structure beside a memory": a_case(remembering(LiftedStructureLoss), steps=3),
        "a histogram beside a memory": a_case(remembering(HistogramLoss), steps=3),
        "a mean beside a memory": a_case(remembering(IntraPairVarianceLoss), steps=3),
        "ranks beside a memory": a_case(remembering(PNPLoss), steps=3),
        "mined triplets": a_case(partial(TripletLoss, miner=mining.hardest)),
        "negatives by their distance": a_case(
            partial(MarginLoss, miner=partial(mining.distance_weighted, dimensions=3, seed=3))
        ),
        "a lifted structure that is mined": a_case(
            partial(LiftedStructureLoss, miner=mining.hardest)
        ),
        "a lifted structure of signals": a_case(
            partial(LiftedStructureLoss, distance=signal_to_noise), (3, 0, 5)
        ),
        "half precision": Case((5, 3), info_nce, dtype=torch.bfloat16),
        "a gather that forgets the gradient": Case((5, 3), info_nce, broken=True),
    }


@cache
def cases() -> dict[str, Case]:
    return of_every_loss() | of_every_choice()


def outcomes() -> dict[str, list[list[Tensor]]]:
    """Of every case, what each of its ranks says."""
    with tempfile.TemporaryDirectory() as folder:
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "known.one_rank", str(rank), folder],
                cwd=TESTS,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(3)
        ]
        try:
            for process in started:
                _, error = process.communicate(timeout=120)
                assert process.returncode == 0, error
        finally:
            for process in started:
                process.kill()
        said = [torch.load(Path(folder, f"said by {rank}")) for rank in range(3)]
    return {name: [one[name] for one in said[: len(case.sizes)]] for name, case in cases().items()}

"""How good is the learning rate that a range test suggests?

A net is trained on drawn faces at the suggested rate, and at parts and multiples of it, constantly
for 300 steps, and judged by its AUC on other drawn faces: the mean of some seeds, each with its own
suggestion. No number of ``find_learning_rate`` was chosen by these figures.

python benchmarks/learning_rate.py        # some ten minutes on one thread
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from results import write
from torch.utils.data import DataLoader

import siamlearn as sl

FACTORS = (0.1, 0.3, 1, 3, 10)
LOSSES = {
    "contrastive": sl.ContrastiveLoss,
    "supervised contrastive": partial(sl.SupConLoss, temperature=0.1),
    "triplet": sl.TripletLoss,
}
OPTIMIZERS = {
    "AdamW": torch.optim.AdamW,
    "SGD, momentum 0.9": partial(torch.optim.SGD, momentum=0.9),
}
FACES = sl.DrawnFaces(identities=30, pictures=8, size=(28, 23))
KNOWN, OTHERS = FACES.only(FACES.people[:20]), FACES.only(FACES.people[20:])


def trained(
    loss: Callable[[], Any], optimizer: Callable[..., Any], rate: float, seed: int
) -> tuple[sl.Trainer, DataLoader[Any]]:
    """A trainer that is about to train, and its batches."""
    torch.manual_seed(seed)
    net = sl.EmbeddingNet(sl.NetConfig.preset("small", input=FACES.shape))
    sampler = sl.BalancedSampler(KNOWN.labels, identities=8, images=4, seed=seed)
    trainer = sl.Trainer(
        net, loss(), optimizer(net.parameters(), lr=rate), callbacks=(), device="cpu", seed=seed
    )
    return trainer, DataLoader(KNOWN, batch_sampler=sampler)


def auc(trainer: sl.Trainer, batches: DataLoader[Any], steps: int) -> float:
    """On other people; that of chance where training fails."""
    try:
        trainer.fit(batches, epochs=steps // len(batches))
    except FloatingPointError:
        return 0.5
    found = sl.embed(trainer.net, OTHERS, progress=False)
    report = sl.evaluate(found, baselines=False, audit=False, resamples=0, progress=False)
    return float(report.auc)


def row(loss: str, optimizer: str, seeds: int, steps: int) -> dict[str, Any]:
    """The mean AUC at each multiple of the suggestion."""
    parts = LOSSES[loss], OPTIMIZERS[optimizer]
    suggested = [
        sl.find_learning_rate(*trained(*parts, 1e-3, seed)).suggestion for seed in range(seeds)
    ]
    rates = [rate for rate in suggested if rate is not None]
    mean = math.exp(sum(map(math.log, rates)) / len(rates))
    found: dict[str, Any] = {"loss": loss, "optimizer": optimizer, "suggested": f"{mean:.1e}"}
    for factor in FACTORS:
        values = [
            auc(*trained(*parts, factor * rate, seed), steps) for seed, rate in enumerate(rates)
        ]
        found[f"AUC at {factor} times"] = f"{sum(values) / len(values):.4f}"
    return found | {"no suggestion": seeds - len(rates)}


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--steps", type=int, default=300)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    rows = [row(loss, o, chosen.seeds, chosen.steps) for loss in LOSSES for o in OPTIMIZERS]
    write("learning_rate", rows, seeds=chosen.seeds, steps=chosen.steps)


if __name__ == "__main__":
    main()

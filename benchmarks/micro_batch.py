"""A batch of 4,096 pictures through a net, whole and in pieces: time, and memory beyond the rest.

The net has no batch norms, so that both give the same: the gradients are compared first. Each way
is a process of its own, in turn; memory is the highest that the process ever had, less what it had
before the first step. How much a net with batch norms differs is measured, too. A way is set
against the whole batch of the same turn; what is told is the middle of these ratios.

python benchmarks/micro_batch.py            # quiet machine, please: about three minutes
python benchmarks/micro_batch.py --quick    # a small batch, to see that it works
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import torch
from processes import answer, child, extra_memory
from results import table, write
from torch import Tensor, nn

import siamlearn as sl
from siamlearn.train.feed import Batch
from siamlearn.train.passes import Passes, Place

BATCH, SHAPE = 4096, (1, 112, 92)
WAYS = {"whole": None, "pieces of 512": 512, "pieces of 128": 128, "pieces of 32": 32}


def net(norms: bool = False) -> nn.Module:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d if norms else (lambda channels: nn.Identity())
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2, padding=2),
        norm(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1),
        norm(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        norm(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 64),
    )


def batch(size: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (size, *SHAPE), dtype=torch.uint8, generator=generator)
    return Batch(images, torch.arange(size) // 4)


def gradient(
    model: nn.Module, pictures: Batch, micro_batch: int | None, loss: nn.Module
) -> list[Tensor]:
    model.zero_grad()
    passes = Passes(model, loss, torch.device("cpu"), seed=0, micro_batch=micro_batch)
    passes.backward(pictures, Place("forward", 0), scale=lambda value: value)
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def distance(one: list[Tensor], other: list[Tensor]) -> float:
    """Length of the difference of two gradients, as a share of the second."""
    apart = torch.cat([(a - b).flatten() for a, b in zip(one, other, strict=True)]).norm()
    return float(apart / torch.cat([b.flatten() for b in other]).norm())


def one_way(micro_batch: int | None, size: int) -> dict[str, float]:
    torch.set_num_threads(1)
    model, pictures, loss = net(), batch(size), sl.SupConLoss(temperature=0.1)
    gradient(model, Batch(pictures.images[:8], pictures.labels[:8]), None, loss)  # allocations
    start = time.perf_counter()
    needed = extra_memory(lambda: gradient(model, pictures, micro_batch, loss))
    return {"seconds": time.perf_counter() - start, "megabytes": needed / 1e6}


def exactness(size: int) -> list[dict[str, object]]:
    """How far gradients in pieces are from that of the whole batch."""
    pictures, rows = batch(size), []
    torch.set_default_dtype(torch.float64)
    for norms in (False, True):
        loss = sl.SupConLoss(temperature=0.1)
        whole = gradient(net(norms), pictures, None, loss)
        for piece in (size // 2, size // 4, size // 16, size // 64):
            apart = distance(gradient(net(norms), pictures, piece, loss), whole)
            rows.append({"batch norms": norms, "pieces of": piece, "of the gradient": apart})
    torch.set_default_dtype(torch.float32)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--way", choices=WAYS, help="only this one, in this process")
    parser.add_argument("--size", type=int, default=BATCH, help="pictures in the batch")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each way, in turn")
    parser.add_argument("--quick", action="store_true", help="256 pictures; nothing is written")
    args = parser.parse_args()
    if args.way:
        answer(one_way(WAYS[args.way], args.size))
        return
    exact = exactness(64 if args.quick else 256)
    assert all(row["of the gradient"] < 1e-12 for row in exact if not row["batch norms"])
    if args.quick:
        sys.stdout.write(table(measured(256, 1)) + "\n\n" + table(exact) + "\n")
        return
    rows = measured(args.size, args.repeats)
    write("micro_batch", rows, settings={"batch": args.size, "shape": SHAPE}, exactness=exact)


def measured(size: int, repeats: int) -> list[dict[str, object]]:
    """Time and memory of each way."""
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(repeats):
        for way in WAYS:
            runs[way].append(child("--way", way, "--size", str(size)))

    def middle(key: str, way: str, *, of: str | None = None) -> float:
        others = [1.0] * repeats if of is None else [run[key] for run in runs[of]]
        own = (run[key] for run in runs[way])
        return statistics.median(a / b for a, b in zip(own, others, strict=True))

    return [
        {
            "way": way,
            "seconds": round(middle("seconds", way), 2),
            "of the time": round(middle("seconds", way, of="whole"), 2),
            "megabytes": round(middle("megabytes", way)),
            "times less memory": round(middle("megabytes", "whole", of=way), 1),
        }
        for way in WAYS
    ]


if __name__ == "__main__":
    main()

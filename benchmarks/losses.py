"""Time and peak memory of every loss, forward and backward to the embeddings, beside its peers.

Each row is a process of its own on one thread. In it siamlearn, pytorch-metric-learning, a dense
version written by hand in torch (for some) and the floor (the three bare matrix products) run in
turn, after their values and gradients were found equal. Peak memory is measured in further
processes, one for each. What runs out of memory is shown as that, with what it asked for.

python benchmarks/losses.py                        # quiet machine, please: about forty minutes
python benchmarks/losses.py --only NT-Xent         # rows of that name; --keep them
python benchmarks/losses.py --largest              # every loss at the largest batch, alone
python benchmarks/losses.py --device cuda          # the same on a GPU, and larger batches
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_metric_learning
import torch
from loss_rows import CLASSES, CURVES, EVERY, OF_CLASSES, WORKS, Work
from processes import answer, child, extra_memory
from results import amend, write
from torch import Tensor

PEER = "pytorch-metric-learning"
OURS = "siamlearn"
SIZES = (256, 512, 1024, 2048, 4096, 8192, 16384)
SIZES_CUDA = (*SIZES, 32768, 65536)
GIGABYTE = 1e9
Rows = list[dict[str, Any]]


def batch(work: Work, size: int, device: str) -> tuple[Tensor, Tensor]:
    """Unit vectors at random, as before any training, and identities in no order."""
    generator = torch.Generator().manual_seed(0)
    labels = (torch.arange(size) // work.pictures)[torch.randperm(size, generator=generator)]
    labels = labels if work.references is None else labels % work.references
    vectors = torch.randn(size, work.dimensions, generator=generator)
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    return vectors.to(device).requires_grad_(), labels.to(device)


def ways(work: Work, device: str) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Who is measured; each built when it is asked for, with the same weights where it has some."""
    built = {OURS: work.ours, PEER: work.peer, "by hand": work.dense}
    return {name: make().to(device) for name, make in built.items() if make is not None}


def step(loss: Callable[[Tensor, Tensor], Tensor], vectors: Tensor, labels: Tensor) -> Tensor:
    vectors.grad = None
    if isinstance(loss, torch.nn.Module):
        loss.zero_grad(set_to_none=True)
    value = loss(vectors, labels)
    value.backward()
    return value.detach()


def floor(work: Work, vectors: Tensor) -> Callable[[], None]:
    """The distances and the two gradients of the bare products."""
    others = torch.randn(work.references, work.dimensions) if work.references else vectors.detach()
    x, others = vectors.detach(), others.to(vectors.device)

    def products() -> None:
        rows = max(16, 2**19 // len(others)) if x.device.type == "cpu" else len(x)
        mine, theirs = torch.zeros_like(x), torch.zeros_like(others)
        for start in range(0, len(x), rows):
            cut = slice(start, start + rows)
            block = x[cut] @ others.T
            mine[cut] = block @ others
            theirs.addmm_(block.T, x[cut])

    return products


def seconds(run: Callable[[], Any], device: str) -> float:
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare(work: Work, device: str) -> dict[str, Any]:
    """Values and gradients first, then times in turn: medians, in seconds."""
    vectors, labels = batch(work, work.size, device)
    runs: dict[str, Callable[[], Any]] = {}
    found: dict[str, tuple[Tensor, Tensor]] = {}
    out: dict[str, Any] = {}
    for name, loss in ways(work, device).items():
        try:
            value = step(loss, vectors, labels)
        except RuntimeError as error:  # also CUDA's out of memory
            wanted = re.search(
                r"(?:tried to allocate|allocate) ([\d.]+) ?(bytes|GiB|MiB)?", str(error)
            )
            if not wanted:
                raise
            unit = {"GiB": 2**30, "MiB": 2**20}.get(wanted[2] or "", 1)
            out[f"{name} asked for"] = float(wanted[1]) * unit
            continue
        assert vectors.grad is not None
        found[name] = value, vectors.grad.clone()
        runs[name] = lambda loss=loss: step(loss, vectors, labels)
    for name, (value, gradient) in () if work.differs else found.items():
        torch.testing.assert_close(value, found[OURS][0], rtol=1e-3, atol=1e-6)
        off = (gradient - found[OURS][1]).norm() / found[OURS][1].norm()
        assert off < 1e-3, f"{name}: gradients differ by {off:.2g}"
    runs["floor"] = floor(work, vectors)
    times: dict[str, list[float]] = {name: [] for name in runs}
    until = time.perf_counter() + work.patience
    while len(times[OURS]) < 5 or (time.perf_counter() < until and len(times[OURS]) < 25):
        for name, run in runs.items():
            times[name].append(seconds(run, device))
        if time.perf_counter() > until + 60:
            break
    return {**out, **{name: statistics.median(each) for name, each in times.items()}}


def memory(work: Work, name: str, device: str) -> float:
    """The most that one step needed beyond what was there before it, in bytes."""
    loss = ways(work, device)[name]
    vectors, labels = batch(work, 64, device)
    step(loss, vectors, labels)  # loads the code
    vectors, labels = batch(work, work.size, device)
    vectors.grad = torch.zeros_like(vectors)
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(loss, vectors, labels)
        return float(torch.cuda.max_memory_allocated() - before)
    return extra_memory(lambda: step(loss, vectors, labels))


def measured(index: int, device: str) -> dict[str, Any]:
    """One row of the table."""
    work = WORKS[index]
    common = ("--index", str(index), "--device", device)
    found = child("--measure", "time", *common)
    peaks = {name: child("--measure", name, *common) for name in (OURS, PEER) if name in found}
    row: dict[str, Any] = {"work": work.name, "batch": work.size}
    row[f"{OURS}, ms"] = 1e3 * found[OURS]
    row["floor, ms"] = 1e3 * found["floor"]
    row["by hand, ms"] = 1e3 * found["by hand"] if "by hand" in found else None
    asked = found.get(f"{PEER} asked for")
    if PEER in found:
        row["PML, ms"] = 1e3 * found[PEER]
        row["times as fast"] = found[PEER] / found[OURS]
    elif asked:
        row["PML, ms"] = f"out of memory ({asked / GIGABYTE:.3g} GB)"
    row[f"{OURS}, MB"] = peaks[OURS] / 1e6
    row["PML, MB"] = peaks[PEER] / 1e6 if PEER in peaks else None
    row["asked"] = work.asked
    row["the peer"] = work.differs or None
    return row


def points(name: str, sizes: tuple[int, ...], device: str) -> list[dict[str, Any]]:
    """Time and memory of siamlearn alone, over the size of the batch."""
    rows = []
    for size in sizes:
        found = child("--measure", "point", "--only", name, "--size", str(size), "--device", device)
        rows.append({"loss": name, "batch": size, **found})
        sys.stdout.write(json.dumps(rows[-1]) + "\n")
        sys.stdout.flush()
    return rows


def point(name: str, size: int, device: str) -> dict[str, float]:
    classes = CLASSES if name in OF_CLASSES else None
    work = Work(name, size, ours=EVERY[name], references=classes)
    vectors, labels = batch(work, size, device)
    loss = ways(work, device)[OURS]
    peak = memory(work, OURS, device)
    repeats = 5 if size <= 4096 else 2
    times = [seconds(lambda: step(loss, vectors, labels), device) for _ in range(repeats)]
    base = [seconds(floor(work, vectors), device) for _ in range(repeats)]
    return {
        "ms": 1e3 * min(times),
        "times the floor": min(times) / min(base),
        "MB": peak / 1e6,
    }


def limit_memory() -> None:
    """A peer that asks for too much shall fail, not bring the machine down."""
    free = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    if free:
        most = int(0.75 * 1024 * int(free[1]))
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="", help="rows whose name has this in it")
    parser.add_argument("--keep", action="store_true", help="put those rows into the kept tables")
    parser.add_argument("--largest", action="store_true", help="every loss at the largest batch")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--index", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.measure:
        limit_memory()
        if asked.measure == "time":
            found: Any = compare(WORKS[asked.index], asked.device)
        elif asked.measure == "point":
            found = point(asked.only, asked.size, asked.device)
        else:
            found = memory(WORKS[asked.index], asked.measure, asked.device)
        answer(found)
        return
    sizes = SIZES_CUDA if asked.device == "cuda" else SIZES
    if not asked.largest:
        rows = table(asked.only, asked.device)
        if asked.keep:
            amend("losses", rows, key=("work", "batch"))
        if asked.only:
            return
        curves = [row for name in CURVES for row in points(name, sizes, asked.device)]
        keep("losses", rows, asked.device, curves=curves)
    chosen = [name for name in EVERY if asked.only in name]
    rows = [row for name in chosen for row in points(name, sizes[-1:], asked.device)]
    if asked.keep:
        amend("losses_largest", rows, key=("loss", "batch"))
    if not asked.only:
        keep("losses_largest", rows, asked.device)


def table(only: str, device: str) -> Rows:
    """The rows whose name has this in it."""
    rows = []
    for index, work in enumerate(WORKS):
        if only in work.name:
            rows.append(measured(index, device))
            sys.stdout.write(json.dumps(rows[-1]) + "\n")
            sys.stdout.flush()
    return rows


def keep(name: str, rows: Rows, device: str, **more: Rows) -> None:
    """Write the tables that the documentation shows."""
    name += "" if device == "cpu" else "_cuda"
    peer = f"{PEER} {pytorch_metric_learning.__version__}"
    write(name, rows, **more, peer=peer, threads=torch.get_num_threads())


if __name__ == "__main__":
    main()

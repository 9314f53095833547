"""Counting pairs: exactly beside scikit-learn, and in a histogram as far as 5 · 10⁹ pairs.

    exact      all rates, AUC, EER and average precision of drawn distances; scikit-learn's
               roc_curve, auc and average_precision_score beside it, in turn
    streaming  all pairs of embeddings strip by strip: what the distances take, what counting adds
    error      a histogram beside the exact numbers of the same pairs, and the stated bounds

Times are CPU seconds of one thread, the least of the repeats: the machine may be shared. Each
memory is the growth of the peak in a process of its own.

python benchmarks/verification.py                                       # ten minutes
python benchmarks/verification.py --pictures 100000 --only streaming    # two, for 5 · 10⁹ pairs
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Callable
from typing import Any

import torch
from results import FOLDER, write
from sklearn import metrics

import siamlearn as sl
from siamlearn.comparison import strips
from siamlearn.functional.accepted import accepted
from siamlearn.functional.histogram import Histogram, bounds

Row = dict[str, Any]


def drawn(pairs: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One in a hundred is genuine, as among pictures of a hundred people."""
    generator = torch.Generator().manual_seed(0)
    genuine = 0.6 + 0.1 * torch.randn(pairs // 100, generator=generator)
    return genuine, 1.0 + 0.09 * torch.randn(pairs - pairs // 100, generator=generator)


def faces(pictures: int) -> sl.Embeddings:
    """Embeddings of people with four pictures each, 128 numbers long."""
    generator = torch.Generator().manual_seed(0)
    people = pictures // 4
    who = torch.arange(pictures) % people
    centres = torch.randn(people, 128, generator=generator)
    vectors = centres[who] + 1.2 * torch.randn(pictures, 128, generator=generator)
    names = tuple(map(str, range(pictures)))
    return sl.Embeddings(vectors, who, names[:people], names, distance=sl.cosine)


def ours(pairs: int) -> Row:
    genuine, impostor = drawn(pairs)

    def read() -> tuple[float, float]:
        seen = accepted(genuine, impostor)
        seen.eer()
        return seen.auc().item(), seen.average_precision().item()

    return measured(read)


def theirs(pairs: int) -> Row:
    genuine, impostor = drawn(pairs)
    truth = torch.cat([torch.ones(len(genuine)), torch.zeros(len(impostor))]).numpy()
    score = -torch.cat([genuine, impostor]).numpy()

    def read() -> tuple[float, float]:
        false, true, _ = metrics.roc_curve(truth, score, drop_intermediate=False)
        return metrics.auc(false, true), metrics.average_precision_score(truth, score)

    return measured(read)


def measured(read: Callable[[], tuple[float, float]]) -> Row:
    before = peak()
    start = time.process_time()
    auc, precision = read()
    seconds = time.process_time() - start
    return {"seconds": seconds, "MiB": peak() - before, "auc": auc, "precision": precision}


def streaming(pictures: int) -> Row:
    embeddings, histogram = faces(pictures), Histogram()
    before, counting, start = peak(), 0.0, time.process_time()
    wall = time.perf_counter()
    for strip in strips(embeddings, progress=False):
        begun = time.process_time()
        histogram.add(strip.distance, strip.same, strip.once)
        counting += time.process_time() - begun
    seconds = time.process_time() - start
    wall = time.perf_counter() - wall
    begun = time.process_time()
    counted = histogram.accepted()
    found = bounds(counted)
    reading = time.process_time() - begun
    genuine, impostor = histogram.pairs
    return {
        "pictures": pictures,
        "pairs": genuine + impostor,
        "CPU seconds": round(seconds, 1),
        "of these counting": round(counting, 1),
        "wall seconds": round(wall, 1),
        "reading": round(reading, 3),
        "ns a pair": round(1e9 * seconds / (genuine + impostor), 1),
        "MiB": peak() - before,
        "AUC": f"{found.auc[0]:.7f} to {found.auc[1]:.7f}",
        "EER": f"{found.eer[0]:.6f} to {found.eer[1]:.6f}",
        "all numbers": str(found),
    }


def error(pictures: int) -> Row:
    embeddings, histogram = faces(pictures), Histogram()
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []
    for strip in strips(embeddings, progress=False):
        histogram.add(strip.distance, strip.same, strip.once)
        kept.append((strip.genuine, strip.impostor))
    exact = accepted(*(torch.cat(kind) for kind in zip(*kept, strict=True)))
    counted = histogram.accepted()
    stated = bounds(counted)

    def off(one: torch.Tensor, other: torch.Tensor) -> str:
        return f"{abs(one.item() - other.item()):.1e}"

    def width(low_and_high: tuple[float, float]) -> str:
        return f"{low_and_high[1] - low_and_high[0]:.1e}"

    return {
        "pairs": sum(exact.pairs),
        "AUC off by": off(exact.auc(), counted.auc()),
        "stated": width(stated.auc),
        "EER off by": off(exact.eer()[0], counted.eer()[0]),
        "stated ": width(stated.eer),
        "FNMR at FMR 0.1 % off by": off(exact.fnmr_at(1e-3), counted.fnmr_at(1e-3)),
        "stated  ": width(stated.fnmr_at[1e-3]),
    }


def peak() -> int:
    """The most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def alone(work: Callable[[int], Row], size: int) -> Row:
    """Done by one thread in a process of its own, so that its memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1, torch.set_num_threads, (1,)) as pool:
        return pool.apply(work, (size,))


def exact_row(pairs: int, repeats: int) -> Row:
    runs = [(alone(ours, pairs), alone(theirs, pairs)) for _ in range(repeats)]  # in turn
    mine, other = (min(kind, key=lambda run: run["seconds"]) for kind in zip(*runs, strict=True))
    differ = max(abs(mine[key] - other[key]) for key in ("auc", "precision"))
    return {
        "pairs": pairs,
        "seconds": round(mine["seconds"], 2),
        "MiB": mine["MiB"],
        "scikit-learn, seconds": round(other["seconds"], 2),
        "scikit-learn, MiB": other["MiB"],
        "times as fast": round(other["seconds"] / mine["seconds"], 1),
        "AUC and average precision differ by": f"{differ:.0e}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, nargs="+", default=[5_000, 20_000, 40_000, 100_000])
    parser.add_argument("--pairs", type=int, nargs="+", default=[2**20, 2**23, 2**25])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--only", choices=["exact", "streaming", "error"])
    asked = parser.parse_args()
    path = FOLDER / "verification.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    if asked.only in (None, "exact"):
        found["rows"] = [exact_row(pairs, asked.repeats) for pairs in asked.pairs]
    if asked.only in (None, "streaming"):
        known = {row["pictures"]: row for row in found.get("streaming", [])}
        known |= {pictures: alone(streaming, pictures) for pictures in asked.pictures}
        found["streaming"] = [known[pictures] for pictures in sorted(known)]
    if asked.only in (None, "error"):
        found["error"] = [alone(error, 5_000)]
    rows, streamed, errors = (found.get(key, []) for key in ("rows", "streaming", "error"))
    write("verification", rows or streamed or errors, streaming=streamed, error=errors)


if __name__ == "__main__":
    main()

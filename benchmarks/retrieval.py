"""Time and peak memory of a search of all pictures among all others, beside its peer.

Each row is a process of its own on one thread. In it siamlearn, by two distances, and
pytorch-metric-learning's AccuracyCalculator run in turn, after their values were found equal; peak
memory is measured in further processes, one for each. The peer is in its best setting: only the
four numbers that are asked for, k = "max_bin_count", and the neighbours found by faiss, by inner
product. Without faiss (pip install faiss-cpu) it searches by torch, and the row says so.

siamlearn does more in its time: ranks, reciprocal ranks and average precision look at all
references, the peer's at the first k only; precision and recall at 1 to 50, nDCG, and the distances
for the open set are there as well.

python benchmarks/retrieval.py                 # quiet machine, please: about five minutes
python benchmarks/retrieval.py --only 20,000   # rows whose name has this in it
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import pytorch_metric_learning
import torch
from processes import answer, child, extra_memory
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN, FaissKNN
from results import write

from siamlearn.comparison import strips
from siamlearn.embeddings import Embeddings
from siamlearn.functional.distances import cosine, euclidean
from siamlearn.search import Found, search

COSINE, EUCLIDEAN, PEER = "siamlearn", "siamlearn, Euclidean", "PML"
# Names of the peer, and what is the same here.
SAME = {
    "precision_at_1": "rank-1",
    "r_precision": "R-precision",
    "mean_average_precision_at_r": "MAP@R",
}
DIMENSIONS = 128
# Two pictures that are almost equally far may change places by rounding, which is worth this much.
CLOSE = 2e-5


@dataclass(frozen=True)
class Work:
    """So many people with so many pictures each."""

    people: int
    pictures: int

    @property
    def name(self) -> str:
        return f"{self.people * self.pictures:,} pictures of {self.people:,} people"

    def embeddings(self) -> Embeddings:
        """Unit vectors around the centre of each person, near enough to find most."""
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(self.people).repeat(self.pictures)
        centres = torch.randn(self.people, DIMENSIONS, generator=generator)
        noise = torch.randn(len(labels), DIMENSIONS, generator=generator)
        vectors = torch.nn.functional.normalize(centres[labels] + 1.6 * noise, dim=1)
        people, names = (tuple(map(str, range(n))) for n in (self.people, len(labels)))
        return Embeddings(vectors, labels, people, names, distance=cosine)


WORKS = [Work(1250, 4), Work(2500, 4), Work(5000, 4), Work(200, 100)]


def ours(distance: Callable[..., Any], embeddings: Embeddings) -> Found:
    side = Embeddings(
        embeddings.vectors,
        embeddings.labels,
        embeddings.identities,
        embeddings.names,
        distance=distance,
    )
    return search(strips(side, progress=False))


def theirs(embeddings: Embeddings) -> dict[str, float]:
    if find_spec("faiss"):
        import faiss

        faiss.omp_set_num_threads(1)
        neighbours: Any = FaissKNN(index_init_fn=faiss.IndexFlatIP)
    else:
        neighbours = CustomKNN(LpDistance(), batch_size=512)
    calculator = AccuracyCalculator(
        include=(*SAME, "mean_reciprocal_rank"),
        k="max_bin_count",
        knn_func=neighbours,
        device=torch.device("cpu"),
    )
    found: dict[str, float] = calculator.get_accuracy(embeddings.vectors, embeddings.labels)
    return found


RUNS: dict[str, Callable[[Embeddings], Any]] = {
    COSINE: lambda embeddings: ours(cosine, embeddings),
    EUCLIDEAN: lambda embeddings: ours(euclidean, embeddings),
    PEER: theirs,
}


def check(found: Found, other: dict[str, float], k: int) -> dict[str, float]:
    """What both say, which must be the same."""
    means = found.means()
    said = {name: means[same] for name, same in SAME.items()}
    near = torch.where(found.rank <= k, found.reciprocal_rank, 0)  # the peer looks no further
    said["mean_reciprocal_rank"] = found.mean(near)
    for name, value in said.items():
        assert abs(value - other[name]) < CLOSE, f"{name}: {value} here, {other[name]} there"
    return {name: means[name] for name in ("rank-1", "MAP@R", "R-precision", "mAP", "MRR")}


def compare(work: Work) -> dict[str, Any]:
    """Values first, then times in turn: medians, in seconds."""
    embeddings = work.embeddings()
    first = {name: run(embeddings) for name, run in RUNS.items()}
    check(first[EUCLIDEAN], first[PEER], work.pictures - 1)
    means = check(first[COSINE], first[PEER], work.pictures - 1)
    times: dict[str, list[float]] = {name: [] for name in RUNS}
    for _ in range(5):
        for name, run in RUNS.items():
            start = time.perf_counter()
            run(embeddings)
            times[name].append(time.perf_counter() - start)
    return {**means, **{name: statistics.median(each) for name, each in times.items()}}


def memory(work: Work, name: str) -> float:
    """The most that one search needed beyond what was there before it, in bytes."""
    RUNS[name](Work(10, 4).embeddings())  # loads the code
    embeddings = work.embeddings()
    return extra_memory(lambda: RUNS[name](embeddings))


def measured(index: int) -> dict[str, Any]:
    """One row of the table."""
    found = child("--measure", "time", "--index", str(index))
    peaks = {name: child("--measure", name, "--index", str(index)) for name in RUNS}
    row: dict[str, Any] = {"work": WORKS[index].name}
    row |= {f"{name}, s": round(found[name], 3) for name in RUNS}
    row["times as fast"] = round(found[PEER] / found[COSINE], 2)
    row |= {f"{name}, MB": round(peaks[name] / 1e6) for name in RUNS}
    row["MAP@R"] = round(found["MAP@R"], 4)
    row["the peer"] = "faiss" if find_spec("faiss") else "without faiss"
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default="", help="rows whose name has this in it")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--index", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.measure:
        work = WORKS[asked.index]
        found = compare(work) if asked.measure == "time" else memory(work, asked.measure)
        answer(found)
        return
    rows = []
    for index, work in enumerate(WORKS):
        if asked.only in work.name:
            rows.append(measured(index))
            sys.stdout.write(json.dumps(rows[-1]) + "\n")
            sys.stdout.flush()
    if asked.only:
        return
    peer = f"pytorch-metric-learning {pytorch_metric_learning.__version__}"
    if find_spec("faiss"):
        import faiss

        peer += f" with faiss {faiss.__version__}"
    write("retrieval", rows, peer=peer, dimensions=DIMENSIONS)


if __name__ == "__main__":
    main()

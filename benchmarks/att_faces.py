"""Every protocol of the AT&T faces with the defaults of ``fit``, beside three baselines.

    notebook   train s2-s31, test all pairs of s32-s40; several seeds
    disjoint   20 random splits into 31 people to learn from and 9 to test on
    closed     5 pictures a person are learned from and enrolled, 5 are asked; 10 draws
    leave_one  picture k of everybody is asked, the others are learned from and enrolled; k = 1..10
    bob        20 people to learn from; of the others 5 pictures are enrolled, 5 compared

Each training is done from scratch in a process of its own with one thread, two at a time, and is
written down at once; a run that was stopped goes on where it was.

python benchmarks/att_faces.py             # about half an hour on two cores
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import FOLDER, table, write

import siamlearn as sl
from siamlearn.comparison import compare
from siamlearn.data.protocols import Split

JOURNAL = FOLDER / "att_faces.jsonl"
SEEDS = 5  # of the notebook's split and of bob's

Protocol = Callable[[sl.ImageSet], Iterator[Split]]
PROTOCOLS: dict[str, tuple[Protocol, int]] = {
    "notebook": (sl.protocols.notebook, SEEDS),
    "disjoint": (sl.protocols.repeated_disjoint, 1),
    "closed": (sl.protocols.closed_set, 1),
    "leave_one": (sl.protocols.leave_one_out, 1),
    "bob": (sl.protocols.bob_atnt, SEEDS),
}


def jobs(faces: sl.ImageSet) -> list[tuple[str, int, int]]:
    """Protocol, number of the split, seed of the training: one of each protocol comes first."""
    every = []
    for name, (protocol, seeds) in PROTOCOLS.items():
        splits = sum(1 for _ in protocol(faces))
        every += [(name, split, seed) for split in range(splits) for seed in range(seeds)]
    return sorted(every, key=lambda job: job[1:])


def made_by(faces: sl.ImageSet) -> str:
    """A hash of code, versions and pictures: figures of another one are not taken up."""
    code = sorted(Path(sl.__file__).parent.rglob("*.py"))
    parts = [hashlib.sha256(path.read_bytes()).hexdigest() for path in code]
    return hashlib.sha256(repr((parts, torch.__version__, faces.digest)).encode()).hexdigest()


def faces_of(data: str | None) -> sl.ImageSet:
    root = data or sl.find_att_faces()
    return sl.DrawnFaces() if root is None else sl.ATTFaces(root)


def measured(job: tuple[str, int, int, str | None]) -> dict[str, Any]:
    """Train and judge once."""
    name, number, seed, data = job
    torch.set_num_threads(1)
    split = next(itertools.islice(PROTOCOLS[name][0](faces_of(data)), number, None))
    start = time.perf_counter()
    run = sl.fit(split.train, seed=seed, callbacks=())
    seconds = time.perf_counter() - start
    probes = sl.embed(run.net, split.probes)
    gallery = None if split.gallery is None else sl.embed(run.net, split.gallery)
    report = sl.evaluate(probes, gallery=gallery, train=split.train)
    found: dict[str, Any] = {
        "protocol": name,
        "split": split.name,
        "digest": split.digest,
        "number": number,
        "seed": seed,
        "seconds": round(seconds, 1),
    }
    for system in (report, *report.baselines):
        found[system.name] = {
            "auc": system.auc,
            "balanced_accuracy": system.balanced_accuracy,
            "eer": system.eer,
            "rank1": system.rank1,
        }
    if name == "disjoint":
        found["fmr_asked_1_percent"] = operating(probes)
    return found


def operating(held_out: sl.Embeddings) -> dict[str, float]:
    """FMR of thresholds asked for 1 %: five of the nine choose it, the other four are tested.

    Nobody of the nine was trained on; the mean over all 126 ways to choose the five.
    """
    rates: dict[str, list[float]] = {"cross-validated": [], "as it fits the five": []}
    for chosen in itertools.combinations(held_out.people, 5):
        mine = torch.tensor([held_out.identities[i] in chosen for i in held_out.labels.tolist()])
        five = held_out.subset(mine.nonzero()[:, 0].tolist())
        impostor = compare(held_out.subset((~mine).nonzero()[:, 0].tolist())).impostor
        for name, found in rates.items():
            point = sl.OperatingPoint.fit(five, fmr=0.01, cross_validated=name[0] == "c")
            found.append(point.accepts(impostor).double().mean().item())
    return {name: float(np.mean(found)) for name, found in rates.items()}


def systems_of(row: dict[str, Any]) -> list[str]:
    """What was measured in a training: the net first, then the baselines."""
    return [name for name, value in row.items() if isinstance(value, dict) and "auc" in value]


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a protocol and system: means over trainings, and the paired gain on baselines."""
    found = []
    for name in PROTOCOLS:
        mine = [row for row in rows if row["protocol"] == name]
        if not mine:
            continue
        systems = systems_of(mine[0])
        mean = {
            system: {k: float(np.mean([row[system][k] for row in mine])) for k in mine[0][system]}
            for system in systems
        }
        for system in systems:
            row = {"protocol": name, "system": system, "trainings": len(mine)}
            row |= {key: f"{value:.4f}" for key, value in mean[system].items()}
            row["seconds a training"] = ""
            if system == systems[0]:
                row["seconds a training"] = f"{np.median([r['seconds'] for r in mine]):.0f}"
            found.append(row)
    return found


def extras(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What is paired split by split, and the rates of operating points."""
    mine = [row for row in rows if row["protocol"] == "disjoint"]
    if not mine:
        return {}
    systems = systems_of(mine[0])
    net, *baselines = systems
    gains = {other: [row[net]["auc"] - row[other]["auc"] for row in mine] for other in baselines}
    best = [row[net]["auc"] - max(row[other]["auc"] for other in baselines) for row in mine]
    rates = {
        name: np.array([row["fmr_asked_1_percent"][name] for row in mine])
        for name in mine[0]["fmr_asked_1_percent"]
    }
    return {
        "auc_gain_split_by_split": {
            **{name: round(float(np.mean(values)), 4) for name, values in gains.items()},
            "best of the baselines in each split": round(float(np.mean(best)), 4),
            "splits won against the best": sum(value > 0 for value in best),
            "splits": len(best),
        },
        "fmr_at_1_percent_asked": {
            name: f"{found.mean():.4f} ± {found.std(ddof=1) / len(found) ** 0.5:.4f}"
            for name, found in rates.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of the AT&T faces; drawn faces without any")
    parser.add_argument("--only", nargs="+", choices=PROTOCOLS, default=list(PROTOCOLS))
    parser.add_argument("--fresh", action="store_true", help="forget an earlier, stopped run")
    args = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    faces = faces_of(args.data)
    mine = made_by(faces)
    lines = JOURNAL.read_text().splitlines() if JOURNAL.exists() and not args.fresh else []
    rows = [row for row in map(json.loads, lines) if row.pop("made_by", None) == mine]
    done = {(row["protocol"], row["number"], row["seed"]) for row in rows}
    todo = [job for job in jobs(faces) if job[0] in args.only and job not in done]
    with multiprocessing.get_context("spawn").Pool(2) as pool, JOURNAL.open("w") as journal:
        for row in itertools.chain(
            rows[:], pool.imap_unordered(measured, [(*job, args.data) for job in todo])
        ):
            journal.write(json.dumps(row | {"made_by": mine}) + "\n")
            journal.flush()
            if row not in rows:
                rows.append(row)
                net = {key: round(value, 4) for key, value in row["net"].items()}
                sys.stderr.write(f"{row['split']}, seed {row['seed']}: {net}\n")
    rows.sort(key=lambda row: (list(PROTOCOLS).index(row["protocol"]), row["number"], row["seed"]))
    write("att_faces", summary(rows), **extras(rows), trainings=rows)
    sys.stdout.write(table([extras(rows).get("auc_gain_split_by_split", {"": ""})]) + "\n")
    sys.stdout.write(f"{extras(rows).get('fmr_at_1_percent_asked')}\n")
    if args.only == list(PROTOCOLS):
        JOURNAL.unlink()  # all is done: the next run starts anew


if __name__ == "__main__":
    main()

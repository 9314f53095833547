"""How often intervals hold the true value: simulated people whose true rates are known.

Eight populations, hundreds of sets of 9, 20 and 40 people with ten pictures each, and for every
set the interval of twelve numbers by six methods. Then the same of the difference between two
equally good systems, and of the AT&T faces, where the truth is not known but widths can be seen.

python benchmarks/coverage.py                # about ten minutes on two cores
python benchmarks/coverage.py --sets 40      # a glance
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
from typing import Any

import numpy as np
import torch
from populations import POPULATIONS, Population, truth
from results import write
from scipy.special import ndtr, ndtri, stdtrit
from torch import Tensor
from tqdm import tqdm

import siamlearn as sl
from siamlearn.functional.accepted import Accepted
from siamlearn.functional.intervals import Trials, difference, interval
from siamlearn.functional.resampling import Cells, Tally, draws, weighted_mean

PEOPLE = (9, 20, 40)
PICTURES = 10
RESAMPLES = 500
OURS = "people, Wilson and Student (ours)"
Interval = tuple[Tensor, Tensor]


def numbers(seen: Accepted, fixed: tuple[float, float]) -> dict[str, Tensor]:
    """All that is read off pairs, and the kind of its trials."""
    strict, loose = seen.at(fixed[0]), seen.at(fixed[1])
    return {
        "AUC": seen.auc(),
        "EER": seen.eer()[0],
        "balanced accuracy": 1 - (loose[0] + loose[1]) / 2,
        "best balanced accuracy": seen.best()[0],
        "FNMR at FMR 10 %": seen.fnmr_at(0.1),
        "FNMR at FMR 1 %": seen.fnmr_at(0.01),
        "FNMR, strict threshold": strict[1],
        "FNMR, loose threshold": loose[1],
        "average precision": seen.average_precision(),
        "FMR, strict threshold": strict[0],
        "FMR, loose threshold": loose[0],
        "d prime": seen.d_prime(),
    }


def most(name: str, trials: Trials) -> float:
    if name in ("AUC", "EER", "balanced accuracy", "best balanced accuracy"):
        return trials.both
    return trials.impostor if name.startswith("FMR") else trials.genuine


def counted(x: Tensor, threshold: Tensor) -> tuple[Cells, Tensor, Tensor]:
    """Cells of all pairs of a set, whether each probe is found, and the nearest wrong person."""
    people = torch.arange(len(x))
    who = people.repeat_interleave(x.shape[1])
    flat = x.flatten(end_dim=1)
    distance = torch.cdist(flat, flat)
    same, once = who[:, None] == who, torch.ones_like(distance).triu(1).bool()
    tally = Tally(threshold, len(people))
    tally.add(distance, same & once, ~same & once, who, who)
    itself = torch.eye(len(flat), dtype=torch.bool)
    right = distance.masked_fill(~same | itself, torch.inf).amin(dim=1)
    wrong, rival = distance.masked_fill(same, torch.inf).min(dim=1)
    return tally.cells(), (right < wrong).double(), who[rival]


def pairs_drawn(seen: Accepted, generator: np.random.Generator) -> Accepted:
    """As if pairs were independent."""

    def drawn(counts: Tensor) -> Tensor:
        each = counts.diff().double().numpy()
        new = generator.multinomial(int(counts[-1]), each / each.sum(), size=RESAMPLES)
        return torch.nn.functional.pad(torch.from_numpy(new).cumsum(dim=1), (1, 0))

    return Accepted(seen.threshold, drawn(seen.genuine), drawn(seen.impostor))


def percentile(drawn: Tensor) -> Interval:
    low, high = drawn.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0)
    return low, high


def corrected(value: Tensor, drawn: Tensor, without: Tensor) -> Interval:
    """BCa: Efron, Better Bootstrap Confidence Intervals, JASA 82, 1987, eq. 2.3."""
    below = (drawn < value).double().mean(dim=0) + (drawn == value).double().mean(dim=0) / 2
    bias = torch.special.ndtri(below.clamp(0.002, 0.998))
    away = without.mean(dim=0) - without
    skew = away.pow(3).sum(dim=0) / (6 * away.square().sum(dim=0).clamp(min=1e-30).pow(1.5))
    ends = []
    for level in (0.025, 0.975):
        shifted = bias + float(ndtri(level))
        place = ndtr((bias + shifted / (1 - skew * shifted).clamp(min=1e-3)).numpy())
        index = torch.from_numpy(place * (len(drawn) - 1)).round().long()
        ends.append(drawn.sort(dim=0).values.gather(0, index[None])[0])
    return ends[0], ends[1]


def methods(
    value: Tensor, drawn: Tensor, without: Tensor, pairs: Tensor, people: int, names: list[str]
) -> dict[str, Interval]:
    """Every interval of every number; a row of ``drawn`` is a resample."""
    trials = Trials(people, people * PICTURES)
    ours = []
    for k, name in enumerate(names):
        bounds = (-math.inf, math.inf) if name == "d prime" else (0.0, 1.0)
        limit = most(name, trials)
        ours.append(interval(value[k], drawn[:, k], units=people, trials=limit, bounds=bounds))
    spread, quantile = drawn.std(dim=0), float(stdtrit(people - 1, 0.975))
    inner = value.clamp(1e-9, 1 - 1e-9)
    reach = quantile * spread / (inner * (1 - inner))
    unbounded = torch.tensor([name == "d prime" for name in names])
    plain = value - quantile * spread, value + quantile * spread
    logit = (inner.logit() - reach).sigmoid(), (inner.logit() + reach).sigmoid()
    return {
        OURS: (torch.stack([low for low, _ in ours]), torch.stack([high for _, high in ours])),
        "people, logit and Student": (
            torch.where(unbounded, plain[0], logit[0]),
            torch.where(unbounded, plain[1], logit[1]),
        ),
        "people, Student": plain,
        "people, BCa": corrected(value, drawn, without),
        "people, percentile": percentile(drawn),
        "pairs, percentile": percentile(pairs),
    }


def one_set(
    x: Tensor, everybody: Accepted, fixed: tuple[float, float], generator: np.random.Generator
) -> tuple[Tensor, dict[str, Interval], list[str]]:
    """The numbers of a set of people, and their intervals."""
    people = len(x)
    cells, right, rivals = counted(x, everybody.threshold)
    weights, left_out = draws(people, RESAMPLES), 1 - torch.eye(people, dtype=torch.float64)
    who = torch.arange(people).repeat_interleave(PICTURES)
    seen = cells.accepted()
    names = [*numbers(seen, fixed), "rank-1"]

    def column(counts: Accepted, rank1: Tensor) -> Tensor:
        return torch.stack([*numbers(counts, fixed).values(), rank1], dim=-1)

    value = column(seen, right.mean())
    drawn = column(cells.resampled(weights), weighted_mean(right, who, weights, rivals=rivals))
    without = column(cells.resampled(left_out), weighted_mean(right, who, left_out))
    chance = generator.binomial(len(right), right.mean().item(), size=RESAMPLES) / len(right)
    pairs = column(pairs_drawn(seen, generator), torch.from_numpy(chance))
    return value, methods(value, drawn, without, pairs, people, names), names


def thresholds(everybody: Accepted) -> tuple[float, float]:
    """Where the FMR is 1 %, and where both rates are equal."""
    return everybody.threshold[(everybody.fmr <= 0.01).sum() - 1].item(), everybody.eer()[1].item()


def simulated(job: tuple[Population, int, int]) -> list[dict[str, Any]]:
    """Coverage and width of every method and number, of one population."""
    population, people, sets = job
    torch.set_num_threads(1)
    everybody = truth(population)
    fixed = thresholds(everybody)
    fixed = tuple(everybody.threshold[torch.searchsorted(everybody.threshold, f)] for f in fixed)
    chance, generator = np.random.default_rng(people), torch.Generator().manual_seed(people)
    found = [
        one_set(population.pictures(people, PICTURES, generator), everybody, fixed, chance)
        for _ in range(sets)
    ]
    names = found[0][2]
    # Precision is that of as many impostors to a genuine pair as a set of so many people has.
    ratio = (people - 1) * PICTURES / (PICTURES - 1)
    scale = ratio * everybody.genuine[-1] / everybody.impostor[-1]
    mixed = Accepted(everybody.threshold, everybody.genuine, everybody.impostor * scale)
    values = torch.stack([value for value, _, _ in found])
    # The true rank-1 rate is of galleries of so many people: their mean.
    true = torch.stack([*numbers(mixed, fixed).values(), values[:, -1].mean()])
    rows = []
    for method in found[0][1]:
        low, high = (torch.stack([seen[method][end] for _, seen, _ in found]) for end in (0, 1))
        held = ((low <= true + 1e-9) & (true - 1e-9 <= high)).double().mean(dim=0)
        width = (high - low).mean(dim=0)
        rows += [
            {
                "population": population.name,
                "people": people,
                "method": method,
                "number": name,
                "true": round(true[k].item(), 5),
                "coverage": round(held[k].item(), 4),
                "width": round(width[k].item(), 5),
                "collapsed": round((high - low < 1e-9)[:, k].double().mean().item(), 4),
            }
            for k, name in enumerate(names)
        ]
    return rows


def equals(job: tuple[Population, int, int]) -> list[dict[str, Any]]:
    """How often two equally good systems are told apart: each sees a half of the dimensions."""
    population, people, sets = job
    torch.set_num_threads(1)
    everybody = truth(population)
    fixed = thresholds(everybody)
    generator = torch.Generator().manual_seed(people)
    weights, trials = draws(people, RESAMPLES), Trials(people, people * PICTURES)
    p: dict[str, list[float]] = {}
    twice = Population("", 2 * population.dimensions, *(getattr(population, key) for key in KEYS))
    for _ in range(sets):
        x = twice.pictures(people, PICTURES, generator)
        both = []
        for half in x.split(population.dimensions, dim=-1):
            cells = counted(half, everybody.threshold)[0]
            both.append((cells.accepted(), cells.resampled(weights)))
        (one, one_drawn), (other, other_drawn) = both
        values = zip(*(numbers(a, fixed).items() for a in (one, other)), strict=True)
        drawn = zip(*(numbers(a, fixed).values() for a in (one_drawn, other_drawn)), strict=True)
        for ((name, a), (_, b)), (a_drawn, b_drawn) in zip(values, drawn, strict=True):
            limit = math.inf if name == "d prime" else most(name, trials)
            *_, chance = difference(
                a.item(), b.item(), a_drawn, b_drawn, units=people, trials=limit
            )
            p.setdefault(name, []).append(chance)
    return [
        {"population": population.name, "people": people, "number": name, "p": values}
        for name, values in p.items()
    ]


KEYS = ("spread", "goats", "lambs")


def faces(root: str | None) -> list[dict[str, Any]]:
    """The nine people of the notebook, by their bare pixels and by PCA."""
    if root is None:
        return []
    split = next(iter(sl.protocols.notebook(sl.ATTFaces(root))))
    rows = []
    for name, embeddings in (
        ("pixels", sl.pixels(split.probes)),
        ("PCA", sl.pca(split.probes, train=split.train)),
    ):
        x = embeddings.vectors.view(9, 10, -1)
        assert (embeddings.labels.view(9, 10) == embeddings.labels.view(9, 10)[:, :1]).all()
        flat = x.flatten(end_dim=1)
        threshold = torch.cdist(flat, flat).flatten().double().unique()
        threshold = torch.cat([threshold.new_tensor([-torch.inf]), threshold])
        cells = counted(x, threshold)[0]
        seen, drawn = cells.accepted(), cells.resampled(draws(9)).auc()
        low, high = interval(seen.auc(), drawn, units=9, trials=Trials(9, 90).both)
        near, far = percentile(pairs_drawn(seen, np.random.default_rng(0)).auc())
        first, last = percentile(drawn)
        rows.append(
            {
                "system": name,
                "AUC": round(seen.auc().item(), 4),
                OURS: shown(low, high),
                "people, percentile": shown(first, last),
                "pairs, percentile": shown(near, far),
            }
        )
    return rows


def shown(low: Tensor, high: Tensor) -> str:
    return f"{low.item():.3f} to {high.item():.3f}"


def summary(rows: list[dict[str, Any]], *keys: str) -> list[dict[str, Any]]:
    """Mean and worst coverage of all rows with equal keys."""
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return [
        {
            **dict(zip(keys, values, strict=True)),
            "coverage": percent(np.mean([row["coverage"] for row in some])),
            "worst": percent(min(row["coverage"] for row in some)),
            "mean width": round(float(np.mean([row["width"] for row in some])), 3),
            "collapsed": percent(np.mean([row["collapsed"] for row in some])),
        }
        for values, some in found.items()
    ]


def told_apart(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How often p is below 5 % and 1 %, over all populations, and in the worst of them."""
    table = []
    for people in PEOPLE:
        for name in dict.fromkeys(row["number"] for row in rows):
            some = [r["p"] for r in rows if r["number"] == name and r["people"] == people]
            every = np.concatenate(some)
            table.append(
                {
                    "number": name,
                    "people": people,
                    "p < 5 %": percent((every < 0.05).mean()),
                    "worst": percent(max((np.array(p) < 0.05).mean() for p in some)),
                    "p < 1 %": percent((every < 0.01).mean()),
                }
            )
    return table


def beside(rows: list[dict[str, Any]], shown: str) -> list[dict[str, Any]]:
    """One row for each number, with a column for 9, for 20 and for 40 people."""
    table: dict[str, dict[str, Any]] = {}
    for row in rows:
        line = table.setdefault(row["number"], {"number": row["number"]})
        line[f"{row['people']} people"] = shown.format_map(row)
    return list(table.values())


def percent(share: Any) -> str:
    return f"{100 * float(share):.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=400, help="sets of people for each row")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    jobs = [(population, people, asked.sets) for people in PEOPLE for population in POPULATIONS]
    with multiprocessing.get_context("spawn").Pool(asked.processes) as pool:
        rows, p = (
            [row for rows in tqdm(pool.imap(work, jobs), total=len(jobs)) for row in rows]
            for work in (simulated, equals)
        )
    bounded = [row for row in rows if row["number"] != "d prime"]
    write(
        "coverage",
        summary(bounded, "method", "people"),
        numbers=beside(
            summary([row for row in rows if row["method"] == OURS], "number", "people"),
            "{coverage} (worst {worst}), {mean width} wide",
        ),
        differences=beside(told_apart(p), "{p < 5 %} (worst {worst}), {p < 1 %}"),
        faces=faces(sl.find_att_faces()),
        simulated={"sets": asked.sets, "resamples": RESAMPLES, "pictures": PICTURES},
        populations=[row for row in rows if row["method"] == OURS],
    )


if __name__ == "__main__":
    main()

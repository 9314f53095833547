"""Which calibration costs least on people it was not fitted on, and does a cohort help?

For the AT&T faces and the drawn ones: embeddings are learned on some people (twice: other people,
other seed); the others are divided 20 times. Calibrations are fitted on 5 or on 12 of them and
cost what they cost on 10 more. Of a cohort of half of them and the other half to test: EER, and
FNMR at FMR 1 %.

python benchmarks/calibration.py           # about ten minutes on one thread; SIAMLEARN_DATA is set
python benchmarks/calibration.py --quick   # without trained nets: half a minute
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from statistics import mean
from typing import Any

from results import write

import siamlearn as sl
from siamlearn.calibration import logistic, monotone
from siamlearn.comparison import compare
from siamlearn.functional.accepted import Accepted, accepted
from siamlearn.functional.calibration import least_cost

SPLITS = 20
TESTED = 10

Embedded = dict[str, list[sl.Embeddings]]


def of(images: Any, people: Iterable[str]) -> Any:
    """The pictures, or the embeddings, of these people."""
    names = frozenset(people)
    rows = [
        i for i, label in enumerate(images.labels.tolist()) if images.identities[label] in names
    ]
    return images.subset(rows)


def shuffled(people: Iterable[str], seed: int) -> list[str]:
    return random.Random(seed).sample(sorted(people), len(list(people)))


def seen(embeddings: sl.Embeddings) -> Accepted:
    found = compare(embeddings)
    return accepted(found.genuine.double(), found.impostor.double())


def embedded(faces: sl.ImageSet, *, train: int, nets: bool) -> Embedded:
    """For each way, and twice, the embeddings of the people who were not learned from."""
    ways: dict[str, Callable[[sl.ImageSet, sl.ImageSet, int], sl.Embeddings]] = {
        "pixels": lambda _, rest, seed: sl.pixels(rest),
        "PCA+LDA": lambda learned, rest, seed: sl.pca_lda(rest, train=learned),
    }
    if nets:
        ways["net"] = lambda learned, rest, seed: sl.embed(
            sl.fit(learned, seed=seed, callbacks=[]).net, rest
        )
    made: Embedded = {way: [] for way in ways}
    for seed in range(2):
        order = shuffled(faces.people, seed)
        learned, rest = of(faces, order[:train]), of(faces, order[train:])
        for way, made_by in ways.items():
            made[way].append(made_by(learned, rest, seed))
    return made


def calibrated(data: str, way: str, many: list[sl.Embeddings], people: int) -> dict[str, Any]:
    costs: dict[str, list[float]] = {}
    for embeddings in many:
        for seed in range(SPLITS):
            order = shuffled(embeddings.people, seed)
            fitted, tested = (
                seen(of(embeddings, order[:people])),
                seen(of(embeddings, order[-TESTED:])),
            )
            known = order[:people]
            # A million people leave nothing of the prior.
            fits = {
                "logistic": sl.Calibration.of(fitted, people=known),
                "logistic, no prior on the slope": sl.Calibration.of(
                    fitted, curve=lambda counts, _: logistic(counts, 10**6)
                ),
                "monotone": sl.Calibration.of(fitted, people=known, curve=monotone),
            }
            costs.setdefault("least", []).append(least_cost(tested).item())
            for name, calibration in fits.items():
                costs.setdefault(name, []).append(calibration.cllr(tested).item())
    shown = {name: f"{mean(each):.3f} ({max(each):.2f})" for name, each in costs.items()}
    shown["least"] = f"{mean(costs['least']):.3f}"
    return {"data": data, "embeddings": way, "people": people, **shown}


def normalised(data: str, way: str, many: list[sl.Embeddings]) -> dict[str, Any]:
    rates: dict[str, list[tuple[float, float]]] = {}
    for embeddings in many:
        for seed in range(SPLITS):
            order = shuffled(embeddings.people, seed)
            half = len(order) // 2
            cohort, tested = of(embeddings, order[:half]), of(embeddings, order[half:])
            distances = {
                "raw": embeddings.distance,
                "Z": sl.z_norm(cohort),
                "T": sl.t_norm(cohort),
                "S": sl.s_norm(cohort),
                "AS, 30 nearest": sl.as_norm(cohort, nearest=30),
            }
            for name, distance in distances.items():
                found = seen(replace(tested, distance=distance))
                rate = found.eer()[0].item(), found.fnmr_at(0.01).item()
                rates.setdefault(name, []).append(rate)
    row: dict[str, Any] = {"data": data, "embeddings": way, "cohort": half}
    for name, each in rates.items():
        row[name] = f"{100 * mean(r[0] for r in each):.1f} / {100 * mean(r[1] for r in each):.0f}"
    better = sum(s[0] < raw[0] for s, raw in zip(rates["S"], rates["raw"], strict=True))
    return {**row, "S has the lower EER": f"{better} of {len(rates['S'])}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="without trained nets")
    nets = not parser.parse_args().quick
    root = sl.find_att_faces()
    if root is None:
        parser.error("the AT&T faces are not at hand: set SIAMLEARN_DATA to their folder")
    sets = {"AT&T": (sl.ATTFaces(root), 16), "drawn": (sl.DrawnFaces(70, 8, size=(56, 46)), 30)}
    costs, rates = [], []
    for data, (faces, train) in sets.items():
        for way, many in embedded(faces, train=train, nets=nets).items():
            costs += [calibrated(data, way, many, people) for people in (5, 12)]
            rates.append(normalised(data, way, many))
    write("calibration", costs)
    write("normalisation", rates)


if __name__ == "__main__":
    main()

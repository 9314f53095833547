"""Does a threshold give on other people what was asked of it, and does its interval say so?

Some people are drawn from a population, a point is fitted on them for an FMR of 1 %, and all
others of that population show what it gives: over and over. Counted is how often the rate of the
others lies in the interval that the point states (``expected_fmr``, at 95 %), and how often the
asked rate lies in the interval that a report gives for as many people, none of whom is among the
first. The same of galleries: ``predicted(gallery=...)`` and what they are taken for.

The populations: simulated people; drawn faces by PCA+LDA and by a trained net, both of which have
learned from other drawn faces; the AT&T faces by pixels and by PCA+LDA and a net that have learned
from half of the forty people. The others of the AT&T faces are few, so their own rate is not that
of a population: there an interval that is right misses it more often.

python benchmarks/operating.py            # some ten minutes on one thread
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from results import write
from torch import Tensor

import siamlearn as sl
from siamlearn.functional.intervals import Trials, interval
from siamlearn.functional.resampling import draws
from siamlearn.operating.left_out import pairs_of

ASKED = 0.01
CHOSEN = (5, 10, 20)


def simulated(people: int = 300, pictures: int = 6, dimensions: int = 8) -> sl.Embeddings:
    """Normal people with normal pictures, as in the tests."""
    generator = torch.Generator().manual_seed(0)
    centres = 3 * torch.randn(people, dimensions, generator=generator)
    labels = torch.arange(people).repeat_interleave(pictures)
    vectors = centres[labels] + torch.randn(len(labels), dimensions, generator=generator)
    names = tuple(str(number) for number in range(len(labels)))
    return sl.Embeddings(vectors, labels, tuple(f"p{i}" for i in range(people)), names)


def drawn() -> Iterator[tuple[str, sl.Embeddings]]:
    faces = sl.DrawnFaces(360, 6, size=(56, 46))
    train, others = faces.split_identities(held_out=300, seed=0)
    yield "drawn faces, PCA+LDA", sl.pca_lda(others, train=train)
    yield "drawn faces, net", sl.embed(sl.fit(train, epochs=20, callbacks=()).net, others)


def real() -> Iterator[tuple[str, sl.Embeddings]]:
    folder = sl.find_att_faces()
    if folder is None:
        return
    train, others = sl.ATTFaces(folder).split_identities(held_out=20, seed=0)
    yield "AT&T faces, pixels", sl.pixels(others)
    yield "AT&T faces, PCA+LDA", sl.pca_lda(others, train=train)
    yield "AT&T faces, net", sl.embed(sl.fit(train, epochs=20, callbacks=()).net, others)


class Population:
    """All people of a population, with the distances between all their pictures."""

    def __init__(self, embeddings: sl.Embeddings) -> None:
        who = torch.unique(embeddings.labels, return_inverse=True)[1]
        order = who.argsort(stable=True)
        self.embeddings = replace(embeddings, images=None).subset(order)
        vectors = self.embeddings.vectors
        self.people = int(who.max()) + 1
        self.pictures = len(vectors) // self.people  # of each, as many of all
        distance = embeddings.distance(vectors, vectors).double()
        self.distance = distance.reshape(len(vectors), self.people, self.pictures)

    def of(self, people: Tensor) -> sl.Embeddings:
        return self.embeddings.subset(self._rows(people))

    def _rows(self, people: Tensor) -> Tensor:
        return (people[:, None] * self.pictures + torch.arange(self.pictures)).flatten()

    def fmr(self, people: Tensor, threshold: float) -> float:
        """The share of the impostor pairs of these people that passes."""
        passed = (self.distance <= threshold).sum(dim=2)[self._rows(people)][:, people]
        own = torch.arange(len(people)).repeat_interleave(self.pictures)
        passed[torch.arange(len(passed)), own] = 0
        return passed.sum().item() / (len(passed) * (len(people) - 1) * self.pictures)

    def fpir(self, people: Tensor, threshold: float, gallery: int) -> float:
        """The mean over all galleries of so many of these people, none of whom is the probe."""
        passed = (self.distance <= threshold).any(dim=2)[self._rows(people)][:, people]
        own = torch.arange(len(people)).repeat_interleave(self.pictures)
        passed[torch.arange(len(passed)), own] = False
        free = len(people) - 1 - passed.sum(dim=1, keepdim=True) - torch.arange(gallery)
        missed = free.clamp(min=0) / (len(people) - 1 - torch.arange(gallery))
        return 1 - missed.prod(dim=1).mean().item()


def reported(embeddings: sl.Embeddings, threshold: float) -> tuple[float, float]:
    """The interval that a report gives for the FMR of these people at a threshold."""
    pairs = pairs_of(embeddings)
    passed = (pairs.impostor <= threshold).double()
    counts = torch.zeros(2, pairs.people, pairs.people, dtype=torch.float64)
    for number, values in enumerate((passed, torch.ones_like(passed))):
        counts[number].index_put_((pairs.one, pairs.other), values, accumulate=True)
    weights = draws(pairs.people)
    right, total = (((weights @ count) * weights).sum(dim=1) for count in counts)
    trials = Trials(pairs.people, len(embeddings)).impostor
    low, high = interval(passed.mean().item(), right / total, units=pairs.people, trials=trials)
    return low.item(), high.item()


def trial(population: Population, chosen: int, round_: int) -> dict[str, float]:
    """One point on some people, and what it gives on all others."""
    generator = torch.Generator().manual_seed(1000 * chosen + round_)
    order = torch.randperm(population.people, generator=generator)
    first, others = order[:chosen], order[chosen:]
    held = population.of(first)
    point = sl.OperatingPoint.fit(held, fmr=ASKED)
    fitted = sl.OperatingPoint.fit(held, fmr=ASKED, cross_validated=False)
    got = population.fmr(others, point.threshold)
    low, high = reported(population.of(others[:chosen]), point.threshold)
    gallery = min(10 * chosen, len(others) // 2)
    expected, predicted = point.expected_fmr, point.predicted(gallery=gallery)
    found = population.fpir(others, point.threshold, gallery)
    return {
        "got": got,
        "fitted": population.fmr(others, fitted.threshold),
        "inside": expected.low <= got <= expected.high,
        "above": got > expected.high,
        "high": expected.high,
        "reported": low <= ASKED <= high,
        "gallery": gallery,
        "fpir": found,
        "predicted": float(predicted),
        "foreseen": predicted.low <= found <= predicted.high,
    }


def row(name: str, population: Population, chosen: int, rounds: int) -> dict[str, Any]:
    found = [trial(population, chosen, number) for number in range(rounds)]

    def mean(key: str) -> float:
        return sum(each[key] for each in found) / rounds

    spread = torch.tensor([each["got"] for each in found]).std().item() / rounds**0.5
    return {
        "population": name,
        "chosen on": chosen,
        "others": population.people - chosen,
        "FMR of others": f"{100 * mean('got'):.2f} % ± {100 * spread:.2f}",
        "not cross-validated": f"{100 * mean('fitted'):.2f} %",
        "inside the stated interval": f"{100 * mean('inside'):.0f} %",
        "above it": f"{100 * mean('above'):.0f} %",
        "its upper end": f"{100 * mean('high'):.1f} %",
        "1 % inside the reported one": f"{100 * mean('reported'):.0f} %",
        "gallery": int(found[0]["gallery"]),
        "FPIR predicted / found": f"{100 * mean('predicted'):.0f} % / {100 * mean('fpir'):.0f} %",
        "inside its interval": f"{100 * mean('foreseen'):.0f} %",
    }


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=60)
    rounds = options.parse_args().rounds
    torch.set_num_threads(1)
    rows = []
    for populations in ([("simulated", simulated())], drawn(), real()):
        for name, embeddings in populations:
            population = Population(embeddings)
            rows += [
                row(name, population, chosen, rounds)
                for chosen in CHOSEN
                if 2 * chosen <= population.people
            ]
    write("operating", rows, rounds=rounds, asked=ASKED)


if __name__ == "__main__":
    main()

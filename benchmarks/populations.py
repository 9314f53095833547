"""Simulated people whose true error rates are known: some hard to recognise, some like many.

Axes: u people, p pictures of each, d dimensions, t thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from siamlearn.functional.accepted import Accepted
from siamlearn.functional.resampling import Tally

EVERYBODY = 2500  # people that the true rates are taken from


@dataclass(frozen=True)
class Population:
    """Every person has a place, a spread of his own, and a closeness to all others of his own.

    Attributes:
        dimensions: of an embedding.
        spread: of the pictures of a person, where those of people have 1.
        goats: standard deviation of the logarithm of the spread.
        lambs: standard deviation of the logarithm of the distance from the middle.
    """

    name: str
    dimensions: int
    spread: float
    goats: float
    lambs: float

    def pictures(self, people: int, pictures: int, generator: torch.Generator) -> Tensor:
        """Embeddings of (u, p, d)."""

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        place = normal(people, 1, self.dimensions) * (self.lambs * normal(people, 1, 1)).exp()
        spread = self.spread * (self.goats * normal(people, 1, 1)).exp()
        return place + spread * normal(people, pictures, self.dimensions)


POPULATIONS = (
    Population("2 dimensions", 2, 0.25, 0.4, 0.2),
    Population("2, extreme", 2, 0.15, 0.6, 0.3),
    Population("4 dimensions", 4, 0.45, 0.4, 0.2),
    Population("8 dimensions", 8, 0.5, 0.4, 0.25),
    Population("8, good", 8, 0.25, 0.4, 0.2),
    Population("16 dimensions", 16, 0.8, 0.3, 0.15),
    Population("16, goats", 16, 0.45, 0.4, 0.2),
    Population("16, nearly perfect", 16, 0.25, 0.4, 0.2),
)


def truth(population: Population) -> Accepted:
    """The rates of everybody, at the thresholds that all samples are counted at."""
    x = population.pictures(EVERYBODY, 10, torch.Generator().manual_seed(5))
    one, other = torch.triu_indices(10, 10, 1)
    genuine = torch.cdist(x, x)[:, one, other].flatten().double()
    some = x[:, :3].flatten(end_dim=1)
    few = torch.cdist(some[:1500], some[-1500:]).flatten().double()
    tail = torch.logspace(-4, -1, 40, dtype=torch.float64)
    even = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    largest = torch.maximum(few.max(), genuine.max())
    ends = torch.tensor([-torch.inf, largest], dtype=torch.float64)
    grid = [
        few.quantile(torch.cat([tail, even, 1 - tail])),
        genuine.quantile(torch.cat([even, 1 - tail])),
    ]
    threshold = torch.cat([*grid, ends]).unique()
    tally = Tally(threshold, 1)
    who = torch.arange(len(some)) // 3
    for start in range(0, len(some), 1000):
        distance = torch.cdist(some[start : start + 1000], some)
        apart = who[start : start + 1000, None] != who
        tally.add(distance, ~apart & False, apart, 0 * who[: len(apart)], 0 * who)
    right = torch.searchsorted(genuine.sort().values, threshold, right=True)
    return Accepted(threshold, right, tally.cells().impostor[0, 0])

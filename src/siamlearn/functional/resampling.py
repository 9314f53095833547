"""People drawn anew, with all pairs that they are in: what intervals are made from.

Pairs of one person are not independent, and neither are the pairs that one person forms with all
others. So it is people who are drawn, with replacement, and a pair counts as often as the people
in it were drawn: once for each time that both are there.

Source:
    Bolle, Ratha, Pankanti: Error Analysis of Pattern Recognition Systems: The Subsets Bootstrap,
    Computer Vision and Image Understanding 93, 2004, for all pairs of a person together;
    Snijders, Borgatti: Non-Parametric Standard Errors and Tests for Network Statistics,
    Connections 22, 1999, for both people of a pair.

Axes: u units (people, or groups of them where they are many), t thresholds, b resamples,
q probes and r references of a strip of pairs, k values of a probe, i identities, p places of a sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from siamlearn.functional.accepted import Accepted

__all__ = ["Cells", "Tally", "draws", "grid", "groups", "weighted_mean"]

# Units at most: a pair of units is a row of counts, and 100 of them are known well enough.
UNITS = 100
# Thresholds at most.
THRESHOLDS = 1000
# Shares of the pairs at which a long grid is dense: the tails, where operating points lie.
RAREST = 1e-7
# Cells of a table that finds the place of a distance among the thresholds, four times as quick as
# a binary search; and thresholds in one of them, at most, for the table to be of use.
CELLS = 1 << 16
SHARED = 8


def draws(units: int, resamples: int = 1000, seed: int = 0) -> Float[Tensor, "b u"]:
    """How often each unit is there in each resample: as many are drawn as there are.

    The draw depends on nothing but these three numbers: two systems that are judged on the same
    people are judged on the same resamples, and may be compared pair by pair. A resample of one
    unit alone holds no impostor pair, and is drawn again.

    Args:
        units: how many people, or groups of them, there are; two or more.
        resamples: how often they are drawn anew.

    Raises:
        ValueError: where there are fewer than two units.

    Example:
        >>> draws(3, 4).sum(dim=1)
        tensor([3., 3., 3., 3.], dtype=torch.float64)

    Source:
        Efron: Bootstrap Methods, Annals of Statistics 7, 1979.
    """
    if units < 2:
        msg = f"an interval needs two identities or more to draw from, got {units}"
        raise ValueError(msg)
    # The raw words of a counter-based generator are the same in every version of numpy.
    words = np.random.Philox(key=seed)
    kept: list[Tensor] = []
    while sum(map(len, kept)) < resamples:
        raw = words.random_raw(resamples * units).reshape(resamples, units)
        who = ((raw >> np.uint64(32)) * np.uint64(units) >> np.uint64(32)).astype(np.int64)
        drawn = torch.from_numpy(who)
        often = torch.zeros(resamples, units, dtype=torch.float64)
        often.scatter_add_(1, drawn, torch.ones_like(often))
        kept.append(often[(often > 0).sum(dim=1) > 1])
    return torch.cat(kept)[:resamples]


def groups(identities: int, most: int = UNITS, seed: int = 0) -> Int[Tensor, " i"]:
    """The unit that each identity belongs to: itself, or, where they are many, a random group.

    Groups are of equal size, but for one. Drawing groups of people gives the same spread as
    drawing people, as long as who is in which group is left to chance.

    Args:
        identities: how many there are; they are numbered from zero.
        most: how many units there may be.

    Example:
        >>> groups(3).tolist(), groups(300).bincount().unique().tolist()
        ([0, 1, 2], [3])
    """
    if identities <= most:
        return torch.arange(identities)
    order = np.random.Philox(key=seed).random_raw(identities).argsort(kind="stable")
    unit = torch.empty(identities, dtype=torch.int64)
    unit[torch.from_numpy(order)] = torch.arange(identities) % most
    return unit


def grid(
    seen: Accepted, *, at: tuple[float, ...] = (), most: int = THRESHOLDS
) -> Float[Tensor, " t"]:
    """Thresholds to count at: every distance, or so many that no rate jumps between two.

    Where there are more distances than ``most``, half of the thresholds are shares of the genuine
    and half of the impostor pairs, of each half in even steps and half ever closer to the tail
    where the errors are.

    Args:
        seen: all pairs, or a random sample of them.
        at: thresholds whose rates are asked for, and so counted exactly.
        most: how many thresholds there may be, besides those asked for.

    Returns:
        Ascending, from -inf, where nothing is accepted, to the largest distance.

    Example:
        >>> from siamlearn.functional.accepted import accepted
        >>> seen = accepted(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 5.0]))
        >>> grid(seen, at=(3.0,))
        tensor([-inf, 1., 2., 3., 5.], dtype=torch.float64)
    """
    every = seen.threshold.double()
    asked = every.new_tensor(at)
    if len(every) > most:
        even = torch.linspace(0, 1, most // 4, dtype=torch.float64, device=every.device)
        tail = torch.logspace(np.log10(RAREST), 0, most // 4, device=every.device).double()
        shares = torch.cat([even, 1 - tail]), torch.cat([even, tail])
        places = [
            torch.searchsorted(counts.double(), share * counts[-1])
            for counts, share in zip((seen.genuine, seen.impostor), shares, strict=True)
        ]
        ends = every[[0, -1]]
        every = torch.cat([every[torch.cat(places).clamp(max=len(every) - 1)], ends])
    distinct: Tensor = torch.unique_consecutive(torch.cat([every, asked]).sort().values)
    return distinct


@final
@dataclass(frozen=True, eq=False)
class Cells:
    """How many pairs are accepted at each threshold, by who is compared.

    Args:
        threshold: ascending, in units of distance, from -inf.
        genuine: accepted genuine pairs of each unit.
        impostor: accepted impostor pairs of each two units. Pairs of units (1, 2) and (2, 1) are
            the same and may stand at either place; on the diagonal are those within a group.

    Example:
        >>> cells = Cells(
        ...     torch.tensor([-torch.inf, 1.0, 2.0], dtype=torch.float64),
        ...     torch.tensor([[0, 1, 1], [0, 1, 1]]),
        ...     torch.tensor([[[0, 0, 0], [0, 0, 4]], [[0, 0, 0], [0, 0, 0]]]),
        ... )
        >>> cells.resampled(draws(2, 10)).auc().unique()  # whoever is drawn, all is told right
        tensor([1.], dtype=torch.float64)
    """

    threshold: Float[Tensor, " t"]
    genuine: Int[Tensor, "u t"]
    impostor: Int[Tensor, "u u t"]

    @property
    def units(self) -> int:
        """How many people, or groups of people, are drawn from."""
        return len(self.genuine)

    def accepted(self) -> Accepted:
        """All pairs, each once, with nobody drawn."""
        return Accepted(self.threshold, self.genuine.sum(dim=0), self.impostor.sum(dim=(0, 1)))

    def resampled(self, weights: Float[Tensor, "b u"]) -> Accepted:
        """Accepted pairs, had each unit been there so often.

        A genuine pair counts as often as its unit, an impostor pair as often as the one times as
        the other. The impostors are then scaled so that there are as many to a genuine pair as
        there were: rates do not change by that, and precision is that of one mixture.

        Args:
            weights: as :func:`draws` gives them.

        Raises:
            ValueError: where there is not one weight for each unit.
        """
        if weights.shape[-1] != self.units:
            msg = (
                f"weights need one column for each unit, got {weights.shape[-1]} for "
                f"{self.units}; draw them with draws({self.units})"
            )
            raise ValueError(msg)
        genuine = weights @ self.genuine.double()
        impostor = weights @ self.impostor.diagonal().T.double()
        for unit in range(self.units):
            # A pair of units is the same either way, so half of the square is enough.
            others = self.impostor[unit, unit + 1 :] + self.impostor[unit + 1 :, unit]
            drawn = weights[:, unit : unit + 1] * weights[:, unit + 1 :]
            impostor.addmm_(drawn, others.double())
        wanted = self.impostor[..., -1].sum() / self.genuine[..., -1].sum()
        scale = wanted * genuine[:, -1:] / impostor[:, -1:]
        return Accepted(self.threshold, genuine, impostor * scale)


@final
class Tally:
    """Counts pairs by who is compared, strip by strip; a pair counts wherever it stands.

    Args:
        threshold: where to count, as :func:`grid` gives it. A distance beyond the last threshold
            is counted at the last.
        units: how many people, or groups of people, there are.

    Example:
        >>> tally = Tally(torch.tensor([-torch.inf, 1.0, 2.0], dtype=torch.float64), units=2)
        >>> who, distance = torch.tensor([0, 0, 1]), torch.tensor([[0.0, 0.5, 2.0]])
        >>> genuine = torch.tensor([[False, True, False]])
        >>> impostor = torch.tensor([[False, False, True]])
        >>> tally.add(distance, genuine, impostor, who[:1], who)
        >>> tally.cells().impostor[0, 1].tolist()
        [0, 0, 1]
    """

    def __init__(self, threshold: Float[Tensor, " t"], units: int) -> None:
        self.threshold, self.units = threshold, units
        bins = len(threshold) - 1
        self._genuine = torch.zeros_like(threshold, dtype=torch.int64).new_zeros(units * bins)
        self._impostor = self._genuine.new_zeros(units * units * bins + 1)

    def add(
        self,
        distance: Float[Tensor, "q r"],
        genuine: Bool[Tensor, "q r"],
        impostor: Bool[Tensor, "q r"],
        probes: Int[Tensor, " q"],
        references: Int[Tensor, " r"],
    ) -> None:
        """Count the pairs of a strip.

        Args:
            genuine: which of them are pairs of one person, each pair to count once.
            impostor: which are pairs of two.
            probes: the unit of each probe.
            references: the unit of each reference.
        """
        bins = len(self.threshold) - 1
        place = self._places(distance)
        chosen = (probes[:, None] * bins + place)[genuine]
        self._genuine.scatter_add_(0, chosen, torch.ones_like(chosen))
        row = (probes[:, None] * self.units + references) * bins
        # What is no impostor pair goes beyond the end: quicker than to leave it out.
        chosen = torch.where(impostor, row + place, len(self._impostor) - 1).flatten()
        self._impostor.scatter_add_(0, chosen, chosen.new_ones(1).expand(len(chosen)))

    def _places(self, distance: Float[Tensor, "q r"]) -> Int[Tensor, "q r"]:
        """The first threshold, past -inf, that takes each distance in; or the last of all."""
        edges = _no_higher(self.threshold[1:], distance.dtype)[:-1]
        low, high = edges[:1], edges[-1:]
        scale = (CELLS - 1) / (high - low)

        # Rounding and all, a larger distance is never in a lower cell: in which order a distance
        # and an edge are is known from their cells, unless they are in the same one.
        def cell(values: Tensor) -> Tensor:
            return ((values - low) * scale).clamp(0, CELLS - 1).long()

        edge_cell = cell(edges)
        shared = int(edge_cell.bincount().max()) if len(edges) > 1 and high < torch.inf else CELLS
        if shared > SHARED:
            return torch.bucketize(distance, edges)
        below = torch.searchsorted(edge_cell, torch.arange(CELLS, device=edges.device))
        place = below[cell(distance)]
        edges = torch.nn.functional.pad(edges, (0, 1), value=torch.inf)
        for _ in range(shared):
            place += distance > edges[place]
        return place

    def cells(self) -> Cells:
        """What was counted until now."""
        genuine = _running(self._genuine.view(self.units, -1))
        return Cells(
            self.threshold, genuine, _running(self._impostor[:-1].view(self.units, self.units, -1))
        )


def _no_higher(threshold: Float[Tensor, " t"], dtype: torch.dtype) -> Float[Tensor, " t"]:
    """The same in another type, rounded down: what is at or below the one is so for the other."""
    rounded = threshold.to(dtype)
    return torch.where(
        rounded > threshold, rounded.nextafter(torch.full_like(rounded, -torch.inf)), rounded
    )


def _running(counts: Int[Tensor, "*c"]) -> Int[Tensor, "*d"]:
    """Running sums, from the threshold at which nothing is accepted."""
    return torch.nn.functional.pad(counts.cumsum(dim=-1), (1, 0))


def weighted_mean(
    values: Float[Tensor, "q ..."],
    probes: Int[Tensor, " q"],
    weights: Float[Tensor, "b u"],
    counted: Bool[Tensor, " q"] | None = None,
    *,
    rivals: Int[Tensor, " q"] | None = None,
) -> Float[Tensor, "b ..."]:
    """Mean over the probes in every resample, where a probe counts as often as its person.

    Who else is in the gallery is left to chance, too. What a probe lacks to 1 is put down half
    to its own person, and half to the rival who came too near, and counts as often as that one
    was drawn: half, since without that rival another would often have been in the way.

    Args:
        values: of each probe, from 0 to 1, such as whether the right person was among the
            nearest k.
        probes: the unit of each probe.
        weights: as :func:`draws` gives them.
        counted: which probes to count; those with no right answer are left out. NaN in the
            values of the others does no harm.
        rivals: the unit of the nearest wrong person of each probe; left out, the gallery is
            taken as given.

    Example:
        >>> right, who = torch.tensor([1.0, 1.0, 0.0]), torch.tensor([0, 0, 1])
        >>> weights = torch.tensor([[1.0, 1.0], [0.0, 2.0]]).double()
        >>> weighted_mean(right, who, weights)
        tensor([0.6667, 0.0000], dtype=torch.float64)
        >>> weighted_mean(right, who, weights, rivals=torch.tensor([1, 1, 0]))
        tensor([0.6667, 0.5000], dtype=torch.float64)
    """
    if counted is not None:
        values, probes = values[counted], probes[counted]
        rivals = None if rivals is None else rivals[counted]
    units = weights.shape[-1]
    lack = 1 - values.double().reshape(len(values), -1)
    own = _summed(lack, probes, units)
    number = weights @ torch.bincount(probes, minlength=units).double()
    lost = weights @ own
    if rivals is not None:
        both = _summed(lack, probes * units + rivals, units * units).view(units, units, -1)
        drawn = (weights @ both.flatten(start_dim=1)).view(len(weights), units, -1)
        lost = (lost + (weights[..., None] * drawn).sum(dim=1)) / 2
    return 1 - (lost / number[:, None]).view(-1, *values.shape[1:])


def _summed(
    values: Float[Tensor, "q k"], place: Int[Tensor, " q"], places: int
) -> Float[Tensor, "p k"]:
    return values.new_zeros(places, values.shape[1]).index_add_(0, place, values)

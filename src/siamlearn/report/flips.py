"""Two systems on the same pairs: which pairs one tells right and the other wrong.

Axes: q probes, r references, k pairs kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

from siamlearn.comparison import strips
from siamlearn.embeddings import Embeddings

if TYPE_CHECKING:
    from siamlearn.evaluation import Report

__all__ = ["Flip", "Flips", "flips", "usual_thresholds"]

# What a pair may be: genuine, told right by the first system, told right by the second.
KINDS = tuple(product((True, False), repeat=3))


@final
@dataclass(frozen=True)
class Flip:
    """A pair that one system tells right and the other wrong.

    Args:
        probe: place of the one picture among the first report's embeddings.
        reference: place of the other among its gallery or, without one, its embeddings.
        distances: by the first system and by the second.
        genuine: whether both pictures show one person.
        first_right: whether it is the first system that tells it right.

    Example:
        >>> Flip(0, 3, (0.2, 0.9), genuine=True, first_right=True).distances[1]
        0.9
    """

    probe: int
    reference: int
    distances: tuple[float, float]
    genuine: bool
    first_right: bool


@final
@dataclass(frozen=True, eq=False)
class Flips:
    """Where two systems disagree.

    Args:
        pairs: the clearest of each kind, clearest first.
        counts: how many pairs there are of each kind: (genuine, first right, second right).
        thresholds: at which each system was asked.
        chosen_for: what both thresholds were chosen for; empty where the caller gave them.

    Example:
        >>> Flips((), Counter({(True, True, False): 3}), (0.5, 0.6)).flipped(first_right=True)
        3
    """

    pairs: tuple[Flip, ...]
    counts: Counter[tuple[bool, bool, bool]]
    thresholds: tuple[float, float]
    chosen_for: str = ""

    def flipped(self, *, first_right: bool) -> int:
        """How many pairs only the first, or only the second, tells right."""
        return sum(self.counts[kind, first_right, not first_right] for kind in (True, False))


def flips(
    one: Report,
    other: Report,
    thresholds: tuple[float, float] | None = None,
    *,
    count: int = 75,
) -> Flips:
    """The pairs that one system tells right and the other wrong, the clearest first.

    Clear is what is far from both thresholds, each measured in the spread of the impostor pairs
    of its own system (the distance between their quartiles).

    Args:
        thresholds: distances up to which each system accepts; see ``usual_thresholds``, if left
            out.
        count: how many to keep of each of the four kinds.

    Raises:
        ValueError: the two did not compare the same pictures of the same people.

    Example:
        >>> import siamlearn as sl
        >>> faces = sl.DrawnFaces(3, 4, size=(28, 23))
        >>> one, other = (sl.evaluate(f(faces), baselines=False) for f in (sl.pixels, sl.pca))
        >>> found = flips(one, other)
        >>> sum(found.counts.values()) == one.genuine + one.impostor
        True
    """
    if one.protocol.digest != other.protocol.digest:
        msg = (
            f"two runs are compared on the same pictures of the same people, but {one.name} was "
            f"measured on {one.protocol} and {other.name} on {other.protocol}; evaluate both on one"
        )
        raise ValueError(msg)
    limits, chosen_for = (thresholds, "") if thresholds else usual_thresholds(one, other)
    spreads = [_spread(report) for report in (one, other)]
    order = _places(one.embeddings, other.embeddings)
    probes = other.embeddings.subset(order)
    gallery = None
    if one.gallery is not None and other.gallery is not None:
        gallery = other.gallery.subset(_places(one.gallery, other.gallery))
    counts: Counter[tuple[bool, bool, bool]] = Counter()
    kept = {kind[:2]: torch.empty(0, 5).double() for kind in KINDS}
    both = zip(strips(one.embeddings, one.gallery), strips(probes, gallery), strict=True)
    for first, second in both:
        pairs = [first.distance.double(), second.distance.double()]
        right = [(d <= limit) == first.same for d, limit in zip(pairs, limits, strict=True)]
        clear = torch.stack(
            [(d - limit).abs() / s for d, limit, s in zip(pairs, limits, spreads, strict=True)]
        ).sum(dim=0)
        for genuine, told, also in KINDS:
            chosen = first.once & (first.same == genuine) & (right[0] == told) & (right[1] == also)
            counts[genuine, told, also] += int(chosen.sum())
            if told is not also:
                known, start = kept[genuine, told], first.rows.start
                kept[genuine, told] = _clearest(known, chosen, clear, pairs, start, count)
    found = [(row, kind, told) for (kind, told), rows in kept.items() for row in rows.tolist()]
    found.sort(key=lambda each: -each[0][0])
    return Flips(
        tuple(
            Flip(int(q), int(r), (first, second), kind, told)
            for (_, q, r, first, second), kind, told in found
        ),
        counts,
        limits,
        chosen_for,
    )


def usual_thresholds(one: Report, other: Report) -> tuple[tuple[float, float], str]:
    """Of each system a threshold for one and the same end, and what that is.

    It is that of the first operating points of one name or, where they have none in common, of
    the equal error rates: a strict threshold of the one beside a lax one of the other would make
    every pair between flip.

    Example:
        >>> import siamlearn as sl
        >>> report = sl.evaluate(sl.pixels(sl.DrawnFaces(3, 4)), baselines=False)
        >>> usual_thresholds(report, report) == ((report.eer_threshold,) * 2, "EER on these pairs")
        True
    """
    theirs = {each.point.name: each.point.threshold for each in other.points}
    for each in one.points:
        if each.point.name in theirs:
            return (each.point.threshold, theirs[each.point.name]), each.point.name
    return (one.eer_threshold, other.eer_threshold), "EER on these pairs"


def _spread(report: Report) -> float:
    """Between the quartiles of the impostor pairs; 1 where all are the same."""
    low, high = (float(report.accepted.threshold_at(share)) for share in (0.25, 0.75))
    spread = high - low
    return spread if 0 < spread < float("inf") else 1.0


def _places(wanted: Embeddings, given: Embeddings) -> list[int]:
    """Where each of the wanted pictures stands among the given ones."""

    def ordered(embeddings: Embeddings) -> list[int]:
        who = [embeddings.identities[label] for label in embeddings.labels.tolist()]
        sessions: Sequence[str] = embeddings.sessions or ("",) * len(embeddings)
        keys = list(zip(embeddings.names, who, sessions, strict=True))
        return sorted(range(len(embeddings)), key=keys.__getitem__)

    places = dict(zip(ordered(wanted), ordered(given), strict=True))
    return [places[index] for index in range(len(wanted))]


def _clearest(
    kept: Tensor, chosen: Tensor, clear: Tensor, pairs: Sequence[Tensor], start: int, count: int
) -> Tensor:
    """The clearest of those kept and of those of a strip: (clear, probe, reference, distances)."""
    number = min(count, int(chosen.sum()))
    if number == 0:
        return kept
    place = torch.where(chosen, clear, -1.0).flatten().topk(number).indices
    width = chosen.shape[1]
    columns = [clear.flatten()[place], place // width + start, place % width]
    columns += [distance.flatten()[place] for distance in pairs]
    both = torch.cat([kept, torch.stack([column.double() for column in columns], dim=1)])
    return both[both[:, 0].argsort(descending=True, stable=True)[:count]]

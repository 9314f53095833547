"""Where a distance lies among those of pairs that are known: the evidence, in a sentence."""

from __future__ import annotations

from typing import TypeAlias

import torch

from siamlearn.functional.accepted import Accepted

__all__ = ["Counts", "among", "thinned"]

Counts: TypeAlias = tuple[tuple[float, int, int], ...]


def thinned(seen: Accepted, *, most: int = 100) -> Counts:
    """Some distances, with how many genuine and impostor pairs lie at or below each.

    At most three times ``most``: even shares of both kinds, so that a share is known to one in a
    hundred, and ever closer ones towards the nearest impostor pair.

    Example:
        >>> from siamlearn.functional.accepted import accepted
        >>> thinned(accepted(torch.tensor([0.25, 0.5]), torch.tensor([0.5, 0.75])))
        ((0.25, 1, 0), (0.5, 2, 1), (0.75, 2, 2))
    """
    chosen = [torch.tensor([1, len(seen.threshold) - 1])]
    for counts, total in zip((seen.genuine, seen.impostor), seen.pairs, strict=True):
        if total:
            even = torch.linspace(1, total, most).round()
            chosen.append(torch.searchsorted(counts.double(), even.double()))
    first = torch.logspace(0, torch.tensor(float(seen.pairs[1])).log10().item(), most).round()
    chosen.append(torch.searchsorted(seen.impostor.double(), first.double()))
    places = torch.unique(torch.cat(chosen).clamp(1, len(seen.threshold) - 1))
    rows = (column[places].tolist() for column in (seen.threshold, seen.genuine, seen.impostor))
    return tuple(zip(*rows, strict=True))


def among(distance: float, counts: Counts, *, people: int) -> str:
    """Than how many impostor pairs a distance is nearer, and than how many genuine ones farther.

    Args:
        distance: between two pictures.
        counts: distances, with how many pairs lie at or below each, as ``thinned`` gives them.
        people: how many people the pairs are of.

    Example:
        >>> among(0.3, ((0.2, 1, 0), (0.6, 4, 1), (0.9, 4, 50)), people=6)
        'distance 0.3 is nearer than all of 50 impostor pairs and farther than 25 % of 4 ...'
    """
    nearer = [row for row in counts if row[0] <= distance]
    _, genuine, impostor = nearer[-1] if nearer else (distance, 0, 0)
    _, rights, wrongs = counts[-1]
    far = part(1 - impostor / wrongs)
    text = f"distance {distance:.4g} is nearer than {far} of {wrongs:,} impostor pairs"
    if rights:
        text += f" and farther than {part(genuine / rights)} of {rights:,} genuine pairs"
    return f"{text} of {people} other people"


def part(share: float) -> str:
    """A share in words: all or none only where that is so."""
    if share in (0.0, 1.0):
        return "all" if share else "none"
    return f"{min(99.9, max(0.1, 100 * share)):.3g} %"

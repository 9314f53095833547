"""Who goes where: splits as pure functions of labels and a seed.

They give indices, in ascending order, and touch no picture. Axes: n pictures.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from siamlearn.data.randomness import address
from siamlearn.data.turns import hashed

__all__ = ["between_identities", "within_identities"]


def between_identities(
    labels: Int[Tensor, " n"], *, held_out: float = 0.4, seed: int = 0
) -> tuple[Int[Tensor, " kept"], Int[Tensor, " held"]]:
    """Split the identities in two: all pictures of a person fall on the same side.

    Who is held out depends on the seed and on which labels there are, not on the order of the
    pictures nor on how many each person has. Of the same people and seed, the few who are held
    out are among the many who are.

    Args:
        held_out: the share of identities, above 0 and below 1, rounded to the nearest number of
            people (at least one on either side); or that number itself, as an int.

    Returns:
        The indices of the kept pictures and of the held-out ones.

    Raises:
        ValueError: when there are fewer than two identities, or nobody would be left on a side.

    Example:
        >>> labels = torch.tensor([0, 0, 1, 1, 2, 2])
        >>> kept, held = between_identities(labels, held_out=1, seed=3)
        >>> labels[kept].unique().numel(), labels[held].unique().numel()
        (2, 1)
    """
    people = torch.unique(labels)
    count = _people_held_out(held_out, of=len(people))
    order = _shuffled(len(people), "between identities", seed)
    out = torch.isin(labels, people[order[:count]])
    return torch.where(~out)[0], torch.where(out)[0]


def _people_held_out(held_out: float, *, of: int) -> int:
    if of < 2:
        msg = (
            f"a split by identity needs two identities or more, got {of}: "
            "the same person would be on both sides; add people"
        )
        raise ValueError(msg)
    if isinstance(held_out, bool):
        msg = f"held_out must be a share or a number of identities, got {held_out}"
        raise ValueError(msg)
    if isinstance(held_out, int):
        if not 1 <= held_out < of:
            msg = (
                f"held_out must leave an identity on either side: from 1 to {of - 1} "
                f"of the {of} identities, got {held_out}"
            )
            raise ValueError(msg)
        return held_out
    if not 0 < held_out < 1:
        msg = (
            f"held_out as a share must be above 0 and below 1, got {held_out}; "
            "for a number of identities pass an int"
        )
        raise ValueError(msg)
    return min(max(int(held_out * of + 0.5), 1), of - 1)


def within_identities(
    labels: Int[Tensor, " n"],
    *,
    pictures: int,
    seed: int = 0,
    called: Callable[[int], str] = "label {}".format,
) -> tuple[Int[Tensor, " gallery"], Int[Tensor, " probes"]]:
    """Split the pictures of each identity: some for the gallery, the rest as probes.

    Everybody is on both sides, no picture is.

    Args:
        pictures: how many pictures of each person are drawn for the gallery.
        called: what a message calls the person of a label.

    Returns:
        The indices of the gallery's pictures and of the probes.

    Raises:
        ValueError: when somebody has too few pictures to be on both sides.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 1, 1, 1])
        >>> gallery, probes = within_identities(labels, pictures=1, seed=0)
        >>> labels[gallery].tolist(), labels[probes].tolist()
        ([0, 1], [0, 0, 1, 1])
    """
    if pictures < 1:
        msg = f"pictures must be 1 or more for each person in the gallery, got {pictures}"
        raise ValueError(msg)
    people, counts = torch.unique(labels, return_counts=True)
    short = people[counts <= pictures]
    if len(short):
        msg = (
            f"everybody needs {pictures + 1} pictures or more, {pictures} for the gallery and one "
            f"as probe, but {len(short)} of {len(people)} have fewer ({called(int(short[0]))} has "
            f"{int(counts[people == short[0]])}); ask for fewer pictures, or leave these people out"
        )
        raise ValueError(msg)
    # Shuffle, then sort by label and keep the shuffled order within: each label's first few win.
    shuffled = _shuffled(len(labels), "within identities", seed)
    drawn = shuffled[labels[shuffled].argsort(stable=True)]
    first = (counts.cumsum(0) - counts).repeat_interleave(counts)
    chosen = torch.arange(len(labels)) - first < pictures
    return drawn[chosen].sort().values, drawn[~chosen].sort().values


def _shuffled(count: int, purpose: str, seed: int) -> Int[Tensor, " count"]:
    # By hashes, not by torch.randperm, whose order the next version may change: what was
    # published of a split must stay true of it.
    keys = hashed(address(purpose, seed), np.arange(count))
    return torch.from_numpy(keys.argsort(kind="stable"))

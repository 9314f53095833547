"""What goes wrong where there is too little of something: pictures in a batch, turns, people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from siamlearn.train.symptoms import Symptom

__all__ = ["overfitting", "starving", "tiny_batches"]

FEW = 8  # pictures of which a batch norm takes its statistics
GAP, FELL = 1.5, 0.8  # val_loss beside its best, loss beside what it was then
PATIENCE = 3  # epochs since the best one
RARE = 0.25  # of the fair share
SURE = 1e-3  # chance that a fair sampler would starve anybody as much
SHOWN = 5  # people named


def tiny_batches(*, norms: int, rows: int, step: int = 1) -> Symptom | None:
    """Batch norms take mean and variance from so few pictures that these are mostly noise.

    Args:
        norms: batch norms in the net that are not frozen.
        rows: pictures that go through the net at once, on all ranks.
        step: when it was seen.

    Example:
        >>> tiny_batches(norms=3, rows=4).seen
        '3 batch norms take their statistics from 4 pictures.'
        >>> tiny_batches(norms=3, rows=32), tiny_batches(norms=0, rows=4)
        (None, None)

    Source:
        Wu, He: Group Normalization, ECCV 2018: on ImageNet, errors of batch norm are level down to
        16 pictures, slightly up at 8, and rise steeply at 4 and 2.
    """
    if not norms or rows >= FEW:
        return None
    layers = f"{norms} batch norms take their" if norms > 1 else "a batch norm takes its"
    return Symptom(
        "batch norm on tiny batches",
        step,
        f"{layers} statistics from {rows} pictures.",
        "the statistics of a batch are far from those of all pictures, which are used when "
        "embedding: the net that is evaluated is not the one that was trained.",
        f"batches of at least {2 * FEW} pictures, a larger micro_batch, group norms instead, or "
        "frozen batch norms (norm.requires_grad_(False)) of a net that is trained already.",
        degree=FEW / max(rows, 1),
    )


def starving(
    turns: Mapping[int, int],
    pictures: Mapping[int, int],
    *,
    names: Sequence[str] | None = None,
    step: int = 0,
) -> Symptom | None:
    """Some people come up much more rarely than a fair sampler would let them.

    Fair is one turn for everybody, or one for every picture, whichever is less for a person.

    Args:
        turns: for each label, how many batches it was in.
        pictures: for each label, how many pictures there are.
        names: of the people, by label.
        step: when it was seen.

    Example:
        >>> found = starving({0: 60, 1: 58}, {0: 10, 1: 10, 2: 10}, names=["Ada", "Bo", "Cy"])
        >>> found.seen
        'of 3 people 1 was in less than a quarter of its share of batches, 1 of them in none: Cy.'
        >>> starving({0: 60, 1: 58, 2: 55}, {0: 10, 1: 10, 2: 10})

    Source:
        Chernoff's bound of the lower tail of a Poisson variable, times the number of people.
    """
    people, total = len(pictures), sum(pictures.values())
    given = sum(turns.get(label, 0) for label in pictures)
    hungry = []
    for label, count in pictures.items():
        fair = given * min(1 / people, count / total)
        got = turns.get(label, 0)
        if got < RARE * fair and math.log(people) + _log_chance(got, fair) < math.log(SURE):
            hungry.append(label)
    if not hungry:
        return None
    never = sum(not turns.get(label, 0) for label in hungry)
    shown = ", ".join(str(label if names is None else names[label]) for label in hungry[:SHOWN])
    more = ", …" if len(hungry) > SHOWN else ""
    were, its = ("was", "its") if len(hungry) == 1 else ("were", "their")
    return Symptom(
        "starving people",
        step,
        f"of {people} people {len(hungry)} {were} in less than a quarter of {its} share of "
        f"batches, {never} of them in none: {shown}{more}.",
        "the sampler favours others, or an epoch is too short for everybody and begins alike "
        "each time.",
        "BalancedSampler or PairSampler, in which people take turns; a sampler that draws anew "
        "each epoch; more batches in an epoch.",
        degree=len(hungry),
    )


def _log_chance(got: int, fair: float) -> float:
    """Of at most so many turns where ``fair`` are expected, at most."""
    return got - fair + (got * math.log(fair / got) if got else 0.0)


def overfitting(log: Sequence[Mapping[str, float]]) -> Symptom | None:
    """The loss goes on falling, and that of other people rises.

    Args:
        log: the rows of the epochs, with ``loss`` and ``val_loss``.

    Example:
        >>> values = [(0.5, 0.6), (0.4, 0.5), (0.3, 0.6), (0.2, 0.8), (0.1, 0.8), (0.1, 0.9)]
        >>> log = [{"step": 9.0, "loss": loss, "val_loss": val} for loss, val in values]
        >>> overfitting(log).seen.split(",")[0]
        'val_loss was best in epoch 2 of 6'
    """
    both = [(row, row.get("loss", math.nan), row.get("val_loss", math.nan)) for row in log]
    rows = [row for row, *values in both if all(map(math.isfinite, values))]
    if len(rows) <= PATIENCE:
        return None
    best = min(range(len(rows)), key=lambda k: rows[k]["val_loss"])
    then, now, latest = rows[best], rows[-1], rows[-PATIENCE:]
    if best >= len(rows) - PATIENCE or then["val_loss"] <= 0:
        return None
    risen = min(row["val_loss"] for row in latest) / then["val_loss"]
    if risen < GAP or now["loss"] > FELL * then["loss"]:
        return None
    return Symptom(
        "overfitting",
        int(now["step"]),
        f"val_loss was best in epoch {best + 1} of {len(rows)}, {then['val_loss']:.4g}, and is "
        f"{now['val_loss']:.4g} now, while the loss fell from {then['loss']:.4g} to "
        f"{now['loss']:.4g}.",
        "the net learns the training people by heart.",
        "the weights of the best epoch (Checkpoint(best='val_loss'), EarlyStopping()); more "
        "people; stronger augmentation; weight decay, dropout, average=0.99; a smaller net.",
        degree=risen,
    )

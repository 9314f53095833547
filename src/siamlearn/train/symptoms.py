"""What goes wrong in metric learning without an error, each told from a few numbers of a run.

A symptom is a function of the record of a run: it gives None, or what was seen, why probably, and
what to do. Where the thresholds come from says ``docs/howto/doctor.md``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import final

from siamlearn.train.looks import Record

__all__ = [
    "Symptom",
    "collapse",
    "exploding_norms",
    "high_learning_rate",
    "idle_loss",
    "narrow_embeddings",
    "unreachable_margin",
]

SETTLED = 5  # looks before embeddings are judged: those of an untrained net may be close together
SHORT, LONG = 3, 10  # looks in a row that all have to show it
CLOSE = 0.05  # spread beside the length of the embeddings; healthy runs had 0.45 and more
NEAR = 0.1  # mean distance of negatives beside the margin; healthy runs end above 1
NARROW = 10  # times fewer directions than there could be; healthy runs use half of them or more
EXPLODED = 100  # times longer than at first; in healthy runs they doubled at most
DIVERGED = 2  # times the loss of the untrained net; no look at a healthy run had 1.2 times
FALLING = 0.01  # share that a loss must have fallen by in as many looks to be called falling


@final
@dataclass(frozen=True)
class Symptom:
    """Something that went wrong.

    Args:
        name: the same in every version.
        step: optimizer steps that were done when it was seen.
        seen: what was seen, with numbers.
        cause: what is probably behind it.
        remedy: what to try, the best first.
        degree: how bad it is, in a unit of its own; when it has doubled, it is said again.

    Example:
        >>> symptom = Symptom("collapse", 50, "All are equal.", "A trivial solution.", "Wait.")
        >>> str(symptom).splitlines()[:2]
        ['collapse, at step 50', '  seen: All are equal.']
    """

    name: str
    step: int
    seen: str
    cause: str
    remedy: str
    degree: float = 1.0

    def __str__(self) -> str:
        head = f"{self.name}, at step {self.step}"
        return f"{head}\n  seen: {self.seen}\n  probably: {self.cause}\n  try: {self.remedy}"


def collapse(record: Record, *, margin: float | None = None) -> Symptom | None:
    """All embeddings come to lie in one point, so that nobody can be told from anybody.

    Args:
        margin: of the loss, where it compares distances with one: the yardstick of what is near.
            Left out, that is the length of the embeddings.

    Example:
        >>> from siamlearn.train.looks import Look
        >>> record = Record()
        >>> for step in range(1, 7):
        ...     record.add(Look(step, loss=0.2, spread=0.001, length=1.0, negative=0.001, auc=0.5))
        >>> collapse(record).name, collapse(record, margin=0.002)
        ('collapse', None)
    """
    now = record.recent[-SHORT:]
    if record.looks <= SETTLED or not record.latest("spread", SHORT):
        return None
    if margin is None:
        shares = [each.spread / max(each.length, 1e-30) for each in now]
    else:
        shares = [each.negative / margin for each in now]
    # As far as they are told apart, they are only close to each other beside a common offset.
    enough = CLOSE if margin is None else NEAR
    if not all(share < enough for share in shares) or now[-1].auc > 0.95:
        return None
    last = now[-1]
    yardstick = "their length" if margin is None else f"the margin of {margin:g}"
    return Symptom(
        "collapse",
        last.step,
        f"embeddings of different people are {shares[-1]:.1%} of {yardstick} apart, with an "
        f"effective rank of {last.rank:.2g}, and the loss sits at {last.loss:.4g}.",
        "the net found the trivial solution, one point for everybody: only the hardest pairs "
        "count from the start, negatives are too few or not pushed, or a step was too long.",
        "a smaller learning rate with a warm-up; all pairs or semi-hard ones "
        "(SemiHardTripletLoss, SupConLoss) instead of the hardest; embeddings of unit length; "
        "half of the pairs negative.",
    )


def narrow_embeddings(record: Record) -> Symptom | None:
    """The embeddings use far fewer directions than there are people and dimensions to fill.

    Example:
        >>> from siamlearn.train.looks import Look
        >>> record = Record()
        >>> for step in range(1, 7):
        ...     record.add(Look(step, rank=1.0, possible=15, spread=0.9, length=1.0))
        >>> narrow_embeddings(record).seen
        'the embeddings use 1 direction of the 15 that the people of a batch could fill.'
    """
    if record.looks <= SETTLED or not record.latest("rank", SHORT):
        return None
    now = record.recent[-SHORT:]
    if any(each.possible < 4 or each.rank > 1 + each.possible / NARROW for each in now):
        return None
    # Embeddings that are all equal are another symptom.
    if any(each.spread < CLOSE * each.length for each in now):
        return None
    last = now[-1]
    used = f"{last.rank:.2g} direction{'' if round(last.rank, 1) == 1 else 's'}"
    return Symptom(
        "narrow embeddings",
        last.step,
        f"the embeddings use {used} of the {last.possible} that the people of a batch could fill.",
        "a narrow layer, dead units, or a loss that is content with a line: what could tell "
        "people apart is thrown away.",
        "batch norm before the embedding, a wider last layer, a smaller learning rate, or a loss "
        "that weighs all negatives, such as SupConLoss.",
        degree=last.possible / max(last.rank, 1e-3),
    )


def idle_loss(record: Record) -> Symptom | None:
    """Nothing is learned any more, since no pair costs anything.

    It is one of three: batches without pairs, a margin that all keep already, or a miner that
    lets nothing through although negatives are nearer than positives.

    Example:
        >>> from siamlearn.train.looks import Look
        >>> record = Record()
        >>> for step in range(1, 11):
        ...     record.add(Look(step, 0.0, 0.0, positives=4, negatives=4, auc=1.0, spread=1.0))
        >>> idle_loss(record).name
        'margin met by all'
    """
    gradients = record.latest("gradient", LONG)
    if not gradients or any(gradients):
        return None
    now = record.recent[-LONG:]
    last = now[-1]
    since = f"the gradient has been exactly 0 at {LONG} looks, since step {now[0].step}"
    missing = [kind for kind in ("positives", "negatives") if not any(record.latest(kind, LONG))]
    if missing:
        return Symptom(
            "no pairs",
            last.step,
            f"{since}, and the batches had no {' and no '.join(missing)}.",
            f"pictures that would make {' and '.join(missing)} never meet in a batch.",
            "a batch_sampler that draws them: BalancedSampler or PairSampler of all labels.",
        )
    if any(not each.spread > CLOSE * each.length for each in now if math.isfinite(each.length)):
        return None
    if any(math.isinf(each.length) for each in now):
        return None
    if min(each.auc for each in now) > 0.99:
        return Symptom(
            "margin met by all",
            last.step,
            f"{since}: every pair keeps its margin (AUC of the batch {last.auc:.3f}).",
            "the task as it is posed is solved, and the steps that follow change nothing.",
            "stop here; or ask for more: a larger margin, more people in a batch, stronger "
            "augmentation, or a loss without a margin, such as SupConLoss.",
        )
    return Symptom(
        "dead miner",
        last.step,
        f"{since}, although positives are not nearer than negatives (AUC of the batch "
        f"{last.auc:.3f}, mean distances {last.positive:.3g} and {last.negative:.3g}).",
        "the miner or the margin leaves no pair that costs anything.",
        "train without the miner first; a wider one; distances of the scale of its margin, as "
        "unit-length embeddings have them; more people in a batch.",
    )


def unreachable_margin(record: Record, *, margin: float, between: bool = False) -> Symptom | None:
    """No negative pair ever gets as far as the margin asks, and the loss has ceased to fall.

    Args:
        margin: of the loss.
        between: the margin is one between positives and negatives (triplets), and not from 0.

    Example:
        >>> from siamlearn.train.looks import Look
        >>> record = Record()
        >>> for step in range(1, 21):
        ...     record.add(Look(step, loss=4.0, near=0.5, far=1.5))
        >>> unreachable_margin(record, margin=3.0).name
        'margin out of reach'
    """
    far, near = record.latest("far", 2 * LONG), record.latest("near", 2 * LONG)
    losses = record.latest("loss", 2 * LONG)
    if not far or not losses or (between and not near):
        return None
    reached = max(f - n if between else f for f, n in zip(far, near or far, strict=True))
    if reached >= margin or fmean(losses[LONG:]) < (1 - FALLING) * fmean(losses[:LONG]):
        return None
    last = record.recent[-1]
    whose = "is at most {:.3g} farther than a positive" if between else "is at most {:.3g} away"
    return Symptom(
        "margin out of reach",
        last.step,
        f"a negative {whose.format(reached)}, the margin is {margin:g}, and the loss has stayed "
        f"at {fmean(losses[LONG:]):.4g} for {LONG} looks.",
        "the margin is larger than the space: embeddings of unit length are at most 2 apart.",
        f"a margin below {reached:.2g}; half of the mean distance of negatives, "
        f"{last.negative / 2:.2g}, is a place to start; or unit_length=False.",
        degree=margin / max(reached, 1e-30),
    )


def exploding_norms(record: Record) -> Symptom | None:
    """Embeddings or gradients became a hundred times as long as they were.

    Example:
        >>> from siamlearn.train.looks import Look
        >>> record = Record()
        >>> for step, length in enumerate([1, 2, 200, 300, 400], start=1):
        ...     record.add(Look(step, gradient=1.0, length=length))
        >>> exploding_norms(record).degree
        400.0
    """
    for name, what in (("length", "embeddings"), ("gradient", "the gradient")):
        lengths = record.latest(name, SHORT)
        begun = [getattr(each, name) for each in record.first if getattr(each, name) > 0]
        if not lengths or not begun:
            continue
        times = min(lengths) / begun[0]
        if times > EXPLODED:
            verb = "have" if name == "length" else "has"
            return Symptom(
                "exploding norms",
                record.recent[-1].step,
                f"{what} {verb} a length of {lengths[-1]:.3g}, {lengths[-1] / begun[0]:.3g} times "
                f"that of step {record.first[0].step}.",
                "steps that are too long, or a loss that can be lowered by growing alone.",
                "a smaller learning rate with a warm-up, clip=1.0, embeddings of unit length "
                "(unit_length=True), or EmbeddingNorm added to the loss.",
                degree=lengths[-1] / begun[0],
            )
    return None


def high_learning_rate(record: Record) -> Symptom | None:
    """The loss is, look after look, above that of the untrained net.

    Example:
        >>> from siamlearn.train.looks import Look
        >>> record = Record()
        >>> for step, loss in enumerate([0.5, 3.0, 2.0, 4.0], start=1):
        ...     record.add(Look(step, loss=loss, rate=0.1))
        >>> high_learning_rate(record).name
        'learning rate too high'
    """
    if record.looks <= SHORT:
        return None
    begun, losses = record.first[0].loss, record.latest("loss", SHORT)
    if not losses or not begun > 0 or min(losses) < DIVERGED * begun:
        return None
    last = record.recent[-1]
    shown = ", ".join(f"{loss:.3g}" for loss in losses)
    return Symptom(
        "learning rate too high",
        last.step,
        f"the loss was {begun:.3g} before the first step, and {shown} at the latest looks, with a "
        f"learning rate of {last.rate:.3g}.",
        "each step overshoots: the loss rises or swings instead of falling.",
        f"a learning rate of {last.rate / 10:.1g}, a warm-up, clip=1.0, or a larger batch.",
        degree=min(losses) / begun,
    )

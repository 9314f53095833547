"""What a doctor writes down when it looks at a training: a few numbers of one step.

Axes: n pictures of a batch, d embedding dimensions.
"""

import math
from dataclasses import astuple, dataclass, field
from statistics import median
from typing import Any, Self, final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from siamlearn.functional.distances import euclidean
from siamlearn.functional.pairs import Distance
from siamlearn.functional.verification import roc_auc

__all__ = ["Look", "Record", "effective_rank", "look"]

MOST = 128  # pictures that are compared, whole identities first: a few milliseconds
FIRST = 5  # looks that say how a run began; the very first one is of the untrained net
RECENT = 20  # looks that say how it is now


@final
@dataclass(frozen=True)
class Look:
    """One step of a training in numbers. What a batch does not tell is NaN.

    Args:
        step: optimizer steps that were done.
        loss: of this step.
        gradient: length of the whole gradient, before it is clipped.
        rate: the learning rate.
        rows: pictures in the batch.
        people: identities in the batch.
        rank: effective rank of the embeddings.
        possible: the rank that as many identities in as many dimensions could have.
        length: root mean square of the embeddings' lengths.
        spread: root mean square of their distances from their centre.
        positives, negatives: pairs of either kind.
        near: the smallest distance of a positive pair.
        far: the largest distance of a negative pair.
        positive, negative: the mean distances.
        auc: chance that a positive pair is nearer than a negative one.

    Example:
        >>> Look(step=10, loss=0.5).loss
        0.5
    """

    step: int = 0
    loss: float = math.nan
    gradient: float = math.nan
    rate: float = math.nan
    rows: int = 0
    people: int = 0
    rank: float = math.nan
    possible: int = 0
    length: float = math.nan
    spread: float = math.nan
    positives: int = 0
    negatives: int = 0
    near: float = math.nan
    far: float = math.nan
    positive: float = math.nan
    negative: float = math.nan
    auc: float = math.nan


@final
@dataclass
class Record:
    """The first looks at a run, and the latest ones: as much of a long run as of a short one.

    Args:
        first: how it began.
        recent: how it is now, the latest last; the first ones are among them early on.
        looks: how many there were.

    Example:
        >>> record = Record()
        >>> for step, loss in [(1, 0.5), (2, 0.25), (3, 0.75)]:
        ...     record.add(Look(step=step, loss=loss))
        >>> record.looks, record.recent[-1].loss, record.middle("loss", 3)
        (3, 0.75, 0.5)
    """

    first: list[Look] = field(default_factory=list)
    recent: list[Look] = field(default_factory=list)
    looks: int = 0

    def add(self, new: Look) -> None:
        """Take in another look."""
        self.looks += 1
        self.first = [*self.first, new][:FIRST]
        self.recent = [*self.recent, new][-RECENT:]

    def latest(self, name: str, count: int) -> list[float]:
        """A field of the latest looks; nothing where there are fewer, or one does not tell it."""
        values = [float(getattr(each, name)) for each in self.recent[-count:]]
        return values if len(values) == count and not any(map(math.isnan, values)) else []

    def middle(self, name: str, count: int) -> float:
        """The median of a field over the latest looks; NaN where there are fewer."""
        values = self.latest(name, count)
        return median(values) if values else math.nan

    def state_dict(self) -> dict[str, Any]:
        """Everything in it, as numbers."""
        return {
            "first": [astuple(each) for each in self.first],
            "recent": [astuple(each) for each in self.recent],
            "looks": self.looks,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """What ``state_dict`` gave."""
        first, recent = ([Look(*values) for values in state[name]] for name in ("first", "recent"))
        return cls(first, recent, state["looks"])


def effective_rank(embeddings: Float[Tensor, "n d"]) -> float:
    """How many directions the embeddings really use, around their centre: from 0 to min(n - 1, d).

    The exponential of the entropy of the shares that the singular values have in their sum: d
    where all directions are used alike, 1 on a line, and 0 where all embeddings are equal.

    Example:
        >>> round(effective_rank(torch.cat([torch.eye(4), -torch.eye(4)])), 4)
        4.0
        >>> effective_rank(torch.ones(8, 4))
        0.0

    Source:
        Roy, Vetterli: The Effective Rank: A Measure of Effective Dimensionality, EUSIPCO 2007,
        of the embeddings less their mean.
    """
    values = embeddings.double()
    size = float(values.abs().max()) if values.numel() else 0.0
    values = values - values.mean(dim=0)
    # Equal rows leave the rounding of their mean.
    if len(values) < 2 or not float(values.norm()) > 1e-12 * size * math.sqrt(values.numel()):
        return 0.0
    # From the smaller square matrix: ten times as fast as the singular values themselves.
    wide = values.shape[0] < values.shape[1]
    squares = torch.linalg.eigvalsh(values @ values.T if wide else values.T @ values)
    singular = squares.clamp(min=0).sqrt()
    shares = singular / singular.sum()
    return float(torch.special.entr(shares).sum().exp())


@torch.no_grad()
def look(
    embeddings: Float[Tensor, "n d"],
    labels: Shaped[Tensor, "n *k"],
    *,
    distance: Distance = euclidean,
    **known: Any,
) -> Look:
    """A batch in numbers; of more than 128 pictures, whole identities of them.

    Args:
        embeddings: of the batch, on any device and of any precision.
        labels: who they are, or (n, k): true where a picture shows identity k.
        distance: how far apart two embeddings are.
        known: further fields of the look: ``step``, ``loss``, ``gradient``, ``rate``.

    Example:
        >>> found = look(torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([7, 7, 8]), step=10)
        >>> found.people, found.near, found.far, found.auc
        (2, 1.0, 3.0, 1.0)
    """
    rows = len(embeddings)
    chosen = _together(labels.cpu())
    x, who = embeddings.detach()[chosen.to(embeddings.device)].float().cpu(), labels.cpu()[chosen]
    same = (who[:, None] == who[None, :]) if who.ndim == 1 else (who.float() @ who.float().T) > 0
    upper = torch.ones_like(same).triu(1)
    apart = distance(x, x)
    positive, negative = apart[same & upper], apart[~same & upper]
    people = len(torch.unique(who, dim=0))
    pairs: dict[str, Any] = {"positives": len(positive), "negatives": len(negative)}
    if len(positive):
        pairs |= {"near": float(positive.min()), "positive": float(positive.mean())}
    if len(negative):
        pairs |= {"far": float(negative.max()), "negative": float(negative.mean())}
    if len(positive) and len(negative) and bool(apart.isfinite().all()):
        pairs["auc"] = float(roc_auc(positive, negative))
    return Look(
        rows=rows,
        people=people,
        rank=effective_rank(x) if bool(x.isfinite().all()) else math.nan,
        possible=max(0, min(people - 1, x.shape[1])),
        length=float(x.norm(dim=1).square().mean().sqrt()),
        spread=float((x - x.mean(dim=0)).norm(dim=1).square().mean().sqrt()),
        **pairs,
        **known,
    )


def _together(labels: Tensor) -> Tensor:
    """Which pictures to compare: all, or as many as can be with their identity beside them."""
    if len(labels) <= MOST:
        return torch.arange(len(labels))
    if labels.ndim > 1:
        return torch.arange(MOST)
    return labels.argsort(stable=True)[:MOST]

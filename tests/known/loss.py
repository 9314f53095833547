"""One loss in every form in which it exists: what the laws need to know of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pytorch_metric_learning import distances as peer_distances
from torch import Tensor

from siamlearn.functional.pairs import Distance, Pairs, Terms
from siamlearn.nn.losses import PairLoss

PLAIN = peer_distances.LpDistance(normalize_embeddings=False)


@dataclass(frozen=True)
class Loss:
    """One loss, in every form in which it exists.

    Attributes:
        terms: the pure function, its settings given.
        module: the module, its settings given; takes the choices of every loss.
        distance: the usual one.
        loops: the paper's loops, from the distances of a batch and its labels to the loss.
        peer: of pytorch-metric-learning, from embeddings and labels; None where it has none, or
            a wrong one.
        exempt: laws that cannot hold for this loss, by the names of their tests, each with the
            reason.
        below_zero: why it may be negative; most losses may not.
    """

    name: str
    terms: Callable[[Pairs], Terms]
    module: Callable[..., PairLoss]
    distance: Distance
    loops: Callable[[Tensor, list[int]], Tensor]
    peer: Callable[[Tensor, Tensor], Tensor] | None = None
    exempt: Mapping[str, str] = field(default_factory=dict)
    below_zero: str = ""


def mean(costs: list[Tensor]) -> Tensor:
    """Zero where there are none."""
    return sum(costs) / max(len(costs), 1)

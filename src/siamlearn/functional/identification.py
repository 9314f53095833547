"""How often the right person is found: the rank of the right answer, and its distribution.

Axes: q queries (probes), r references (gallery), k ranks.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["cmc", "ranks"]


def ranks(
    distance: Float[Tensor, "q r"],
    same: Bool[Tensor, "q r"],
    valid: Bool[Tensor, "q r"] | None = None,
) -> Int[Tensor, " q"]:
    """How many references one has to look at until the first right one; 1 is best.

    A tie never flatters: a wrong reference at the same distance counts as looked at before.
    A query without any right reference gets 0.

    Args:
        distance: of each query to each reference; smaller is closer.
        same: whether the two are one person.
        valid: which pairs may be compared at all; leave-one-out passes ``~torch.eye(n).bool()``.

    Example:
        >>> distance = torch.tensor([[0.1, 0.2, 0.3], [0.5, 0.5, 0.9]])
        >>> same = torch.tensor([[False, True, True], [True, False, False]])
        >>> ranks(distance, same)
        tensor([2, 2])
    """
    if valid is None:
        valid = torch.ones_like(same)
    right, wrong = same & valid, ~same & valid
    known = right & ~distance.isnan()
    nearest = F.pad(distance.masked_fill(~known, torch.inf), (0, 1), value=torch.inf).amin(dim=1)
    # "Not farther" instead of "nearer or equal": a NaN then counts against the net.
    before = (wrong & ~(distance > nearest[:, None])).sum(dim=1)
    return torch.where(right.any(dim=1), before + 1, 0)


def cmc(ranks: Int[Tensor, " q"], longest: int) -> Float[Tensor, " k"]:
    """Cumulative match characteristic: share of queries found within the first 1, 2, … k.

    Args:
        ranks: as :func:`ranks` gives them. Queries of rank 0 have no right answer, and are left
            out: ``(ranks == 0).sum()`` says how many.
        longest: how many ranks k to report.

    Raises:
        ValueError: where no query has a right answer.

    Example:
        >>> cmc(torch.tensor([1, 3, 0, 1, 2]), longest=3)
        tensor([0.5000, 0.7500, 1.0000], dtype=torch.float64)
    """
    answerable = (ranks > 0).sum()
    if answerable == 0:
        msg = f"a rank needs a query with a right reference, but none of the {len(ranks)} has one"
        raise ValueError(msg)
    within = torch.arange(1, longest + 1, device=ranks.device)
    found = (ranks[:, None] > 0) & (ranks[:, None] <= within)
    return found.sum(dim=0).double() / answerable

"""Where the positives of each row stand, for losses that go through them one after the other.

Axes: q queries (anchors), r references, m positives of one anchor at most.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from siamlearn.functional.losses.exponentials import how_many

__all__ = ["places"]


def places(
    positive: Bool[Tensor, "q r"], most: int | None = None
) -> tuple[Int[Tensor, "q m"], Bool[Tensor, "q m"]] | None:
    """In which columns the positives of each row stand, and which of these are positives.

    Columns of which it is known that all positives are among them (:meth:`Pairs.few
    <siamlearn.functional.pairs.Pairs.few>`) would do as well, but each of them takes as long as a
    positive, and there is one more at least: the picture itself.

    None where nobody knows how many there are at most, and to count them would be waiting for a
    device, or impossible to a compiler.

    Args:
        most: the most positives that a row has; further ones are left out.

    Example:
        >>> same = torch.tensor([[False, True, True], [True, False, False]])
        >>> columns, real = places(same)
        >>> columns[0], real
        (tensor([1, 2]), tensor([[ True,  True],
                [ True, False]]))
    """
    if most is None and (torch.compiler.is_compiling() or positive.device.type != "cpu"):
        return None
    r = positive.shape[1]
    count = how_many(positive)
    if most is None:
        most = int(count.max()) if positive.numel() else 0
    kth = torch.arange(1, min(r, most) + 1, device=positive.device, dtype=torch.int32)
    kth = kth.expand(len(positive), -1).contiguous()
    columns = torch.searchsorted(positive.cumsum(dim=1, dtype=torch.int32), kth)
    return columns.clamp(max=max(r - 1, 0)), kth <= count[:, None]

"""Sums of exponentials over a part of each row: what the softmax losses are made of.

Axes: q queries (anchors), r references.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from siamlearn.functional.pairs import Pairs

__all__ = ["RowSum", "how_many", "log_sum_exp", "softplus", "softplus_of_sum"]


class RowSum(NamedTuple):
    """The logarithm of a sum of exponentials, and what each entry has of the sum.

    Attributes:
        log: of each row; very low, but finite, where nothing is chosen.
        parts: the exponentials, each row divided by that of its largest entry; 0 where an entry
            is not chosen. A tensor of its own, which may be written into; it has no gradient.
        whole: the sum of the parts of each row; 1 where nothing is chosen. It has no gradient.

    Example:
        >>> RowSum(torch.zeros(1), torch.ones(1, 1), torch.ones(1)).log
        tensor([0.])
    """

    log: Float[Tensor, " q"]
    parts: Float[Tensor, "q r"]
    whole: Float[Tensor, " q"]

    def weigh(self, rows: Float[Tensor, " q"]) -> Float[Tensor, "q r"]:
        """Divide a number a row among its entries, as the gradient of ``log`` does.

        The parts are overwritten by it.
        """
        return self.parts.mul_((rows / self.whole)[:, None])


def log_sum_exp(
    logits: Float[Tensor, "q r"], mask: Bool[Tensor, "q r"], pairs: Pairs | None = None
) -> RowSum:
    """Logarithm of the sum of the exponentials of the chosen entries of each row.

    No gap is too large for it: the largest chosen entry of a row is taken out first.

    Args:
        pairs: the block, where the mask has all of its negatives; it is faster to know that.

    Example:
        >>> logits, mask = torch.tensor([[0.0, 0.0, 7.0]]), torch.tensor([[True, True, False]])
        >>> total = log_sum_exp(logits, mask)
        >>> total.log, total.weigh(torch.ones(1))
        (tensor([0.6931]), tensor([[0.5000, 0.5000, 0.0000]]))
    """
    chosen = None
    if pairs is not None and pairs.partners is not None:
        # Never under torch.compile, which would take what comes out for a view of this.
        chosen = pairs.select(logits.detach(), mask, -torch.inf)
    learns = logits.requires_grad and torch.is_grad_enabled()
    return RowSum(*(_LogSumExp.apply if learns else _LogSumExp.forward)(logits, mask, chosen))


def softplus(values: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """log(1 + e^x), to the last digit also in float64.

    Example:
        >>> softplus(torch.tensor([0.0, 30.0]))
        tensor([ 0.6931, 30.0000])
    """
    # Beyond its threshold softplus is the identity; its usual 20 is too low for float64.
    return F.softplus(values, threshold=40)


def softplus_of_sum(
    logits: Float[Tensor, "q r"], mask: Bool[Tensor, "q r"], pairs: Pairs | None = None
) -> tuple[Float[Tensor, " q"], Float[Tensor, "q r"]]:
    """log(1 + Σ e^x) of each row over the chosen entries, and its slope by each.

    Example:
        >>> softplus_of_sum(torch.zeros(1, 3), torch.tensor([[True, False, False]]))
        (tensor([0.6931]), tensor([[0.5000, 0.0000, 0.0000]]))
    """
    chosen = log_sum_exp(logits, mask, pairs)
    return softplus(chosen.log), chosen.weigh(chosen.log.detach().sigmoid())


def how_many(mask: Bool[Tensor, "q r"]) -> Int[Tensor, " q"]:
    """How many entries of each row are chosen: in int32, which is three times as fast as int64.

    Example:
        >>> how_many(torch.tensor([[True, False, True]]))
        tensor([2], dtype=torch.int32)
    """
    return mask.sum(dim=1, dtype=torch.int32)


class _LogSumExp(torch.autograd.Function):
    """In place on one new tensor going forward; plain torch going back, and twice if need be."""

    @staticmethod
    def forward(
        logits: Tensor, mask: Tensor, chosen: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        digits = torch.finfo(logits.dtype)
        if not logits.shape[1]:
            lowest = logits.new_full((len(logits),), digits.min / 4)
            return lowest, logits.clone(), torch.ones_like(lowest)
        parts = torch.where(mask, logits, -torch.inf) if chosen is None else chosen
        largest = parts.amax(dim=1)
        nothing = largest == -torch.inf
        largest = largest.masked_fill(nothing, 0)
        # A processor takes ten times as long for what is nearly too small for a float, and parts
        # of 1e-26 of the largest (in float32) change no sum: they are taken for 0.
        least = 0.7 * math.log(digits.tiny)
        parts.sub_(largest[:, None]).clamp_(min=least).exp_()
        F.threshold(parts, 1.01 * math.exp(least), 0.0, inplace=True)
        whole = parts.sum(dim=1).masked_fill(nothing, 1)
        return (whole.log() + largest).masked_fill(nothing, digits.min / 4), parts, whole

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, *_: Any) -> tuple[Tensor | None, None, None]:
        if gradient is None:
            return None, None, None
        logits, mask = ctx.saved_tensors
        # With -inf instead, an empty row would be NaN until the mask drops it.
        low = logits.masked_fill(~mask, torch.finfo(logits.dtype).min / 4)
        return gradient[:, None] * low.softmax(dim=1).masked_fill(~mask, 0), None, None

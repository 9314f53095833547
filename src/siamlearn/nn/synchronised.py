"""Batch norms whose statistics are those of the batch of all ranks.

Axes: n pictures, c channels, and whatever axes of places follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from siamlearn.nn.ranks import summed
from siamlearn.ranks import alone, total

__all__ = ["batch_norms", "running_statistics", "set_training", "synchronised"]


def batch_norms(net: nn.Module) -> list[_BatchNorm]:
    """The batch norms of a net that take their statistics from the batch when they train.

    One whose weights are all frozen is left out: it keeps the statistics that it has.

    Example:
        >>> len(batch_norms(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))))
        1
    """
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    return [norm for norm in norms if not frozen(norm)]


def set_training(net: nn.Module, mode: bool) -> None:
    """As ``net.train(mode)``, but batch norms whose weights are all frozen stay as they are.

    Example:
        >>> norm = nn.BatchNorm1d(2).requires_grad_(False)
        >>> set_training(norm, True)
        >>> norm.training
        False
    """
    net.train(mode)
    for module in net.modules():
        if isinstance(module, _BatchNorm) and frozen(module):
            module.eval()


def frozen(norm: _BatchNorm) -> bool:
    """Whether a norm learns nothing though it could.

    Example:
        >>> frozen(nn.BatchNorm1d(2).requires_grad_(False))
        True
    """
    weights = [*norm.parameters()]
    return bool(weights) and not any(weight.requires_grad for weight in weights)


def running_statistics(net: nn.Module) -> list[Tensor]:
    """What norms keep account of while they train: their buffers.

    Example:
        >>> len(running_statistics(nn.BatchNorm1d(2)))
        3
    """
    return [
        buffer
        for module in net.modules()
        if getattr(module, "track_running_stats", False)
        for buffer in module.buffers(recurse=False)
    ]


@contextmanager
def synchronised(net: nn.Module) -> Iterator[None]:
    """Within, the batch norms of a net that trains look at the batch of all ranks.

    Instance norms look at each picture alone, but what they keep account of is of all ranks too.
    Its modules stay what they are: only the way they compute is changed for the while, and only
    where there are several ranks. All ranks must go through the net together, if only with an
    empty batch.

    Example:
        >>> norm = nn.BatchNorm1d(1)
        >>> with synchronised(norm):
        ...     norm(torch.tensor([[1.0], [3.0]])).tolist()
        [[-0.999...], [0.999...]]
    """
    norms = [] if alone() else batch_norms(net)
    each = [] if alone() else [m for m in net.modules() if isinstance(m, _InstanceNorm)]
    for norm in norms:
        norm.forward = partial(_normalised, norm)  # type: ignore[method-assign]
    for other in each:
        other.forward = partial(_each_normalised, other)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module in (*norms, *each):
            del module.forward  # the one of its class comes to light again


def _normalised(norm: _BatchNorm, x: Float[Tensor, "n c *places"]) -> Tensor:
    if not norm.training:
        outcome: Tensor = type(norm).forward(norm, x)
        return outcome
    axes = [axis for axis in range(x.ndim) if axis != 1]
    shape = [1, -1] + [1] * (x.ndim - 2)
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    sums = torch.cat([wide.sum(axes), wide.new_tensor([x.numel() / x.shape[1]])])
    total = summed(sums)
    count = total[-1].detach()
    mean = (total[:-1] / count).view(shape)
    variance = (summed((wide - mean).square().sum(axes)) / count).view(shape)
    if norm.track_running_stats:
        _keep_account(norm, mean.flatten(), variance.flatten() * count / (count - 1))
    y = (wide - mean) * (variance + norm.eps).rsqrt()
    if norm.affine:
        y = y * norm.weight.view(shape) + norm.bias.view(shape)
    return y.to(x.dtype)


def _each_normalised(norm: _InstanceNorm, x: Float[Tensor, "n c *places"]) -> Tensor:
    if norm.training and norm.track_running_stats:
        _keep_account_of_each(norm, x)
    elif len(x):
        outcome: Tensor = type(norm).forward(norm, x)
        return outcome
    # torch cannot tell that of no pictures there is nothing to do.
    return F.instance_norm(x, None, None, norm.weight, norm.bias, eps=norm.eps) if len(x) else x


@torch.no_grad()
def _keep_account_of_each(norm: _InstanceNorm, x: Float[Tensor, "n c *places"]) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    wide = x.to(norm.running_mean.dtype).flatten(2)
    mean = wide.mean(2, keepdim=True)
    variance = (wide - mean).square().sum(2) / (wide.shape[2] - 1)
    count = wide.new_full((wide.shape[1],), len(wide))
    sums = total(torch.stack([mean.sum((0, 2)), variance.sum(0), count]))
    share = norm.momentum or 0.0
    norm.running_mean.lerp_(sums[0] / sums[2], share)
    norm.running_var.lerp_(sums[1] / sums[2], share)


@torch.no_grad()
def _keep_account(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    share = norm.momentum
    if share is None:  # the mean of all batches so far
        share = 1 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
    norm.running_var.lerp_(variance.to(norm.running_var.dtype), share)

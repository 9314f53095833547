"""From the memory of the CPU to that of a device."""

import torch
from torch import Tensor

__all__ = ["moved"]


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device, without waiting until it is there.

    Example:
        >>> moved(torch.ones(2), torch.device("cpu"))
        tensor([1., 1.])
    """
    if device.type == "cuda" and tensor.device.type == "cpu" and not tensor.is_pinned():
        tensor = tensor.pin_memory()  # a copy from other memory is waited for
    return tensor.to(device, non_blocking=True)

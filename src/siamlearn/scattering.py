"""Whole numbers that look drawn by chance: each can be had alone, and on any device."""

from jaxtyping import Int
from torch import Tensor

__all__ = ["scattered"]


def scattered(number: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    """The finalizer of MurmurHash3: of the last 32 bits of each number, 32 others.

    Example:
        >>> import torch
        >>> scattered(torch.tensor([0, 1, 2]))
        tensor([         0, 1364076727,  821347078])
    """
    low = 2**32 - 1
    number = number & low
    number = ((number ^ (number >> 16)) * 0x85EBCA6B) & low
    number = ((number ^ (number >> 13)) * 0xC2B2AE35) & low
    return number ^ (number >> 16)

"""Randomness that has an address: the same parts give the same draw, wherever and whenever."""

import hashlib

import torch

__all__ = ["address", "generator"]


def address(*parts: str | int) -> int:
    """The seed that belongs to an address, such as ``("augment", seed, step)``.

    Nothing is carried from one draw to the next, so a run can be taken up at any step, by any
    number of workers, without replaying what came before.

    Returns:
        A number from 0 to 2**63 - 1.

    Example:
        >>> address("batch", 0, 7) == address("batch", 0, 7)
        True
        >>> address("batch", 1, 2) == address("batch", 12)
        False
    """
    key = "\x00".join(f"{type(part).__name__}:{part}" for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1


def generator(*parts: str | int) -> torch.Generator:
    """A generator on the CPU that starts at the seed of this address.

    Example:
        >>> torch.rand(1, generator=generator("a", 1)) == torch.rand(1, generator=generator("a", 1))
        tensor([True])
    """
    return torch.Generator().manual_seed(address(*parts))

"""Random numbers during training: seeded by address, and the caller's own left untouched."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from siamlearn.data.randomness import address

__all__ = ["kept_generators", "seed_everything", "seed_torch"]

CPU = torch.device("cpu")


def seed_torch(device: torch.device, *parts: str | int) -> None:
    """Seed what dropout draws from on this device.

    The generators are seeded directly: ``torch.manual_seed`` takes a hundred times as long.

    Example:
        >>> with kept_generators():
        ...     seed_torch(CPU, "dropout", 0, 1)
        ...     first = torch.rand(1)
        ...     seed_torch(CPU, "dropout", 0, 1)
        ...     torch.rand(1) == first
        tensor([True])
    """
    seed = address(*parts)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)


def seed_everything(*parts: str | int) -> None:
    """Seed the generators of torch (on the CPU), numpy and Python that a transform may use.

    Example:
        >>> with kept_generators():
        ...     seed_everything("picture", 0, 1)
        ...     first = random.random(), np.random.rand()
        ...     seed_everything("picture", 0, 1)
        ...     (random.random(), np.random.rand()) == first
        True
    """
    seed = address(*parts)
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    random.seed(seed)


@contextmanager
def kept_generators(device: torch.device = CPU) -> Iterator[None]:
    """Leave the generators of torch (also on this device), numpy and Python as they were found.

    Example:
        >>> before = torch.get_rng_state()
        >>> with kept_generators():
        ...     _ = torch.rand(3)
        >>> torch.equal(before, torch.get_rng_state())
        True
    """
    of_python, of_numpy, of_torch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    of_cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    try:
        yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
        torch.set_rng_state(of_torch)
        if of_cuda is not None:
            torch.cuda.set_rng_state(of_cuda, device)

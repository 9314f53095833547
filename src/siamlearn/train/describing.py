"""What a run was made with, in a line of text or a few numbers, to tell two runs apart."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sized
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from siamlearn.data.image_set import ImageSet

__all__ = ["RandomAccess", "differing", "options", "written", "written_data", "written_sampler"]

# Where a sampler stands and whose share it gives: not what its batches are.
PLACE = {"epoch", "start", "rank", "ranks"}
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@runtime_checkable
class RandomAccess(Protocol):
    """A batch sampler that can be asked for any batch of any epoch, as ours can.

    Example:
        >>> from siamlearn.data.samplers import PairSampler
        >>> isinstance(PairSampler([0, 0, 1], pairs=2), RandomAccess)
        True
    """

    def batch(self, epoch: int, k: int) -> list[int]:
        """The indices of batch ``k`` of an epoch."""
        ...

    def __len__(self) -> int: ...


def written(value: object) -> str:
    """Its repr without memory addresses, which differ from program to program.

    Example:
        >>> written(written)
        '<function written>'
    """
    return ADDRESS.sub("", repr(value))


def written_data(dataset: object) -> str:
    """A dataset's class and length, and a digest of its pictures or labels if it has any.

    Example:
        >>> written_data([3, 4])
        'list of 2'
    """
    text = type(dataset).__name__
    count = _length(dataset)
    if count is not None:
        text += f" of {count}"
    if isinstance(dataset, ImageSet):
        return f"{text}, digest {dataset.digest[:12]}"
    for name in ("labels", "targets"):
        labels = getattr(dataset, name, None)
        if isinstance(labels, Tensor | np.ndarray | list | tuple):
            return f"{text}, {name} {_digest(labels)}"
    return text


def written_sampler(sampler: object) -> str:
    """A sampler's class, length and settings; and its first batch if it can be asked for any.

    Example:
        >>> from torch.utils.data import BatchSampler, SequentialSampler
        >>> written_sampler(BatchSampler(SequentialSampler([3, 4, 5]), 2, drop_last=False))
        'BatchSampler(batch_size=2, drop_last=False, length=2, sampler=SequentialSampler(length=3))'
    """
    settings = {
        name: written(value)
        for name, value in sorted(getattr(sampler, "__dict__", {}).items())
        if not name.startswith("_") and name not in PLACE and value is not None and _is_plain(value)
    }
    count = _length(sampler)
    if count is not None:
        settings["length"] = str(count)
    if isinstance(sampler, RandomAccess):
        # Seed and shares may be in its parts: what it draws tells all of them.
        settings["first"] = _digest(sampler.batch(0, 0))
    inner = getattr(sampler, "sampler", None)
    if inner is not None:
        settings["sampler"] = written_sampler(inner)
    listed = ", ".join(f"{name}={value}" for name, value in settings.items())
    return f"{type(sampler).__name__}({listed})"


def options(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The learning rate, momentum and so on of each group of an optimizer's parameters.

    The learning rate is the one that a schedule, if there is one, began with.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(2))
        >>> options(torch.optim.SGD([weight], lr=0.1))[0]["lr"]
        0.1
    """
    found = []
    for group in optimizer.param_groups:
        plain = {name: _number(value) for name, value in group.items()}
        plain = {name: value for name, value in plain.items() if _is_plain(value)}
        if "initial_lr" in plain:
            plain["lr"] = plain.pop("initial_lr")
        found.append(plain)
    return found


def differing(one: object, other: object) -> tuple[object, object]:
    """Both values; of two configurations only the entries that differ.

    Example:
        >>> differing({"input": [1, 8, 8], "size": 64}, {"input": [1, 8, 8], "size": 32})
        ('size 64', 'size 32')
    """
    if not isinstance(one, dict) or not isinstance(other, dict):
        return one, other
    first, second = _flat(one), _flat(other)
    names = [n for n in {**first, **second} if first.get(n, _NONE) != second.get(n, _NONE)]
    said = [", ".join(f"{n} {each.get(n, _NONE)}" for n in names) for each in (first, second)]
    return said[0], said[1]


_NONE = "missing"


def _flat(config: object, name: str = "") -> dict[str, object]:
    entries: list[tuple[str, object]] = []
    if isinstance(config, dict):
        entries = [(f"{name}.{key}" if name else str(key), value) for key, value in config.items()]
    elif isinstance(config, list | tuple) and any(isinstance(entry, dict) for entry in config):
        entries = [(f"{name}[{place}]", value) for place, value in enumerate(config)]
    else:
        return {name: config}
    return {key: leaf for path, value in entries for key, leaf in _flat(value, path).items()}


def _length(sized: object) -> int | None:
    try:
        return len(cast(Sized, sized))
    except (TypeError, NotImplementedError):  # torch's iterable data sets raise the second one
        return None


def _digest(values: Any) -> str:
    plain = values.tolist() if isinstance(values, Tensor | np.ndarray) else list(values)
    return hashlib.sha256(written(plain).encode()).hexdigest()[:12]


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) and value.numel() == 1 else value

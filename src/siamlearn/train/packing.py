"""Nested state to JSON and tensors and back, exactly, without pickle."""

import math
from collections import Counter
from collections.abc import Hashable
from typing import Any

from torch import Tensor

__all__ = ["pack", "unpack"]

# A dict with one of these as its only key stands for something that JSON does not have.
TENSOR, TUPLE, ITEMS, COUNTER, FLOAT = "$tensor", "$tuple", "$items", "$counter", "$float"


def pack(state: Any, *, name: str = "") -> tuple[Any, dict[str, Tensor]]:
    """Split a state into what JSON can hold and its tensors, copied to the CPU.

    Args:
        state: numbers, strings, None and tensors, in lists, tuples and dicts.
        name: what the state is called: the beginning of its tensors' names, and in errors.

    Raises:
        TypeError: when there is something else in it, which is named.

    Example:
        >>> pack({"rate": 0.1, "betas": (0.9, 0.99), 3: None})
        ({'$items': [['rate', 0.1], ['betas', {'$tuple': [0.9, 0.99]}], [3, None]]}, {})
    """
    tensors: dict[str, Tensor] = {}
    return _packed(state, name, tensors), tensors


def unpack(packed: Any, tensors: dict[str, Tensor]) -> Any:
    """The state that was packed.

    Raises:
        KeyError: when it names a tensor that is not there, or names one twice, as ``pack`` never
            does: a short text could ask for more copies of it than there is memory.

    Example:
        >>> unpack({"$items": [["betas", {"$tuple": [0.9, 0.99]}], [3, None]]}, {})
        {'betas': (0.9, 0.99), 3: None}
    """
    return _unpacked(packed, dict(tensors))


def _unpacked(packed: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(packed, list):
        return [_unpacked(entry, tensors) for entry in packed]
    if not isinstance(packed, dict):
        return packed
    if len(packed) == 1:
        ((kind, content),) = packed.items()
        if kind == TENSOR:
            return tensors.pop(content).clone()
        if kind == TUPLE:
            return tuple(_unpacked(entry, tensors) for entry in content)
        if kind == ITEMS:
            return {key: _unpacked(entry, tensors) for key, entry in content}
        if kind == COUNTER:
            return Counter(dict(content))
        if kind == FLOAT:
            return float(content)
    return {key: _unpacked(entry, tensors) for key, entry in packed.items()}


def _packed(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        unique = name if name not in tensors else f"{name} {len(tensors)}"
        tensors[unique] = value.detach().to("cpu", copy=True).contiguous()
        return {TENSOR: unique}
    if isinstance(value, float):
        # Python writes a float so that it is read back to the last bit, but JSON has no NaN.
        return float(value) if math.isfinite(value) else {FLOAT: str(float(value))}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, list):
        return [_packed(entry, f"{name}/{i}", tensors) for i, entry in enumerate(value)]
    if type(value) is tuple:
        return {TUPLE: _packed(list(value), name, tensors)}
    if isinstance(value, Counter):
        return {COUNTER: [[_key(key, name), count] for key, count in value.items()]}
    if isinstance(value, dict):
        entries = {
            _key(key, name): _packed(entry, f"{name}/{key}" if name else str(key), tensors)
            for key, entry in value.items()
        }
        if all(isinstance(key, str) and not key.startswith("$") for key in entries):
            return entries
        return {ITEMS: [[key, entry] for key, entry in entries.items()]}
    msg = (
        f"{name} is a {type(value).__name__}, which cannot be saved; a state may hold numbers, "
        f"strings, None and tensors, in lists, tuples and dicts"
    )
    raise TypeError(msg)


def _key(key: Hashable, name: str) -> str | int:
    if isinstance(key, str | int) and not isinstance(key, bool):
        return key
    msg = f"{name} has the key {key!r}, which cannot be saved; a key may be a string or an integer"
    raise TypeError(msg)

"""How messages put things into words."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["some"]


def some(names: Sequence[object], *, most: int = 5) -> str:
    """The first of these names, and whether there are more.

    Example:
        >>> some(["anna", "bob"]), some(range(9), most=3)
        ('anna, bob', '0, 1, 2, …')
    """
    return ", ".join(map(str, names[:most])) + (", …" if len(names) > most else "")

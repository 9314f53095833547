"""How messages put things into words."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["several", "some"]


def several(number: int, one: str, many: str = "") -> str:
    """A number with the word for what there is so much of.

    Example:
        >>> several(1, "picture"), several(1000, "picture"), several(2, "person", "people")
        ('1 picture', '1,000 pictures', '2 people')
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def some(names: Sequence[object], *, most: int = 5) -> str:
    """The first of these names, and whether there are more.

    Example:
        >>> some(["anna", "bob"]), some(range(9), most=3)
        ('anna, bob', '0, 1, 2, …')
    """
    return ", ".join(map(str, names[:most])) + (", …" if len(names) > most else "")

"""Whom something has seen: kept as hashes, so that what is saved names nobody."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from hashlib import sha256

__all__ = ["known", "known_by"]


def known(names: Iterable[str]) -> tuple[str, ...]:
    """SHA-256 of each name, once and in order.

    Example:
        >>> [digest[:8] for digest in known(["anna", "bob", "anna"])]
        ['55579b55', '81b637d8']
    """
    return tuple(sorted({sha256(name.encode()).hexdigest() for name in names}))


def known_by(people: Collection[str], names: Iterable[str]) -> tuple[str, ...]:
    """Those of these names whose hash is among the people.

    Example:
        >>> known_by(known(["anna", "bob"]), ["carl", "bob"])
        ('bob',)
    """
    hashes = frozenset(people)
    return tuple(name for name in names if sha256(name.encode()).hexdigest() in hashes)

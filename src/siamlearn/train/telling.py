"""What one rank does for all of them, and how all of them learn of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from siamlearn import ranks

__all__ = ["from_first"]


def from_first(work: Callable[[], Any], *, raises: type[Exception] = ValueError) -> Any:
    """Do something on the first rank only; all ranks get what it returned, or its error.

    Files are made so: two ranks would make two folders. All ranks must call it.

    Args:
        work: returns what JSON can hold.
        raises: what is raised on the other ranks, with the words of the error of the first one.

    Example:
        >>> from_first(lambda: {"folder": "runs"})
        {'folder': 'runs'}
    """
    failure: Exception | None = None
    said: dict[str, Any] = {}
    if ranks.first():
        try:
            said = {"answer": work()}
        except Exception as error:
            failure, said = error, {"error": f"{error}"}
    told = json.loads(ranks.told(json.dumps(said)))
    if failure is not None:
        raise failure
    if "error" in told:
        raise raises(told["error"])
    return told["answer"]

"""Files that several ranks may write at once, and that others may read meanwhile."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that whoever reads it finds the old contents or the new ones, all of them.

    Args:
        write: writes the contents into the file whose name it is given.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "note.txt"
        >>> write_whole(path, lambda place: place.write_text("hello"))
        >>> path.read_text(), len([*path.parent.iterdir()])
        ('hello', 1)
    """
    own = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        write(own)
        with own.open("rb+") as file:
            os.fsync(file.fileno())
        own.replace(path)
    finally:
        own.unlink(missing_ok=True)

"""Small text files, written whole or not at all."""

import os
from pathlib import Path

__all__ = ["replace"]


def replace(path: Path, text: str) -> None:
    """Write a file so that it has its old contents or its new ones, and never a part.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "note.txt"
        >>> replace(path, "hello")
        >>> path.read_text()
        'hello'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)

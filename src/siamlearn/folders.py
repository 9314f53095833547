"""Folders that appear on the disk whole or not at all, and are checked when they are read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["check", "replacing"]

MANIFEST = "MANIFEST.json"
MANIFEST_LIMIT = 2**26  # bytes; a file takes about a hundred


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A folder to write into, which then takes the place of ``folder``, whole or not at all.

    Everything in it is on the disk, with a manifest of its hashes, before it gets its name. When
    writing fails, what was there before is there still.

    Example:
        >>> import tempfile
        >>> place = Path(tempfile.mkdtemp()) / "answers"
        >>> with replacing(place) as temporary:
        ...     _ = (temporary / "answer.txt").write_text("42")
        >>> sorted(path.name for path in place.iterdir())
        ['MANIFEST.json', 'answer.txt']
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = (folder.with_name(f".{kind}-{folder.name}") for kind in ("tmp", "trash"))
    if old.exists() and not folder.exists():
        old.rename(folder)  # the last one to write here was stopped between two renames
    for left_over in (temporary, old):
        shutil.rmtree(left_over, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        manifest = json.dumps({"sha256": hashes(temporary)}, indent=1) + "\n"
        (temporary / MANIFEST).write_text(manifest)
        for path in (*temporary.rglob("*"), temporary):
            sync(path)
        if folder.exists():
            folder.rename(old)
        temporary.rename(folder)
        sync(folder.parent)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def check(folder: Path) -> None:
    """See that a folder holds what ``replacing`` wrote there, every byte of it.

    Files that came later do not matter.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: a file is missing or changed; the message says which.

    Example:
        >>> import tempfile
        >>> place = Path(tempfile.mkdtemp()) / "answers"
        >>> with replacing(place) as temporary:
        ...     _ = (temporary / "answer.txt").write_text("42")
        >>> _ = (place / "answer.txt").write_text("43")
        >>> check(place)
        Traceback (most recent call last):
        ...
        ValueError: ...answers is not as it was written: answer.txt; copy it again or make it anew
    """
    if not folder.is_dir():
        msg = f"there is no folder {folder}; check the path"
        raise FileNotFoundError(msg)
    try:
        written = json.loads(content(folder / MANIFEST, limit=MANIFEST_LIMIT))["sha256"]
        found = hashes(folder)
        differing = [name for name, digest in written.items() if found.get(name) != digest]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        msg = f"{folder} holds nothing whole: its {MANIFEST} is missing or damaged ({error})"
        raise ValueError(msg) from error
    if differing:
        shown = ", ".join(differing)
        msg = f"{folder} is not as it was written: {shown}; copy it again or make it anew"
        raise ValueError(msg)


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST
    }


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content(path: Path, *, limit: int) -> bytes:
    # From a pipe one would wait for ever.
    if path.exists() and not path.is_file():
        msg = "it is no file"
        raise ValueError(msg)
    with path.open("rb") as file:
        return file.read(limit)


def sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Checkpoints as folders: whole or not there, checked when read, and never a pickle.

    checkpoints/step-0000000200/  model.safetensors  train.safetensors  state.json  MANIFEST.json

A checkpoint is written under a name that nobody looks for, synced to the disk, and renamed. The
latest is the newest folder whose files have the sizes and hashes of its manifest. One of a step
that is saved again stands aside for the new one: it is deleted when that is there, and comes back
where a crash fell in between.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError

from siamlearn.folders import sync
from siamlearn.train.packing import pack, unpack

__all__ = [
    *("CheckpointError", "CorruptCheckpointError", "checkpoints", "discard", "is_checkpoint"),
    *("is_whole", "latest", "load", "place_of", "put_back", "save", "serialized", "sweep"),
]

FORMAT = 1
MODEL, TRAIN, STATE, MANIFEST = (
    "model.safetensors",
    "train.safetensors",
    "state.json",
    "MANIFEST.json",
)
NAME = re.compile(r"step-(\d{10,})")
TEMPORARY, TRASH, ASIDE = ".tmp-", ".trash-", ".aside-"
# What reading a file raises that someone made so that it cannot be read.
UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError),
    *(IndexError, OverflowError, RecursionError, SafetensorError),
)
MANIFEST_LIMIT = 2**16  # bytes; a manifest has some 600


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written, read, or taken up by this trainer.

    Example:
        >>> issubclass(CheckpointError, RuntimeError)
        True
    """


class CorruptCheckpointError(CheckpointError):
    """A checkpoint whose files are not those that were written.

    Example:
        >>> issubclass(CorruptCheckpointError, CheckpointError)
        True
    """


def serialized(model: dict[str, Any], state: dict[str, Any]) -> dict[str, bytes]:
    """The contents of a checkpoint's files, without its manifest.

    Args:
        model: the weights, under the net's own names.
        state: everything else that training needs to go on.

    Raises:
        CheckpointError: when something in it cannot be saved; it is named.

    Example:
        >>> sorted(serialized({}, {"step": 3}))
        ['model.safetensors', 'state.json', 'train.safetensors']
    """
    try:
        packed_model, weights = pack(model)
        packed_state, tensors = pack(state)
        text = json.dumps({"model": packed_model, **packed_state}, indent=1, allow_nan=False)
        return {
            MODEL: safetensors.torch.save(weights),
            TRAIN: safetensors.torch.save(tensors),
            STATE: text.encode(),
        }
    except (TypeError, ValueError, KeyError, SafetensorError) as error:
        msg = f"the state of this training cannot be saved: {error}"
        raise CheckpointError(msg) from error


def save(
    folder: Path,
    step: int,
    files: dict[str, bytes],
    *,
    passing: Callable[[str], None] = lambda point: None,
) -> Path:
    """Write a checkpoint so that it is whole or not there, whenever the machine stops.

    Args:
        folder: where checkpoints are kept.
        step: the optimizer steps that were done.
        files: from :func:`serialized`.
        passing: told the name of each point at which a crash must do no harm; for tests.

    Raises:
        CheckpointError: when the disk is full or read-only; what was there is there still.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> place = save(folder, 200, serialized({}, {"epoch": 3}))
        >>> sorted(path.name for path in place.iterdir())
        ['MANIFEST.json', 'model.safetensors', 'state.json', 'train.safetensors']
    """
    place = place_of(folder, step)
    temporary, aside = (folder / f"{kind}{place.name}" for kind in (TEMPORARY, ASIDE))
    try:
        put_back(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, content in {**files, MANIFEST: _manifest(step, files)}.items():
            passing(f"before {name}")
            _write(temporary / name, content)
        sync(temporary)
        if place.exists():
            passing("before the old one stands aside")
            place.rename(aside)
        passing("before the rename")
        temporary.rename(place)
        passing("after the rename")
        sync(folder)
        if aside.exists():
            discard(aside, passing=passing)
    except OSError as error:
        if aside.exists() and not place.exists():
            aside.rename(place)
        shutil.rmtree(temporary, ignore_errors=True)
        msg = f"{place} could not be saved: {error}; earlier checkpoints are as they were"
        raise CheckpointError(msg) from error
    return place


def place_of(folder: Path, step: int) -> Path:
    """The folder of the checkpoint of a step.

    Example:
        >>> place_of(Path("checkpoints"), 200).name
        'step-0000000200'
    """
    return folder / f"step-{step:010d}"


def load(place: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model and the state of a checkpoint, from the very bytes that were checked.

    Raises:
        CorruptCheckpointError: when a file is missing, or not what was written.
        CheckpointError: when it was written in a newer format, or is larger than the memory.

    Example:
        >>> import tempfile
        >>> load(save(Path(tempfile.mkdtemp()), 200, serialized({}, {"epoch": 3})))
        ({}, {'epoch': 3})
    """
    files = _verified(place)
    try:
        state = json.loads(files[STATE])
        weights, tensors = (safetensors.torch.load(files[name]) for name in (MODEL, TRAIN))
        model, state = unpack(state.pop("model"), weights), unpack(state, tensors)
    except UNREADABLE as error:
        msg = f"{place} has the right hashes but cannot be read: {error!r}"
        raise CorruptCheckpointError(msg) from error
    if not isinstance(model, dict) or not isinstance(state, dict):
        msg = f"{place} has the right hashes but holds no state by names"
        raise CorruptCheckpointError(msg)
    return model, state


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, unchecked, the newest first.

    Example:
        >>> checkpoints(Path("nowhere"))
        []
    """
    if not folder.is_dir():
        return []
    found = [
        (int(match[1]), path) for path in folder.iterdir() if (match := NAME.fullmatch(path.name))
    ]
    return [path for _, path in sorted(found, reverse=True)]


def is_checkpoint(path: Path) -> bool:
    """Whether this is the folder of one checkpoint, going by its name.

    Example:
        >>> is_checkpoint(Path("checkpoints/step-0000000200"))
        True
    """
    return NAME.fullmatch(path.name) is not None


def is_whole(place: Path) -> bool:
    """Whether a checkpoint's files are those that were written, in a format known here.

    Example:
        >>> is_whole(Path("checkpoints/step-0000000200"))
        False
    """
    try:
        _verified(place)
    except CheckpointError:
        return False
    return True


def latest(folder: Path) -> Path | None:
    """The newest checkpoint that is whole; a warning names each newer one that is not.

    Raises:
        CheckpointError: when the newest one is of a newer format, or none of them is whole.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for step in (200, 1000, 400):
        ...     _ = save(folder, step, serialized({}, {}))
        >>> latest(folder).name
        'step-0000001000'
    """
    places = checkpoints(folder)
    for place in places:
        try:
            _verified(place)
        except CorruptCheckpointError as error:
            warnings.warn(f"skipped a corrupt checkpoint: {error}", stacklevel=2)
        else:
            return place
    if places:
        msg = f"none of the {len(places)} checkpoints in {folder} is whole; begin anew elsewhere"
        raise CorruptCheckpointError(msg)
    return None


def discard(place: Path, *, passing: Callable[[str], None] = lambda point: None) -> None:
    """Delete a checkpoint: out of sight first, so that half of one is never seen.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> discard(save(folder, 200, serialized({}, {})))
        >>> checkpoints(folder)
        []
    """
    trash = place.with_name(f"{TRASH}{place.name}")
    shutil.rmtree(trash, ignore_errors=True)
    passing("before a deletion")
    place.rename(trash)
    sync(place.parent)
    for path in sorted(trash.iterdir()):
        passing("in the middle of a deletion")
        path.unlink()
    trash.rmdir()


def put_back(folder: Path) -> None:
    """Give a checkpoint its name back that stood aside for a new one, which a crash prevented.

    Only whoever saves into the folder may do this: another program may be saving right now.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> place = save(folder, 200, serialized({}, {}))
        >>> _ = place.rename(folder / f".aside-{place.name}")
        >>> put_back(folder)
        >>> latest(folder) == place
        True
    """
    for aside in folder.glob(f"{ASIDE}*"):
        place = folder / aside.name.removeprefix(ASIDE)
        if place.exists() or not is_checkpoint(place):
            shutil.rmtree(aside)
        else:
            aside.rename(place)
            sync(folder)


def sweep(folder: Path) -> None:
    """Make the folder, clear what a crash left behind, and see that it can be written to.

    Raises:
        CheckpointError: when it cannot be.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / ".tmp-step-0000000200").mkdir()
        >>> sweep(folder)
        >>> list(folder.iterdir())
        []
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        put_back(folder)
        for path in [*folder.glob(f"{TEMPORARY}*"), *folder.glob(f"{TRASH}*")]:
            shutil.rmtree(path)
        trial = folder / f"{TEMPORARY}trial"
        trial.mkdir()
        trial.rmdir()
    except OSError as error:
        msg = f"checkpoints cannot be kept in {folder}: {error}"
        raise CheckpointError(msg) from error


def _manifest(step: int, files: dict[str, bytes]) -> bytes:
    entries = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    }
    return _sealed({"format": FORMAT, "step": step, "files": entries})


def _sealed(manifest: dict[str, Any]) -> bytes:
    # With a hash of its own: a bit that flips in "format" would otherwise pass for a newer one.
    seal = hashlib.sha256(json.dumps(manifest, indent=1).encode()).hexdigest()
    return json.dumps({**manifest, "seal": seal}, indent=1).encode()


def _verified(place: Path) -> dict[str, bytes]:
    manifest = _read_manifest(place)
    return {name: _checked(place / name, manifest["files"][name]) for name in (MODEL, TRAIN, STATE)}


def _read_manifest(place: Path) -> dict[str, Any]:
    path = place / MANIFEST
    try:
        _refuse_pipes(path)
        with path.open("rb") as file:
            content = file.read(MANIFEST_LIMIT)
        manifest = json.loads(content)
        del manifest["seal"]
        version, step, names = manifest["format"], manifest["step"], set(manifest["files"])
        if content != _sealed(manifest):
            msg = f"{path} is not what was written: its seal differs"
            raise CorruptCheckpointError(msg)
    except UNREADABLE as error:
        msg = f"{path} cannot be read: {error!r}"
        raise CorruptCheckpointError(msg) from error
    if isinstance(version, int) and version > FORMAT:
        msg = f"{place} has format {version}, and this siamlearn reads up to {FORMAT}; upgrade it"
        raise CheckpointError(msg)
    match = NAME.fullmatch(place.name)
    if version != FORMAT or names != {MODEL, TRAIN, STATE} or not match or step != int(match[1]):
        msg = f"{path} is not the manifest of {place.name}"
        raise CorruptCheckpointError(msg)
    return dict(manifest)


def _checked(path: Path, entry: Any) -> bytes:
    try:
        _refuse_pipes(path)
        size = path.stat().st_size
        if size != entry["bytes"]:
            msg = f"{path} has {size} bytes, and {entry['bytes']} were written"
            raise CorruptCheckpointError(msg)
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            msg = f"{path} is not what was written: its sha256 differs"
            raise CorruptCheckpointError(msg)
    except (OSError, KeyError, TypeError) as error:
        msg = f"{path} cannot be read: {error!r}"
        raise CorruptCheckpointError(msg) from error
    except MemoryError as error:
        msg = f"{path} has {size} bytes, for which there is no memory"
        raise CheckpointError(msg) from error
    return content


def _refuse_pipes(path: Path) -> None:
    # From a pipe one would wait for ever, and a device may have no end.
    if path.exists() and not path.is_file():
        msg = f"{path} is no file"
        raise CorruptCheckpointError(msg)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())

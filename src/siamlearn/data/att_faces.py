"""The AT&T faces, once "ORL Database of Faces": 40 people, ten pictures each, 92 wide, 112 high."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from siamlearn.data.att_check import check, originals, picture
from siamlearn.data.att_download import WAYS, fetch
from siamlearn.data.image_set import ImageSet
from siamlearn.data.reading import SUFFIXES

__all__ = ["ATTFaces", "find_att_faces", "read_checked"]


def ATTFaces(  # noqa: N802 - the name of a data set, as torchvision writes it
    root: str | os.PathLike[str] | None = None, *, download: bool = False
) -> ImageSet:
    """The AT&T faces: 400 grey pictures of 40 people, the ones that everybody has measured on.

    The pictures are read from a copy on this machine: folders s1 to s40 with 1.pgm to 10.pgm,
    as published, with a folder or two around them, or parted into training/ and testing/. Other
    files beside are passed over. All 400 are checked, by their pixels, to be the published ones.
    The people are called s1 to s40, the pictures s1/1.pgm to s40/10.pgm.

    When you use the pictures, give credit to AT&T Laboratories Cambridge. They are no part of
    this package.

    Args:
        root: the folder they lie in; None to look where `find_att_faces` does.
        download: fetch the official archive when they are not there, into ``root``, or into
            ~/.cache/siamlearn/att_faces.

    Raises:
        FileNotFoundError: when there is no copy, naming the ways to get one.
        ConnectionError: when it cannot be downloaded, naming the other ways.
        ValueError: when the copy is not as published: what is missing, and which pictures differ.

    Example:
        >>> if find_att_faces():
        ...     assert ATTFaces().shape == (1, 112, 92)

    Source:
        Samaria, Harter: Parameterisation of a Stochastic Model for Human Face Identification,
        WACV 1994.
    """
    folder = find_att_faces() if root is None else Path(root).expanduser()
    if folder is None or not _subjects(folder):
        if not download:
            where = "on this machine" if folder is None else f"in {folder}"
            msg = f"there are no AT&T faces {where}; {WAYS}"
            raise FileNotFoundError(msg)
        folder = folder or _cache()
        fetch(_place(folder), expected=originals())
    return read_checked(folder, originals())


def read_checked(folder: Path, expected: Mapping[str, str]) -> ImageSet:
    """Read pictures in the layout of the AT&T faces, if they are those that are expected.

    Args:
        expected: the fingerprints of the pictures by their names, in the order wanted.

    Raises:
        ValueError: when they are others: what is missing, and which pictures differ.

    Example:
        >>> import hashlib, tempfile
        >>> folder, black = Path(tempfile.mkdtemp()), bytes(112 * 92)
        >>> (folder / "s1").mkdir()
        >>> _ = (folder / "s1" / "1.pgm").write_bytes(b"P5 92 112 255 " + black)
        >>> read_checked(folder, {"s1/1.pgm": hashlib.sha256(black).hexdigest()}).people
        ('s1',)
    """
    files = _files(folder)
    found = {name: picture(file) for name, file in files.items() if name in expected}
    check(found, expected, where=folder)
    names = list(expected)
    people = list(dict.fromkeys(name.split("/")[0] for name in names))
    place = {person: label for label, person in enumerate(people)}
    return ImageSet(
        torch.from_numpy(np.stack([np.asarray(found[name]) for name in names])[:, None]),
        torch.tensor([place[name.split("/")[0]] for name in names]),
        identities=people,
        names=names,
    )


def find_att_faces() -> Path | None:
    """Where the AT&T faces lie on this machine, or None.

    Looks in the folder that the environment variable SIAMLEARN_DATA names, in ./att_faces, in
    shared/data/att_faces of the working folder or one around it (so also beside a checkout), and
    in ~/.cache/siamlearn/att_faces, for folders s1, s2 and so on; what is in them is not checked.

    Example:
        >>> find_att_faces() == find_att_faces()
        True
    """
    here = Path.cwd()
    around = (folder / "shared" / "data" / "att_faces" for folder in (here, *here.parents))
    places = [here / "att_faces", *around, _cache()]
    if named := os.environ.get("SIAMLEARN_DATA"):
        places.insert(0, Path(named).expanduser())
    return next((place for place in places if _subjects(place)), None)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "siamlearn/att_faces"


def _place(folder: Path) -> Path:
    """Where to put a download: the folder itself if there is nothing in it yet."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return folder
    if not folder.is_dir() or (folder / "att_faces").exists():
        msg = f"the AT&T faces need an empty or a new folder, but {folder} is in use; name another"
        raise ValueError(msg)
    return folder / "att_faces"


def _files(folder: Path) -> dict[str, Path]:
    """The numbered pictures in the folders s1, s2 ..., by their name, such as s1/1.pgm."""
    files: dict[str, Path] = {}
    for subject, place in _subjects(folder):
        # The published kind comes first, should a person's pictures be there in two.
        for file in sorted(place.iterdir(), key=lambda file: (file.suffix.lower() != ".pgm", file)):
            if file.stem.isdecimal() and file.suffix.lower() in SUFFIXES:
                name = f"s{subject}/{int(file.stem)}.pgm"
                if name in files and files[name].parent != place:
                    msg = (
                        f"{name} is in {files[name].parent} and in {place}; "
                        "name the one folder that is meant, as root"
                    )
                    raise ValueError(msg)
                files.setdefault(name, file)
    return files


def _subjects(folder: Path, deeper: int = 2) -> list[tuple[int, Path]]:
    """The folders s1, s2 ... with their numbers: directly in a folder, or in folders within."""
    inside = sorted(_folders(folder))
    subjects = [
        (int(match[1]), entry)
        for entry in inside
        if (match := re.fullmatch(r"[sS](\d+)", entry.name))
    ]
    if subjects or not deeper:
        return subjects
    return [subject for entry in inside for subject in _subjects(entry, deeper - 1)]


def _folders(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.name.startswith((".", "__MACOSX")):
                yield entry

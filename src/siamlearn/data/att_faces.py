"""The AT&T faces, once "ORL Database of Faces": 40 people, ten pictures each, 92 wide, 112 high."""

import os
from pathlib import Path

from siamlearn.data.images import ImageSet, from_folder

__all__ = ["ATTFaces", "find_att_faces"]


def ATTFaces(root: str | os.PathLike[str] | None = None, *, download: bool = False) -> ImageSet:  # noqa: N802
    """The 400 AT&T faces."""
    found = find_att_faces() if root is None else Path(root)
    if found is None:
        msg = "no AT&T faces"
        raise FileNotFoundError(msg)
    return from_folder(found)


def find_att_faces() -> Path | None:
    """Where the AT&T faces lie on this machine, or None."""
    checkout = Path(__file__).resolve().parents[3]
    for place in (
        os.environ.get("SIAMLEARN_DATA"),
        checkout.parent / "shared" / "data" / "att_faces",
        "att_faces",
        "~/.cache/siamlearn/att_faces",
    ):
        if place and (Path(place).expanduser() / "s1" / "1.pgm").is_file():
            return Path(place).expanduser()
    return None

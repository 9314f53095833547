"""The AT&T faces from where they were published.

No checksum of the archive itself is published. So the pixels of every one of the 400 pictures
are checked before any is put in place, which is stricter in what matters.
"""

import re
import zipfile
from collections.abc import Mapping
from http.client import HTTPException
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from siamlearn.data.att_check import check, picture

__all__ = ["URL", "WAYS", "fetch", "unpack"]

URL = "https://www.cl.cam.ac.uk/research/dtg/attarchive/pub/data/att_faces.zip"
WAYS = f"""there are three ways to get the AT&T faces:
  the official archive: {URL}, unpacked by hand, or by ATTFaces(download=True)
  Kaggle: https://www.kaggle.com/datasets/kasikrit/att-database-of-faces
  a copy that you have: say where it lies with ATTFaces(root), --data or SIAMLEARN_DATA"""

ARCHIVE_LIMIT = 64 * 2**20  # bytes; the archive has 4 MB
MEMBER_LIMIT = 2**16  # bytes; a picture has 10 kB
MEMBERS_LIMIT = 2000  # the archive has some 440
MEMBER = re.compile(r"(?:(?:orl_faces|att_faces)/)?(s[1-9]\d?/[1-9]\d?\.pgm)")


def fetch(folder: Path, *, expected: Mapping[str, str], url: str = URL) -> None:
    """Download the pictures and put them into a new folder: all of them, checked, or none.

    Args:
        folder: where to put them; it must be empty, or not be there yet.
        expected: the fingerprints of the pictures, as `siamlearn.data.att_check.originals`.

    Raises:
        ConnectionError: when the archive cannot be had.
        ValueError: when it is not what was published.

    Example:
        >>> import hashlib, tempfile
        >>> folder, black = Path(tempfile.mkdtemp()), bytes(112 * 92)
        >>> with zipfile.ZipFile(folder / "faces.zip", "w") as archive:
        ...     archive.writestr("s1/1.pgm", b"P5 92 112 255 " + black)
        >>> expected = {"s1/1.pgm": hashlib.sha256(black).hexdigest()}
        >>> fetch(folder / "faces", expected=expected, url=(folder / "faces.zip").as_uri())
        >>> [file.name for file in (folder / "faces" / "s1").iterdir()]
        ['1.pgm']
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=".att_faces-") as near:
        archive, unpacked = Path(near) / "att_faces.zip", Path(near) / "att_faces"
        try:
            _download(url, archive)
        except (OSError, HTTPException, ValueError) as error:
            if isinstance(error, HTTPError):
                error.close()  # it is an answer as well, with a connection of its own
            msg = f"{url} cannot be downloaded: {error}\n{WAYS}"
            raise ConnectionError(msg) from error
        unpack(archive, unpacked, expected=expected, where=url)
        try:
            if folder.is_dir():
                folder.rmdir()
            unpacked.rename(folder)
        except OSError:
            # Someone else was faster; what they put there is checked when it is read.
            if not folder.is_dir():
                raise


def _download(url: str, file: Path) -> None:
    request = Request(url, headers={"User-Agent": "siamlearn"})
    with urlopen(request, timeout=30) as answer, file.open("wb") as out:
        # The length that the server states is a claim; what arrives is counted.
        while block := answer.read(2**16):
            if out.tell() + len(block) > ARCHIVE_LIMIT:
                msg = f"more than {ARCHIVE_LIMIT} bytes arrive, where 4 MB are expected"
                raise ValueError(msg)
            out.write(block)


def unpack(archive: Path, folder: Path, *, expected: Mapping[str, str], where: object) -> None:
    """Check all pictures in an archive, then write them: nothing else, and nowhere else.

    The names of the files come from ``expected``, never from the archive; each is read as a
    stream that ends at a limit.

    Args:
        folder: where to; it must not be there yet.
        expected: the fingerprints of the pictures by their name.
        where: where the archive is from, for the message.

    Raises:
        ValueError: when it is no archive, a hostile one, or its pictures are others.

    Example:
        >>> import tempfile
        >>> archive, folder = (Path(tempfile.mkdtemp(), name) for name in ("faces.zip", "faces"))
        >>> with zipfile.ZipFile(archive, "w") as file:
        ...     file.writestr("../s1/1.pgm", b"P5 2 1 255 ab")
        >>> unpack(archive, folder, expected={}, where=archive)
        >>> list(folder.iterdir())
        []
    """
    try:
        with zipfile.ZipFile(archive) as file:
            members = _members(file, expected)
            raw = {name: _bounded(file, member) for name, member in members.items()}
    except Exception as error:  # zipfile lets every kind of error escape
        msg = f"{where} is not the archive of the AT&T faces: {error}\n{WAYS}"
        raise ValueError(msg) from error
    check({name: picture(BytesIO(data)) for name, data in raw.items()}, expected, where=where)
    folder.mkdir()
    for name, data in raw.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)


def _members(file: zipfile.ZipFile, expected: Mapping[str, str]) -> dict[str, zipfile.ZipInfo]:
    entries = file.infolist()
    if len(entries) > MEMBERS_LIMIT:
        msg = f"it has {len(entries)} members, where some 440 are expected"
        raise ValueError(msg)
    members: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        match = MEMBER.fullmatch(entry.filename)
        if match is None or match[1] not in expected:
            continue
        if match[1] in members:
            msg = f"{match[1]} is in it twice"
            raise ValueError(msg)
        # Of other kinds a few kB are unpacked at once, which may be gigabytes.
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            msg = f"{match[1]} is packed in a way that is not expected"
            raise ValueError(msg)
        members[match[1]] = entry
    return members


def _bounded(file: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with file.open(member) as stream:
        data = stream.read(MEMBER_LIMIT + 1)
    if len(data) > MEMBER_LIMIT:
        msg = f"{member.filename} unpacks to more than {MEMBER_LIMIT} bytes, a picture to 10,318"
        raise ValueError(msg)
    return data

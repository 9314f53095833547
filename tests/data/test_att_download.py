import hashlib
import random
import shutil
import stat
import threading
import tracemalloc
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from siamlearn.data import att_download
from siamlearn.data.att_check import originals
from siamlearn.data.att_download import fetch, unpack
from siamlearn.data.att_faces import ATTFaces, read_checked

# Stand-ins for the pictures: two people, two each, in the bytes of a PGM file.
HEADER = b"P5\n92 112\n255\n"
PIXELS = {
    f"s{person}/{number}.pgm": bytes([10 * person + number]) * 92 * 112
    for person in (1, 2)
    for number in (1, 2)
}
EXPECTED = {name: hashlib.sha256(pixels).hexdigest() for name, pixels in PIXELS.items()}
MEMBERS = {name: HEADER + pixels for name, pixels in PIXELS.items()}


def zipped(file: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file


def tree(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return zipped(tmp_path / "faces.zip", MEMBERS | {"README": b"credit", "s1/": b""})


@pytest.fixture
def server(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, type[BaseHTTPRequestHandler]]]:
    """An address on this machine that gives the archive, in pieces or not at all."""

    class Handler(BaseHTTPRequestHandler):
        length: int | None = None
        status = 200
        body = archive.read_bytes()

        def do_GET(self):
            self.send_response(self.status)
            self.send_header("Content-Length", str(self.length or len(self.body)))
            self.end_headers()
            self.wfile.write(self.body)

        def log_message(self, *args):
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}/faces.zip", Handler
        serving.shutdown()
        thread.join()


@pytest.mark.parametrize("folder", ["new", "new/er/att_faces"])
def test_the_archive_is_downloaded_checked_and_put_in_place(server, tmp_path, folder):
    fetch(tmp_path / folder, expected=EXPECTED, url=server[0])

    assert tree(tmp_path / folder) == sorted(PIXELS)
    assert read_checked(tmp_path / folder, EXPECTED).names == tuple(PIXELS)
    assert not list((tmp_path / folder).parent.glob(".att_faces*"))


def test_an_empty_folder_will_do(server, tmp_path):
    (tmp_path / "empty").mkdir()

    fetch(tmp_path / "empty", expected=EXPECTED, url=server[0])

    assert tree(tmp_path / "empty") == sorted(PIXELS)


def test_what_another_process_put_there_first_is_kept(server, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "mine").touch()

    fetch(tmp_path / "new", expected=EXPECTED, url=server[0])

    assert tree(tmp_path / "new") == ["mine"]


@pytest.mark.parametrize("trouble", ["status", "nobody", "scheme", "endless"])
def test_what_cannot_be_downloaded_names_the_other_ways(server, tmp_path, monkeypatch, trouble):
    url, handler = server
    if trouble == "status":
        handler.status = 404
    elif trouble == "nobody":
        url = "http://127.0.0.1:9/faces.zip"
    elif trouble == "scheme":
        url = "faces.zip"
    else:
        monkeypatch.setattr(att_download, "ARCHIVE_LIMIT", 100)

    with pytest.raises(ConnectionError, match="cannot be downloaded") as error:
        fetch(tmp_path / "new", expected=EXPECTED, url=url)

    assert "three ways" in str(error.value)
    assert "kasikrit/att-database-of-faces" in str(error.value)
    assert tree(tmp_path) == ["faces.zip"]


def test_a_connection_that_breaks_off_places_nothing(server, tmp_path):
    url, handler = server
    handler.length = len(handler.body)
    handler.body = handler.body[:-200]

    with pytest.raises((ConnectionError, ValueError), match="three ways"):
        fetch(tmp_path / "new", expected=EXPECTED, url=url)

    assert tree(tmp_path) == ["faces.zip"]


@pytest.mark.parametrize("around", ["", "orl_faces/", "att_faces/"])
def test_an_archive_with_or_without_a_folder_around(tmp_path, around):
    archive = zipped(tmp_path / "a.zip", {around + name: data for name, data in MEMBERS.items()})

    unpack(archive, tmp_path / "new", expected=EXPECTED, where="here")

    assert tree(tmp_path / "new") == sorted(PIXELS)
    assert (tmp_path / "new" / "s1/1.pgm").read_bytes() == MEMBERS["s1/1.pgm"]


def test_names_that_lead_elsewhere_are_never_written(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    hostile = [
        *("../s1/1.pgm", "../../s1/1.pgm", "/s1/1.pgm", "C:\\s1\\1.pgm", "s1/../../2.pgm"),
        *(
            "..\\s1\\1.pgm",
            "orl_faces/../s1/1.pgm",
            "s1/1.pgm/../../evil",
            "~/s1/1.pgm",
            "s99/1.pgm",
        ),
        *("s1/1.pgm\n", "S1/1.PGM", "s1//1.pgm", "./s1/1.pgm", "s01/1.pgm", "s1/1.pgm.exe"),
    ]
    archive = zipped(tmp_path / "a.zip", MEMBERS | dict.fromkeys(hostile, b"evil"))

    unpack(archive, tmp_path / "deep" / "er" / "new", expected=EXPECTED, where="here")

    assert tree(tmp_path) == ["a.zip", *(f"deep/er/new/{name}" for name in sorted(PIXELS))]


def test_hostile_names_alone_are_missing_pictures(tmp_path):
    archive = zipped(tmp_path / "a.zip", {f"../{name}": data for name, data in MEMBERS.items()})

    with pytest.raises(ValueError, match="s1: missing"):
        unpack(archive, tmp_path / "new", expected=EXPECTED, where="here")
    assert tree(tmp_path) == ["a.zip"]


def test_a_member_that_unpacks_to_much_is_refused_unread(tmp_path):
    # 50 MB of zeros, packed to 50 kB.
    archive = zipped(tmp_path / "a.zip", MEMBERS | {"s1/1.pgm": bytes(50_000_000)})
    assert archive.stat().st_size < 100_000

    refused(archive, "s1/1.pgm unpacks to more than 65536 bytes")


def test_a_kind_of_packing_that_cannot_be_read_in_parts_is_refused(tmp_path):
    archive = zipped(tmp_path / "a.zip", dict(list(MEMBERS.items())[1:]))
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_BZIP2) as file:
        file.writestr("s1/1.pgm", bytes(30_000_000))
    assert archive.stat().st_size < 10_000
    tracemalloc.start()
    try:
        with zipfile.ZipFile(archive) as file, file.open("s1/1.pgm") as stream:
            stream.read(1)
        assert tracemalloc.get_traced_memory()[1] > 30_000_000, "it can be read in parts"
        del file, stream  # and what they hold
        tracemalloc.reset_peak()

        refused(archive, "s1/1.pgm is packed in a way that is not expected")

        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_a_member_that_states_a_smaller_size_is_refused_too(tmp_path):
    archive = zipped(tmp_path / "a.zip", MEMBERS | {"s1/1.pgm": bytes(10_000_000)})
    stated = (10_000_000).to_bytes(4, "little")
    archive.write_bytes(archive.read_bytes().replace(stated, (10_318).to_bytes(4, "little")))

    refused(archive, "Bad CRC-32|more than 65536")


def test_a_picture_that_claims_to_be_huge_is_refused(tmp_path):
    archive = zipped(
        tmp_path / "a.zip", MEMBERS | {"s1/1.pgm": b"P5\n99999 99999\n255\n" + bytes(9)}
    )

    refused(archive, "s1: 1.pgm unreadable .*exceeds limit", kind="as they were published")


def test_a_member_that_is_there_twice_is_refused(tmp_path):
    archive = zipped(tmp_path / "a.zip", MEMBERS | {"orl_faces/s1/1.pgm": MEMBERS["s1/1.pgm"]})

    refused(archive, "s1/1.pgm is in it twice")


def test_an_archive_with_too_many_members_is_refused(tmp_path):
    many = {f"{number}.txt": b"" for number in range(2001)}

    refused(zipped(tmp_path / "a.zip", MEMBERS | many), "2005 members")


def test_a_link_is_no_picture(tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(zipped(archive, dict(list(MEMBERS.items())[1:])), "a") as file:
        link = zipfile.ZipInfo("s1/1.pgm")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "/etc/passwd")

    refused(archive, "s1: 1.pgm unreadable", kind="as they were published")


DEVICES = {"a device": stat.S_IFCHR, "a disk": stat.S_IFBLK, "a pipe": stat.S_IFIFO}


@pytest.mark.parametrize("kind", [*DEVICES.values(), stat.S_IFSOCK, stat.S_IFLNK], ids=hex)
def test_what_a_member_says_it_is_is_not_made(tmp_path, kind):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name, data in MEMBERS.items():
            member = zipfile.ZipInfo(name)
            member.create_system = 3  # Unix, where these bits mean something
            member.external_attr = (kind | 0o6777) << 16
            file.writestr(member, data)

    unpack(archive, tmp_path / "new", expected=EXPECTED, where="here")

    for name in MEMBERS:
        made = (tmp_path / "new" / name).lstat().st_mode
        assert stat.S_ISREG(made)
        assert made & 0o7111 == 0  # nor run, nor with the rights of somebody else


def test_names_that_collide_elsewhere_are_others_here(tmp_path):
    # On some file systems these are the same file, and the last one would win.
    others = ["S1/1.pgm", "s1/1.PGM", "s1/1.pgm ", "s1/1.pgm.", "s1\\1.pgm", "\uff531/1.pgm"]
    archive = zipped(tmp_path / "a.zip", MEMBERS | dict.fromkeys(others, b"evil"))

    unpack(archive, tmp_path / "new", expected=EXPECTED, where="here")

    assert tree(tmp_path / "new") == sorted(PIXELS)
    for name, data in MEMBERS.items():
        assert (tmp_path / "new" / name).read_bytes() == data


def test_a_folder_of_the_name_of_a_picture_is_no_picture(tmp_path):
    others = dict(list(MEMBERS.items())[1:])
    archive = zipped(tmp_path / "a.zip", others | {"s1/1.pgm/": b"", "s1/1.pgm/x": b"evil"})

    refused(archive, "s1: missing 1.pgm|s1: .*missing", kind="as they were published")


def mutated(data: bytes, draws: random.Random) -> bytes:
    """The same with a few bytes changed, cut out or doubled, half of them in the index."""
    changed = bytearray(data)
    for _ in range(draws.randint(1, 4)):
        begin = draws.choice([0, changed.find(b"PK\x01\x02")])
        at, kind = draws.randrange(max(begin, 0), len(changed)), draws.randrange(4)
        if kind == 0:
            changed[at : at + 1] = draws.randbytes(1)
        elif kind == 1:
            changed[at : at + 4] = draws.choice([b"\xff" * 4, bytes(4), b"\x00\x00\x0e\x00"])
        elif kind == 2:
            del changed[at : at + draws.choice([1, 4, 50])]
        else:
            changed[at:at] = changed[at : at + draws.choice([1, 8, 60])]
    return bytes(changed)


def unpack_mutated(tmp_path: Path, times: int) -> tuple[int, int]:
    """How many mutated archives were unpacked, to the right pictures, and how many refused."""
    draws, unpacked, seeds = random.Random(0), 0, []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(tmp_path / f"{method}.zip", "w", method) as file:
            for name, data in MEMBERS.items():
                file.writestr(name, data)
        seeds.append((tmp_path / f"{method}.zip").read_bytes())
    for _ in range(times):
        archive, new = tmp_path / "a.zip", tmp_path / "new"
        archive.unlink(missing_ok=True)
        archive.write_bytes(mutated(draws.choice(seeds), draws))
        try:
            unpack(archive, new, expected=EXPECTED, where="here")
        except ValueError:
            assert not new.exists()
        else:
            unpacked += 1
            assert tree(new) == sorted(PIXELS)
            assert all(read_checked(new, EXPECTED).names)
            shutil.rmtree(new)
    return unpacked, times - unpacked


def test_mutated_archives_are_unpacked_or_refused_and_nothing_else(tmp_path):
    assert min(unpack_mutated(tmp_path, 400)) > 5


@pytest.mark.soak
def test_very_many_mutated_archives_are_unpacked_or_refused_and_nothing_else(tmp_path):
    assert min(unpack_mutated(tmp_path, 30_000)) > 300


@pytest.mark.parametrize("percent", range(0, 100, 10))
def test_a_truncated_archive_is_refused(archive, percent):
    data = archive.read_bytes()
    archive.write_bytes(data[: len(data) * percent // 100])

    refused(archive, "not a zip file|is not")


def test_an_encrypted_archive_is_refused(archive):
    data = bytearray(archive.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + flags] |= 1
            at = data.find(signature, at + 4)
    archive.write_bytes(data)

    refused(archive, "encrypted")


def test_other_pictures_are_refused_with_what_differs(tmp_path):
    other = HEADER + bytes(92 * 112)
    archive = zipped(tmp_path / "a.zip", MEMBERS | {"s2/1.pgm": other})

    refused(archive, "s2: 1.pgm differs", kind="as they were published")


def refused(archive: Path, reason: str, kind: str = "is not the archive of the AT&T faces") -> None:
    """The archive is refused for this reason, and nothing is written."""
    before = tree(archive.parent)

    with pytest.raises(ValueError, match=kind) as error:
        unpack(archive, archive.parent / "new", expected=EXPECTED, where="here")

    assert error.match(reason)
    assert tree(archive.parent) == before


def test_the_real_pictures_come_through_the_real_way(att_faces_root, tmp_path):
    images = ATTFaces(att_faces_root)
    packed = {
        f"orl_faces/{name}": HEADER + picture.numpy().tobytes()
        for name, picture in zip(images.names, images.pixels, strict=True)
    }
    archive = zipped(tmp_path / "a.zip", packed)

    fetch(tmp_path / "new", expected=originals(), url=archive.as_uri())

    assert ATTFaces(tmp_path / "new").digest == images.digest

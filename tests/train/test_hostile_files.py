"""Proof 9: files made to do harm are refused in our own words, run nothing, and cost little."""

import json
import os
import pickle
import random
import resource
import struct
import time
from pathlib import Path

import pytest
import torch

from siamlearn.folders import check, replacing
from siamlearn.gallery import Gallery
from siamlearn.nn.nets import EmbeddingNet, NetConfig
from siamlearn.operating import OperatingPoint
from siamlearn.train import checkpoint
from siamlearn.train.checkpoint import CheckpointError, CorruptCheckpointError
from siamlearn.train.packing import unpack
from siamlearn.train.runs import read_config

NAMES = ("model.safetensors", "train.safetensors", "state.json")
MEMORY = 256 * 2**20  # bytes


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.fixture
def payloads(tmp_path):
    """Pickles of three kinds that leave a trace when they are read as pickles; and the trace."""
    trace = tmp_path / "trace"
    torch.save(Touch(trace), tmp_path / "zipped")
    torch.save(Touch(trace), tmp_path / "plain", _use_new_zipfile_serialization=False)
    found = [
        pickle.dumps(Touch(trace)),
        *((tmp_path / n).read_bytes() for n in ("zipped", "plain")),
    ]
    pickle.loads(found[0])
    assert trace.exists(), "the fault did not happen"
    trace.unlink()
    torch.load(tmp_path / "zipped", weights_only=False)
    assert trace.exists(), "the fault did not happen"
    trace.unlink()
    return found, trace


def whole() -> dict[str, bytes]:
    state = {"step": 1, "log": [{"loss": 0.5}], "average": {"w": torch.ones(2)}}
    return checkpoint.serialized({"w": torch.arange(6.0).view(2, 3)}, state)


def sealed(folder: Path, **changed: bytes) -> Path:
    """A checkpoint with right sizes, hashes and seal, whatever is in it."""
    files = whole() | {name.replace("_", "."): content for name, content in changed.items()}
    return checkpoint.save(folder, 1, files)


@pytest.mark.parametrize("name", [*NAMES, "MANIFEST.json"])
def test_a_pickle_under_the_name_of_a_file_of_a_checkpoint_is_not_run(tmp_path, payloads, name):
    contents, trace = payloads
    for content in contents:
        places = [sealed(tmp_path / "unsealed")]
        (places[0] / name).write_bytes(content)
        if name in NAMES:
            places.append(sealed(tmp_path / "sealed", **{name.replace(".", "_"): content}))
        for place in places:
            with pytest.raises(CorruptCheckpointError):
                checkpoint.load(place)
    assert not trace.exists()


def small_net() -> EmbeddingNet:
    return EmbeddingNet(NetConfig.preset("small", input=(1, 16, 16)))


def net(folder: Path):
    small_net().save(folder)
    return EmbeddingNet.load


def gallery(folder: Path):
    with replacing(folder) as temporary:
        (temporary / "gallery.json").write_text("{}")
        (temporary / "gallery.safetensors").write_bytes(b"")
    return Gallery.load


def config(folder: Path):
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return read_config


def point(folder: Path):
    folder.mkdir()
    (folder / "point.json").write_text("{}")
    return lambda folder: OperatingPoint.load(folder / "point.json")


@pytest.mark.parametrize("made", [net, gallery, config, point])
def test_a_pickle_under_any_other_of_our_names_is_not_run(tmp_path, payloads, made):
    contents, trace = payloads
    load = made(tmp_path / "place")
    files = [path for path in (tmp_path / "place").iterdir() if path.is_file()]
    assert files
    for path in files:
        before = path.read_bytes()
        for content in contents:
            path.write_bytes(content)
            with pytest.raises(ValueError, match=str(tmp_path / "place")):
                load(tmp_path / "place")
        path.write_bytes(before)
    assert not trace.exists()


def header(text: bytes | dict, content: bytes = b"") -> bytes:
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    return struct.pack("<Q", len(text)) + text + content


def entry(kind: str = "U8", shape: tuple = (4,), offsets: tuple = (0, 4)) -> dict:
    return {"dtype": kind, "shape": shape, "data_offsets": offsets}


TENSORS = {
    "empty": b"",
    "header longer than memory": struct.pack("<Q", 2**62) + b"{}",
    "header longer than the file": struct.pack("<Q", 2**20) + b"{}",
    "header of brackets": header(b"[" * 100_000),
    "header that is a list": header(b"[]"),
    "names in brackets": header(b'{"__metadata__":' + b"[" * 100_000),
    "two tensors in one place": header({"a": entry(), "b": entry()}, b"abcd"),
    "a hole": header({"a": entry(offsets=(4, 8))}, b"abcdefgh"),
    "a terabyte": header({"a": entry("F64", (2**37,))}, b"abcd"),
    "a product that overflows": header({"a": entry("F64", (2**33, 2**33), (0, 0))}),
    "a negative side": header({"a": entry("U8", (-4,))}, b"abcd"),
    "offsets that go back": header({"a": entry(offsets=(4, 0))}, b"abcd"),
    "a kind that torch does not have": header({"a": entry("F4", (8,))}, b"abcd"),
    "a kind that is none": header({"a": entry("__import__", (4,))}, b"abcd"),
    "bytes that nobody asks for": header({"a": entry()}, b"abcdefgh"),
}
STATES = {
    "empty": b"",
    "a list": b"[]",
    "a number": b"7",
    "no model": b'{"step": 1}',
    "a model that is a number": b'{"model": 1}',
    "a state that is a number": b'{"model": {}, "$float": "1.0"}'.replace(b'"model": {}, ', b""),
    "brackets": b"[" * 1_000_000,
    "deep": b'{"model":' * 100_000,
    "a tensor that is not there": b'{"model": {"w": {"$tensor": "v"}}}',
    "a tensor of no name": b'{"model": {"w": {"$tensor": ["w"]}}}',
    "one tensor many times": json.dumps({"model": [{"$tensor": "w"}] * 100_000}).encode(),
    "a list as a key": b'{"model": {"$items": [[["w"], 1]]}}',
    "items of one": b'{"model": {"$items": [[1]]}}',
    "items of a number": b'{"model": {"$items": 1}}',
    "a counter of a number": b'{"model": {"$counter": 1}}',
    "a float in words": b'{"model": {"$float": "one"}}',
    "a float of nothing": b'{"model": {"$float": null}}',
    "more digits than are read": b'{"model": ' + b"9" * 100_000 + b"}",
    "no text": b"\xff\xfe\x00",
}
MANIFESTS = {
    "empty": b"",
    "a path": {"format": 1, "step": 1, "files": {"../x": {}}},
    "an absolute path": {"format": 1, "step": 1, "files": {"/etc/passwd": {}}},
    "paths besides": {"format": 1, "step": 1, "files": {key: {} for key in [*NAMES, "../x"]}},
    "no sizes": {"format": 1, "step": 1, "files": {key: {} for key in NAMES}},
    "a billion bytes": {
        "format": 1,
        "step": 1,
        "files": {key: {"bytes": 10**9, "sha256": ""} for key in NAMES},
    },
    "a step of many digits": {"format": 1, "step": 10**4000, "files": {key: {} for key in NAMES}},
    "a format of words": {"format": "new", "step": 1, "files": {key: {} for key in NAMES}},
    "many names": {"format": 1, "step": 1, "files": {str(i): {} for i in range(100_000)}},
    "brackets": b"[" * 1_000_000,
    "files in a list": {"format": 1, "step": 1, "files": [[]]},
}


def bounded(tiny, work) -> None:
    """Do this in a process that may take a little memory and time more than it has."""

    def inside():
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        with pytest.raises(MemoryError):  # the limit is there
            bytes(2 * MEMORY)
        started = time.process_time()
        work()
        assert time.process_time() - started < 10

    _, status = os.waitpid(tiny.in_child(inside), 0)
    assert os.waitstatus_to_exitcode(status) == 0


def all_refused(folder: Path, name: str, contents: dict[str, bytes]) -> None:
    for what, content in contents.items():
        place = sealed(folder, **{name.replace(".", "_"): content})
        with pytest.raises(CorruptCheckpointError, match="has the right hashes but"):
            pytest.fail(f"{what} was read: {checkpoint.load(place)}")


@pytest.mark.parametrize("name", ["model.safetensors", "train.safetensors"])
def test_tensors_that_cannot_be_are_refused_at_once(tmp_path, tiny, name):
    bounded(tiny, lambda: all_refused(tmp_path, name, TENSORS))


def test_states_that_cannot_be_are_refused_at_once(tmp_path, tiny):
    bounded(tiny, lambda: all_refused(tmp_path, "state.json", STATES))


def test_manifests_that_cannot_be_are_refused_at_once(tmp_path, tiny):
    place = sealed(tmp_path)

    def read_them():
        for what, manifest in MANIFESTS.items():
            both = [manifest] if isinstance(manifest, bytes) else []
            if not both:
                # Sealed as ours are, and with a seal that is none.
                both = [checkpoint._sealed(manifest), json.dumps(manifest | {"seal": ""}).encode()]
            for content in both:
                (place / "MANIFEST.json").write_bytes(content)
                with pytest.raises(CorruptCheckpointError):
                    pytest.fail(f"{what} was read: {checkpoint.load(place)}")

    bounded(tiny, read_them)


def test_a_file_with_a_billion_tensors_in_its_words_costs_what_it_weighs(tmp_path, tiny):
    # Tensors without elements need no bytes, so that only the header bounds how many there are.
    none = {f"{i:x}": entry("U8", (0,), (0, 0)) for i in range(20_000)}
    many = header({"w": entry()} | none, b"abcd")
    place = sealed(tmp_path, model_safetensors=many)
    bounded(tiny, lambda: checkpoint.load(place))


def test_a_file_larger_than_memory_is_refused_and_not_called_corrupt(tmp_path, tiny):
    place = sealed(tmp_path)
    with (place / "model.safetensors").open("r+b") as file:
        file.truncate(2**40)  # sparse: it takes no room on the disk
    manifest = json.loads((place / "MANIFEST.json").read_bytes())
    manifest["files"]["model.safetensors"]["bytes"] = 2**40
    del manifest["seal"]
    (place / "MANIFEST.json").write_bytes(checkpoint._sealed(manifest))

    def read_it():
        with pytest.raises(CheckpointError, match="for which there is no memory") as error:
            checkpoint.latest(tmp_path)
        assert not isinstance(error.value, CorruptCheckpointError)

    bounded(tiny, read_it)


@pytest.mark.parametrize("name", [*NAMES, "MANIFEST.json"])
def test_nobody_waits_at_a_pipe(tmp_path, name):
    place = sealed(tmp_path)
    (place / name).unlink()
    os.mkfifo(place / name)
    with pytest.raises(CorruptCheckpointError, match=f"{name} is no file"):
        checkpoint.load(place)


def test_a_folder_of_ours_is_refused_as_well(tmp_path, tiny):
    place = tmp_path / "place"
    with replacing(place) as temporary:
        (temporary / "one").write_text("1")
    (tmp_path / "x").write_text("elsewhere")
    elsewhere = {"sha256": {"../x": checkpoint.hashlib.sha256(b"elsewhere").hexdigest()}}

    def read_them():
        for content in [b"[" * 1_000_000, json.dumps(elsewhere).encode(), b"", b"\xff"]:
            (place / "MANIFEST.json").write_bytes(content)
            with pytest.raises(ValueError, match="place"):
                check(place)
        (place / "MANIFEST.json").unlink()
        os.mkfifo(place / "MANIFEST.json")
        with pytest.raises(ValueError, match="it is no file"):
            check(place)

    bounded(tiny, read_them)


def test_a_tensor_is_given_out_once():
    named = {"$tensor": "w"}
    tensors = {"w": torch.ones(2)}
    assert torch.equal(unpack([named], tensors)[0], torch.ones(2))
    with pytest.raises(KeyError, match="w"):
        unpack([named, named], tensors)


def mutated(content: bytes, draws: random.Random) -> bytes:
    """The same with a few bytes changed, cut out, doubled or put in."""
    changed = bytearray(content)
    for _ in range(draws.randint(1, 4)):
        at = draws.randrange(len(changed) + 1)
        length = draws.choice([1, 1, 1, 8, 64])
        kind = draws.randrange(4)
        if kind == 0:
            changed[at : at + 1] = draws.randbytes(1)
        elif kind == 1:
            del changed[at : at + length]
        elif kind == 2:
            changed[at:at] = changed[at : at + length]
        else:
            changed[at:at] = draws.choice([b"[", b"{", b'"', b"9", b"-", b"\x00", b"e9", b"null"])
    return bytes(changed)


def load_mutated(folder: Path, times: int) -> tuple[int, int]:
    """How many mutated checkpoints with right hashes were refused, and how many were read."""
    draws, refused = random.Random(0), 0
    files, place = whole(), sealed(folder)
    for _ in range(times):
        name = draws.choice(NAMES)
        changed = files | {name: mutated(files[name], draws)}
        for each, content in {**changed, "MANIFEST.json": checkpoint._manifest(1, changed)}.items():
            # Without the waits for the disk: some file systems wait where a file is overwritten.
            (place / each).unlink()
            (place / each).write_bytes(content)
        try:
            model, state = checkpoint.load(place)
        except CorruptCheckpointError:
            refused += 1
        else:
            assert isinstance(model, dict)
            assert isinstance(state, dict)
    return refused, times - refused


def test_mutated_files_with_right_hashes_are_read_or_refused_and_nothing_else(tmp_path, tiny):
    def read_them():
        assert min(load_mutated(tmp_path, 1000)) > 10

    bounded(tiny, read_them)


@pytest.mark.soak
def test_very_many_mutated_files_are_read_or_refused_and_nothing_else(tmp_path):
    assert min(load_mutated(tmp_path, 50_000)) > 1000

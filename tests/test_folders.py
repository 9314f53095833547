import os
from pathlib import Path

import pytest

from siamlearn.folders import check, replacing


def write(folder, **files):
    with replacing(folder) as temporary:
        for name, content in files.items():
            (temporary / name).write_text(content)


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    place = tmp_path / "deep" / "place"
    write(place, one="1", two="2")
    write(place, three="3")

    assert sorted(p.name for p in place.iterdir()) == ["MANIFEST.json", "three"]
    assert [p.name for p in place.parent.iterdir()] == ["place"]
    check(place)


def test_when_writing_fails_the_old_folder_stays(tmp_path):
    place = tmp_path / "place"
    write(place, one="1")

    with pytest.raises(OSError, match="No such file"):
        write(place, one="2", **{"nowhere/two": "2"})

    assert (place / "one").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["place"]


def test_a_crash_between_the_renames_is_mended_by_the_next_writing(tmp_path):
    place = tmp_path / "place"
    write(place, one="1")
    # What a crash leaves after the first of the two renames.
    place.rename(tmp_path / ".trash-place")

    with pytest.raises(OSError, match="No such file"):
        write(place, **{"nowhere/two": "2"})

    assert (place / "one").read_text() == "1"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_everything_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    done = []
    fsync, rename = os.fsync, os.rename
    place = tmp_path / "place"

    def noting_fsync(descriptor):
        done.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "rename", lambda a, b: (done.append("rename"), rename(a, b)))
    write(place, one="1")

    temporary = tmp_path / ".tmp-place"
    before = done[: done.index("rename")]
    assert set(before) == {
        str(p) for p in (temporary / "one", temporary / "MANIFEST.json", temporary)
    }
    assert done[-1] == str(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("one", "2", "is not as it was written: one"),
        ("one", "", "is not as it was written: one"),
        ("MANIFEST.json", '{"sha', "MANIFEST.json is missing or damaged"),
        ("MANIFEST.json", "[]", "MANIFEST.json is missing or damaged"),
        ("MANIFEST.json", '{"sha256": {"one": "0"}}', "is not as it was written: one"),
    ],
)
def test_changed_files_are_named(tmp_path, name, content, message):
    write(tmp_path / "place", one="1", two="2")
    (tmp_path / "place" / name).write_text(content)

    with pytest.raises(ValueError, match=message):
        check(tmp_path / "place")


def test_missing_files_are_named_and_new_ones_do_not_matter(tmp_path):
    write(tmp_path / "place", one="1")
    (tmp_path / "place" / ".thumbnails").write_text("")
    check(tmp_path / "place")

    (tmp_path / "place" / "one").unlink()
    with pytest.raises(ValueError, match="is not as it was written: one"):
        check(tmp_path / "place")


def test_a_missing_folder_is_not_called_damaged(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        check(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds nothing whole"):
        check(tmp_path / "empty")

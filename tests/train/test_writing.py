"""A small file is the old one or the new one."""

import os

import pytest

from siamlearn.train.writing import replace


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "note.txt"
    replace(path, "old ö")

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        replace(path, "new")
    assert path.read_text(encoding="utf-8") == "old ö"

"""Files and folders that are there whole or not at all."""

import errno
import os
import stat

import pytest

from synreal import atomic


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def break_at(patch, number):
    """Let the ``number``-th file be cut off by a full disk."""
    original, calls = atomic._write_synced, []

    def write(path, raw):
        calls.append(path)
        if len(calls) == number:
            path.write_bytes(raw[:1])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(path, raw)

    patch.setattr(atomic, "_write_synced", write)


def test_a_file_is_replaced(tmp_path):
    path = tmp_path / "a.json"
    atomic.write(path, b"one")
    atomic.write_text(path, "zwölf")
    assert path.read_text(encoding="utf-8") == "zwölf"
    assert names(tmp_path) == ["a.json"]


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    atomic.write(path, b"one")
    break_at(monkeypatch, 1)
    with pytest.raises(OSError, match="No space left"):
        atomic.write(path, b"two")
    assert path.read_bytes() == b"one"
    assert names(tmp_path) == ["a.json"]


def test_file_and_folder_are_synced_before_and_after_the_renaming(tmp_path, monkeypatch):
    done = []
    sync, replace = os.fsync, os.replace
    path = tmp_path / "a.json"

    def fsync(descriptor):
        done.append(
            "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else f"file of {os.fstat(descriptor).st_size}"
        )
        sync(descriptor)

    def renamed(self, target):
        done.append("renamed")
        replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(type(path), "replace", renamed)
    atomic.write(path, b"three")
    assert done == ["file of 5", "renamed", "folder"]


def test_a_folder_appears_with_all_its_files_in_order(tmp_path, monkeypatch):
    written = []
    original = atomic._write_synced
    monkeypatch.setattr(atomic, "_write_synced", lambda path, raw: (written.append(path.name), original(path, raw)))
    path = tmp_path / "deep" / "folder"
    atomic.write_folder(path, {"b": b"1", "a": b"2"})
    assert written == ["b", "a"]
    atomic.write_folder(path, {"c": b"3"})
    assert names(path) == ["c"]
    assert names(path.parent) == ["folder"]


@pytest.mark.parametrize("number", [1, 2])
def test_a_folder_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch, number):
    path = tmp_path / "folder"
    atomic.write_folder(path, {"a": b"1"})
    break_at(monkeypatch, number)
    with pytest.raises(OSError, match="No space left"):
        atomic.write_folder(path, {"a": b"2", "b": b"3"})
    assert names(tmp_path) == ["folder"]
    assert (path / "a").read_bytes() == b"1"
    assert names(path) == ["a"]

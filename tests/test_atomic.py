"""Files and folders that are there whole or not at all."""

import errno
import os
import re
import stat

import pytest

from synreal import atomic
from tests.faults import moments


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced(tmp_path):
    path = tmp_path / "a.json"
    atomic.write(path, b"one")
    atomic.write_text(path, "zwölf")
    assert path.read_text(encoding="utf-8") == "zwölf"
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_whatever_fails_a_file_is_the_old_or_the_new_one_and_the_error_names_it(tmp_path, faults, number):
    path = tmp_path / "a.json"
    atomic.write(path, b"one")
    for name, at in moments(faults, tmp_path, lambda: atomic.write(path, b"one")):
        faults.plan(tmp_path, name, at, number)
        with pytest.raises(OSError, match=re.escape(os.strerror(number))) as caught:
            atomic.write(path, b"another")
        assert caught.value.filename == str(path)
        assert faults.met
        # Once it is renamed the new one is whole too; what is not sure then is whether a power cut would undo it.
        renamed = (name, at) in [("open", 1), ("fsync", 1)]
        assert path.read_bytes() == (b"another" if renamed else b"one")
        assert names(tmp_path) == ["a.json"]
        faults.heal()
        atomic.write(path, b"one")


def test_a_line_is_added_whole_or_not_at_all(tmp_path, faults):
    path = tmp_path / "rows"
    atomic.append_line(path, "one")
    atomic.append_line(path, "zwölf")
    before = path.read_bytes()
    assert before == "one\nzwölf\n".encode()
    for name, at in moments(faults, tmp_path, lambda: atomic.append_line(path, "one")):
        path.write_bytes(before)
        faults.plan(tmp_path, name, at)
        with pytest.raises(OSError, match="No space left") as caught:
            atomic.append_line(path, "three")
        assert caught.value.filename == str(path)
        assert path.read_bytes() == before
    faults.plan(tmp_path, "fsync", 0, errno.EIO)
    with pytest.raises(OSError, match="Input/output error") as caught:
        atomic.sync(path)
    assert caught.value.filename == str(path)
    atomic.sync(tmp_path / "nothing")
    with pytest.raises(OSError, match="No such file"):
        atomic.append_line(tmp_path / "gone" / "rows", "one")


def test_file_and_folder_are_synced_before_and_after_the_renaming(tmp_path, monkeypatch):
    done = []
    sync, replace = os.fsync, os.replace
    path = tmp_path / "a.json"

    def fsync(descriptor):
        done.append(
            "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else f"file of {os.fstat(descriptor).st_size}"
        )
        sync(descriptor)

    def renamed(source, target):
        done.append("renamed")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", renamed)
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


def test_whatever_fails_a_folder_that_is_replaced_is_the_old_or_the_new_one(tmp_path, faults):
    path = tmp_path / "folder"
    old, new = {"a": b"1", "b": b"2"}, {"a": b"3", "c": b"4"}

    def held():
        return {file.name: file.read_bytes() for file in path.iterdir()}

    atomic.write_folder(path, old)
    for name, at in moments(faults, tmp_path, lambda: atomic.write_folder(path, old)):
        faults.plan(tmp_path, name, at)
        with pytest.raises(OSError, match="No space left") as caught:
            atomic.write_folder(path, new)
        assert caught.value.filename == str(path)
        assert faults.met
        # The last folder that is opened and synced is the one around it, after the renaming.
        assert held() == (new if str(tmp_path) in faults.met else old)
        assert [entry for entry in names(tmp_path) if not atomic.is_aside(tmp_path / entry)] == ["folder"]
        faults.heal()
        atomic.write_folder(path, old)
        assert names(tmp_path) == ["folder"]

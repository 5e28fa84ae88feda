import os
import socket
import stat
from pathlib import Path

import pytest

from synreal import data
from synreal.bench import read_grid
from synreal.bench.ledger import Ledger
from synreal.config import read_yaml
from synreal.data.files.decoding import read_image
from synreal.data.files.map_texts import read_pairs
from synreal.data.files.paths import read_lines
from synreal.data.inspection.duplicates import same
from synreal.data.kinds.voc import read_annotation
from synreal.engine import checkpoint, run_folder
from synreal.errors import SynrealError
from synreal.plugins import load_plugin
from synreal.reading import NotAFile, check_file, name_problem, open_file, read_bytes, read_json
from synreal.records import leaderboard, read_record
from synreal.weights.mapping import read_state

READERS = {
    "run.yaml": read_yaml,
    "grid.yaml": read_grid,
    "data.yaml": lambda path: data.find(str(path)),
    "map.yaml": read_pairs,
    "map.json": read_pairs,
    "map.txt": read_pairs,
    "list.txt": read_lines,
    "x.xml": read_annotation,
    "x.png": read_image,
    "weights.safetensors": read_state,
    "weights.pt": read_state,
    "model.safetensors": checkpoint.read_student,
    "result.json": read_record,
    "records.json": lambda path: leaderboard.find([path]),
    "ledger.json": lambda path: Ledger(path, ()),
    "metrics.jsonl": lambda path: run_folder.truncate_metrics(path, 1),
    "run.json": lambda path: run_folder.read(path.parent, "resume"),
    "manifest.json": lambda path: checkpoint.load(path.parent),
    "plugin.py": load_plugin,
}


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:6627ff30\nsize 87\n"


@pytest.mark.parametrize(
    "name", ["run.yaml", "grid.yaml", "map.json", "map.txt", "list.txt", "x.xml", "x.png", "result.json"]
)
def test_what_git_writes_in_place_of_large_files_is_named(name, tmp_path):
    path = tmp_path / name
    path.write_text(POINTER)
    with pytest.raises(SynrealError, match="it is a pointer of Git LFS: fetch the files with git lfs pull"):
        READERS[name](path)


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def bound(path: Path) -> Path:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's address is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)
    return path


@pytest.mark.parametrize("name", READERS)
def test_no_reader_waits_for_a_pipe(name, tmp_path):
    path = pipe(tmp_path / name)
    with pytest.raises(SynrealError) as caught:
        READERS[name](path)
    assert name in str(caught.value)
    assert "it is a named pipe, expected a file" in str(caught.value) or name == "run.json"  # which is not looked for


@pytest.mark.parametrize("make", [pipe, bound, lambda path: Path("/dev/null"), lambda path: Path("/dev/zero")])
@pytest.mark.parametrize("read", [read_bytes, read_json, check_file, open_file])
def test_what_is_no_file_is_not_opened(make, read, tmp_path, monkeypatch):
    path = make(tmp_path / "x")
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(NotAFile, match=r"it is a (named pipe|socket|device), expected a file"):
        read(path)


def test_a_pipe_that_takes_the_place_of_a_file_does_not_block(tmp_path, monkeypatch):
    path = pipe(tmp_path / "x")
    monkeypatch.setattr(os, "stat", lambda path: os.stat_result([stat.S_IFREG | 0o644, *[0] * 9]))
    with pytest.raises(NotAFile):
        read_bytes(path)


def test_files_links_to_them_and_folders(tmp_path):
    (tmp_path / "x").write_bytes(b"[1]")
    (tmp_path / "link").symlink_to("x")
    assert read_bytes(tmp_path / "link") == b"[1]"
    assert read_json(tmp_path / "x") == [1]
    with pytest.raises(IsADirectoryError):
        read_bytes(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "y")


def test_pipes_are_no_duplicates(tmp_path):
    (tmp_path / "x").write_bytes(b"1")
    assert same([pipe(tmp_path / "a"), tmp_path / "x"], [pipe(tmp_path / "b")]) == []


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 100_000, b"9" * 5000])
def test_what_is_not_json_is_a_value_error(text, tmp_path):
    (tmp_path / "x").write_bytes(text)
    with pytest.raises(ValueError, match=r".+"):
        read_json(tmp_path / "x")


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("a/b", None),
        ("é" * 120, None),
        ("é" * 130, "is longer than the name of a file can be"),
        ("a/" * 3000, "is longer than the name of a file can be"),
        ("a\0", "holds a NUL"),
        ("\ud800", "is not Unicode text"),
        ("\udcff", None),  # a name on disk whose bytes are not UTF-8
    ],
)
def test_what_can_name_a_file(path, problem):
    found = name_problem(path)
    assert found is None if problem is None else problem in found

import json
import re

import pytest

from synreal.errors import ConfigError
from synreal.records import write_json
from synreal.records.leaderboard import find
from tests.records.made import made


def dumped(*runs):
    return [run.model_dump(mode="json") for run in runs]


@pytest.fixture
def tree(tmp_path):
    """Run folders at two depths, a file of records, and files that are none."""
    for place, seed in (("a", 0), ("grid/csg/seed1", 1)):
        (tmp_path / "runs" / place).mkdir(parents=True)
        write_json(tmp_path / "runs" / place / "result.json", dumped(made(seed=seed))[0])
    (tmp_path / "runs" / "unfinished").mkdir()
    write_json(tmp_path / "runs" / "unfinished" / "run.json", {})
    (tmp_path / "results").mkdir()
    write_json(tmp_path / "results" / "cartoon.json", dumped(made(seed=2), made(seed=3)))
    write_json(tmp_path / "results" / "loader.json", {"rounds": 9})
    write_json(tmp_path / "results" / "losses.json", [{"loss": 1}])
    return tmp_path


@pytest.mark.parametrize(
    ("paths", "seeds"),
    [
        (["runs"], [0, 1]),
        (["runs/a"], [0]),
        (["runs/a/result.json"], [0]),
        (["results/cartoon.json"], [2, 3]),
        (["results", "runs"], [2, 3, 0, 1]),
    ],
)
def test_records_are_found_in_files_and_folders(paths, seeds, tree):
    assert [one.record.protocol.seed for one in find(tree / path for path in paths)] == seeds


def test_a_place_names_the_file_and_where_in_it(tree):
    assert find([tree / "results"])[1].place == f"{tree / 'results' / 'cartoon.json'}, record 2"
    assert find([tree / "runs" / "a"])[0].place == str(tree / "runs" / "a" / "result.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist: expected a run folder, a folder of them or"),
        (b"{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[]", "holds no record: expected run folders"),
        (b"[1]", "record 1 is not a result of schema version 4.* it: Input should be"),
        (
            json.dumps([{"schema_version": 3}]).encode(),
            r"record 1 is not .*: it is of version 3\. Leave it out, or run",
        ),
        (b"{}", "is not a result of schema version 4.*regularizers: Field required; .*; and [0-9]+ more"),
        (json.dumps({**dumped(made())[0], "surprise": 1}).encode(), "surprise: Extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_read_is_named(content, message, tmp_path):
    path = tmp_path / "records.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        find([path])
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < 400 + len(str(path))


def test_a_folder_without_records_is_an_error(tree):
    with pytest.raises(ConfigError, match=re.escape(f"{tree / 'runs' / 'unfinished'} holds no record")):
        find([tree / "runs" / "unfinished"])

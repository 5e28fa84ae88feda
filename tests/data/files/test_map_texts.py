from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from synreal.data.files.map_texts import pairs_of, read_pairs
from synreal.errors import DataError


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("7 traffic light", ("traffic light", 7)),
        ("traffic light 7", ("traffic light", 7)),
        ("class 1,5", ("class 1", 5)),
        ("250 170 30 traffic light", ("traffic light", (250, 170, 30))),
        ("traffic light: 250, 170, 30", ("traffic light", (250, 170, 30))),
        ("traffic light;250;170;30;255", ("traffic light", (250, 170, 30))),
        ("person:0,0,255:hand,foot:jumping,running", ("person", (0, 0, 255))),
    ],
)
def test_lines_of_label_maps(tmp_path: Path, line: str, expected: Any) -> None:
    (tmp_path / "map.txt").write_text(f"# comment\n{line}\n")
    assert read_pairs(tmp_path / "map.txt") == [expected]


def test_what_replicator_writes_without_colours() -> None:
    pairs = pairs_of({"0": {"class": "BACKGROUND"}, "1": {"class": "UNLABELLED"}, "2": {"class": "car,red"}})
    assert pairs == [("background", 0), ("UNLABELLED", 1), ("car,red", 2)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("map.txt", "0 background\nbolt\n", r"map\.txt, line 2: expected a name and a number or a colour, got 'bolt'"),
        ("map.txt", "background:0,0,0::\nbolt:::\n", r"map\.txt, line 2"),
        ("map.csv", "bolt,1,2\n", r"map\.csv, line 1"),
        ("map.txt", "1 2\n", r"map\.txt, line 1"),
        ("map.txt", "bolt 1 2\n", r"map\.txt, line 1"),
        ("map.csv", "name,r,g,b\nbolt,300,0,0\n", r"map\.csv, line 2"),
        ("map.json", "[1]", r"map\.json must hold names with numbers or colours, got a list"),
        ("map.json", "{", r"map\.json is not JSON"),
        ("map.json", '{"bolt": "nut"}', r"map\.json: expected a name with a number or a colour"),
        ("map.yaml", "bolt: nut", r"map\.yaml: expected a name with a number or a colour"),
    ],
)
def test_damaged_label_map_files_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_pairs(tmp_path / name)

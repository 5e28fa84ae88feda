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
    ("values", "numbers", "expected"),
    [
        ({"a": [1, 2]}, False, {"a": [1, 2]}),
        ({"a": [7]}, False, {"a": [7]}),
        ({"a": [1, 2, 3]}, False, {"a": [(1, 2, 3)]}),
        ({"a": [1, 2, 3, 255]}, False, {"a": [(1, 2, 3)]}),
        ({"a": [1, 2, 3]}, True, {"a": [1, 2, 3]}),
        ({"a": [1, 2, 3, 4]}, True, {"a": [1, 2, 3, 4]}),
        ({"a": [1, 2, 3, 4, 5]}, False, {"a": [1, 2, 3, 4, 5]}),
        # Another entry tells that the map is of numbers.
        ({"a": [1, 2, 3], "b": 4}, False, {"a": [1, 2, 3], "b": [4]}),
        ({"a": [1, 2, 3, 5], "b": [4]}, False, {"a": [1, 2, 3, 5], "b": [4]}),
        ({"a": [1, 2, 3], 4: "b"}, False, {"a": [1, 2, 3], "b": [4]}),
        ({"a": [1, 2, 3], "4": "b"}, False, {"a": [1, 2, 3], "b": [4]}),
        ({"a": [1, 2, 3], "#010204": "b"}, False, {"a": [(1, 2, 3)], "b": [(1, 2, 4)]}),
        ({"a": [[1, 2, 3], [4, 5, 6]]}, False, {"a": [(1, 2, 3), (4, 5, 6)]}),
        ({"a": ["#010203", "4, 5, 6"]}, False, {"a": [(1, 2, 3), (4, 5, 6)]}),
        ({"Background": [1, 2]}, False, {"background": [1, 2]}),
    ],
)
def test_one_name_for_several(values: Any, numbers: bool, expected: dict[str, list[Any]]) -> None:
    assert pairs_of(values, numbers=numbers) == [(name, code) for name, codes in expected.items() for code in codes]


@pytest.mark.parametrize(
    ("values", "numbers", "message"),
    [
        ({"a": []}, False, r"got \{'a': \[\]\}"),
        ({"a": [1, 70_000]}, False, r"got \{'a': \[1, 70000\]\}"),
        ({"a": [1, True]}, False, r"got \{'a': \[1, True\]\}"),
        ({"a": [1, "b"]}, False, r"got \{'a': \[1, 'b'\]\}"),
        ({"a": [[1, 2]]}, False, r"got \{'a': \[\[1, 2\]\]\}"),
        ({1: [2, 3]}, False, r"got \{1: \[2, 3\]\}"),
        ({"a": [0, 0, 142]}, True, r"\{'a': \[0, 0, 142\]\} has a number or colour twice"),
        ({"a": ["#010203", "#010203"]}, False, "has a number or colour twice"),
    ],
)
def test_lists_that_are_neither_a_colour_nor_several_are_refused(values: Any, numbers: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pairs_of(values, numbers=numbers)


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

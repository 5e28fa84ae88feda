from __future__ import annotations

import numpy as np
import torch

from synreal.data.files.file_sets import LabelFiles
from synreal.data.inspection import scan as checking
from synreal.data.inspection.duplicates import duplicates
from synreal.data.sets import ArrayImages
from tests.data.inspection.planted import (
    CLASSES,
)


def test_duplicates_are_found_by_content_alone(tmp_path):
    count, each = 40, 3000
    generator = np.random.default_rng(0)
    contents = [generator.bytes(each) for _ in range(count)]
    contents += [contents[3][:-1] + b"x", b"x" + contents[4][1:]]  # unlike at one end only, of one size
    end = generator.bytes(5000)
    contents += [generator.bytes(100) + end, generator.bytes(100) + end]  # alike in the last 4096 bytes
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    order = generator.permutation(count)
    for number in range(20):
        (tmp_path / "a" / f"{number}.png").write_bytes(contents[number])
    shared = set(order[:15].tolist()) & set(range(20))
    for number in order[:15]:
        (tmp_path / "b" / f"other{number}.png").write_bytes(contents[number])
    (tmp_path / "a" / "long.png").write_bytes(contents[-1])
    (tmp_path / "b" / "long.png").write_bytes(contents[-2])
    (tmp_path / "b" / "near3.png").write_bytes(contents[-4])
    (tmp_path / "b" / "near4.png").write_bytes(contents[-3])

    def files(folder: str) -> LabelFiles:
        names = sorted(path.name for path in (tmp_path / folder).iterdir())
        return LabelFiles(folder, "test", tmp_path / folder, names, [0] * len(names), CLASSES)

    pairs = duplicates(files("a"), files("b"), cache=tmp_path / "cache")
    expected = {(str(tmp_path / "a" / f"{n}.png"), str(tmp_path / "b" / f"other{n}.png")) for n in shared}
    assert len(shared) >= 5
    assert set(pairs) == expected
    assert len(pairs) == len(expected)
    in_memory = ArrayImages("x", "test", torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2).long(), CLASSES)
    assert duplicates(in_memory, files("a"), cache=tmp_path) == duplicates(files("a"), in_memory) == []


def test_empty_files_are_not_duplicates(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    images = LabelFiles("x", "test", tmp_path, ["a.png", "b.png"], [0, 0], CLASSES)
    assert checking._repeated(images) == []

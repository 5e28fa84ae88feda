from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from synreal.errors import ConfigError, DataError
from synreal.figures import _pick, confusion_matrix, contact_sheet
from synreal.tasks.data.base import ArrayImages


def images(
    count: int, classes: int, height: int = 12, width: int = 12, channels: int = 3, *, ordered: bool = False
) -> ArrayImages:
    labels = torch.arange(count) % classes
    if ordered:
        labels = labels.sort().values
    pixels = torch.randint(
        0,
        256,
        (count, channels, height, width),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(0),
    )
    return ArrayImages("toy", "test", pixels, labels, [f"class {i}" for i in range(classes)])


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_contact_sheet_is_a_png_that_grows_with_its_rows(tmp_path: Path) -> None:
    one = contact_sheet({"real": images(50, 10)}, tmp_path / "new" / "folder" / "sheet.png")
    two = contact_sheet({"synthetic": images(50, 10), "real": images(50, 10, channels=1)}, tmp_path / "two.png")
    assert one == tmp_path / "new" / "folder" / "sheet.png"
    small, large = picture(one), picture(two)
    assert small.shape[1] == large.shape[1] > 1_000
    assert 300 < small.shape[0] < large.shape[0]
    assert len(np.unique(small.reshape(-1, 3), axis=0)) > 500


def test_contact_sheet_is_the_same_each_time(tmp_path: Path) -> None:
    sheets = [contact_sheet({"real": images(50, 10)}, tmp_path / f"{i}.png").read_bytes() for i in range(2)]
    assert sheets[0] == sheets[1]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("per_class", [True, False])
def test_contact_sheet_shows_every_class(
    ordered: bool, per_class: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shown: list[int] = []

    def spy(data: ArrayImages, wanted: list[int]) -> dict[int, tuple[np.ndarray, int]]:
        found = _pick(data, wanted)
        assert [label for _, (_, label) in sorted(found.items())] == wanted
        shown.extend(wanted)
        return found

    monkeypatch.setattr("synreal.figures._pick", spy)
    contact_sheet({"real": images(200, 10, ordered=ordered)}, tmp_path / "a.png", lines=3, per_class=per_class)
    assert set(shown) == set(range(10))
    assert len(shown) == (30 if per_class else 36)


def test_contact_sheet_takes_odd_data(tmp_path: Path) -> None:
    rows = {"few, tall $x_1$": images(3, 2, 20, 10), "wide": images(90, 40, 5, 20, 1)}
    assert picture(contact_sheet(rows, tmp_path / "a.png", columns=5, lines=1, per_class=True)).shape[1] > 500
    assert picture(contact_sheet(rows, tmp_path / "b.png", columns=1, lines=1)).shape[1] > 400


def test_the_same_image_is_shown_once() -> None:
    found = _pick(images(4, 2), [0, 0, 0, 1, 1, 1])
    assert sorted(found) == [0, 1, 3, 4]
    assert not np.array_equal(found[0][0], found[1][0])


@pytest.mark.parametrize("change", [{"columns": 0}, {"lines": 0}, {"rows": {}}])
def test_empty_contact_sheet_is_refused(change: dict[str, object], tmp_path: Path) -> None:
    arguments = {"rows": {"real": images(5, 2)}, "path": tmp_path / "a.png", **change}
    with pytest.raises(ConfigError, match="needs a data set, a column and a line"):
        contact_sheet(**arguments)  # type: ignore[arg-type]


def test_confusion_matrix_shows_the_matrix(tmp_path: Path) -> None:
    matrix = np.array([[5, 1, 0], [0, 6, 0], [2, 2, 2]])
    path = confusion_matrix(matrix, ["a", "b", "c"], tmp_path / "new" / "a.png", title="digits → mnist")
    first = picture(path)
    assert path == tmp_path / "new" / "a.png"
    assert min(first.shape[:2]) > 500
    same = picture(confusion_matrix(torch.from_numpy(matrix), ["a", "b", "c"], path, title="digits → mnist"))
    turned = picture(confusion_matrix(matrix.T, ["a", "b", "c"], path, title="digits → mnist"))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, turned)


def test_confusion_matrix_colours_are_shares_of_the_row(tmp_path: Path) -> None:
    dark = (8, 48, 107)  # share 1 on the scale
    path = confusion_matrix([[1, 0], [0, 1000]], ["a", "b"], tmp_path / "a.png")
    pixels = picture(path).reshape(-1, 3)
    assert (pixels == dark).all(1).mean() > 0.2, "both cells of the diagonal are full, whatever their counts"


@pytest.mark.parametrize("number", [1, 20, 21, 130])
def test_confusion_matrix_of_any_size(number: int, tmp_path: Path) -> None:
    matrix = np.zeros((number, number), np.int64)  # a class without images has no shares: must not warn
    shape = picture(
        confusion_matrix(matrix, [f"a long class name ${i}" for i in range(number)], tmp_path / "a.png")
    ).shape
    assert 500 < min(shape[:2])
    assert max(shape[:2]) < 2_000


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[1, 2]], r"\(1, 2\) for 2 classes, expected \(2, 2\)"),
        ([[1, 2], [-1, 0]], "least value -1"),
        ([[0.5, 0.5], [0.0, 1.0]], "float64.*expected counts"),
    ],
)
def test_what_is_no_confusion_matrix_is_refused(matrix: list[list[float]], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        confusion_matrix(matrix, ["a", "b"], tmp_path / "a.png")


def test_figures_leave_pyplot_and_torch_alone() -> None:
    code = "import sys, synreal.figures; print({'torch', 'matplotlib.pyplot'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

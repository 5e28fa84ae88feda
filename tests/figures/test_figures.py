from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from synreal.data.labels.boxes import Boxes
from synreal.data.labels.masks import IGNORE
from synreal.data.sets import ArrayBoxes, ArrayImages, ArrayMasks
from synreal.errors import ConfigError, DataError
from synreal.figures import class_sheet, marks, page
from synreal.figures.box_panels import box_panels
from synreal.figures.box_sheet import box_sheet
from synreal.figures.class_panels import class_panels
from synreal.figures.class_sheet import _pick, contact_sheet
from synreal.figures.colours import palette
from synreal.figures.confusion import confusion_matrix
from synreal.figures.mask_panels import mask_panels
from synreal.figures.mask_sheet import mask_sheet

PAPER = 100  # grey of images without content; in no palette


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

    monkeypatch.setattr(class_sheet, "_pick", spy)
    contact_sheet({"real": images(200, 10, ordered=ordered)}, tmp_path / "a.png", lines=3, per_class=per_class)
    assert set(shown) == set(range(10))
    assert len(shown) == (30 if per_class else 36)


def test_contact_sheet_names_each_image_beneath_it(drawn: list[Figure], tmp_path: Path) -> None:
    data = images(10, 5, 16, 16)
    contact_sheet({"real": data}, tmp_path / "a.png", columns=5, lines=1)
    axes = drawn[0].axes[0]
    named = {round(text.get_position()[0], 6): text.get_text() for text in axes.texts[2:]}
    assert len(axes.images) == len(named) == 5
    for one in axes.images:
        left, right, *_ = one.get_extent()
        pixels = torch.from_numpy(np.asarray(one.get_array())).permute(2, 0, 1)
        (index,) = (index for index in range(len(data)) if torch.equal(data[index][0], pixels))
        assert named[round((left + right) / 2, 6)] == data.classes[data[index][1]]


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


def test_a_cell_of_the_confusion_matrix_is_a_share_of_its_true_class(drawn: list[Figure], tmp_path: Path) -> None:
    confusion_matrix([[3, 1, 0], [0, 0, 0], [2, 0, 8]], ["a", "b", "c"], tmp_path / "a.png")
    axes = drawn[0].axes[0]
    assert np.asarray(axes.images[0].get_array()).tolist() == [[0.75, 0.25, 0], [0, 0, 0], [0.2, 0, 0.8]]
    assert axes.images[0].get_clim() == (0, 1)
    counts = {text.get_position(): text.get_text() for text in axes.texts[1:]}
    assert (counts[1, 0], counts[0, 2], counts[2, 2]) == ("1", "2", "8")  # across the predicted, down the true class
    assert [label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())] == ["a", "b", "c"] * 2
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")


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


def test_confusion_matrix_of_pixels_shows_percentages_and_mean_iou(drawn: list[Figure], tmp_path: Path) -> None:
    matrix = np.array([[90_000_000, 10_000_000, 0], [400_000, 99_600_000, 0], [0, 0, 0]])
    confusion_matrix(matrix, ["a", "b", "c"], tmp_path / "a.png", unit="pixels")
    axes = drawn[0].axes[0]
    cells = [text.get_text() for text in axes.texts if len(text.get_text()) < 5]
    assert cells == ["90%", "10%", "0%", "<1%", "100%", "0%", "–", "–", "–"]
    # Class c does not occur and is left out.
    mean_iou = (90 / (90 + 10 + 0.4) + 99.6 / (99.6 + 10 + 0.4)) / 2
    caption = axes.texts[0].get_text()
    assert caption == f"200,000,000 pixels · mean IoU {mean_iou:.1%} · pixel accuracy {189.6 / 200:.1%}"


def test_confusion_matrix_of_images_shows_counts_and_accuracy(drawn: list[Figure], tmp_path: Path) -> None:
    confusion_matrix([[3, 1], [0, 1]], ["a", "b"], tmp_path / "a.png")
    texts = [text.get_text() for text in drawn[0].axes[0].texts]
    assert texts == ["5 images · accuracy 80.0% · mean over classes 87.5%", "3", "1", "0", "1"]


# --- colours ---


def test_palette_is_distinct_and_grows_without_changing() -> None:
    colours = palette(255).astype(int)
    assert colours.shape == (255, 3)
    assert len(np.unique(colours, axis=0)) == 255
    assert colours[0].max() < 70, "the background is dark"
    for few in (1, 2, 11, 20, 150):
        assert np.array_equal(palette(few), colours[:few])
    others = np.concatenate([colours[:40], [[255, 255, 255]]])
    gaps = np.abs(others[:, None] - others).sum(-1) + 1_000 * np.eye(41, dtype=int)
    assert gaps.min() > 40


def test_palette_of_very_many_classes_repeats() -> None:
    assert np.array_equal(palette(1_203)[1_000:], palette(203))


def test_palette_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="num_classes=0"):
        palette(0)


# --- panels ---


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were written, as objects."""
    made: list[Figure] = []
    savefig = Figure.savefig

    def spy(figure: Figure, *args: object, **options: object) -> None:
        made.append(figure)
        savefig(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", spy)
    return made


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def blank(height: int = 60, width: int = 80) -> torch.Tensor:
    return torch.full((3, height, width), PAPER, dtype=torch.uint8)


def objects(*boxes: tuple[float, float, float, float], labels: list[int], crowd: bool = False) -> Boxes:
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    count = len(labels)
    return Boxes(corners, torch.tensor(labels, dtype=torch.int64), torch.full((count,), crowd), torch.ones(count))


def found(*boxes: tuple[float, float, float, float], labels: list[int], scores: list[float]) -> dict[str, torch.Tensor]:
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return {"boxes": corners, "labels": torch.tensor(labels, dtype=torch.int64), "scores": torch.tensor(scores)}


def extent(pixels: np.ndarray, colour: np.ndarray | tuple[int, ...], above: int | None = None) -> tuple[int, ...]:
    """Left, top, right and bottom of the pixels of a colour; of those in the upper rows alone."""
    rows, columns = np.nonzero((pixels[:above] == colour).all(-1))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def legend_top(pixels: np.ndarray) -> int:
    return len(pixels) - 45


def test_mask_panels_put_colours_where_the_classes_are(tmp_path: Path) -> None:
    truth, prediction = torch.zeros(2, 60, 80, dtype=torch.uint8)
    truth[15:45, 20:40] = 1
    prediction[30:60, 40:80] = 2
    path = mask_panels(tmp_path / "a" / "b.png", [blank()], [truth], [prediction], ["ground", "x", "y"], title="t")
    pixels = picture(path)
    ground, x, y = palette(3)
    above = legend_top(pixels)
    left, top, right, bottom = extent(pixels, (PAPER,) * 3, above)
    width, height = right - left, bottom - top
    assert width / height == pytest.approx(80 / 60, abs=0.02)
    apart = round(0.06 * 130)
    cell = np.array([left + width + apart, top, left + width + apart, top])
    assert extent(pixels, x, above) == pytest.approx(
        cell + np.array([0.25, 0.25, 0.5, 0.75]) * ([width, height] * 2), abs=2
    )
    cell[::2] += width + apart
    assert extent(pixels, y, above) == pytest.approx(cell + np.array([0.5, 0.5, 1, 1]) * ([width, height] * 2), abs=2)
    for colour, share in ((ground, 7 / 8 + 3 / 4), (x, 1 / 8), (y, 1 / 4)):
        assert (pixels[:above] == colour).all(-1).sum() / (width * height) == pytest.approx(share, rel=0.03)


def test_mask_panels_name_what_occurs_and_nothing_else(drawn: list[Figure], tmp_path: Path) -> None:
    truth, prediction = torch.zeros(2, 8, 8, dtype=torch.int64)
    classes = ["road", "sky", "tree", r"$\car$"]
    prediction[0, 0] = 3
    mask_panels(tmp_path / "a.png", [blank(8, 8)], [truth], [prediction], classes, title="one $ and $two")
    assert texts(drawn[0]) == ["one $ and $two", "1 image", "input", "ground truth", "prediction", "road", r"$\car$"]
    truth[5] = IGNORE
    mask_panels(tmp_path / "b.png", [blank(8, 8)] * 2, [truth] * 2, [prediction] * 2, classes, title="t")
    columns = ["input", "ground truth", "prediction"]
    assert texts(drawn[1]) == ["t", "2 images", *columns, *columns, "road", r"$\car$", "not counted"]


def test_the_legend_of_very_many_classes_stops(drawn: list[Figure], tmp_path: Path) -> None:
    mask = torch.arange(150, dtype=torch.uint8).reshape(10, 15)
    path = mask_panels(
        tmp_path / "a.png", [blank(10, 15)], [mask], [mask], [f"class {i}" for i in range(150)], title="t"
    )
    assert texts(drawn[0])[-2:] == ["class 39", "and 110 more"]
    assert picture(path).shape[0] < 1_500


def test_ignored_pixels_are_white(tmp_path: Path) -> None:
    truth, prediction = torch.zeros(2, 8, 8, dtype=torch.uint8)
    before = picture(mask_panels(tmp_path / "a.png", [blank(8, 8)], [truth], [prediction], ["a"], title="t"))
    truth[:, :4] = IGNORE
    after = picture(mask_panels(tmp_path / "b.png", [blank(8, 8)], [truth], [prediction], ["a"], title="t"))
    above = legend_top(before)
    dark, left = ((p[:above] == palette(1)[0]).all(-1).sum() for p in (before, after))
    assert left / dark == pytest.approx(3 / 4, abs=0.01)


def test_box_panels_put_boxes_where_the_objects_are(tmp_path: Path) -> None:
    # At the upper border, so that the label, of the box's colour, lies inside it.
    truth, guess = (16.0, 0.0, 48.0, 30.0), (40.0, 0.0, 80.0, 60.0)
    path = box_panels(
        tmp_path / "a.png",
        [blank()],
        [objects(truth, labels=[0])],
        [found(guess, labels=[1], scores=[0.9])],
        ["x", "y"],
        title="t",
    )
    pixels = picture(path)
    above = legend_top(pixels)
    left, top, right, bottom = extent(pixels, (PAPER,) * 3, above)
    apart = round(0.06 * 130)
    width, scale = (right - left - 2 * apart) / 3, (bottom - top) / 60
    for column, (box, colour) in enumerate(zip((truth, guess), palette(3)[1:], strict=True), 1):
        corner = np.array([left + column * (width + apart), top] * 2)
        assert extent(pixels, colour, above) == pytest.approx(corner + scale * np.array(box), abs=3)


def test_box_panels_draw_what_scores_enough(drawn: list[Figure], tmp_path: Path) -> None:
    boxes = [(5.0, 20.0, 25.0, 40.0), (30.0, 20.0, 50.0, 40.0), (55.0, 20.0, 75.0, 40.0)]
    predictions = found(*boxes, labels=[0, 1, 1], scores=[0.4, 0.7, 0.25])
    for threshold, shown in ((0.5, ["y 0.70"]), (0.4, ["y 0.70", "x 0.40"]), (0.75, [])):
        box_panels(
            tmp_path / "a.png", [blank()], [objects(labels=[])], [predictions], ["x", "y"], title="t",
            threshold=threshold,
        )  # fmt: skip
        written = texts(drawn[-1])
        assert [text for text in written if text[-3:-1] in (".7", ".4", ".2")] == shown
        count = f"{len(shown)} prediction{'' if len(shown) == 1 else 's'}"
        assert written[1] == f"1 image · 0 objects · {count} with a score of {threshold} or more"


def test_box_panels_take_scores_of_half_precision(drawn: list[Figure], tmp_path: Path) -> None:
    predictions = {
        k: v.bfloat16() if v.is_floating_point() else v
        for k, v in found((5.0, 20.0, 25.0, 40.0), labels=[0], scores=[0.75]).items()
    }
    box_panels(tmp_path / "a.png", [blank()], [objects(labels=[])], [predictions], ["x"], title="t")
    assert "x 0.75" in texts(drawn[0])


def test_crowds_are_dashed(drawn: list[Figure], tmp_path: Path) -> None:
    for crowd in (False, True):
        truth = objects((5.0, 20.0, 25.0, 40.0), labels=[0], crowd=crowd)
        box_panels(tmp_path / "a.png", [blank()], [truth], [found(labels=[], scores=[])], ["x"], title="t")
        styles = [patch.get_linestyle() for patch in drawn[-1].axes[0].patches]
        assert ("dashed" in styles or "--" in styles) == crowd


def test_what_is_a_crowd_of_every_class_is_drawn_once_as_ignored(drawn: list[Figure], tmp_path: Path) -> None:
    place = (5.0, 20.0, 25.0, 40.0)
    truth = objects(place, place, (40.0, 20.0, 60.0, 40.0), labels=[0, 1, 1], crowd=True)
    box_panels(tmp_path / "a.png", [blank()], [truth], [found(labels=[], scores=[])], ["x", "y"], title="t")
    assert [text for text in texts(drawn[0]) if text in ("x", "y", "ignored")].count("ignored") == 1


@settings(max_examples=15, deadline=None)
@given(
    boxes=st.lists(st.tuples(*[st.floats(-20, 140)] * 4, st.integers(0, 3)), min_size=1, max_size=25),
    size=st.sampled_from([(128, 128), (40, 300), (200, 30)]),
)
def test_labels_lie_in_the_picture_and_cover_no_other(boxes: list[tuple[float, ...]], size: tuple[int, int]) -> None:
    found = [
        marks.Mark((min(a, c), min(b, d), max(a, c), max(b, d)), int(label), f"a long name {label} 0.50")
        for a, b, c, d, label in boxes
    ]
    drawing, axes = page.new_page(3, 3)
    cell = page.Frame(0.5, 0.5, 2, 2)
    frame = page.draw_picture(axes, np.zeros((*size, 3), np.uint8), cell)
    marks.draw_marks(axes, frame, size[1], found, palette(4))
    drawing.canvas.draw()
    spans = {True: [], False: []}
    for patch in axes.patches:
        left, top = patch.get_xy()
        right, bottom = left + patch.get_width(), top + patch.get_height()
        spans[patch.get_fill()].append((left, top, right, bottom))
        assert frame.left - 1e-9 <= left <= right <= frame.left + frame.width + 1e-9
        assert frame.top - 1e-9 <= top <= bottom <= frame.top + frame.height + 1e-9
    assert len(spans[False]) == 2 * len(boxes), "each box and the dark line behind it"
    assert len(spans[True]) == len(axes.texts) >= 1
    for patch, text in zip([patch for patch in axes.patches if patch.get_fill()], axes.texts, strict=True):
        inner, outer = text.get_window_extent(), patch.get_window_extent()
        assert outer.x0 - 1 <= inner.x0 < inner.x1 <= outer.x1 + 1
        assert outer.y0 - 1 <= inner.y0 < inner.y1 <= outer.y1 + 1
    for (a0, b0, a1, b1), (c0, d0, c1, d1) in itertools.combinations(spans[True], 2):
        assert a1 <= c0 + 1e-9 or c1 <= a0 + 1e-9 or b1 <= d0 + 1e-9 or d1 <= b0 + 1e-9


def test_class_panels_tell_right_from_wrong(drawn: list[Figure], tmp_path: Path) -> None:
    classes = ["ant", "bee", "a very long name of a class, 1", "a very long name of a class, 2"]
    class_panels(tmp_path / "a.png", [blank()] * 5, [0, 1, 2, 1, 0], [0, 0, 3, 1, 0], classes, title="t")
    axes = drawn[0].axes[0]
    assert texts(drawn[0])[1:4] == [
        "true → predicted class · 3 of 5 right, the others in a dashed frame",
        "ant → ant",
        "bee → ant",
    ]
    assert [text.get_color() for text in axes.texts[2:]] == [
        {True: page.RIGHT, False: page.WRONG}[right] for right in (True, False, False, True, True)
    ]
    right, wrong = (to_rgb(page.RIGHT), "solid"), (to_rgb(page.WRONG), "dashed")
    frames = [(tuple(one.get_edgecolor()[:3]), one.get_linestyle()) for one in axes.patches]
    assert frames == [right, wrong, wrong, right, right]
    drawn[0].canvas.draw()
    spans = sorted((text.get_window_extent() for text in axes.texts[2:]), key=lambda box: box.x0)
    assert not any(a.overlaps(b) for i, a in enumerate(spans) for b in spans[:i])


def panels(kind: str, path: Path, count: int, size: tuple[int, int], *, noise: int = 0) -> Path:
    """Draw ``count`` random images with one object each."""
    generator = torch.Generator().manual_seed(noise)
    pictures = [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for _ in range(count)]
    height, width = size
    if kind == "class":
        return class_panels(path, pictures, [0] * count, [1] * count, ["x", "y"], title="t")
    if kind == "mask":
        masks = [torch.ones(size, dtype=torch.uint8)] * count
        return mask_panels(path, pictures, masks, masks, ["x", "y"], title="t")
    box = (width / 4, height / 4, width / 2, height / 2)
    return box_panels(
        path, pictures, [objects(box, labels=[1])] * count, [found(box, labels=[1], scores=[1.0])] * count, ["x", "y"],
        title="t",
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["class", "mask", "box"])
def test_panels_are_the_same_each_time(kind: str, tmp_path: Path) -> None:
    first, second, other = (
        panels(kind, tmp_path / f"{i}.png", 1, (32, 32), noise=noise).read_bytes() for i, noise in enumerate((0, 0, 1))
    )
    assert first == second != other


@pytest.mark.parametrize("kind", ["class", "mask", "box"])
def test_panels_of_large_images_stay_small(kind: str, drawn: list[Figure], tmp_path: Path) -> None:
    path = panels(kind, tmp_path / "a.png", 2, (1024, 2048))
    assert max(image.get_array().shape[1] for image in drawn[0].axes[0].images) < 1_000
    assert max(picture(path).shape) < 2_500
    assert path.stat().st_size < 2_000_000


@pytest.mark.parametrize("kind", ["class", "mask", "box"])
@pytest.mark.parametrize("size", [(8, 8), (500, 4), (3, 400)])
def test_panels_of_odd_sizes(kind: str, size: tuple[int, int], tmp_path: Path) -> None:
    shape = picture(panels(kind, tmp_path / "a.png", 3, size)).shape
    assert 200 < min(shape[:2]) <= max(shape[:2]) < 2_600


def test_panels_of_eight_images_are_landscape(tmp_path: Path) -> None:
    for kind in ("class", "mask", "box"):
        height, width, _ = picture(panels(kind, tmp_path / "a.png", 8, (64, 64))).shape
        assert 1.2 < width / height < 2.2
        height, width, _ = picture(panels(kind, tmp_path / "b.png", 8, (32, 64))).shape
        assert 2.2 < width / height < 3, "no room is left above and below wide images"


@pytest.mark.parametrize("kind", ["class", "mask", "box"])
def test_panels_without_images_are_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs at least one image.*0 images"):
        panels(kind, tmp_path / "a.png", 0, (8, 8))
    with pytest.raises(ConfigError, match=r"written as PNG; got .*a\.jpg"):
        panels(kind, tmp_path / "a.jpg", 1, (8, 8))
    assert not list(tmp_path.iterdir())


def test_panels_of_different_counts_are_refused(tmp_path: Path) -> None:
    mask = torch.zeros(60, 80, dtype=torch.uint8)
    with pytest.raises(ConfigError, match="2 images, 1 truths, 1 predictions"):
        mask_panels(tmp_path / "a.png", [blank()] * 2, [mask], [mask], ["x"], title="t")


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(60, 79, dtype=torch.uint8), r"Prediction of image 0: mask of uint8 \(60, 79\).*\(60, 80\)"),
        (torch.zeros(60, 80), "mask of float32.*expected integers"),
        (torch.full((60, 80), 2), "mask holds 2, expected 0..1, or 255"),
        (torch.full((60, 80), -1), "mask holds -1"),
    ],
)
def test_masks_that_do_not_fit_are_refused(mask: torch.Tensor, message: str, tmp_path: Path) -> None:
    truth = torch.zeros(60, 80, dtype=torch.uint8)
    with pytest.raises(DataError, match=message):
        mask_panels(tmp_path / "a.png", [blank()], [truth], [mask], ["x", "y"], title="t")


def test_masks_of_too_many_classes_are_refused(tmp_path: Path) -> None:
    mask = torch.zeros(60, 80, dtype=torch.int64)
    with pytest.raises(DataError, match="256 classes, expected 255 at most"):
        mask_panels(tmp_path / "a.png", [blank()], [mask], [mask], ["x"] * 256, title="t")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": torch.tensor([2])}, r"Prediction of image 0: labels span 2\.\.2, expected 0\.\.1"),
        ({"boxes": torch.zeros(2, 4)}, r"boxes of shape \(2, 4\) for 1 labels"),
        ({"scores": torch.zeros(3)}, r"scores of shape \(3,\) for 1 boxes"),
    ],
)
def test_boxes_that_do_not_fit_are_refused(change: dict[str, torch.Tensor], message: str, tmp_path: Path) -> None:
    box = (1.0, 2.0, 30.0, 40.0)
    guess = {**found(box, labels=[0], scores=[0.9]), **change}
    with pytest.raises(DataError, match=message):
        box_panels(tmp_path / "a.png", [blank()], [objects(box, labels=[0])], [guess], ["x", "y"], title="t")


def test_classes_and_images_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Prediction 2 of image 0, expected 0\.\.1"):
        class_panels(tmp_path / "a.png", [blank()], [0], [2], ["x", "y"], title="t")
    with pytest.raises(DataError, match=r"Image of float32 \(3, 60, 80\)"):
        class_panels(tmp_path / "a.png", [blank().float()], [0], [0], ["x", "y"], title="t")


# --- sheets of scenes ---


def masks(count: int, classes: list[str], name: str = "toy") -> ArrayMasks:
    pictures = torch.full((count, 3, 20, 30), PAPER, dtype=torch.uint8)
    return ArrayMasks(name, "test", pictures, torch.full((count, 20, 30), len(classes) - 1, dtype=torch.uint8), classes)


def boxes(count: int, classes: list[str], name: str = "toy") -> ArrayBoxes:
    pictures = torch.full((count, 3, 20, 30), PAPER, dtype=torch.uint8)
    truth = objects((8.0, 8.0, 20.0, 16.0), labels=[len(classes) - 1])
    return ArrayBoxes(name, "test", pictures, [truth] * count, classes)


def test_mask_sheet_shows_every_mask_in_its_colour(drawn: list[Figure], tmp_path: Path) -> None:
    rows = {"synthetic": masks(50, ["a", "b"]), "real": masks(3, ["a", "b"])}
    pixels = picture(mask_sheet(rows, tmp_path / "a.png", columns=2, lines=2))
    paper, b = ((pixels[: legend_top(pixels)] == colour).all(-1).sum() for colour in ([PAPER] * 3, palette(2)[1]))
    assert len(drawn[0].axes[0].images) == 2 * (4 + 3)
    assert b / paper == pytest.approx(1, abs=0.03)
    assert texts(drawn[0]) == [
        "synthetic", "test · 50 images · 2 classes · 20 × 30", "real", "test · 3 images · 2 classes · 20 × 30", "b",
    ]  # fmt: skip


def test_box_sheet_shows_boxes_and_names(drawn: list[Figure], tmp_path: Path) -> None:
    rows = {"synthetic": boxes(50, ["a", "b"]), "real": boxes(2, ["a", "b"])}
    pixels = picture(box_sheet(rows, tmp_path / "a.png", columns=3, lines=1))
    assert (pixels == palette(3)[2]).all(-1).sum() > 1_000
    assert len(drawn[0].axes[0].images) == 3 + 2
    assert texts(drawn[0]).count("b") == 3 + 2 + 1  # the last in the legend


@pytest.mark.parametrize(("sheet", "make", "first"), [(mask_sheet, masks, 0), (box_sheet, boxes, 1)])
def test_classes_of_one_name_share_a_colour(sheet, make, first, drawn: list[Figure], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rows = {"one": make(1, ["a", "b"]), "two": make(1, ["c", "d", "b"])}
    pixels = picture(sheet(rows, tmp_path / "a.png", columns=1, lines=1))
    _, b, c, d = palette(first + 4)[first:]
    middle = len(pixels) // 2
    assert all((half == b).all(-1).sum() > 300 for half in (pixels[:middle], pixels[middle : legend_top(pixels)]))
    assert not any((pixels == other).all(-1).any() for other in (c, d))
    assert texts(drawn[0])[-1] == "b"


@pytest.mark.parametrize(("sheet", "make"), [(mask_sheet, masks), (box_sheet, boxes)])
def test_sheets_are_the_same_each_time_and_never_empty(sheet, make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rows = {"real": make(9, ["a", "b"])}
    first, second = (sheet(rows, tmp_path / f"{i}.png", columns=1, lines=1).read_bytes() for i in range(2))
    assert first == second
    for change in ({"columns": 0}, {"lines": 0}):
        with pytest.raises(ConfigError, match="needs a data set, a column and a line"):
            sheet(rows, tmp_path / "a.png", **change)
    with pytest.raises(ConfigError, match="0 data sets"):
        sheet({}, tmp_path / "a.png")
    with pytest.raises(ConfigError, match="written as PNG"):
        sheet(rows, tmp_path / "a.pdf")


def test_figures_leave_pyplot_alone(tmp_path: Path) -> None:
    code = """
import sys
import torch
from synreal.figures import Sweep, feature_circle, gradcam_panels, save_drawing, weight_curves
feature_circle({"a": torch.randn(5, 4)})
gradcam_panels([torch.zeros(3, 9, 9, dtype=torch.uint8)], {"a": [torch.eye(3)]})
save_drawing(weight_curves([Sweep("t", "m", [0.1, 1], [[1.0], [2.0]], [1.0, 2.0])]), sys.argv[1])
print({"matplotlib.pyplot"} & set(sys.modules))
"""
    arguments = [sys.executable, "-c", code, str(tmp_path / "a.svg")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

from __future__ import annotations

import hashlib
import math
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base
from torch.utils.data import DataLoader

from synreal.data.files.file_sets import BoxFiles, LabelFiles, MaskFiles, SizeMismatch, existing
from synreal.data.files.label_maps import LabelMap, MaskPaths
from synreal.data.labels.boxes import Boxes, usable_boxes
from synreal.errors import DataError

CLASSES = ("a", "b")
ORIENTATIONS = range(1, 9)
STORED = (5, 8)  # height and width


def save(path: Path, pixels: NDArray[np.uint8], exif: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    tags = Image.Exif()
    tags[Base.Orientation] = exif
    image.save(path, exif=tags)


def rgb(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([grey] * 3, -1)


def numbered(height: int, width: int) -> NDArray[np.uint8]:
    return np.arange(height * width, dtype=np.uint8).reshape(height, width)


def shown_at(exif: int, row: int, column: int, height: int, width: int) -> tuple[int, int]:
    """Where a stored pixel is shown, by the EXIF standard's words: what row 0 and column 0 of the file are in view."""
    down, right = height - 1 - row, width - 1 - column
    return {
        1: (row, column),  # row 0 is the top, column 0 the left
        2: (row, right),  # top, right
        3: (down, right),  # bottom, right
        4: (down, column),  # bottom, left
        5: (column, row),  # left, top
        6: (column, down),  # right, top
        7: (right, down),  # right, bottom
        8: (right, row),  # left, bottom
    }[exif]


def boxes(*corners: Sequence[float], label: int = 0) -> Boxes:
    count = len(corners)
    return Boxes(
        torch.tensor(corners, dtype=torch.float32).reshape(count, 4),
        torch.full((count,), label),
        torch.zeros(count, dtype=torch.bool),
        torch.ones(count),
    )


def ids(*numbers: int) -> LabelMap:
    return LabelMap(ids={number: number for number in numbers})


def same_label(one: Any, other: Any) -> bool:
    if isinstance(one, Boxes):
        return all(torch.equal(value, vars(other)[name]) for name, value in vars(one).items())
    return torch.equal(torch.as_tensor(one), torch.as_tensor(other))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(4):
        save(tmp_path / f"{index}.png", rgb(np.full((4, 6), index, np.uint8)))
        Image.fromarray(np.full((4, 6), index % 2, np.uint8)).save(tmp_path / f"m{index}.png")
    return tmp_path


FILES = [f"{index}.png" for index in range(4)]


def labelled(folder: Path, labels: Sequence[int] = (0, 1, 0, 1)) -> LabelFiles:
    return LabelFiles("own", "train", folder, FILES, labels, CLASSES, dropped={"odd files": 2})


def masked(folder: Path, **settings: Any) -> MaskFiles:
    masks = MaskPaths(folder, [f"m{index}.png" for index in range(4)], ids(0, 1))
    return MaskFiles("own", "train", folder, FILES, masks, CLASSES, **settings)


def boxed(folder: Path, size: tuple[int, int] | None = (4, 6)) -> BoxFiles:
    objects = [boxes((index, 0, index + 1, 2), label=index % 2) for index in range(4)]
    return BoxFiles("own", "train", folder, FILES, objects, [size] * 4, CLASSES)


@pytest.mark.parametrize("exif", ORIENTATIONS)
def test_masks_of_stored_size_turn_with_the_image(tmp_path: Path, exif: int) -> None:
    stored = numbered(*STORED)
    save(tmp_path / "a.png", rgb(stored), exif)
    Image.fromarray(stored).save(tmp_path / "m.png")
    masks = MaskPaths(tmp_path, ["m.png"], ids(*range(40)))
    files = MaskFiles("own", "test", tmp_path, ["a.png"], masks, [str(index) for index in range(40)])

    image, mask = files[0]

    expected = torch.zeros(STORED if exif < 5 else STORED[::-1], dtype=torch.uint8)
    for row in range(STORED[0]):
        for column in range(STORED[1]):
            expected[shown_at(exif, row, column, *STORED)] = int(stored[row, column])
    assert torch.equal(mask, expected)
    assert torch.equal(image, expected.expand(3, -1, -1))
    assert files.size(0) == tuple(mask.shape)


@pytest.mark.parametrize("exif", ORIENTATIONS)
def test_boxes_of_stored_size_turn_with_the_image(tmp_path: Path, exif: int) -> None:
    corners = [(1, 2, 4, 3), (0, 0, 8, 5), (5, 1, 8, 5)]
    for index, (x0, y0, x1, y1) in enumerate(corners):
        stored = np.zeros(STORED, np.uint8)
        stored[y0:y1, x0:x1] = 255
        save(tmp_path / f"{index}.png", rgb(stored), exif)
    names = [f"{index}.png" for index in range(3)]
    files = BoxFiles("own", "test", tmp_path, names, [boxes(each) for each in corners], [STORED] * 3, CLASSES)

    for image, objects in (files[index] for index in range(3)):
        rows, columns = image[0].nonzero().unbind(1)
        painted = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert objects.boxes[0].tolist() == [int(edge) for edge in painted]


@pytest.mark.parametrize("exif", [5, 6, 7, 8])
def test_labels_of_upright_size_stay(tmp_path: Path, exif: int) -> None:
    save(tmp_path / "a.png", rgb(numbered(*STORED)), exif)
    upright = numbered(*STORED[::-1])
    Image.fromarray(upright).save(tmp_path / "m.png")
    names = [str(index) for index in range(40)]
    masks = MaskPaths(tmp_path, ["m.png"], ids(*range(40)))
    corners = (1, 2, 5, 8)

    for size in (STORED[::-1], None):
        files = BoxFiles("own", "test", tmp_path, ["a.png"], [boxes(corners)], [size], CLASSES)
        assert tuple(files[0][1].boxes[0].tolist()) == corners
    assert np.array_equal(MaskFiles("own", "test", tmp_path, ["a.png"], masks, names)[0][1].numpy(), upright)


def test_turned_boxes_keep_classes_crowds_and_areas(tmp_path: Path) -> None:
    save(tmp_path / "a.png", rgb(numbered(*STORED)), 6)
    given = Boxes(
        torch.tensor([[0.0, 0, 2, 1], [1, 1, 3, 4]]),
        torch.tensor([1, 0]),
        torch.tensor([False, True]),
        torch.tensor([2.0, 5.0]),
    )
    found = BoxFiles("own", "test", tmp_path, ["a.png"], [given], [STORED], CLASSES)[0][1]

    assert found.labels.tolist() == [1, 0]
    assert found.crowd.tolist() == [False, True]
    assert found.area.tolist() == [2.0, 5.0]


def test_a_mask_of_another_size_is_an_error_that_names_both_files(folder: Path) -> None:
    Image.fromarray(np.zeros((3, 5), np.uint8)).save(folder / "m2.png")

    with pytest.raises(SizeMismatch, match=r"2\.png has 6 x 4 pixels.*m2\.png has 5 x 3.*on_size_mismatch"):
        masked(folder)[2]
    assert masked(folder)[1][0].shape == (3, 4, 6)


def test_resizing_brings_the_image_to_the_mask(folder: Path) -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[:, 3:] = 240
    save(folder / "2.png", pixels)
    mask = np.zeros((8, 12), np.uint8)
    mask[:, 6:] = 1
    Image.fromarray(mask).save(folder / "m2.png")

    image, found = masked(folder, resize=True)[2]

    assert image.dtype == torch.uint8
    assert image.shape == (3, 8, 12)
    assert np.array_equal(found.numpy(), mask)
    assert (image[:, :, :4] == 0).all()
    assert (image[:, :, 8:] == 240).all()


def test_boxes_drawn_on_another_size_are_an_error(folder: Path) -> None:
    with pytest.raises(DataError, match=r"0\.png has 6 x 4 pixels.*drawn on 12 x 8"):
        boxed(folder, (8, 12))[0]


def test_boxes_outside_the_image_are_an_error_when_its_size_was_not_known(folder: Path) -> None:
    files = BoxFiles("own", "train", folder, ["0.png"], [boxes((0, 0, 7, 4))], [None], CLASSES)
    with pytest.raises(DataError, match=r"0\.png.*leaves the image"):
        files[0]


@pytest.mark.parametrize("make", [labelled, masked, boxed])
def test_a_subset_keeps_images_and_labels_together(folder: Path, make: Any) -> None:
    files = make(folder)
    part = files.subset([3, 1])

    assert len(part) == 2
    assert [part.path(index).name for index in range(2)] == ["3.png", "1.png"]
    for place, index in enumerate((3, 1)):
        (image, label), (own, expected) = part[place], files[index]
        assert torch.equal(image, own)
        assert same_label(label, expected)
    assert part.dropped == files.dropped
    assert len(files) == 4
    with pytest.raises(DataError, match="no image is left"):
        part.subset([])


@pytest.mark.parametrize("make", [labelled, masked, boxed])
def test_fingerprints_tell_parts_apart_and_repeat(folder: Path, make: Any) -> None:
    files = make(folder)
    found = [files.fingerprint, *(files.subset(kept).fingerprint for kept in ([0, 1], [1, 0], [0], [0, 1, 2, 3]))]

    assert len(set(found)) == 5
    assert make(folder).fingerprint == files.fingerprint
    assert make(folder).subset([1, 0]).fingerprint == files.subset([1, 0]).fingerprint


def test_fingerprints_tell_labels_and_files_apart(folder: Path) -> None:
    def all_of() -> list[str]:
        return [labelled(folder).fingerprint, masked(folder).fingerprint, boxed(folder).fingerprint]

    before = all_of()
    assert labelled(folder, (0, 1, 1, 1)).fingerprint != before[0]
    masks = MaskPaths(folder, [f"m{index}.png" for index in range(4)], LabelMap(ids={0: 1, 1: 0}))
    assert MaskFiles("own", "train", folder, FILES, masks, CLASSES).fingerprint != before[1]
    moved = [boxes((0, 0, 1, 2), label=index % 2) for index in range(4)]
    assert BoxFiles("own", "train", folder, FILES, moved, [(4, 6)] * 4, CLASSES).fingerprint != before[2]
    assert LabelFiles("own", "train", folder, FILES, (0, 1, 0, 1), ("a", "c")).fingerprint != before[0]

    save(folder / "3.png", rgb(numbered(4, 6)))
    assert all(new != old for new, old in zip(all_of(), before, strict=True))


@pytest.mark.parametrize("name", ["\ud800", "gr\udcfcn"])  # of JSON, and of a folder whose name is not UTF-8
def test_names_of_classes_that_are_no_text_are_refused(name: str, folder: Path) -> None:
    with pytest.raises(DataError, match=r"own \(train\): the class name '.*\\ud.*' is no Unicode text"):
        LabelFiles("own", "train", folder, FILES, (0, 1, 0, 1), ("a", name))


@pytest.mark.parametrize("make", [labelled, masked, boxed])
def test_a_copy_in_another_process_reads_the_same(folder: Path, make: Any) -> None:
    files = make(folder)
    files[0]  # what a first read builds must not keep it from being sent
    copied = pickle.loads(pickle.dumps(files))

    assert len(pickle.dumps(files)) < 10_000
    assert torch.equal(copied[2][0], files[2][0])
    assert same_label(copied[2][1], files[2][1])
    assert copied.fingerprint == files.fingerprint


def test_workers_read_files(folder: Path) -> None:
    loader: DataLoader[Any] = DataLoader(masked(folder), batch_size=2, num_workers=1)
    images, masks = (torch.cat(parts) for parts in zip(*loader, strict=True))

    assert images[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert masks[:, 0, 0].tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("make", [labelled, masked, boxed])
def test_nothing_is_decoded_before_it_is_asked_for(folder: Path, make: Any) -> None:
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[: whole.index(b"IDAT") + 10])  # the header is there
    (folder / "m1.png").write_bytes(b"")
    files = make(folder)

    assert files.size(1) == (4, 6)
    files[0]
    with pytest.raises(DataError, match=r"1\.png"):
        files[1]


def test_sets_without_images_or_with_missing_files_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"own \(train\) holds no image"):
        LabelFiles("own", "train", folder, [], [], CLASSES)
    with pytest.raises(DataError, match=r"gone\.png"):
        LabelFiles("own", "train", folder, ["gone.png"], [0], CLASSES)


@pytest.mark.parametrize("label", [-1, 2])
def test_labels_that_stand_for_no_class_are_refused(folder: Path, label: int) -> None:
    with pytest.raises(DataError, match=rf"2\.png: label {label}, expected 0\.\.1"):
        labelled(folder, (0, 1, label, 1))
    objects = [boxes(), boxes((0, 0, 1, 1), label=label)]
    with pytest.raises(DataError, match=r"1\.png.*expected 0\.\.1"):
        BoxFiles("own", "train", folder, FILES[:2], objects, [None, None], CLASSES)


def test_a_mask_tells_255_classes_apart(folder: Path) -> None:
    masks = MaskPaths(folder, ["m0.png"], ids(0, 1))
    names = [str(index) for index in range(256)]

    MaskFiles("own", "train", folder, ["0.png"], masks, names[:255])
    with pytest.raises(DataError, match="256 classes"):
        MaskFiles("own", "train", folder, ["0.png"], masks, names)


def test_larger_images_than_allowed_are_refused_unread(folder: Path) -> None:
    files = LabelFiles("own", "train", folder, FILES, (0, 1, 0, 1), CLASSES, max_pixels=23)
    with pytest.raises(DataError, match=r"0\.png has 6 x 4 pixels, more than the 23"):
        files[0]


def test_missing_files_are_named_or_left_out(folder: Path) -> None:
    names = [*FILES[:2], *(f"gone{index}.png" for index in range(7)), "3.png"]

    assert existing(folder, FILES, "list.txt", skip=False) == [0, 1, 2, 3]
    assert existing(folder, names, "list.txt", skip=True) == [0, 1, 9]
    with pytest.raises(
        DataError, match=r"list\.txt: 7 of 10 images.*gone0\.png, .*gone4\.png and 2 more\. .*on_bad_image"
    ):
        existing(folder, names, "list.txt", skip=False)
    with pytest.raises(DataError, match="1 of 1 images do not exist"):
        existing(folder, ["gone.png"], "list.txt", skip=True)


def is_area(value: float) -> bool:
    with np.errstate(over="ignore"):
        rounded = float(np.float32(value))
    return math.isfinite(rounded) and rounded > 0


EDGES = st.one_of(st.floats(-30, 60), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 20.0, 1e300]))


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(EDGES, EDGES, EDGES, EDGES, st.integers(0, 3), st.booleans(), EDGES), max_size=6),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_usable_boxes_are_those_with_area_inside_the_image(rows: list[Any], size: tuple[int, int]) -> None:
    height, width = size
    found, out = usable_boxes(
        [row[:4] for row in rows],
        [row[4] for row in rows],
        size,
        crowd=[row[5] for row in rows],
        area=[r[6] for r in rows],
    )

    expected = []
    for x0, y0, x1, y1, label, crowd, area in rows:
        if not all(math.isfinite(edge) for edge in (x0, y0, x1, y1)):
            continue
        corners = [np.float32(min(max(edge, 0.0), limit)) for edge, limit in ((x0, width), (y0, height))]
        corners += [np.float32(min(max(edge, 0.0), limit)) for edge, limit in ((x1, width), (y1, height))]
        wide, high = corners[2] - corners[0], corners[3] - corners[1]
        if wide > 0 and high > 0:
            expected.append((corners, label, crowd, area if is_area(area) else float(wide) * float(high)))
    assert out.total() == len(rows) - len(expected)
    swapped = [row for row in rows if all(map(math.isfinite, row[:4])) and (row[2] < row[0] or row[3] < row[1])]
    assert out["boxes with swapped corners (width or height below 0) left out"] == len(swapped)
    assert found.boxes.dtype == torch.float32
    assert found.boxes.shape == (len(expected), 4)
    assert found.boxes.tolist() == [[float(edge) for edge in corners] for corners, *_ in expected]
    assert found.labels.tolist() == [label for _, label, *_ in expected]
    assert found.labels.dtype == torch.int64
    assert found.crowd.tolist() == [crowd for *_, crowd, _ in expected]
    np.testing.assert_allclose(found.area.numpy(), [area for *_, area in expected], rtol=1e-6, atol=1e-37)


def test_usable_boxes_without_areas_or_crowds() -> None:
    found, out = usable_boxes([[1, 2, 4, 8], [5, 5, 5, 9]], [1, 0], (10, 10))

    assert out == {"boxes without area left out": 1}
    assert found.area.tolist() == [18.0]
    assert found.crowd.tolist() == [False]


def test_usable_boxes_of_nothing_are_empty() -> None:
    found, out = usable_boxes([], [], (4, 6))

    assert not out
    assert [tuple(part.shape) for part in (found.boxes, found.labels, found.crowd, found.area)] == [
        (0, 4),
        (0,),
        (0,),
        (0,),
    ]
    assert found.boxes.dtype == found.area.dtype == torch.float32


def test_a_fingerprint_is_a_hash_of_names_contents_classes_and_labels(folder: Path) -> None:
    """Committed records name their data by fingerprints: these must never change."""
    files = [f"{number}.png" for number in range(2)]
    contents = [(folder / name).read_bytes() for name in files]
    each = [
        hashlib.sha256(f"{name}\0{len(content)}\n".encode() + content).digest()
        for name, content in zip(files, contents, strict=True)
    ]
    images = hashlib.sha256(b"".join(each)).digest()

    def sha256(*parts: bytes) -> str:
        return hashlib.sha256(images + b"".join(len(part).to_bytes(8, "big") + part for part in parts)).hexdigest()

    classes = "\0".join(CLASSES).encode()
    assert LabelFiles("own", "train", folder, files, [1, 0], CLASSES).fingerprint == sha256(
        classes, np.array([1, 0], np.int64).tobytes()
    )
    objects = [boxes((0, 0, 3, 4)), boxes()]
    parts = (part for each in objects for part in (each.boxes, each.labels, each.crowd, each.area))
    held = np.array([1, 0], np.int64).tobytes() + b"".join(part.numpy().tobytes() for part in parts)
    assert BoxFiles("own", "train", folder, files, objects, [None] * 2, CLASSES).fingerprint == sha256(classes, held)

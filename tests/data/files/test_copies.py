from __future__ import annotations

import multiprocessing
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from synreal.data.files import copies
from synreal.data.files.copies import Resized
from synreal.data.files.file_sets import BoxFiles, LabelFiles, MaskFiles
from synreal.data.files.label_maps import LabelMap, MaskPaths
from synreal.data.labels.boxes import Boxes, Objects
from synreal.data.sets import ArrayBoxes, ArrayImages, ArrayMasks
from synreal.errors import ConfigError

CLASSES = ("a", "b", "c")
SIZES = {"wide.png": (120, 200), "high.png": (150, 90), "small.png": (30, 50), "exact.png": (40, 80)}


def smooth(size: tuple[int, int], seed: int) -> np.ndarray:
    """A picture that survives JPEG: slow waves of colour."""
    height, width = size
    y, x = np.mgrid[:height, :width] / max(size)
    waves = [np.sin(5 * (seed + 1) * x + channel) + np.cos(4 * y * (channel + 1)) for channel in range(3)]
    return (127 + 60 * np.stack(waves, -1)).astype(np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "masks").mkdir(parents=True)
    for seed, (name, size) in enumerate(SIZES.items()):
        Image.fromarray(smooth(size, seed)).save(folder / name)
        mask = np.zeros(size, np.uint8)
        mask[: size[0] // 2] = 1
        mask[:, : size[1] // 3] = 2
        Image.fromarray(mask).save(folder / "masks" / name)
    return folder


def labelled(root: Path) -> LabelFiles:
    return LabelFiles("toy", "train", root, list(SIZES), [0, 1, 2, 1], CLASSES)


def masked(root: Path) -> MaskFiles:
    masks = MaskPaths(root, [f"masks/{name}" for name in SIZES], LabelMap({0: 0, 1: 1, 2: 2}))
    return MaskFiles("toy", "train", root, list(SIZES), masks, CLASSES)


def boxed(root: Path) -> BoxFiles:
    objects = [
        Boxes(
            torch.tensor([[0.0, 0.0, width, height], [10.0, 4.0, 30.0, 24.0]]),
            torch.tensor([1, 2]),
            torch.tensor([False, True]),
            torch.tensor([height * width * 0.5, 100.0]),
        )
        for height, width in SIZES.values()
    ]
    empty = Boxes(torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0).bool(), torch.zeros(0))
    return BoxFiles("toy", "train", root, list(SIZES), [objects[0], empty, *objects[2:]], [None] * 4, CLASSES)


def kept_files(folder: Path) -> list[Path]:
    return sorted((folder / "resized").rglob("*.*"))


@pytest.mark.parametrize("make", [labelled, masked, boxed])
def test_images_are_reduced_and_never_enlarged(make: Any, root: Path, tmp_path: Path) -> None:
    images = make(root)
    small = Resized(images, 40, tmp_path)
    assert len(small) == 4
    assert (small.name, small.split, small.classes) == ("toy", "train", CLASSES)
    assert [small.size(index) for index in range(4)] == [(40, 66), (66, 40), (30, 50), (40, 80)]
    for again in range(2):
        for index in range(4):
            image, _ = small[index]
            assert image.dtype == torch.uint8
            assert image.shape == (3, *small.size(index))
            whole = Image.fromarray(images[index][0].permute(1, 2, 0).numpy())
            expected = np.array(whole.resize(small.size(index)[::-1], Image.Resampling.BILINEAR)).astype(float)
            assert abs(image.permute(1, 2, 0).numpy() - expected).mean() < 1.5, f"pass {again}, image {index}"
        assert len(kept_files(tmp_path)) == 2, "small images have no copy"
    for index in (2, 3):
        assert torch.equal(small[index][0], images[index][0])


def test_labels_go_with_the_image(root: Path, tmp_path: Path) -> None:
    images = labelled(root)
    small = Resized(images, 40, tmp_path)
    for _ in range(2):
        assert [small[index][1] for index in range(4)] == [0, 1, 2, 1]
    assert torch.equal(small.labels, images.labels)
    assert Resized(masked(root), 40, tmp_path).labels is None


def test_masks_take_the_nearest_pixels_class(root: Path, tmp_path: Path) -> None:
    images = masked(root)
    small = Resized(images, 40, tmp_path)
    for _ in range(2):
        for index in range(4):
            mask, whole = small[index][1], images[index][1]
            assert mask.dtype == torch.uint8
            rows, columns = mask.shape
            expected = [
                [
                    int(whole[int((y + 0.5) * whole.shape[0] / rows), int((x + 0.5) * whole.shape[1] / columns)])
                    for x in range(columns)
                ]
                for y in range(rows)
            ]
            assert mask.tolist() == expected


def test_boxes_are_scaled(root: Path, tmp_path: Path) -> None:
    images = boxed(root)
    small = Resized(images, 40, tmp_path)
    for _ in range(2):
        objects = small[0][1]
        assert objects.boxes.tolist() == [
            [0, 0, 66, 40],
            pytest.approx([10 * 66 / 200, 4 / 3, 30 * 66 / 200, 8]),
        ]
        assert objects.area.tolist() == pytest.approx([66 * 40 * 0.5, 100 * 66 / 200 / 3])
        assert (objects.labels.tolist(), objects.crowd.tolist()) == ([1, 2], [False, True])
        assert objects.boxes.dtype == objects.area.dtype == torch.float32
        assert small[1][1].boxes.shape == (0, 4)
        for index in range(4):
            height, width = small.size(index)
            assert Objects().problem(small[index][1], (height, width), CLASSES) is None


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 2000))
def test_reduced_sizes_keep_their_shape(height: int, width: int, short_side: int) -> None:
    rows, columns = copies._reduced((height, width), short_side)
    assert min(rows, columns) == min(short_side, height, width)
    assert rows <= height
    assert columns <= width
    # The long side is off by less than a pixel.
    assert abs(rows * width - columns * height) < max(height, width, 1)
    assert (rows >= columns) == (height >= width) or rows == columns


def test_a_fingerprint_of_its_own(root: Path, tmp_path: Path) -> None:
    images = labelled(root)
    found = {images.fingerprint, *(Resized(images, side, tmp_path).fingerprint for side in (40, 41))}
    assert len(found) == 3
    assert Resized(images, 40, tmp_path / "elsewhere").fingerprint in found


def test_the_original_is_decoded_once(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Resized(labelled(root), 40, tmp_path)
    before = [first[index][0] for index in range(2)]
    monkeypatch.setattr(LabelFiles, "__getitem__", None)
    second = Resized(labelled(root), 40, tmp_path)
    assert all(torch.equal(second[index][0], before[index]) for index in range(2))


def test_a_damaged_copy_is_made_anew(root: Path, tmp_path: Path) -> None:
    small = Resized(masked(root), 40, tmp_path)
    image, mask = small[0]
    (file,) = kept_files(tmp_path)
    content = file.read_bytes()
    for damaged in (b"", content[:-100], content[:-50] + b"x" * 50):
        file.write_bytes(damaged)
        with pytest.warns(UserWarning, match="again"):
            found = small[0]
        assert torch.equal(found[0], image)
        assert torch.equal(found[1], mask)
        assert torch.equal(small[0][0], image), "without a warning"
        assert kept_files(tmp_path) == [file]


def test_an_image_that_changes_gets_another_copy(root: Path, tmp_path: Path) -> None:
    small = Resized(labelled(root), 40, tmp_path)
    before = small[0][0]
    shutil.copy(root / "high.png", root / "wide.png")
    assert small[0][0].shape == (3, 66, 40)
    assert before.shape == (3, 40, 66)


def test_a_cache_that_cannot_be_written_costs_a_warning(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    small = Resized(labelled(root), 40, tmp_path / "file")
    with pytest.warns(UserWarning, match="SYNREAL_CACHE"):
        assert small[0][0].shape == (3, 40, 66)


def _read(arguments: tuple[Resized, int]) -> bytes:
    small, index = arguments
    return small[index][0].numpy().tobytes()


def test_several_processes_make_copies_at_once(root: Path, tmp_path: Path) -> None:
    small = Resized(labelled(root), 40, tmp_path)
    with multiprocessing.get_context("fork").Pool(4) as pool:
        found = pool.map(_read, [(small, index) for index in (0, 1) for _ in range(8)], chunksize=1)
    assert len(set(found)) == 2
    assert len(kept_files(tmp_path)) == 2, "nothing is left half done"
    assert _read((pickle.loads(pickle.dumps(small)), 0)) == found[0]


def test_sets_in_memory_have_copies_too(tmp_path: Path) -> None:
    pictures = torch.from_numpy(np.stack([smooth((60, 90), seed) for seed in range(3)])).permute(0, 3, 1, 2)
    images = ArrayImages("toy", "train", pictures, torch.tensor([2, 0, 1]), CLASSES)
    small = Resized(images, 20, tmp_path)
    assert [(tuple(image.shape), label) for image, label in (small[i] for i in range(3))] == [
        ((3, 20, 30), 2),
        ((3, 20, 30), 0),
        ((3, 20, 30), 1),
    ]
    with pytest.raises(IndexError):
        small[3]
    masks = ArrayMasks("toy", "train", pictures, torch.ones(3, 60, 90, dtype=torch.uint8), CLASSES)
    assert Resized(masks, 20, tmp_path)[1][1].unique().tolist() == [1]
    box = Boxes(torch.tensor([[3.0, 3.0, 90.0, 60.0]]), torch.tensor([1]), torch.tensor([False]), torch.ones(1))
    objects = ArrayBoxes("toy", "train", pictures, [box] * 3, CLASSES)
    assert Resized(objects, 20, tmp_path)[1][1].boxes.tolist() == [[1, 1, 30, 20]]


@pytest.mark.parametrize("side", [0, -1, 2.5, True, "64"])
def test_sides_that_are_none(side: Any, root: Path) -> None:
    with pytest.raises(ConfigError, match="short side"):
        Resized(labelled(root), side)

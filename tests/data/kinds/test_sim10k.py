from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import synreal.data as data
from synreal.data.kinds.sim10k import Sim10k
from synreal.errors import ConfigError, DataError
from tests.data.trees import VEHICLES, colour, sim10k_tree, voc_xml, write


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sim10k_tree(tmp_path_factory.mktemp("sim"), 8)


@pytest.fixture
def tree(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "sim"))


def both(root: Path, **settings: object):  # type: ignore[no-untyped-def]
    entry = Sim10k(root=root, **settings)
    return [data.load(entry, part, label="boxes") for part in ("train", "heldout")]


def samples(sets) -> dict[str, tuple]:  # type: ignore[no-untyped-def, type-arg]
    return {Path(part.files[i]).stem: part[i] for part in sets for i in range(len(part))}


def annotation(tree: Path, index: int) -> Path:
    return sorted((tree / "VOC2012/Annotations").iterdir())[index]


def test_boxes_lie_where_the_objects_are_drawn(tree: Path) -> None:
    found = samples(both(tree, classes=VEHICLES))
    assert sorted(found) == (tree / "VOC2012/ImageSets/Main/trainval10k.txt").read_text().split()
    counts = [0, 0, 0]
    for image, objects in found.values():
        pixels = image.permute(1, 2, 0).numpy().astype(int)
        for box, label in zip(objects.boxes.tolist(), objects.labels.tolist(), strict=True):
            drawn = np.abs(pixels - colour(label, 3).astype(int)).max(2) < 60  # JPEG blurs edges a little
            columns, rows = drawn.any(0).nonzero()[0], drawn.any(1).nonzero()[0]
            seen = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            assert np.abs(np.array(seen) - box).max() <= 1, "half-open"
            counts[label] += 1
    assert counts == [7, 3, 4]


def test_only_the_minima_move_by_one(tree: Path) -> None:
    """1..N, the last included, becomes 0..N: a box of one pixel has area one, and one of the whole image fits it."""
    boxes = [("car", 1, 1, 96, 64), ("car", 10, 20, 10, 20), ("car", 5, 6, 7, 8)]
    write(annotation(tree, 0), voc_xml(boxes, (64, 96), one_based=False))
    objects = samples(both(tree))[annotation(tree, 0).stem][1]
    assert objects.boxes.tolist() == [[0, 0, 96, 64], [9, 19, 10, 20], [4, 5, 7, 8]]
    assert objects.area.tolist() == [96 * 64, 1, 9]
    assert objects.boxes.dtype == torch.float32


def test_cars_alone_are_read_and_images_without_stay(tree: Path) -> None:
    train, held = both(tree)
    assert train.classes == held.classes == ("car",)
    assert (len(train), len(held)) == (7, 1)
    found = samples([train, held])
    assert len(found[annotation(tree, 7).stem][1].labels) == 0, "a person alone: background"
    assert sum(len(objects.labels) for _, objects in found.values()) == 7
    people = samples(both(tree, classes=["Person ", "car"]))
    assert sum(int((objects.labels == 0).sum()) for _, objects in people.values()) == 4


def test_names_are_lowered_and_unknown_ones_counted(tree: Path) -> None:
    boxes = [("Car", 1, 1, 20, 20), (" car\n", 30, 1, 50, 20), ("Van", 1, 30, 9, 40), ("Motorbike", 1, 50, 9, 60)]
    for index in range(8):
        write(annotation(tree, index), voc_xml(boxes, (64, 96)))
    with pytest.warns(UserWarning, match="of other classes") as caught:
        found = samples(both(tree))
    assert [str(each.message) for each in caught] == [
        "sim10k (train): 7 objects of other classes (van) left out.",
        "sim10k (heldout): 1 objects of other classes (van) left out.",
    ]
    assert all(objects.labels.tolist() == [0, 0] for _, objects in found.values())


def test_boxes_without_area_are_dropped_and_those_beyond_the_image_clipped(tree: Path) -> None:
    boxes = [("car", 50, 5, 49, 20), ("car", 80, 40, 200, 90), ("car", 97, 1, 120, 9), ("car", -5, -6, 3, 4)]
    write(annotation(tree, 1), voc_xml(boxes, (64, 96), one_based=False))
    with pytest.warns(UserWarning, match=r"2 boxes without area left out"):
        objects = samples(both(tree))[annotation(tree, 1).stem][1]
    assert objects.boxes.tolist() == [[79, 39, 96, 64], [0, 0, 3, 4]]


@pytest.mark.parametrize("extra", ["", "<difficult>1</difficult>", "<difficult>0</difficult><truncated>1</truncated>"])
def test_difficult_objects_are_objects(tree: Path, extra: str) -> None:
    write(annotation(tree, 2), voc_xml([("car", 1, 1, 20, 20)], (64, 96), extra=extra))
    objects = samples(both(tree))[annotation(tree, 2).stem][1]
    assert objects.boxes.tolist() == [[1, 1, 20, 20]]
    assert not objects.crowd.any()


@pytest.mark.parametrize("below", [".", "sim10k", "VOC2012/VOC2012", "x/sim10k"])
def test_nested_and_renamed_folders_are_found(tmp_path: Path, tree: Path, below: str) -> None:
    expected = samples(both(tree))
    moved = tmp_path / "moved"
    shutil.copytree(tree / "VOC2012", moved / below)
    for stem, (image, objects) in samples(both(moved)).items():
        assert torch.equal(image, expected[stem][0])
        assert torch.equal(objects.boxes, expected[stem][1].boxes)


@pytest.mark.parametrize(
    ("folder", "archive"),
    [
        ("JPEGImages", "repro_10k_images.tgz"),
        ("Annotations", "repro_10k_annotations.tgz"),
        ("ImageSets", "repro_image_sets.tgz"),
    ],
)
def test_a_missing_folder_names_its_archive(tree: Path, folder: str, archive: str) -> None:
    shutil.rmtree(tree / "VOC2012" / folder)
    with pytest.raises(DataError, match=rf"VOC2012 lacks {folder}.*comes with {archive}"):
        both(tree)


def test_the_list_of_a_larger_release_names_the_right_one(tree: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"2 of the 4 images that .*trainval200k\.txt lists have no annotation in .*, e\.g\. 9999998, 9999999\."
        r".* The list of the 10,000 images is trainval10k\.$",
    ):
        both(tree, image_set="trainval200k")


def test_a_missing_list_names_those_there_are(tree: Path) -> None:
    with pytest.raises(DataError, match=r"has no list trainval50k\.txt\. Lists there: trainval10k, trainval200k\."):
        both(tree, image_set="trainval50k")
    with pytest.raises(DataError, match="leads out of"):
        both(tree, image_set="../../Annotations/../../../x")


def test_names_keep_their_zeros_and_lists_any_line_ends(tree: Path) -> None:
    for folder, suffix in (("Annotations", ".xml"), ("JPEGImages", ".jpg")):
        first = sorted((tree / "VOC2012" / folder).iterdir())[0]
        shutil.move(first, first.with_name(f"0000042{suffix}"))
    stems = sorted(path.stem for path in (tree / "VOC2012/Annotations").iterdir())
    assert "0000042" in stems
    write(tree / "VOC2012/ImageSets/Main/trainval10k.txt", "\ufeff" + " \r\n".join(stems))
    assert sorted(samples(both(tree))) == stems


def test_missing_images_are_counted_and_named(tree: Path) -> None:
    gone = sorted((tree / "VOC2012/JPEGImages").iterdir())[2:6]
    for path in gone:
        path.unlink()
    with pytest.raises(
        DataError, match=rf"4 of the 8 images of trainval10k are not in .*: {gone[0].stem}, .* and 1 more\. Unpack"
    ):
        both(tree)


def test_images_may_be_png_and_the_name_in_the_file_is_not_trusted(tree: Path) -> None:
    jpg = sorted((tree / "VOC2012/JPEGImages").iterdir())
    shutil.move(jpg[3], jpg[3].with_suffix(".png"))
    write(annotation(tree, 4), voc_xml([("car", 1, 1, 20, 20)], (64, 96), filename=jpg[0].name))
    found = both(tree)
    assert sorted(file for part in found for file in part.files)[3] == f"JPEGImages/{jpg[3].stem}.png"
    assert len(samples(found)) == 8


def test_sizes_are_read_from_the_image_where_the_annotation_has_none(tree: Path) -> None:
    write(annotation(tree, 0), voc_xml([("car", 80, 1, 200, 20)], None))
    write(annotation(tree, 1), voc_xml([("car", 80, 1, 200, 20)], (0, 0)))
    found = samples(both(tree))
    for index in (0, 1):
        assert found[annotation(tree, index).stem][1].boxes.tolist() == [[80, 1, 96, 20]]
    write(annotation(tree, 0), voc_xml([("car", 80, 1, 200, 20)], (640, 960)))
    with pytest.raises(DataError, match=r"has 96 x 64 pixels, but its boxes were drawn on 960 x 640"):
        samples(both(tree))


def test_a_list_without_any_car_is_refused(tree: Path) -> None:
    for index in range(8):
        write(annotation(tree, index), voc_xml([("person", 1, 1, 20, 20), ("bus", 1, 1, 9, 9)], (64, 96)))
    with pytest.raises(DataError, match=r"sim10k \(train\): no image has a box of car\. Other names found: bus"):
        both(tree)


@pytest.mark.parametrize("classes", [[], ["car", "car"], ["car", "Car"], ["truck"]])
def test_classes_are_some_of_the_three(tree: Path, classes: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"classes: expected some of car, motorbike, person, each once"):
        data.find(f"sim10k(root={str(tree)!r}, classes={classes})")


def test_classes_are_known_without_reading() -> None:
    assert data.find("sim10k:/nowhere").class_names("boxes") == ("car",)
    with pytest.raises(ConfigError, match="no split 'test'"):
        data.load("sim10k:/nowhere", "test", label="boxes")

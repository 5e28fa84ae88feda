from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import synreal.data as data
from synreal.data import Policy
from synreal.data.kinds import voc
from synreal.data.kinds.voc import Voc, half_open, read_annotation
from synreal.errors import ConfigError, DataError
from tests.data.trees import colour, drawn, save, voc_tree, voc_xml, write

NAMES = ("cup", "fork", "plate")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lists = {"train": range(6), "val": (6, 7), "every": range(8)}
    return voc_tree(tmp_path_factory.mktemp("voc"), 8, lists=lists)


@pytest.fixture
def tree(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "own"))


def load(root: Path, split: str, **settings: object):  # type: ignore[no-untyped-def]
    return data.load(Voc(root=root, **settings), split, label="boxes")


def stems(images) -> list[str]:  # type: ignore[no-untyped-def]
    return sorted(Path(file).stem for file in images.files)


def test_everything_is_read_where_no_split_is_given(tree: Path) -> None:
    train, held, test = (load(tree, split, heldout=2) for split in ("train", "heldout", "test"))
    assert sorted(stems(train) + stems(held)) == stems(test) == [f"{index:06d}" for index in range(8)]
    assert len(held) == 2
    assert train.classes == held.classes == test.classes == NAMES
    for index in range(8):
        image, objects = test[index]
        assert len(objects.labels) == 1 + index % 3
        for box, label in zip(objects.boxes.int().tolist(), objects.labels.tolist(), strict=True):
            inner = image[:, box[1] + 2 : box[3] - 2, box[0] + 2 : box[2] - 2].flatten(1).float()
            assert inner.std(1).max() < 12
            assert np.abs(inner.mean(1).numpy() - colour(label, 3)).max() < 12


def test_splits_are_lists_of_image_sets(tree: Path) -> None:
    splits = {"train": "train", "test": "val.txt"}
    held = load(tree, "heldout", splits=splits, heldout=1)
    assert sorted(stems(held) + stems(load(tree, "train", splits=splits, heldout=1))) == [f"{i:06d}" for i in range(6)]
    assert stems(load(tree, "test", splits=splits)) == ["000006", "000007"]
    own = {"train": "train", "heldout": "val", "test": "every"}
    assert [len(load(tree, split, splits=own)) for split in own] == [6, 2, 8]
    with pytest.raises(DataError, match="splits names heldout, but not train"):
        load(tree, "train", splits={"heldout": "val"})
    with pytest.raises(DataError, match=r"has no list test\.txt\. Lists there: every, train, val\."):
        load(tree, "test", splits={"test": "test"})


def test_lists_of_one_class_count_all_their_images(tree: Path) -> None:
    write(tree / "ImageSets/Main/cup_train.txt", "000000  1\n000001 -1\n000002  0\n")
    assert stems(load(tree, "test", splits={"test": "cup_train"})) == ["000000", "000001", "000002"]


def test_folders_of_other_names_are_told(tree: Path) -> None:
    (tree / "Annotations").rename(tree / "labels")
    with pytest.raises(DataError, match=r"below labels: name .*, annotations: labels, images: JPEGImages\."):
        load(tree, "test")
    assert len(load(tree, "test", annotations="labels", images="JPEGImages")) == 8
    shutil.rmtree(tree / "labels")
    with pytest.raises(DataError, match=r"There is no XML file\."):
        load(tree, "test")


def test_folders_with_files_beside_images_are_splits(tree: Path) -> None:
    """As Roboflow writes them."""
    for name, chosen in (("train", range(5)), ("valid", range(5, 8))):
        for index in chosen:
            for file in (f"JPEGImages/{index:06d}.jpg", f"Annotations/{index:06d}.xml"):
                write(tree.parent / "flat" / name / Path(file).name, (tree / file).read_bytes())
    write(tree.parent / "flat/valid/._000005.xml", "litter")
    splits = {"train": "train", "test": "valid"}
    assert stems(load(tree.parent / "flat", "test", splits=splits)) == ["000005", "000006", "000007"]
    assert len(load(tree.parent / "flat", "train", splits=splits)) == 4
    advice = r"XML files lie beside images in train, valid: .*splits: \{train: train, heldout: valid\}"
    with pytest.raises(DataError, match=rf"lacks Annotations .*found train, valid\)\. {advice}"):
        load(tree.parent / "flat", "train")
    with pytest.raises(DataError, match="leads out of"):
        load(tree.parent / "flat", "test", splits={"test": "../own"})


def test_nested_folders_are_found_and_two_beside_each_other_refused(tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree, tmp_path / "kit/VOCdevkit/VOC2012")
    assert len(load(tmp_path / "kit", "test")) == 8
    shutil.copytree(tree, tmp_path / "kit/VOCdevkit/VOC2007")
    with pytest.raises(DataError, match=r"holds VOCdevkit/VOC2007, VOCdevkit/VOC2012"):
        load(tmp_path / "kit", "test")


def test_chosen_classes_keep_their_order_and_others_are_counted(tree: Path) -> None:
    every = load(tree, "test")
    counts = torch.cat([every[i][1].labels for i in range(8)]).bincount(minlength=3).tolist()
    with pytest.warns(
        UserWarning, match=rf"own-voc \(test\): {counts[1]} objects of other classes \(fork\) left out\."
    ):
        some = load(tree, "test", classes=["plate", "cup"], name="own-voc")
    assert some.classes == ("plate", "cup")
    assert torch.cat([some[i][1].labels for i in range(8)]).bincount().tolist() == [counts[2], counts[0]]
    with pytest.raises(DataError, match=r"no image has a box of Cup, knife\. Other names found: cup, fork, plate\."):
        load(tree, "test", classes=["Cup", "knife"])


def test_train_and_heldout_have_the_same_classes_whatever_is_in_them(tree: Path) -> None:
    boxes = [("spoon", 1, 1, 20, 20)]
    write(tree / "Annotations/000007.xml", voc_xml(boxes, (64, 96)))
    splits = {"train": "train", "heldout": "val"}
    train, held = (load(tree, split, splits=splits) for split in ("train", "heldout"))
    assert train.classes == held.classes == ("cup", "fork", "plate", "spoon")
    write(tree / "more/Annotations/x.xml", voc_xml([("knife", 1, 1, 20, 20)], (64, 96)))
    shutil.copy(tree / "JPEGImages/000000.jpg", tree / "more/x.jpg")
    splits = {"train": "train", "heldout": "more", "test": "more"}
    sets = [load(tree, split, splits=splits) for split in splits]
    assert sets[0].classes == sets[1].classes == ("cup", "fork", "knife", "plate", "spoon")
    assert sets[2].classes == ("knife",)
    for index in range(8):
        write(tree / f"Annotations/{index:06d}.xml", voc_xml([], (64, 96)))
    splits = {"train": "train"}
    with pytest.raises(DataError, match="no object is labelled in any file"):
        load(tree, "train", splits=splits)


def test_corners_count_from_one_unless_told_otherwise(tree: Path) -> None:
    boxes = [("cup", 0, 0, 10, 20), ("cup", 4, 5, 6, 7), ("cup", 2.5, 3.5, 8.25, 9)]
    write(tree / "Annotations/000000.xml", voc_xml(boxes, (64, 96), one_based=False))
    splits = {"test": "train"}
    assert load(tree, "test", splits=splits)[0][1].boxes.tolist() == [[0, 0, 10, 20], [3, 4, 6, 7], [1.5, 2.5, 8.25, 9]]
    shifted = load(tree, "test", splits=splits, one_based=False)
    assert shifted[0][1].boxes.tolist() == [list(box[1:]) for box in boxes]


@given(st.lists(st.tuples(*[st.integers(1, 60)] * 4), max_size=5))
def test_half_open_boxes_hold_as_many_pixels_as_inclusive_ones(corners: list[tuple[int, int, int, int]]) -> None:
    for (x0, y0, x1, y1), (left, top, right, bottom) in zip(corners, half_open(corners), strict=True):
        pixels = {(x - 1, y - 1) for x in range(x0, x1 + 1) for y in range(y0, y1 + 1)}
        assert pixels == {(x, y) for x in range(int(left), int(right)) for y in range(int(top), int(bottom))}


def test_images_and_annotations_without_each_other(tree: Path) -> None:
    for index in (1, 2):
        (tree / f"Annotations/{index:06d}.xml").unlink()
    with pytest.warns(UserWarning, match=r"voc \(test\): 2 images without annotation left out"):
        assert len(load(tree, "test")) == 6
    with pytest.raises(
        DataError, match=r"2 of the 6 images that .*train\.txt lists have no annotation .* 000001, 000002"
    ):
        load(tree, "test", splits={"test": "train"})
    for index in range(3, 8):
        (tree / f"JPEGImages/{index:06d}.jpg").unlink()
    with pytest.raises(DataError, match=r"5 annotations .* no image, e\.g\. Annotations/000003\.xml, .* and 2 more"):
        load(tree, "test")


def test_the_name_in_the_file_counts_only_where_no_image_has_the_own_name(tree: Path) -> None:
    shutil.move(tree / "JPEGImages/000001.jpg", tree / "JPEGImages/photo.1.jpg")
    write(tree / "Annotations/000001.xml", voc_xml([("cup", 1, 1, 9, 9)], (64, 96), filename="C:\\me\\photo.1.png"))
    write(tree / "Annotations/000002.xml", voc_xml([("cup", 1, 1, 9, 9)], (64, 96), filename="000000.jpg"))
    with pytest.warns(UserWarning, match="1 images without annotation"):
        images = load(tree, "test")
    assert sorted(images.files)[-1] == "JPEGImages/photo.1.jpg"
    assert len(set(images.files)) == 8
    write(tree / "Annotations/000001.xml", voc_xml([("cup", 1, 1, 9, 9)], (64, 96), filename="../../../etc/passwd.jpg"))
    with pytest.raises(DataError, match="1 annotations below"):
        load(tree, "test")


def test_two_annotations_of_one_image_are_refused(tree: Path) -> None:
    (tree / "JPEGImages/000001.jpg").unlink()
    write(tree / "Annotations/000001.xml", voc_xml([("cup", 1, 1, 9, 9)], (64, 96), filename="000000.jpg"))
    with pytest.raises(DataError, match=r"000000\.xml and Annotations/000001\.xml are both of JPEGImages/000000\.jpg"):
        load(tree, "test")


def test_images_may_lie_in_folders_below(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        boxes = [("cup", 4, 5, 40, 50)]
        save(tmp_path / f"images/{folder}/1.png", drawn(np.random.default_rng(0), (64, 96), boxes, NAMES))
        write(tmp_path / f"Annotations/{folder}/1.xml", voc_xml(boxes, (64, 96)))
    assert load(tmp_path, "test").files == ["images/a/1.png", "images/b/1.png"]


def test_images_that_cannot_be_read_are_left_out_if_asked(tree: Path) -> None:
    write(tree / "JPEGImages/000003.jpg", "<html>")
    write(tree / "Annotations/000003.xml", voc_xml([("cup", 1, 1, 9, 9)], None))
    with pytest.raises(DataError, match=r"000003\.jpg is not an image"):
        load(tree, "test")
    with pytest.warns(UserWarning, match="1 images that cannot be read left out"):
        images = data.load(Voc(root=tree), "test", label="boxes", policy=Policy(bad_image="skip"))
    assert len(images) == 7


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not XML: no element found"),
        ("<annotation><object>", "is not XML: no element found"),
        ("hello", "is not XML"),
        (
            '<?xml version="1.0" encoding="nonsense"?><annotation/>',
            "says it is in nonsense, an encoding that is not known. Save it as UTF-8",
        ),
        ("<html></html>", "holds <html>, expected <annotation>"),
        ("<annotation><object><bndbox/></object></annotation>", "object 1 has no <name>"),
        ("<annotation><object><name> </name><bndbox/></object></annotation>", "object 1 has no <name>"),
        ("<annotation><object><name>a</name></object></annotation>", "object 1 has no <bndbox>"),
        ("<annotation><object><name>a</name><bndbox/></object></annotation>", "object 1: <xmin> of its box is None"),
        (voc_xml([("a", 1, 2, "x", 4)], None), "object 1: <xmax> of its box is 'x', expected a number"),
        ("<annotation><size><width>a</width><height>1</height></size></annotation>", "<size> is 'a' x '1'"),
        ("<annotation><size><width>inf</width><height>1</height></size></annotation>", "<size> is 'inf' x '1'"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path / "7.xml", text)
    with pytest.raises(DataError, match=f"7.xml.*{said}"):
        read_annotation(path)


def test_missing_and_endless_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"Cannot read .*no\.xml: No such file"):
        read_annotation(tmp_path / "no.xml")
    monkeypatch.setattr(voc, "_MOST_BYTES", 100)
    with pytest.raises(DataError, match=r"is 101 bytes long; .* at most 100"):
        read_annotation(write(tmp_path / "long.xml", " " * 101))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    "declared",
    [
        '<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">',
        '<!ENTITY x SYSTEM "file:///etc/passwd">',
        '<!ENTITY % p "q">',
    ],
)
def test_entities_are_never_expanded(tmp_path: Path, declared: str, encoding: str) -> None:
    text = f'<?xml version="1.0"?><!DOCTYPE annotation [{declared}]><annotation><filename>x</filename></annotation>'
    with pytest.raises(DataError, match="declares the entity"):
        read_annotation(write(tmp_path / "bomb.xml", text.encode(encoding)))


def test_boxes_of_parts_are_not_those_of_the_object(tmp_path: Path) -> None:
    text = (
        "<annotation><object><name>person</name><part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin>"
        "<xmax>2</xmax><ymax>2</ymax></bndbox></part><bndbox><ymax>40.5</ymax><xmin>10</xmin><xmax>30</xmax>"
        "<ymin> 20 </ymin></bndbox></object><size><height>64</height><width>96</width></size></annotation>"
    )
    found = read_annotation(write(tmp_path / "1.xml", text))
    assert found == voc.Annotation("", (64, 96), ["person"], [(10, 20, 30, 40.5)])


def test_a_description_reads_it(tree: Path) -> None:
    file = write(tree / "kitchen.yaml", "format: voc\nclasses: [cup, fork, plate]\nsplits: {train: train, test: val}\n")
    entry = data.find(str(file))
    assert entry.label == "kitchen"
    assert entry.apart
    assert entry.class_names("boxes") == NAMES
    assert len(data.load(entry, "test", label="boxes")) == 2
    assert data.find(f"voc:{tree}").class_names("boxes") is None
    with pytest.raises(ConfigError, match=r"'one_base'.*Did you mean 'one_based'"):
        data.find(str(write(tree / "wrong.yaml", "format: voc\none_base: false\n")))


def test_folders_can_be_named(tree: Path, tmp_path: Path) -> None:
    """As who keeps images/train and labels/train writes them, or train/images and train/labels."""
    for pattern in ("{kind}/{part}", "{part}/{kind}"):
        root = tmp_path / pattern[1:5]
        for part, chosen in (("train", range(5)), ("test", range(5, 8))):
            for index in chosen:
                for kind, file in (
                    ("images", f"JPEGImages/{index:06d}.jpg"),
                    ("labels", f"Annotations/{index:06d}.xml"),
                ):
                    place = root / pattern.format(kind=kind, part=part) / Path(file).name
                    write(place, (tree / file).read_bytes())
        settings = {"images": "images", "annotations": "labels", "splits": {"train": "train", "test": "test"}}
        assert stems(load(root, "test", **settings)) == ["000005", "000006", "000007"]
        assert len(load(root, "train", **settings)) == 4
        with pytest.raises(DataError, match=r"has no list nothing\.txt|no folder .* or .*/nothing/images or"):
            load(root, "test", **{**settings, "splits": {"test": "nothing"}})
    every = load(tmp_path / "kind", "test", images="images", annotations="labels")
    assert stems(every) == [f"{index:06d}" for index in range(8)]
    listed = load(tree, "test", images="JPEGImages", annotations="Annotations", splits={"test": "val"})
    assert stems(listed) == ["000006", "000007"]
    with pytest.raises(DataError, match=r"there is no folder .*/pictures\."):
        load(tree, "test", images="pictures", annotations="Annotations")
    with pytest.raises(DataError, match="leads out of"):
        load(tree, "test", images="../x/JPEGImages", annotations="Annotations")
    with pytest.raises(ConfigError, match="expected both images and annotations, or none"):
        data.find(f"voc(root='{tree}', images='JPEGImages')")


def test_swapped_corners_are_told_from_boxes_without_area(tmp_path: Path) -> None:
    save(tmp_path / "JPEGImages/a.png", np.zeros((64, 96, 3), np.uint8))
    swapped = voc_xml([("cup", 30, 2, 5, 40)], (64, 96))
    write(tmp_path / "Annotations/a.xml", swapped)
    with pytest.raises(DataError, match=r"no image has a box of cup\..* Left out: 1 boxes with swapped corners"):
        load(tmp_path, "test")
    write(tmp_path / "Annotations/a.xml", voc_xml([("cup", 30, 2, 5, 40), ("cup", 5, 2, 30, 40)], (64, 96)))
    with pytest.warns(UserWarning, match="1 boxes with swapped corners .* left out"):
        assert len(load(tmp_path, "test")[0][1].labels) == 1


def test_class_names_in_a_foreign_encoding_are_read(tmp_path: Path) -> None:
    save(tmp_path / "JPEGImages/a.png", np.zeros((64, 96, 3), np.uint8))
    text = "<?xml version='1.0' encoding='gb2312'?>" + voc_xml([("螺栓", 5, 2, 30, 40)], (64, 96))
    write(tmp_path / "Annotations/a.xml", text.encode("gb2312"))
    assert load(tmp_path, "test").classes == ("螺栓",)

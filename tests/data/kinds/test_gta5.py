from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from synreal.data import Policy, check_domain, default_targets, find, load
from synreal.data.files.urban import NAMES
from synreal.data.inspection.duplicates import paths_of
from synreal.data.kinds.gta5 import Gta5
from synreal.data.labels.masks import IGNORE
from synreal.data.sets import SegmentedImages
from synreal.errors import ConfigError, DataError, SynrealError
from tests.data.urban_trees import RAW_TO_TRAIN, gta5_tree, to_train_ids

LIST = "list.txt"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gta5_tree(tmp_path_factory.mktemp("gta5"), number=6, size=(24, 16), listed=LIST)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNREAL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def tree(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "gta5"))


def read(root: Path, split: str = "train", policy: Policy | None = None, **fields: object) -> SegmentedImages:
    return read_and_hear(root, split, policy, **fields)[0]


def read_and_hear(
    root: Path, split: str = "train", policy: Policy | None = None, **fields: object
) -> tuple[SegmentedImages, str]:
    """Load, and return what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        images = load(Gta5(root=root, **fields), split, label="masks", policy=policy or Policy())
    return images, "\n".join(str(each.message) for each in caught)  # type: ignore[return-value]


def refused(root: Path, split: str = "train", policy: Policy | None = None, **fields: object) -> str:
    with pytest.raises(SynrealError) as raised:
        read(root, split, policy, **fields)
    return str(raised.value)


def names(images: SegmentedImages) -> list[str]:
    return [path.stem for path in paths_of(images)]


def write(path: Path, *lines: str, end: str = "\n") -> None:
    path.write_bytes(end.join(lines).encode())


def each_label(root: Path, change: object) -> None:
    """Write every label file anew, from its numbers."""
    for path in sorted((root / "labels").glob("*.png")):
        change(np.array(Image.open(path))).save(path)  # type: ignore[operator]


# --- What is read


def test_masks_are_those_of_the_palette_indices(made: Path) -> None:
    images = read(made, frames=LIST, heldout=1)
    for index, name in enumerate(names(images)):
        image, mask = images[index]
        stored = Image.open(made / f"labels/{name}.png")
        assert stored.mode == "P"
        ids = np.array(stored)
        assert {4, 7, 18, 26, 34} <= set(ids.ravel().tolist())
        expected = [[RAW_TO_TRAIN.get(number, IGNORE) for number in row] for row in ids.tolist()]
        assert mask.tolist() == expected
        assert mask.dtype == image.dtype == torch.uint8
        assert image.permute(1, 2, 0).tolist() == np.array(Image.open(made / f"images/{name}.png")).tolist()


def test_it_is_known_by_name_and_has_no_target_by_itself(made: Path) -> None:
    entry = find(f"gta5:{made}")
    assert isinstance(entry, Gta5)
    assert entry.class_names("masks") == NAMES
    assert read(made).classes == NAMES
    assert find(entry.text()) == entry
    full = Gta5(root=made, frames=LIST, labels="train_ids", heldout=2, name="mine")
    assert find(full.text()) == full
    with pytest.raises(ConfigError, match="name the real data"):
        default_targets(entry, "masks")
    with pytest.raises(ConfigError, match="is synthetic"):
        check_domain(entry, "target")


@pytest.mark.parametrize("labels", ["id", "", "colors"])
def test_a_wrong_setting_is_refused(labels: str, made: Path) -> None:
    with pytest.raises(ConfigError, match="gta5: labels: Input should be 'ids', 'train_ids' or 'colours'"):
        find(f"gta5(root='{made}', labels='{labels}')")
    with pytest.raises(ConfigError, match="frames: expected 'auto', 'official', 'all', or a list file"):
        find(f"gta5(root='{made}', frames=' ')")


# --- Which frames


def test_without_split_file_some_frames_are_held_out_by_their_names(made: Path) -> None:
    train, heldout = (names(read(made, split, frames="all", heldout=2)) for split in ("train", "heldout"))
    assert sorted(train + heldout) == [f"{number:05d}" for number in range(1, 7)]
    assert len(heldout) == 2
    assert names(read(made, "heldout", heldout=2)) == heldout, "auto is all without split.mat"
    assert names(read(made, "heldout", frames=LIST, heldout=2)) == heldout


def test_the_official_split(tree: Path) -> None:
    savemat(tree / "split.mat", {"trainIds": np.array([[5], [1], [2]], np.uint16), "valIds": np.uint16([[3], [6]])})
    for frames in ("auto", "official"):
        assert names(read(tree, "train", frames=frames)) == ["00001", "00002", "00005"]
        assert names(read(tree, "heldout", frames=frames)) == ["00003", "00006"]
    assert len(set(names(read(tree, "heldout", heldout=1))) & {"00003", "00006"}) == 1
    assert names(read(tree, "heldout", heldout=2)) == ["00003", "00006"]
    everything = names(read(tree, "train", frames="all")) + names(read(tree, "heldout", frames="all"))
    assert sorted(everything) == [f"{number:05d}" for number in range(1, 7)]


@pytest.mark.parametrize("place", ["read_mapping", "../read_mapping", ".."])
def test_the_split_file_may_lie_in_the_folder_of_its_archive(place: str, tree: Path) -> None:
    (tree / place).mkdir(exist_ok=True)
    savemat(tree / place / "split.mat", {"trainIds": np.uint16([[1]]), "valIds": np.uint16([[3]])})
    root = tree if place == "read_mapping" else tree.parent
    assert names(read(root, frames="official")) == ["00001"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"valIds": np.uint16([[3]])}, "split.mat has no 'trainIds'"),
        ({"trainIds": np.array(["one"])}, "split.mat is not a MATLAB file: trainIds is no array of numbers"),
        ({"trainIds": np.array([1.5])}, "split.mat: trainIds holds float64"),
        ({"trainIds": np.array([], np.uint16)}, "expected frame numbers"),
        ({"trainIds": np.uint16([[900], [901]])}, "none of the 2 frames that"),
        (b"MATLAB 5.0 MAT-file" + bytes(120), "split.mat is not a MATLAB file"),
        (b"", "split.mat is not a MATLAB file"),
    ],
)
def test_a_split_file_that_is_of_no_use(content: dict[str, np.ndarray] | bytes, message: str, tree: Path) -> None:
    if isinstance(content, bytes):
        (tree / "split.mat").write_bytes(content)
    else:
        savemat(tree / "split.mat", content)
    assert message in refused(tree)
    assert len(read(tree, frames="all")) == 5


def test_the_official_split_needs_its_file(made: Path) -> None:
    message = refused(made, frames="official")
    assert "split.mat does not exist" in message
    assert "read_mapping.zip" in message


@pytest.mark.parametrize(
    "lines",
    [
        ["images/00002.png labels/00002.png", "images/00004.png labels/00004.png", "images/00005.png labels/00005.png"],
        ["images/00002.png\tlabels/00002.png", "00004.png", "00005"],
        ["00002", "", "00004  ", "00005"],
        ["images/00002.png", "./images/00004.png", r"images\00005.png labels\00005.png"],
        ["\ufeff00002", "00004", "00005"],
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_list_files(lines: list[str], end: str, tree: Path) -> None:
    write(tree / LIST, *lines, end=end)
    images, heard = [], ""
    for split in ("train", "heldout"):
        part, said = read_and_hear(tree, split, frames=LIST)
        images += [*zip(names(part), [mask for _, mask in part], strict=True)]  # type: ignore[attr-defined]
        heard += said
    assert not heard
    assert sorted(name for name, _ in images) == ["00002", "00004", "00005"]
    for name, mask in images:
        assert (mask.numpy() == to_train_ids(np.array(Image.open(tree / f"labels/{name}.png")))).all()


def test_a_list_may_take_labels_from_another_folder(tree: Path) -> None:
    shutil.copytree(tree / "labels", tree / "labels_raw")
    each_label(tree, lambda ids: Image.fromarray(to_train_ids(ids)))
    write(tree / LIST, *(f"images/0000{n}.png labels_raw/0000{n}.png" for n in (1, 2)))
    images = read(tree, frames=LIST)
    ids = np.array(Image.open(tree / f"labels_raw/{names(images)[0]}.png"))
    assert (images[0][1].numpy() == to_train_ids(ids)).all()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["00001", "00077", "images/00078.png labels/00078.png"], "lists 3 files that are not in"),
        (["00001", "00077"], "00077. Unpack all of 01_images.zip to 10_images.zip and 01_labels.zip to 10_labels.zip"),
        (["00001", "images/00002.png labels/00003.png"], "line 2: 'images/00002.png labels/00003.png' pairs an image"),
        (["", "00001 00001 0"], "line 2: '00001 00001 0' has 3 words"),
        (["../images/00001.png"], "line 1: the path '../images/00001.png' leads out of"),
        (["/images/00001.png labels/00001.png"], "line 1: the path '/images/00001.png' "),
        (["images/00001.png ../../labels/00001.png"], "leads out of"),
        ([""], "lists nothing"),
    ],
)
def test_a_list_that_does_not_fit_is_refused_by_line(lines: list[str], message: str, tree: Path) -> None:
    write(tree / LIST, *lines)
    said = refused(tree, frames=LIST)
    assert message in said
    assert LIST in said


def test_listed_frames_that_do_not_exist_may_be_left_out(tree: Path) -> None:
    write(tree / LIST, "00001", "00077", "00002", "00078")
    images, heard = read_and_hear(tree, policy=Policy(bad_image="skip"), frames=LIST)
    assert len(images) == 1
    assert "gta5 (train): 2 listed files that do not exist left out." in heard
    write(tree / LIST, "00077", "00078")
    assert "lists 2 files" in refused(tree, policy=Policy(bad_image="skip"), frames=LIST)


def test_lines_that_stand_twice_are_read_once(tree: Path) -> None:
    write(tree / LIST, "00001", "00002", "00001")
    images, heard = read_and_hear(tree, frames=LIST)
    assert len(images) == 1
    assert "lists 1 lines twice, e.g. line 3: '00001'" in heard


def test_a_frame_that_is_written_in_two_ways_is_read_once(tree: Path) -> None:
    (tree / "some.txt").write_text("images/00001.png labels/00001.png\n00001\n00002.png\n")
    assert sorted(
        names(read(tree, frames="some.txt", heldout=1)) + names(read(tree, "heldout", frames="some.txt"))
    ) == [
        "00001",
        "00002",
    ]
    (tree / "images/a").mkdir()
    (tree / "labels/a").mkdir()
    for folder in ("images", "labels"):
        shutil.copy(tree / folder / "00001.png", tree / folder / "a")
    (tree / "some.txt").write_text("images/00001.png labels/00001.png\nimages/a/00001.png labels/a/00001.png\n")
    assert "all frames have one name, which leaves none for train" in refused(tree, frames="some.txt", heldout=1)


def test_frames_that_are_neither_a_word_nor_a_file(made: Path) -> None:
    assert "frames='offical' is neither 'auto', 'official' nor 'all'" in refused(made, frames="offical")
    assert "leads out of" in refused(made, frames="../list.txt")


# --- What is missing


def test_missing_frames_are_counted_and_named(tree: Path) -> None:
    for frame in (2, 5):
        (tree / f"images/0000{frame}.png").unlink()
    (tree / "labels/00004.png").unlink()
    images, heard = read_and_hear(tree, heldout=1)
    assert names(images) + names(read(tree, "heldout", heldout=1)) != []
    assert len(images) == 2
    assert "holds 3 of 24,966 frames (4 images, 5 label files). Missing: 00002, 00004, 00005, 00007, 00008" in heard
    assert "and 24,958 more. Unpack all of 01_images.zip to 10_images.zip and 01_labels.zip to 10_labels.zip" in heard
    assert "gta5 (train): 1 images without a label file left out, 2 label files without an image left out." in heard


def test_a_complete_set_and_a_list_warn_of_nothing(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not read_and_hear(made, frames=LIST)[1]
    monkeypatch.setattr("synreal.data.kinds.gta5.FRAMES", 6)
    assert not read_and_hear(made)[1]
    monkeypatch.setattr("synreal.data.kinds.gta5.FRAMES", 5)
    assert "holds 6 of 5 frames (6 images, 6 label files)." in read_and_hear(made)[1]


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("images", "lacks images (expected images, labels; found labels, list.txt). images comes with 01_images.zip"),
        ("labels", "labels comes with 01_labels.zip to 10_labels.zip"),
    ],
)
def test_a_missing_folder_names_its_archives(gone: str, message: str, tree: Path) -> None:
    shutil.rmtree(tree / gone)
    assert message in refused(tree)
    (tree / gone).mkdir()
    assert f"{tree / gone} holds no image file. It comes with 01_{gone}.zip" in refused(tree)


def test_frames_whose_labels_were_not_unpacked(tree: Path) -> None:
    for number in range(1, 7):
        (tree / f"labels/{number:05d}.png").rename(tree / f"labels/{number + 50:05d}.png")
    message = refused(tree)
    assert "has a label file of the same name, e.g. images/00001.png and labels/00051.png" in message


def test_one_folder_too_high_is_found(tree: Path) -> None:
    images = read(tree.parent, heldout=1)
    assert [images.path(index).parents[1] for index in range(5)] == [tree] * 5  # type: ignore[attr-defined]
    write(tree.parent / "above.txt", "00001", "00002")
    assert len(read(tree.parent, frames="above.txt")) == 1


def test_subfolders_pair_by_their_path(tree: Path) -> None:
    for folder in ("images", "labels"):
        (tree / folder / "train/folder").mkdir(parents=True)
        for number in range(1, 4):
            (tree / folder / f"{number:05d}.png").rename(tree / folder / f"train/folder/{number:05d}.png")
    write(tree / LIST, "00001", "00005.png")
    listed = [file for part in ("train", "heldout") for file in read(tree, part, frames=LIST).files]  # type: ignore[attr-defined]
    assert sorted(listed) == ["images/00005.png", "images/train/folder/00001.png"]
    assert len(read(tree, heldout=1)) == 5


def test_one_frame_in_two_formats_is_refused(tree: Path) -> None:
    Image.open(tree / "images/00001.png").save(tree / "images/00001.jpg")
    assert "holds 00001 twice: images/00001.jpg and images/00001.png" in refused(tree)


def test_what_systems_leave_behind_is_no_frame(tree: Path) -> None:
    for name in ("images/._00001.png", "labels/.DS_Store", "images/Thumbs.db", "labels/readme.txt"):
        (tree / name).write_bytes(b"?")
    assert "(6 images, 6 label files)" in read_and_hear(tree)[1]


# --- What label files hold


def test_converted_labels_beside_the_originals_are_no_labels_of_their_own(tree: Path) -> None:
    for path in sorted((tree / "labels").glob("*.png")):
        train = to_train_ids(np.array(Image.open(path)))
        train[0, 0] = 16  # tells them apart
        Image.fromarray(train).save(path.with_name(f"{path.stem}_labelTrainIds.png"))
    shutil.copy(tree / "labels/00001_labelTrainIds.png", tree / "images")
    images, heard = read_and_hear(tree)
    assert "(6 images, 6 label files)" in heard
    assert all(16 not in mask for _, mask in images)  # type: ignore[attr-defined]
    converted, heard = read_and_hear(tree, labels="train_ids")
    assert "(6 images, 6 label files)" in heard
    assert all(int(mask[0, 0]) == 16 for _, mask in converted)  # type: ignore[attr-defined]
    for number in range(1, 7):
        (tree / f"labels/{number:05d}.png").unlink()
    assert "holds *_labelTrainIds files alone. Read them with labels='train_ids'" in refused(tree)


def test_train_ids_where_raw_ids_are_expected(tree: Path) -> None:
    masks = [mask for _, mask in read(tree)]  # type: ignore[attr-defined]
    each_label(tree, lambda ids: Image.fromarray(to_train_ids(ids)))
    message = refused(tree)
    assert "labels/00001.png: it holds 255, which no file of raw ids does (they end at 34)" in message
    assert "labels='train_ids'" in message
    images, heard = read_and_hear(tree, labels="train_ids")
    assert "look like" not in heard
    assert all((mask == before).all() for (_, mask), before in zip(images, masks, strict=True))  # type: ignore[call-overload]


def test_what_may_be_train_ids_is_warned_of(tree: Path) -> None:
    each_label(tree, lambda ids: Image.fromarray(np.minimum(to_train_ids(ids), 19)))
    assert "No number above" not in read_and_hear(tree)[1]
    each_label(tree, lambda ids: Image.fromarray(ids.clip(max=18)))
    heard = read_and_hear(tree)[1]
    assert "No number above 18 stands in 5 label files" in heard
    assert "say so with labels='train_ids'" in heard
    assert "No number above" not in read_and_hear(tree, labels="train_ids")[1]


def test_raw_ids_where_train_ids_are_expected(made: Path) -> None:
    message = refused(made, labels="train_ids")
    assert "train ids are 0 to 18 and 255: these are raw ids, which need mapping" in message
    assert "labels='ids'" in message


def test_numbers_of_another_encoding(tree: Path) -> None:
    each_label(tree, lambda ids: Image.fromarray(np.where(ids == 7, 90, ids).astype(np.uint8)))
    message = refused(tree)
    assert "holds numbers that its label map does not have: 90" in message
    assert "GTA5's label files hold 0 to 34; these are encoded in another way" in message


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colour_labels_are_refused_and_read_on_request(mode: str, tree: Path) -> None:
    raw = {path.stem: np.array(Image.open(path)) for path in sorted((tree / "labels").glob("*.png"))}
    for stem in raw:
        Image.open(tree / f"labels/{stem}.png").convert(mode).save(tree / f"labels/{stem}.png")
    message = refused(tree)
    assert f"is a colour image (mode {mode})" in message
    assert "labels='colours'" in message
    images, heard = read_and_hear(tree, labels="colours")
    assert "pole and polegroup have one colour, and so have car and license plate" in heard
    for index, name in enumerate(names(images)):
        expected = to_train_ids(raw[name])
        expected[raw[name] == 18] = NAMES.index("pole")
        expected[raw[name] == 34] = NAMES.index("car")
        assert (images[index][1].numpy() == expected).all()


def test_palette_labels_may_be_read_as_colours(made: Path) -> None:
    assert NAMES.index("pole") in read(made, labels="colours")[0][1]


def test_smoothly_resized_colours_are_refused(tree: Path) -> None:
    for path in (tree / "labels").glob("*.png"):
        Image.open(path).convert("RGB").resize((12, 8), Image.Resampling.BILINEAR).save(path)
    message = refused(tree, labels="colours")
    assert "holds colours that its label map does not have" in message
    assert "must not be resized smoothly" in message


def test_an_image_of_another_size_than_its_mask(tree: Path) -> None:
    for path in (tree / "images").glob("*.png"):
        Image.open(path).resize((12, 8)).save(path)
    images = read(tree)
    with pytest.raises(DataError, match=r"images/0000\d.png has 12 x 8 pixels, but its mask .*labels/.* has 24 x 16"):
        images[0]
    image, mask = read(tree, policy=Policy(size_mismatch="resize"))[0]
    assert image.shape == (3, 16, 24)
    assert mask.shape == (16, 24)


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is not an image: it is empty"), (None, "image file is truncated")]
)
def test_a_damaged_label_file_is_named_at_once_or_passed_over(content: bytes | None, message: str, tree: Path) -> None:
    path = tree / "labels/00003.png"
    path.write_bytes(path.read_bytes()[:-60] if content is None else content)
    said = refused(tree, frames=LIST, heldout=1)
    assert str(path) in said
    assert message in said
    images, heard = read_and_hear(tree, policy=Policy(bad_image="skip"), frames=LIST, heldout=1)
    assert len(images) == 4
    assert "00003" not in names(images)
    assert "gta5 (train): 1 images left out" in heard
    for other in (tree / "labels").glob("*.png"):
        other.write_bytes(b"")
    assert "it is empty" in refused(tree, policy=Policy(bad_image="skip"))


def test_masks_larger_than_allowed_are_refused(made: Path) -> None:
    assert "more than the 100 that are read" in refused(made, max_pixels=100)


def test_the_fingerprint_tells_what_is_read(tree: Path) -> None:
    prints = [read(tree, **fields).fingerprint for fields in ({}, {"labels": "colours"}, {"heldout": 2})]
    assert len(set(prints)) == 3
    assert read(tree).fingerprint == prints[0]
    (tree / "labels/00001.png").write_bytes((tree / "labels/00001.png").read_bytes() + b"\0")
    (tree / "labels/00002.png").write_bytes((tree / "labels/00002.png").read_bytes() + b"\0")
    assert read(tree).fingerprint != prints[0]

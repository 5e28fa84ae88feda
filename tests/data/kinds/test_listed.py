from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from PIL import Image

from synreal.data import Policy, load
from synreal.data.kinds.listed import Listed
from synreal.errors import ConfigError, DataError
from tests.data.simple_trees import list_tree

FILES = ("a.png", "sub/b.png", "with space.png", "d.png", "ä,ö.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    return tmp_path


def read(root: Path, content: str | bytes, name: str = "labels.txt", policy: Policy | None = None, **settings: object):
    (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
    options = {} if policy is None else {"policy": policy}
    return load(Listed(root=root, **({"file": name} | settings)), "test", **options)


def pairs(images) -> dict[str, str]:
    return {file: images.classes[label] for file, label in zip(images.files, images.labels.tolist(), strict=True)}


PLAIN = {"a.png": "cat", "sub/b.png": "dog", "with space.png": "cat"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.txt", "a.png cat\nsub/b.png dog\nwith space.png cat\n"),
        ("l.txt", "a.png cat\nsub/b.png   dog \nwith space.png cat"),
        ("l.txt", "\ufeffa.png cat\r\n\r\nsub\\b.png dog\r\n  \r\nwith space.png\tcat\r\n"),
        ("l.lst", "a.png\tcat\nsub/b.png\tdog\nwith space.png\tcat\n"),
        ("l.csv", "a.png,cat\nsub/b.png,dog\nwith space.png, cat\n"),
        ("l.csv", '\ufeffpath,label\r\na.png,cat\r\n"sub/b.png","dog"\r\nwith space.png,cat\r\n'),
        ("l.csv", "Label;split;File_Name\ncat;x;a.png\ndog;x;sub/b.png\ncat;y;with space.png\n"),
        ("l.tsv", "image\tclass\na.png\tcat\nsub/b.png\tdog\nwith space.png\tcat"),
        ("L.CSV", "a.png,cat\nsub/b.png,dog\nwith space.png,cat\n"),
    ],
)
def test_ways_to_write_a_list(root: Path, name: str, content: str) -> None:
    images = read(root, content, name)
    assert pairs(images) == PLAIN
    assert images.classes == ("cat", "dog")
    assert images[1][0].shape == (3, 4, 4)


def test_a_quoted_path_holds_the_separator_and_a_class_spaces(root: Path) -> None:
    assert pairs(read(root, 'path,label\n"ä,ö.png",sea gull\n', "l.csv")) == {"ä,ö.png": "sea gull"}
    assert pairs(read(root, "ä,ö.png\tsea gull\n")) == {"ä,ö.png": "sea gull"}


def test_the_tree_of_the_fixtures(tmp_path: Path) -> None:
    data = f"list(root='{list_tree(tmp_path, size=8)}', file='labels.txt')"
    train, heldout, test = (load(data, part) for part in ("train", "heldout", "test"))
    assert (len(train), len(heldout), len(test)) == (21, 3, 24)
    assert not set(train.files) & set(heldout.files)
    assert pairs(train) | pairs(heldout) == pairs(test)
    assert test.classes == ("bolt", "nut", "plate")
    assert all(line == f"{file} {name}" for line, (file, name) in zip(
        (tmp_path / "labels.txt").read_text().splitlines(), pairs(test).items(), strict=True
    ))  # fmt: skip


def test_numbers_stand_for_classes(root: Path) -> None:
    images = read(root, "a.png 1\nsub/b.png 0\n", classes=["dog", "cat"])
    assert pairs(images) == {"a.png": "cat", "sub/b.png": "dog"}


def test_numbers_without_names_are_names(root: Path) -> None:
    with pytest.warns(UserWarning, match=r"labels\.txt: no image of 1\."):
        images = read(root, "a.png 2\nsub/b.png 0\n")
    assert images.classes == ("0", "1", "2")
    assert images.labels.tolist() == [2, 0]


def test_classes_that_are_numerals_go_by_name(root: Path) -> None:
    images = read(root, "a.png 7\nsub/b.png 3\n", classes=["7", "3"])
    assert images.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ("a.png 0\nd.png 2", {"classes": ["x", "y"]}, r"labels\.txt, line 2: class 2, expected 0 to 1 for 2 classes"),
        ("a.png 0\nd.png -1", {"classes": ["x", "y"]}, r"labels\.txt, line 2: class -1, expected 0 to 1"),
        ("a.png 0\nd.png -1", {}, r"labels\.txt, line 2: class -1, expected 0 to 0"),
        ("a.png 99999999", {}, r"labels\.txt, line 1: class 99999999, expected 0 to 9999"),
        ("a.png", {}, r"labels\.txt, line 1: expected 'path class', .*got 'a\.png'\.$"),
        ("a.png,cat", {}, r"got 'a\.png,cat'\. Name the file \.csv if commas"),
        ("a.png cat\n\na.png dog", {}, r"labels\.txt, line 3: 'a\.png' has the class 'dog', but line 1 says 'cat'"),
        ("./a.png cat\na.png dog", {}, r"line 2: 'a\.png' has the class 'dog', but line 1 says 'cat'"),
        ("../x.png cat", {}, r"labels\.txt, line 1: the path '\.\./x\.png' leads out of"),
        ("/etc/passwd cat", {}, r"labels\.txt, line 1: the path '/etc/passwd' is absolute"),
        ("link.png cat", {}, r"labels\.txt, line 1: .*leads out of .*through a symbolic link"),
        ("a\0.png cat", {}, r"labels\.txt, line 1: .*NUL"),
        ("a.png \xe4".encode("latin-1"), {}, r"labels\.txt is not UTF-8: byte 0xe4 at 6"),
        ("\n \n", {}, r"labels\.txt lists nothing"),
        ("x.png cat\na.png cat\ny.png cat", {}, r"labels\.txt: 2 of 3 images do not exist in .*x\.png, y\.png"),
    ],
)
def test_lists_that_are_wrong(
    root: Path, tmp_path_factory, content: str | bytes, settings: dict[str, object], message: str
) -> None:
    secret = tmp_path_factory.mktemp("secret") / "x.png"
    secret.write_bytes((root / "a.png").read_bytes())
    (root / "link.png").symlink_to(secret)
    with pytest.raises(DataError, match=message):
        read(root, content, **settings)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,label\na.png\n", r"l\.csv, line 2: 1 columns, expected 2"),
        ("a.png,cat,x\n", r"l\.csv, line 1: 3 columns, expected 2: .*a first line that names them, e\.g\. path,label"),
        ('"a.png,cat\n', r"l\.csv, line 1 is not a line of a table"),
        ("path,label\n", r"l\.csv lists nothing"),
        ("path,label\na.png,\n", r"l\.csv, line 2: 'a\.png' has no class"),
        ("path,label\n,cat\n", r"l\.csv, line 2: expected the path of a file"),
    ],
)
def test_tables_that_are_wrong(root: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(root, content, "l.csv")


def test_lines_that_stand_twice_are_read_once(root: Path) -> None:
    with pytest.warns(UserWarning, match=r"labels\.txt lists 1 lines twice, e\.g\. line 3"):
        images = read(root, "a.png cat\nd.png dog\na.png cat\n./a.png cat")
    assert images.files == ["a.png", "d.png"]


def test_missing_images_are_left_out_and_counted_where_that_was_chosen(root: Path) -> None:
    with pytest.warns(UserWarning, match="1 missing images left out"):
        images = read(root, "x.png dog\na.png cat\nd.png dog", policy=Policy(bad_image="skip"))
    assert pairs(images) == {"a.png": "cat", "d.png": "dog"}
    with pytest.raises(DataError, match="2 of 2 images do not exist"):
        read(root, "x.png dog\ny.png cat", policy=Policy(bad_image="skip"))


def test_classes_select_and_order_names(root: Path) -> None:
    with pytest.warns(UserWarning, match="1 images of classes that are not used left out"):
        images = read(root, "a.png cat\nd.png dog\nsub/b.png bird", classes=["dog", "cat"])
    assert images.classes == ("dog", "cat")
    assert pairs(images) == {"a.png": "cat", "d.png": "dog"}
    with pytest.raises(ConfigError, match=r"whose labels are bird, cat, dog: 'dgo'\. Did you mean 'dog'"):
        read(root, "a.png cat\nd.png dog\nsub/b.png bird", classes=["dgo"])


def test_missing_images_of_classes_that_are_not_used_do_not_matter(root: Path) -> None:
    with pytest.warns(UserWarning, match="1 images of classes that are not used left out"):
        assert len(read(root, "a.png cat\nnone.png dog", classes=["cat"])) == 1


def test_splits_give_a_list_for_each_part_and_the_source_has_one_numbering(root: Path) -> None:
    (root / "train.txt").write_text("a.png cat\nsub/b.png dog\n")
    (root / "val.txt").write_text("d.png dog\n")
    (root / "test.txt").write_text("with space.png dog\nä,ö.png emu\n")
    data = Listed(root=root, splits={"train": "train.txt", "heldout": "val.txt", "test": "test.txt"})
    assert data.apart
    train = load(data, "train")
    with pytest.warns(UserWarning, match=r"val\.txt: no image of cat"):
        heldout = load(data, "heldout")
    assert train.classes == heldout.classes == ("cat", "dog")
    assert heldout.labels.tolist() == [1]
    assert load(data, "test").classes == ("dog", "emu")
    file = Listed(root=root, file="train.txt", splits={"test": "test.txt"})
    assert (len(load(file, "train")), len(load(file, "heldout")), len(load(file, "test"))) == (1, 1, 2)


def test_a_list_must_be_named(root: Path) -> None:
    (root / "labels.txt").write_text("a.png cat")
    with pytest.raises(DataError, match=r"no list is given.*Lists in .*: labels\.txt\."):
        load(f"list:{root}", "test")
    with pytest.raises(DataError, match=r"there is no file .*other\.csv.*: labels\.txt\."):
        load(Listed(root=root, file="other.csv"), "test")
    with pytest.raises(DataError, match="leads out of"):
        load(Listed(root=root, file="../labels.txt"), "test")


def test_a_clean_list_warns_of_nothing(root: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(root, "a.png cat\nd.png dog")

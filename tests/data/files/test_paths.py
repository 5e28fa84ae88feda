from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synreal.data.files import paths
from synreal.data.files.paths import Inside, find_tree, hold_out, inside, read_lines, scan_files, scan_images
from synreal.errors import DataError
from tests.data.trees import write

NAMES = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12), unique=True, max_size=40)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set, with somebody's secret beside it."""
    write(tmp_path / "secret.png", "secret")
    write(tmp_path / "data-more/x.png", "secret")
    write(tmp_path / "data/images/a b.png", "a")
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("relative", "expected"),
    [
        ("images/a b.png", "images/a b.png"),
        ("images\\a b.png", "images/a b.png"),
        ("./images//a b.png", "images/a b.png"),
        ("images/../images/a b.png", "images/a b.png"),
        ("images/..a.png", "images/..a.png"),
        ("größe/日本.png", "größe/日本.png"),
        ("a:b.png", "a:b.png"),
    ],
)
def test_paths_below_the_root_are_joined(root: Path, relative: str, expected: str) -> None:
    assert inside(root, relative, "list.txt, line 3").resolve() == root.resolve() / expected


@pytest.mark.parametrize(
    ("relative", "said"),
    [
        ("../secret.png", "leads out of"),
        ("..\\secret.png", "leads out of"),
        ("images/../../secret.png", "leads out of"),
        ("../data-more/x.png", "leads out of"),
        ("no/such/../../../secret.png", "leads out of"),
        ("..", "leads out of"),
        ("/etc/passwd", "is absolute"),
        ("C:\\data\\x.png", "is absolute"),
        ("d:/data/x.png", "is absolute"),
        ("\\\\server\\share\\x.png", "is absolute"),
        ("images/x\0.png", "NUL"),
        ("images/\ud800.png", "not Unicode"),
        ("x" * 300, "is longer than"),
        ("x/" * 2046 + "x", "is longer than"),  # with the root before it
        ("", "expected the path of a file"),
        (" ", "expected the path of a file"),
    ],
)
def test_paths_that_leave_the_root_or_name_no_file_are_refused(root: Path, relative: str, said: str) -> None:
    with pytest.raises(DataError, match=rf"^list\.txt, line 3: .*{said}"):
        inside(root, relative, "list.txt, line 3")


def test_symbolic_links_may_lead_anywhere_within_the_root_only(root: Path) -> None:
    (root / "out.png").symlink_to("../secret.png")
    (root / "outward").symlink_to("..")
    (root / "twice").symlink_to("outward")
    (root / "within").symlink_to("images")
    (root / "loop").symlink_to("loop")
    for relative in (
        "out.png",
        "outward/secret.png",
        "twice/secret.png",
        "outward/new/x.png",
        "within/../../secret.png",
    ):
        with pytest.raises(DataError, match="leads out of"):
            inside(root, relative, "list")
    with pytest.raises(DataError, match=r"'out\.png' leads out of .* through a symbolic link to .*secret\.png"):
        inside(root, "out.png", "list")
    assert inside(root, "within/a b.png", "list").read_text() == "a"
    assert inside(root, "outward/data/images/a b.png", "list").read_text() == "a"
    inside(root, "loop", "list")  # nothing lies there, and nobody hangs


def test_the_root_itself_may_be_a_symbolic_link(root: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)
    assert inside(link, "images/a b.png", "list").read_text() == "a"
    with pytest.raises(DataError, match="leads out of"):
        inside(link, "../secret.png", "list")


PARTS = st.sampled_from(["images", "..", ".", "outward", "within", "new", "", "a b.png", "out.png"])


@given(st.lists(PARTS, min_size=1, max_size=6).map("/".join))
def test_many_paths_are_judged_as_the_system_resolves_each(
    tmp_path_factory: pytest.TempPathFactory, relative: str
) -> None:
    base = tmp_path_factory.getbasetemp() / "judged"
    root = base / "data"
    if not root.exists():
        write(base / "secret.png", "secret")
        write(root / "images/a b.png", "a")
        (root / "out.png").symlink_to("../secret.png")
        (root / "images/outward").symlink_to("../..")
        (root / "outward").symlink_to("..")
        (root / "within").symlink_to("images")
    allowed = (root / relative).resolve().is_relative_to(root.resolve()) and bool(relative) and relative[0] != "/"
    jail = Inside(root)
    for _ in range(2):  # the second time from what it remembers
        if allowed:
            assert jail(relative, "list").resolve() == (root / relative).resolve()
        else:
            with pytest.raises(DataError):
                jail(relative, "list")


def test_lists_are_read_with_any_line_ends_and_mark(tmp_path: Path) -> None:
    raw = b"\xef\xbb\xbf a b.png 0 \r\n\r\n  \r\nx\xe2\x80\xa8y.png 1\rlast.png 2"
    assert read_lines(write(tmp_path / "list.txt", raw)) == [(1, "a b.png 0"), (4, "x\u2028y.png 1"), (5, "last.png 2")]


def test_lists_that_hold_nothing_or_no_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Cannot read .*no\.txt: No such file"):
        read_lines(tmp_path / "no.txt")
    with pytest.raises(DataError, match=r"Cannot read .*: Is a directory"):
        read_lines(tmp_path)
    with pytest.raises(DataError, match=r"latin\.txt is not UTF-8: byte 0xfc at 3\. Save it as UTF-8"):
        read_lines(write(tmp_path / "latin.txt", b"Gre\xfcn.png 0"))
    blank = write(tmp_path / "blank.txt", " \r\n\n")
    with pytest.raises(DataError, match=r"blank\.txt lists nothing"):
        read_lines(blank)
    assert read_lines(blank, empty=True) == []


def test_repeated_lines_count_once_with_a_warning(tmp_path: Path) -> None:
    rows = [(1, "a 0"), (2, "b 0"), (4, "a 0"), (5, "a 0"), (6, "a 1")]
    with pytest.warns(UserWarning, match=r"lists 2 lines twice, e\.g\. line 4: 'a 0'"):
        kept = paths.without_duplicates(rows, tmp_path / "list.txt")
    assert kept == [(1, "a 0"), (2, "b 0"), (6, "a 1")]
    assert paths.without_duplicates(rows[:2], tmp_path / "list.txt") == rows[:2]


def test_scans_give_images_sorted_and_without_litter(tmp_path: Path) -> None:
    wanted = ["B.JPG", "a/1.png", "a/b/2.jpeg", "c.tif"]
    litter = ["._c.tif", ".DS_Store", "Thumbs.db", "a/.hidden.png", "__MACOSX/a/1.png", ".git/x.png", "a/Desktop.ini"]
    for name in [*wanted, *litter, "notes.txt", "a/1.xml", "png"]:
        write(tmp_path / name, "x")
    assert scan_images(tmp_path) == wanted
    assert scan_files(tmp_path, ".xml") == ["a/1.xml"]
    assert paths.subfolders(tmp_path) == ["a"]


def test_scans_follow_links_but_never_in_a_circle(tmp_path: Path) -> None:
    write(tmp_path / "data/a/1.png", "x")
    write(tmp_path / "elsewhere/2.png", "x")
    (tmp_path / "data/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/a/up").symlink_to("..")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "data/linked")
    (tmp_path / "data/gone").symlink_to("nowhere")
    assert scan_images(tmp_path / "data") == ["a/1.png", "linked/2.png"]


def test_a_folder_that_cannot_be_read_is_no_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a/1.png", "x")
    scan = os.scandir

    def scandir(path: str | Path) -> object:
        if str(path).endswith("a"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"Cannot read the folder .*a: Permission denied"):
        scan_images(tmp_path)


def test_scanning_what_is_no_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Cannot read the folder .*nowhere: No such file"):
        scan_images(tmp_path / "nowhere")
    with pytest.raises(DataError, match="Not a directory"):
        paths.subfolders(write(tmp_path / "file", "x"))


def test_files_that_differ_in_their_ending_alone_are_refused(tmp_path: Path) -> None:
    assert paths.by_stem(["a/1.png", "b/1.jpg", "1.2.png"], tmp_path) == {
        "a/1": "a/1.png", "b/1": "b/1.jpg", "1.2": "1.2.png",
    }  # fmt: skip
    with pytest.raises(DataError, match=r"holds both 1\.jpg and 1\.png"):
        paths.by_stem(["1.jpg", "1.png"], tmp_path)


@pytest.mark.parametrize("nested", ["", "gta5", "gta5/gta5"])
def test_a_tree_is_found_below_the_root(tmp_path: Path, nested: str) -> None:
    write(tmp_path / nested / "images/1.png", "x")
    write(tmp_path / nested / "labels/1.png", "x")
    depth = nested.count("/") + bool(nested)
    assert find_tree(tmp_path, ["images", "labels"], "gta5", depth=depth) == tmp_path / nested
    if depth:
        with pytest.raises(DataError, match="lacks images, labels"):
            find_tree(tmp_path, ["images", "labels"], "gta5", depth=depth - 1)


def test_a_missing_tree_names_what_was_found_and_the_archive(tmp_path: Path) -> None:
    write(tmp_path / "nested/labels/1.png", "x")
    write(tmp_path / "nested/._labels", "x")
    with pytest.raises(
        DataError,
        match=r"^gta5: .*nested lacks images \(expected images, labels; found labels\)\. images comes with a\.zip\.$",
    ):
        find_tree(tmp_path, ["images", "labels"], "gta5", {"images": "a.zip", "labels": "b.zip"})
    with pytest.raises(DataError, match=r"found nothing"):
        find_tree(write(tmp_path / "empty/.DS_Store", "x").parent, ["images"], "gta5")
    with pytest.raises(DataError, match=r"no does not exist, expected a folder"):
        find_tree(tmp_path / "no", ["images"], "gta5")
    with pytest.raises(DataError, match=r"1\.png is a file, expected a folder"):
        find_tree(tmp_path / "nested/labels/1.png", ["images"], "gta5")


def test_two_trees_beside_each_other_are_not_guessed_between(tmp_path: Path) -> None:
    for year in ("VOC2007", "VOC2012"):
        write(tmp_path / year / "Annotations/1.xml", "x")
    with pytest.raises(DataError, match=r"holds VOC2007, VOC2012, each with Annotations\. Give one of them"):
        find_tree(tmp_path, ["Annotations"], "voc")
    assert find_tree(tmp_path / "VOC2012", ["Annotations"], "voc") == tmp_path / "VOC2012"


def test_names_that_are_no_utf_8_do_not_stop_anything(misnamed: str) -> None:
    assert list(hold_out([misnamed, "b"], 1)).count(True) == 1


@given(NAMES, st.integers(0, 45), st.randoms(use_true_random=False))
def test_held_out_images_are_as_many_as_asked_whatever_the_order(names: list[str], number: int, random) -> None:  # type: ignore[no-untyped-def]
    held = {name for name, out in zip(names, hold_out(names, number), strict=True) if out}
    assert len(held) == min(number, len(names))
    random.shuffle(names)
    assert {name for name, out in zip(names, hold_out(names, number), strict=True) if out} == held


@given(NAMES.filter(len), st.integers(0, 20))
def test_another_image_moves_one_other_at_most(names: list[str], number: int) -> None:
    *before, new = names
    out_before = {name for name, out in zip(before, hold_out(before, number), strict=True) if out}
    out_after = {name for name, out in zip(names, hold_out(names, number), strict=True) if out}
    assert len((out_before ^ out_after) - {new}) <= 1
    assert out_after - {new} <= out_before


def test_held_out_images_are_always_the_same() -> None:
    names = [f"{index:04d}.png" for index in range(1000)]
    held = [index for index, out in enumerate(hold_out(names, 100)) if out]
    assert held[:4] == [15, 19, 27, 30]
    assert len(held) == 100
    assert 35 < sum(index < 500 for index in held) < 65, "from everywhere"
    assert list(hold_out(["a", "b", "a"], 3)) == [True] * 3
    assert list(hold_out(["a", "a", "b"], 1)) in ([True, True, False], [False, False, True])


@pytest.mark.parametrize(
    "relative", ["../data/images/a b.png", "images/../images/a b.png", "..\\data\\images\\a b.png"]
)
def test_a_path_that_goes_up_and_comes_back_is_named_below_the_root(root: Path, relative: str) -> None:
    assert inside(root, relative, "x") == root / "images/a b.png"


def test_photographs_that_are_not_read_are_counted(root: Path) -> None:
    for name in ("b.jfif", "c.JPE", "d.heic", "e.AVIF", "f.txt"):
        write(root / "images" / name, "x")
    with pytest.warns(UserWarning, match=r"2 images are in formats that are not read and left out, e\.g\. .*d\.heic"):
        assert scan_images(root) == ["images/a b.png", "images/b.jfif", "images/c.JPE"]

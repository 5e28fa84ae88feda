from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from synreal.config import make_config
from synreal.data import find, load
from synreal.data.kinds.pacs import Pacs
from synreal.errors import ConfigError, DataError
from tests.data.simple_trees import imagefolder_tree, pacs_tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return pacs_tree(tmp_path / "PACS", ("art_painting", "cartoon", "photo"), per_class=4, size=8)


def test_a_domain_is_read_alone(root: Path) -> None:
    entry = Pacs(root=root, domain="cartoon")
    train, heldout = (load(entry, part) for part in ("train", "heldout"))
    assert (train.name, train.classes, train.root) == ("pacs-cartoon", ("bolt", "nut", "plate"), root / "cartoon")
    assert (len(train), len(heldout)) == (10, 2)
    plain = load(f"imagefolder:{root / 'cartoon'}", "train")
    assert (train.files, train.labels.tolist()) == (plain.files, plain.labels.tolist())
    assert find(entry.text()) == entry


@pytest.mark.parametrize(
    ("domain", "label"),
    [
        ("cartoon", "pacs-cartoon"),
        ("Real World", "pacs-real-world"),
        ("location_38", "pacs-location_38"),
        ("Möwe.", "pacs-m-we"),
        ("猫", "pacs"),
        ("a" * 80, "pacs-" + "a" * 59),
        (None, "pacs"),
    ],
)
def test_its_label_names_the_domain_as_files_are_named(domain: str | None, label: str, tmp_path: Path) -> None:
    entry = Pacs(root=tmp_path, domain=domain)
    assert entry.label == label
    assert Pacs(root=tmp_path, name=label).label == label  # it passes where a name is checked
    assert Pacs(root=tmp_path, domain=domain, name="mine").label == "mine"


def test_a_description_in_yaml_names_the_domain(root: Path) -> None:
    path = root.parent / "office-home-art.yaml"
    path.write_text("format: pacs\nroot: PACS\ndomain: art_painting\nclasses: [nut, bolt]\nsplits: {test: .}\n")
    entry = find(str(path))
    assert entry.label == "office-home-art"
    with pytest.warns(UserWarning, match="plate"):
        assert load(entry, "test").classes == ("nut", "bolt")


def test_splits_are_folders_of_the_domain(tmp_path: Path) -> None:
    for part in ("full", "test"):
        imagefolder_tree(tmp_path / "CALTECH" / part, size=8, per_class=2 if part == "test" else 4)
    entry = Pacs(root=tmp_path, domain="CALTECH", splits={"train": "full", "heldout": "test"})
    assert [len(load(entry, part)) for part in ("train", "heldout")] == [12, 6]
    imagefolder_tree(tmp_path / "CALTECH" / "train", size=8, per_class=1)
    with pytest.raises(DataError, match=r"are parts.* with splits=\{'train': 'train', 'test': 'test'\}\.$"):
        load(Pacs(root=tmp_path, domain="CALTECH"), "test")
    with pytest.raises(DataError, match=rf"{tmp_path}/CALTECH/ful does not exist.*Folders in {tmp_path}/CALTECH: full"):
        load(Pacs(root=tmp_path, domain="CALTECH", splits={"test": "ful"}), "test")


def test_domains_written_in_pieces_are_found(tmp_path: Path) -> None:
    composed, pieces = (unicodedata.normalize(form, "Möbel") for form in ("NFC", "NFD"))
    imagefolder_tree(tmp_path / pieces, size=8, per_class=1)
    assert len(load(Pacs(root=tmp_path, domain=composed), "test")) == 3


def test_a_domain_that_is_missing_or_unknown_is_answered_with_those_that_are_there(root: Path) -> None:
    with pytest.raises(
        DataError,
        match=rf"say which domain, e\.g\. pacs\(root='{root}', domain='art_painting'\)\. "
        rf"Folders in {root}: art_painting, cartoon, photo\.",
    ):
        load(f"pacs:{root}", "train")
    with pytest.raises(
        ConfigError, match=r"'cartoons'\. Did you mean 'cartoon'\? Known: art_painting, cartoon, photo\."
    ):
        find(f"pacs(root='{root}', domain='cartoons')").check()


def test_a_root_beside_the_right_one_is_told(root: Path) -> None:
    for domain in ("cartoon", "photo"):
        with pytest.raises(DataError, match=rf"the folder above it has.*root='{root}'\."):
            Pacs(root=root / "cartoon", domain=domain).check()
    with pytest.raises(DataError, match=rf"but PACS in it has.*root='{root}'\."):
        Pacs(root=root.parent, domain="cartoon").check()
    (root.parent / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty has no folders, expected one per domain"):
        Pacs(root=root.parent / "empty", domain="sketch").check()


def test_two_domains_of_one_root_are_source_and_target_and_one_is_not_both(root: Path) -> None:
    source = f"pacs(root='{root}', domain='cartoon')"
    config = make_config({"source": source, "targets": [f"pacs(root='{root}', domain='photo')"]})
    assert [target.label for target in config.data.targets] == ["pacs-photo"]
    for target in (source, f"pacs(root='{root}', domain='cartoon', name='other')"):
        with pytest.raises(ConfigError, match="is source and target at once"):
            make_config({"source": source, "targets": [target]})

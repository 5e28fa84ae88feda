"""Full hashes of the data: what a strict run keeps, and what it finds."""

import hashlib
import json
import os
import re
import shutil
import subprocess

import pytest

from synreal import data
from synreal.data.files.file_sets import LabelFiles
from synreal.data.files.fingerprints import WHOLE, hash_list
from synreal.engine import hashes
from synreal.errors import CheckpointError
from synreal.records.protocols import differing, identity
from tests.data import urban_trees
from tests.data.simple_trees import imagefolder_tree
from tests.engine import tiny

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning", "ignore::UserWarning")

PADDING = 2 * WHOLE  # behind the pixels of a PNG, so that stripes leave most of it out


UNSAMPLED = 6000  # the place of a byte between the first two stripes, behind the pixels


@pytest.fixture
def folder(tmp_path):
    for seed, name in enumerate(("source", "target")):
        imagefolder_tree(tmp_path / name, seed=seed)
    for file in tmp_path.rglob("*.png"):
        file.write_bytes(file.read_bytes() + bytes(PADDING))
    return tmp_path


def run(folder, *, resume=False, strict=True, **changes):
    source, target = (
        data.find(f"imagefolder(root={str(folder / name)!r}, name='own')") for name in ("source", "target")
    )
    settings = {"regularizers": "none", "epochs": 1, "max_steps": 2, "batch_size": 2, "eval_every": 0, **changes}
    return tiny.run(folder / "run", resume=resume, source=source, targets=(target,), strict=strict, **settings)


@pytest.fixture
def unfinished(folder):
    """The folder of a run whose training has ended and whose last tests have not."""
    run(folder)
    (folder / "run" / "result.json").unlink()
    return folder / "run"


def listed(path):
    return [line.partition("  ")[2] for line in path.read_text().splitlines()]


def change(file):
    """Change a byte that no stripe covers, and nothing else that a file system tells."""
    before, raw = file.stat(), bytearray(file.read_bytes())
    raw[UNSAMPLED] ^= 1
    file.write_bytes(raw)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_strict_run_keeps_lists_that_sha256sum_checks(folder):
    run(folder)
    stored = json.loads((folder / "run" / "run.json").read_text())["files"]
    files = {path.stem: path for path in (folder / "run" / "hashes").iterdir()}
    assert stored.keys() == files.keys() == {"train", "source", "own"}
    for name, path in files.items():
        assert stored[name] == hashlib.sha256(path.read_bytes()).hexdigest()
        root = folder / ("target" if name == "own" else "source")
        for line in path.read_text().splitlines():
            digest, _, file = line.partition("  ")
            assert digest == hashlib.sha256((root / file).read_bytes()).hexdigest()
        if shutil.which("sha256sum"):
            subprocess.run(["sha256sum", "--check", "--quiet", "--strict", path], cwd=root, check=True)
    both = sorted(listed(files["train"]) + listed(files["source"]))
    assert both == sorted(path.relative_to(folder / "source").as_posix() for path in folder.glob("source/*/*.png"))


def test_a_strict_run_compares_with_one_that_is_not(folder):
    strict = run(folder).record
    shutil.rmtree(folder / "run")
    plain = run(folder, strict=False)
    assert not (folder / "run" / "hashes").exists()
    assert json.loads((folder / "run" / "run.json").read_text())["files"] == {}
    assert differing(identity(strict, ["own"]), identity(plain.record, ["own"])) == []
    assert strict.protocol == plain.record.protocol
    assert strict.targets == plain.record.targets


def test_a_strict_run_is_not_resumed_with_a_file_that_changed_where_nothing_was_sampled(folder, unfinished):
    wanted = [folder / "source" / name for name in listed(unfinished / "hashes" / "train.sha256")[1:3]]
    for file in wanted:
        change(file)
    first, second = (re.escape(str(file.relative_to(folder / "source"))) for file in wanted)
    message = rf"changed since the run was started\. train: 2 changed, {first}, {second}\. Put them back"
    with pytest.raises(CheckpointError, match=message):
        run(folder, resume=True)
    # Without the hashes nobody can tell.
    assert run(folder, resume=True, strict=False).record.protocol.steps == 2


def test_files_are_named_where_their_fingerprint_changed_too(folder, unfinished):
    kept, gone = listed(unfinished / "hashes" / "own.sha256")[:2]
    (folder / "target" / gone).unlink()
    (folder / "target" / kept).write_bytes((folder / "target" / kept).read_bytes() + b"1")
    message = rf"The data changed since the checkpoint was made: own\. own: 1 changed, {kept}; 1 gone, {gone}\. Put"
    with pytest.raises(CheckpointError, match=message):
        run(folder, resume=True)


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_list_that_is_not_as_it_was_written_names_no_files(damage, folder, unfinished):
    path = unfinished / "hashes" / "train.sha256"
    change(folder / "source" / listed(path)[0])
    path.unlink() if damage == "gone" else path.write_text(path.read_text().upper())
    with pytest.raises(CheckpointError, match=r"train: which ones is not known, for .*train\.sha256 is not as it was"):
        run(folder, resume=True)


def test_a_run_is_strict_from_where_it_is_asked_to_be(folder):
    run(folder, strict=False)
    (folder / "run" / "result.json").unlink()
    run(folder, resume=True)
    assert json.loads((folder / "run" / "run.json").read_text())["files"].keys() == {"train", "source", "own"}
    (folder / "run" / "result.json").unlink()
    change(next(folder.glob("target/*/003.png")))
    with pytest.raises(CheckpointError, match=r"own: 1 changed"):
        run(folder, resume=True)
    run(folder, resume=True, strict=False)
    assert json.loads((folder / "run" / "run.json").read_text())["files"].keys() == {"train", "source", "own"}


def test_what_lies_in_no_files_has_no_hashes(tmp_path):
    tiny.run(tmp_path / "run", regularizers="none", epochs=1, max_steps=1, eval_every=0, strict=True)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["files"] == {}
    assert not (tmp_path / "run" / hashes.FOLDER).exists()


@pytest.mark.parametrize("labels", ["label_ids", "polygons"])
def test_files_of_masks_are_hashed(labels, tmp_path):
    urban_trees.cityscapes_tree(tmp_path / "cityscapes")
    images = data.load(f"cityscapes(root={str(tmp_path / 'cityscapes')!r}, labels={labels!r})", "test", "masks")
    ending = {"label_ids": "_labelIds.png", "polygons": "_polygons.json"}[labels]
    found = [line.split("  ")[1] for line in hash_list(images).decode().splitlines()]
    assert len(found) == 2 * len(images)
    assert sum(name.endswith(ending) for name in found) == len(images)


def test_names_that_sha256sum_escapes(tmp_path):
    names = ["a\nb.png", "c\\d.png"]
    for name in names:
        (tmp_path / name).write_text(name)
    (tmp_path / "list").write_bytes(hash_list(LabelFiles("own", "test", tmp_path, names, [0, 0], ["x"])))
    assert len((tmp_path / "list").read_bytes().splitlines()) == 2
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--quiet", "--strict", "list"], cwd=tmp_path, check=True)

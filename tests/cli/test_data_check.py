from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image
from synreal_cli.check import printable

from synreal.data import DATA, Policy, datasets
from synreal.data.files.file_sets import LabelFiles, MaskFiles
from synreal.data.files.label_maps import LabelMap, MaskPaths

ODD = "[red]a[bold]\x1b[31m\u202e.png"


class Planted(datasets.FolderData):
    kind: ClassVar[str] = "planted"
    domains: ClassVar[tuple[datasets.Domain, ...]] = ("source", "target")
    label_kinds: ClassVar[tuple[str, ...]] = ("classes", "masks")
    summary: ClassVar[str] = "For tests."
    needs: ClassVar[str] = "a folder"

    @property
    def apart(self) -> bool:
        return False

    def read(self, split: str, *, label: str, seed: int, cache: Any, policy: Policy) -> Any:
        folder = self.root / split
        files = sorted(path.name for path in folder.iterdir() if path.is_file())
        classes = ("[bold]x", "nut")
        if label == "classes":
            return LabelFiles(self.label, split, folder, files, [i % 2 for i in range(len(files))], classes)
        masks = MaskPaths(folder, [f"masks/{name}" for name in files], LabelMap({0: 0, 1: 1}))
        return MaskFiles(self.label, split, folder, files, masks, classes, resize=policy.size_mismatch == "resize")


class OneLabel(Planted):
    kind: ClassVar[str] = "single"
    label_kinds: ClassVar[tuple[str, ...]] = ("classes",)


@pytest.fixture(autouse=True)
def kinds(own_registry, monkeypatch, tmp_path):
    for kind in (Planted, OneLabel):
        DATA.register(kind)
    monkeypatch.setenv("SYNREAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def root(tmp_path):
    """Eight images of two sizes; one mask does not fit."""
    generator = np.random.default_rng(0)
    for part in ("train", "heldout", "test"):
        (tmp_path / "data" / part / "masks").mkdir(parents=True)
        for number in range(8):
            size = (20, 30) if number < 6 else (10, 10)
            path = tmp_path / "data" / part / f"{number}.png"
            Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
            mask = np.zeros(size, np.uint8)
            mask[0] = 1
            Image.fromarray(mask).save(path.parent / "masks" / path.name)
    Image.fromarray(np.ones((5, 5), np.uint8)).save(tmp_path / "data" / "train" / "masks" / "7.png")
    return tmp_path / "data"


def test_sound_data_are_described_and_the_exit_code_is_0(root, call):
    code, out, err = call("data", "check", f"single:{root}")
    assert (code, err) == (0, "")
    for text in (
        "single (train)",
        "single (heldout)",
        "8 images",
        "Sizes: 10 x 10 to 30 x 20, median 30 x 20; 30 x 20 (6), 10 x 10 (2)",
        "Images: PNG (RGB, 8 bit) 8",
        "[bold]x",
        "50.0%",
        "Training can start.",
    ):
        assert text in out
    assert "single (test)" not in out, "these data train and test on the same images"
    assert "single (test)" in call("data", "check", f"single:{root}", "--as", "target")[1]


def test_all_files_are_hashed_where_that_is_asked_for(root, call):
    dataset = f"planted:{root}"
    plain = call("data", "check", dataset, "--task", "cls", "--json")[1]
    first = call("data", "check", dataset, "--task", "cls", "--json", "--strict")[1]
    parts = json.loads(first)["parts"]
    assert all(len(part["sha256"]) == len(part["fingerprint"]) == 64 for part in parts)
    assert [{**part, "sha256": None} for part in parts] == json.loads(plain)["parts"]
    text = call("data", "check", dataset, "--task", "cls", "--strict")[1]
    for part in parts:
        assert f"Fingerprint: {part['fingerprint']}\n  SHA-256 of all files: {part['sha256']}\n" in text
    other = [
        part["sha256"]
        for part in json.loads(call("data", "check", dataset, "-t", "seg", "--json", "--strict")[1])["parts"]
    ]
    assert not {part["sha256"] for part in parts} & set(other), "those of masks are files, too"
    mask = root / "train" / "masks" / "0.png"
    mask.unlink()
    mask.symlink_to("/dev/null")
    code, out, _ = call("data", "check", dataset, "--task", "seg", "--strict")
    assert code == 1
    assert out.count("SHA-256 of all files") == len(parts) - 1


def test_faults_end_with_1_and_a_policy_changes_that(root, call):
    dataset = f"planted:{root}"
    code, out, _ = call("data", "check", dataset, "--task", "seg")
    assert code == 1
    assert "size mismatch: stops training" in out
    assert f"{root}/train/7.png has 10 x 10 pixels, but its mask {root}/train/masks/7.png has 5 x 5" in out
    assert "Training would fail: 1 finding stops it." in out
    code, out, _ = call("data", "check", dataset, "--task", "seg", "--on-size-mismatch", "skip")
    assert code == 0
    assert "size mismatch: would be skipped" in out
    assert "8 images, 7 of them usable" in out
    assert "Training can start. Images left out: 1." in out
    code, out, _ = call("data", "check", dataset, "--task", "seg", "--on-size-mismatch", "resize")
    assert code == 0
    assert "would be resized" in out
    assert call("data", "check", dataset, "--task", "seg", "--on-bad-image", "skip")[0] == 1
    (root / "train" / "2.png").write_bytes(b"no image")
    code, out, _ = call("data", "check", dataset, "-t", "seg", "--on-bad-image", "skip", "--on-size-mismatch", "resize")
    assert code == 0
    assert "not an image: would be skipped" in out


def test_json_is_all_that_is_printed(root, call):
    code, out, err = call("data", "check", f"planted:{root}", "--task", "seg", "--json", "--workers", 2)
    report = json.loads(out)
    assert (code, err) == (1, "")
    assert report["fails"] is True
    assert report["label"] == "masks"
    assert report["data"] == f"planted:{root}"
    assert report["policy"] == {"bad_image": "error", "size_mismatch": "error"}
    train, heldout = report["parts"]
    assert [(one["kind"], one["file"], one["effect"]) for one in train["findings"]] == [
        ("size mismatch", "7.png", "stops")
    ]
    assert (heldout["findings"], heldout["usable"], heldout["unit"]) == ([], 8, "pixels")
    assert heldout["classes"][1] == {"name": "nut", "images": 8, "labels": 6 * 30 + 2 * 10}


def test_the_target_is_checked_and_compared(root, call, tmp_path):
    other = tmp_path / "other" / "test"
    other.mkdir(parents=True)
    (other / "mine.png").write_bytes((root / "train" / "3.png").read_bytes())
    (other / "fresh.png").write_bytes((root / "test" / "1.png").read_bytes())
    code, out, _ = call("data", "check", f"single:{root}", "--target", f"single(root='{other.parent}', name='real')")
    assert code == 0
    assert "real (test)" in out
    assert "in source (train) and target: note" in out
    assert f"{other}/mine.png is the same file as {root}/train/3.png" in out
    assert "fresh.png" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plantd:/x"], "Did you mean 'planted'"),
        (["planted:/no/such/folder", "--task", "cls"], "/no/such/folder does not exist"),
        (["planted:ROOT"], "has classes and masks: choose one with --task"),
        (["planted:ROOT", "--task", "det"], "has no boxes, only classes and masks"),
        (["planted:ROOT", "--task", "clss"], "Did you mean 'cls'"),
        (["single:ROOT", "--target", "digits"], "'digits' is synthetic"),
        (["single:ROOT", "--on-bad-image", "ignore"], "--on-bad-image"),
        (["single:ROOT", "--workers", "0"], "--workers"),
        (["uci", "--as", "source"], "is real data"),
    ],
)
def test_wrong_usage_ends_with_2(arguments, message, root, call):
    code, out, err = call("data", "check", *(part.replace("ROOT", str(root)) for part in arguments))
    assert code == 2
    assert out == ""
    assert message in " ".join(err.replace("│", " ").split())


def test_names_of_files_and_classes_are_neither_markup_nor_commands(root, call):
    (root / "train" / ODD).write_bytes(b"")
    code, out, _ = call("data", "check", f"single:{root}")
    assert code == 1
    assert "[red]a[bold]\\x1b[31m\\u202e.png" in out
    assert not set("\x1b\u202e") & set(out)
    code, out, _ = call("data", "check", f"single:{root}", "--json")
    assert [one["file"] for one in json.loads(out)["parts"][0]["findings"]] == [ODD]


def test_what_is_printable():
    assert printable("a b/ü€[x].png") == "a b/ü€[x].png"
    assert printable("\x1b]0;x\x07\r\n\u200f\udcff") == "\\x1b]0;x\\x07\\r\\n\\u200f\\udcff"


def test_a_second_check_is_read_from_the_cache_and_no_cache_reads_again(root, call, monkeypatch):
    from synreal.data.inspection import scan as checking

    scans = []
    scan = checking._scan
    monkeypatch.setattr(checking, "_scan", lambda images, *rest: scans.append(images.split) or scan(images, *rest))
    outs = [call("data", "check", f"single:{root}", *more)[1] for more in ([], [], ["--no-cache"])]
    assert scans == ["train", "heldout"] * 2
    assert outs[0] == outs[1] == outs[2]


def test_many_faults_of_one_kind_are_counted(root, call):
    for number in range(8):
        (root / "train" / f"{number}.png").write_bytes(b"")
    code, out, _ = call("data", "check", f"single:{root}", "--on-bad-image", "skip")
    assert code == 1
    assert "empty file (8): would be skipped" in out
    assert "and 3 more; --json lists all" in out
    assert "nothing left: stops training" in out


def test_listing_and_help_load_no_torch():
    code = (
        "import sys; from synreal_cli.app import app; from typer.testing import CliRunner\n"
        "for arguments in (['data', 'list'], ['data', 'check', '--help'], ['data', 'check', 'nothing']):\n"
        "    CliRunner().invoke(app, arguments)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"


def test_progress_is_shown_on_a_terminal_alone(root, call, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    code, out, err = call("data", "check", f"single:{root}", "--json")
    assert code == 0
    json.loads(out)
    assert "single (heldout)" in err

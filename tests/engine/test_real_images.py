"""Runs whose views use real images: what is recorded, what may not be used, and what a resumed run compares."""

import json
import shutil

import pytest
from PIL import Image

from synreal import data
from synreal.engine import evaluate
from synreal.errors import CheckpointError, ConfigError, DataError
from synreal.records.protocols import differing, digest, identity
from tests.data.simple_trees import imagefolder_tree
from tests.engine import tiny
from tests.views.images import noise

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")


@pytest.fixture(autouse=True)
def _small(monkeypatch, tmp_path):
    monkeypatch.setenv("SYNREAL_CACHE", str(tmp_path / "cache"))
    tiny.install(monkeypatch.setattr)


@pytest.fixture
def bank(tmp_path):
    folder = tmp_path / "bank"
    folder.mkdir()
    for index in range(3):
        Image.fromarray(noise(20, 30, 3, seed=index).numpy()).save(folder / f"{index}.png")
    return folder


def run(path, bank, *, resume=False, how="adain", **changes):
    text = f"style_bank(folder={str(bank)!r}, how={how})"
    settings = {"regularizers": "none", "epochs": 1, "max_steps": 2, "views": [text, "crop"], **changes}
    return tiny.run(path, resume=resume, **settings).record


def test_the_protocol_says_that_real_images_were_used_and_not_where_they_lie(tmp_path, bank):
    record = run(tmp_path / "run", bank)
    assert list(record.protocol.real_images) == ["style_bank"]
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["data"]["view style_bank"] == record.protocol.real_images["style_bank"]
    there = shutil.copytree(bank, tmp_path / "elsewhere")
    other = run(tmp_path / "other", there)
    assert differing(identity(record, ["mnist"]), identity(other, ["mnist"])) == []
    Image.new("RGB", (9, 9)).save(there / "0.png")
    third = run(tmp_path / "third", there)
    assert differing(identity(record, ["mnist"]), identity(third, ["mnist"])) == ["real_images"]
    plain = tiny.run(tmp_path / "plain", regularizers="none", epochs=1, max_steps=2, views=["crop"]).record
    assert plain.protocol.real_images == {}
    assert digest(identity(plain, ["mnist"])) != digest(identity(record, ["mnist"]))
    evaluated = evaluate(tmp_path / "run", show_progress=False)
    assert evaluated["mnist"].measures == record.targets["mnist"].measures


def test_a_run_does_not_go_on_with_other_images(tmp_path, bank):
    path = tmp_path / "run"
    run(path, bank)
    (path / "result.json").unlink()
    elsewhere = shutil.copytree(bank, tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"views\.style_bank\.folder"):
        run(path, elsewhere, resume=True)
    Image.new("RGB", (9, 9)).save(bank / "0.png")
    with pytest.raises(CheckpointError, match=r"The data changed since .*: view style_bank"):
        run(path, bank, resume=True)
    shutil.copy(elsewhere / "0.png", bank / "0.png")
    run(path, bank, resume=True)


def test_a_resumed_run_and_one_with_workers_are_equal_to_the_bit(tmp_path, bank):
    settings = {"how": "amplitude", "max_steps": None, "checkpoint_every": 2}
    for name, workers in (("whole", 0), ("workers", 2)):
        run(tmp_path / name, bank, workers=workers, **settings)
    whole = tiny.outcome(tmp_path / "whole")
    assert tiny.outcome(tmp_path / "workers") == whole
    assert tiny.steps_saved(tmp_path / "whole") == ["step-00000002", "step-00000004"]
    shutil.rmtree(tmp_path / "whole" / "checkpoints" / "step-00000004")
    (tmp_path / "whole" / "result.json").unlink()
    run(tmp_path / "whole", bank, resume=True, **settings)
    assert tiny.outcome(tmp_path / "whole") == whole


def test_a_strict_run_hashes_them(tmp_path, bank):
    run(tmp_path / "run", bank, strict=True)
    lines = (tmp_path / "run" / "hashes" / "view style_bank.sha256").read_text().splitlines()
    assert [line.split("  ")[1] for line in lines] == ["0.png", "1.png", "2.png"]
    (tmp_path / "run" / "result.json").unlink()
    Image.fromarray(noise(20, 30, 3, seed=9).numpy()).save(bank / "1.png")
    with pytest.raises(CheckpointError, match=r"view style_bank: 1 changed, 1\.png"):
        run(tmp_path / "run", bank, resume=True, strict=True)


def test_what_is_missing_or_damaged_is_told_before_training(tmp_path, bank, monkeypatch):
    monkeypatch.setattr("synreal.data.load", None)
    with pytest.raises(ConfigError, match="missing does not exist"):  # before any data are read
        run(tmp_path / "run", tmp_path / "missing")
    tiny.install(monkeypatch.setattr)
    (bank / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match=r"The view style_bank: .*0\.png"):
        run(tmp_path / "run", bank)
    assert not (tmp_path / "run").exists()


def test_images_of_a_target_are_refused(tmp_path):
    sets = []
    for seed, name in enumerate(("source", "target")):
        imagefolder_tree(tmp_path / name, seed=seed)
        sets.append(data.find(f"imagefolder(root={str(tmp_path / name)!r}, name='own')"))
    shutil.copytree(tmp_path / "target", tmp_path / "bank")
    for folder in ("target", "bank"):  # the same files, and copies of them
        with pytest.raises(ConfigError, match=r"style_bank uses .* images that are tested on as 'own', e\.g\. .*png"):
            run(tmp_path / "run", tmp_path / folder, source=sets[0], targets=(sets[1],), batch_size=2)
    min((tmp_path / "bank").rglob("*.png")).unlink()  # images of the target that are not tested are the target's still
    with pytest.raises(ConfigError, match=r"style_bank uses .* images that are tested on as 'own'"):
        run(tmp_path / "run", tmp_path / "bank", max_test_images=1, source=sets[0], targets=(sets[1],), batch_size=2)
    assert not (tmp_path / "run").exists()

"""Runs on data in files: the papers' pairs and a user's own, from the options to the result."""

import json
import shutil
import warnings

import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from synreal_cli.app import main

from synreal import data
from synreal.config import RunConfig
from synreal.data.rendered import stamp_images
from synreal.engine.checkpoint import read_student
from synreal.records import read_look, read_record
from synreal.tasks import TASKS
from synreal.tasks.classification import Classification
from tests.data import own_trees, simple_trees, trees, urban_trees
from tests.data.stamp_trees import stamp_tree
from tests.engine import tiny

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")

NETWORKS = {
    "cls": ["--image-size", "32"],
    "seg": ["--image-size", "64", "--architecture", "fpn", "--set", "output_stride=null"],
    "det": ["--image-size", "64", "--architecture", "fcos"],
}
QUICK = ["--backbone", "test_efficientnet", "--weights", "none", "--max-steps", "2", "--batch-size", "4"]
QUICK += ["--workers", "0", "--set", "checkpoint_every=null", "--set", "eval_every=0", "--device", "cpu"]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch, tmp_path):
    tiny.draw_nothing(monkeypatch.setattr)
    tiny.narrow(monkeypatch.setattr)
    monkeypatch.setenv("SYNREAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def synreal(capsys):
    """Run the command line; gives its exit code, output, and errors with the warnings before them."""

    def call(*arguments):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            with pytest.raises(SystemExit) as stop:
                main(list(map(str, arguments)))
        captured = capsys.readouterr()
        told = "".join(f"Warning: {w.message}\n" for w in told if w.category is UserWarning)
        return stop.value.code or 0, captured.out, told + captured.err

    return call


def visda17(root):
    trees.visda17_tree(root / "visda")
    return "cls", [f"visda17:{root / 'visda'}"], [f"visda17:{root / 'visda'}"]


def gta5(root):
    urban_trees.gta5_tree(root / "gta5")
    urban_trees.cityscapes_tree(root / "cityscapes")
    return "seg", [f"gta5:{root / 'gta5'}"], [f"cityscapes:{root / 'cityscapes'}"]


def sim10k(root):
    trees.sim10k_tree(root / "sim10k")
    urban_trees.cityscapes_tree(root / "cityscapes")
    return "det", [f"sim10k:{root / 'sim10k'}"], [f"cityscapes:{root / 'cityscapes'}"]


PAIRS = {"visda17": (visda17, "cls"), "gta5": (gta5, "seg"), "sim10k": (sim10k, "det")}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("method", ["csg", "gcisg"])
def test_the_papers_pairs_run_from_recipe_to_result(pair, method, tmp_path, synreal):
    make, task = PAIRS[pair]
    _, source, targets = make(tmp_path)
    preset = f"{method}-{task}"
    words = ["run", "--task", task, "--source", *source, "--target", *targets, "--regularizer", method]
    words += ["--preset", preset]
    code, out, err = synreal(*words, "--dry-run")
    assert (code, err) == (0, "")
    recipe = yaml.safe_load(out)
    assert set(recipe) == set(RunConfig.model_fields)
    assert (recipe["preset"], recipe["data"]["source"], recipe["data"]["targets"]) == (preset, source[0], targets)
    code, out, err = synreal(*words, *QUICK, *NETWORKS[task], "--output", "here")
    assert code == 0, err
    record = read_record(tmp_path / "here")
    assert record.protocol.steps == 2
    assert record.protocol.source == pair
    assert list(record.targets) == [data.find(text).label for text in targets]
    for score in (record.source_heldout, *record.targets.values()):
        assert score.images > 0
        assert 0 <= score.headline <= 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a few images instead of thousands
        parts = [
            len(data.load(source[0], part, TASKS.get(record.protocol.task).label)) for part in ("train", "heldout")
        ]
    assert [record.protocol.source_images, record.source_heldout.images] == parts


@pytest.mark.parametrize("task", ["cls", "seg", "det"])
def test_stamps_are_source_and_target(task, tmp_path, synreal, monkeypatch):
    for counts in (stamp_images.COUNTS, stamp_images.SCENE_COUNTS):
        for part in counts:
            monkeypatch.setitem(counts, part, 10)
    words = ["run", "--task", task, "--source", f"stamps:{stamp_tree(tmp_path / 'stamps')}", "--regularizer", "gcisg"]
    code, _, err = synreal(*words, *QUICK, *NETWORKS[task], "--output", "here")
    assert code == 0, err
    record = read_record(tmp_path / "here")
    assert record.protocol.source == "stamps"
    assert (record.source_heldout.split, record.targets["stamps"].split) == ("heldout", "test")
    assert record.targets["stamps"].fingerprint != record.source_heldout.fingerprint
    assert record.targets["stamps"].images == (60 if task == "cls" else 10)


# ------------------------------------------------------------------------------------------------------ a user's own


@pytest.fixture
def folders(tmp_path):
    """Classes in folders: renderings to train on, photographs to test on."""
    simple_trees.imagefolder_tree(tmp_path / "renders")
    simple_trees.imagefolder_tree(tmp_path / "photos", seed=1)
    return ["run", "--source", "imagefolder:renders", "--target", "imagefolder:photos", *QUICK, *NETWORKS["cls"]]


def test_a_run_on_files_learns_what_is_in_them(folders, tmp_path, synreal):
    more = ["--max-steps", 30, "--lr", 0.2, "--set", "backbone_lr_scale=1", "--set", "norm=train", "--epochs", 20]
    code, _, err = synreal(*folders, *more, "--regularizer", "none", "--output", "here")
    assert code == 0
    assert "Warning" not in err
    score = read_record(tmp_path / "here").targets["imagefolder"]
    assert score.images == 24
    assert score.headline > 0.6


@pytest.mark.parametrize("task", ["cls", "seg", "det"])
def test_a_run_without_a_target_is_tested_on_held_out_source_and_looked_into_there(task, tmp_path, synreal):
    if task == "cls":
        simple_trees.imagefolder_tree(tmp_path / "renders")
    else:
        own_trees.coco_tree(tmp_path / "renders")
    source = "imagefolder:renders" if task == "cls" else "coco:renders"
    words = ["run", "--task", task, "--source", source, "--target", "none", *QUICK, *NETWORKS[task]]
    code, out, err = synreal(*words, "--regularizer", "none", "--look", "energy_0", "--output", "here")
    assert code == 0, err
    assert "(synthetic, held" in out
    record = read_record(tmp_path / "here")
    assert (record.targets, record.config["data"]["targets"]) == ({}, [])
    look = read_look(tmp_path / "here")
    assert look.sets["source"].fingerprint == record.source_heldout.fingerprint
    assert synreal("evaluate", "here")[0] == 0
    assert synreal("inspect", "here", "--measure", "energy_0")[0] == 0
    code, _, err = synreal("leaderboard", "here")
    assert (code, "No run was tested on a target" in err) == (2, True)


def cut(path):
    path.write_bytes(path.read_bytes()[:200])
    return path


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_ends_the_run_in_one_clear_line(folders, tmp_path, synreal, workers):
    path = cut(tmp_path / "photos" / "nut" / "003.png")
    code, out, err = synreal(*folders, "--set", f"workers={workers}", "--output", "here")
    assert (code, out) == (2, "")
    last = err.strip().splitlines()[-1]
    assert last.startswith(f"Error: {path} ")
    assert "truncated" in last
    assert "Traceback" not in err
    assert "Original" not in err


def test_what_is_skipped_is_counted_in_the_result(folders, tmp_path, synreal):
    cut(tmp_path / "photos" / "nut" / "003.png")
    (tmp_path / "photos" / "bolt" / "000.png").write_bytes(b"")
    for path in sorted((tmp_path / "renders" / "plate").iterdir())[:2]:
        path.write_bytes(b"<html>")
    code, _, err = synreal(*folders, "--on-bad-image", "skip", "--output", "here")
    assert code == 0, err
    record = read_record(tmp_path / "here")
    assert record.targets["imagefolder"].images == 22
    assert sum(record.protocol.left_out["imagefolder"].values()) == 2
    left = [sum(record.protocol.left_out.get(part, {}).values()) for part in ("train", "source")]
    assert sum(left) == 2
    assert record.protocol.source_images + record.source_heldout.images == 22
    assert "Warning: imagefolder (test): 1 images left out (empty file), 1 images left out (truncated)" in err


def test_images_that_are_trained_and_tested_on_are_told(folders, tmp_path, synreal):
    for name in ("000.png", "005.png"):
        data_of = (tmp_path / "renders" / "nut" / name).read_bytes()
        (tmp_path / "photos" / "nut" / f"x{name}").write_bytes(data_of)
    _, _, err = synreal(*folders, "--epochs", 0, "--output", "here")
    assert "images of target 'imagefolder' are also trained on" in err
    assert "not a zero-shot result" in err


def test_classes_are_matched_by_name_and_differences_told(folders, tmp_path, synreal):
    (tmp_path / "photos" / "nut").rename(tmp_path / "photos" / "Nut")
    (tmp_path / "photos" / "plate").rename(tmp_path / "photos" / "saucer")
    code, _, err = synreal(*folders, "--regularizer", "none", "--epochs", 0, "--output", "here")
    assert code == 0, err
    assert "Target 'imagefolder' calls 'nut' 'Nut'" in err
    assert "Target 'imagefolder' has no plate: not measured" in err
    assert "has saucer, which the source does not have: left out" in err
    score = read_record(tmp_path / "here").targets["imagefolder"]
    assert score.images == 16
    assert score.per_class["plate"] is None
    assert list(score.per_class) == ["bolt", "nut", "plate"]
    for name in ("bolt", "Nut"):
        (tmp_path / "photos" / name).rename(tmp_path / "photos" / f"{name} 2")
    code, _, err = synreal(*folders, "--output", "there")
    assert code == 2
    assert "Source and target share no class" in err
    assert not (tmp_path / "there").exists()


def test_a_student_keeps_its_classes_whatever_the_folders_hold(folders, tmp_path, synreal):
    folders = ["imagefolder(root='renders', heldout=12)" if word == "imagefolder:renders" else word for word in folders]
    assert synreal(*folders, "--regularizer", "none", "--epochs", 0, "--output", "here")[0] == 0
    scores = json.loads(synreal("evaluate", "here", "--json")[1])
    for where in ("renders", "photos"):
        (tmp_path / where / "bolt").rename(tmp_path / where / "zinc bolt")  # today's order is nut, plate, zinc bolt
        simple_trees.imagefolder_tree(tmp_path / "spare", seed=2)
        (tmp_path / "spare" / "bolt").rename(tmp_path / where / "anvil")
        shutil.rmtree(tmp_path / "spare")
    code, out, err = synreal("evaluate", "here", "--json")
    assert code == 0, err
    for name, kind in (("source", "Source"), ("imagefolder", "Target")):
        assert f"{kind} 'imagefolder' has no bolt: not measured" in err
        assert "has anvil, zinc bolt, which the source does not have: left out" in err
        again, before = json.loads(out)[name], scores[name]
        assert list(again["per_class"]) == ["bolt", "nut", "plate"]
        for each in ("nut", "plate"):
            assert name == "source" or again["per_class"][each] == before["per_class"][each]
        assert again["per_class"]["bolt"] is None
    (tmp_path / "here" / "result.json").unlink()
    code, _, err = synreal("run", "--resume", tmp_path / "here")
    assert code == 1
    assert "the classes of the source changed since the run was started. gone: bolt; new: anvil, zinc bolt" in err


def test_a_target_is_tested_without_the_source(folders, tmp_path, synreal):
    assert synreal(*folders, "--regularizer", "none", "--epochs", 0, "--output", "here")[0] == 0
    scores = json.loads(synreal("evaluate", "here", "--json")[1])
    shutil.rmtree(tmp_path / "renders")
    code, out, err = synreal("evaluate", "here", "--target", "imagefolder:photos", "--json")
    assert code == 0, err
    assert json.loads(out) == {"imagefolder": scores["imagefolder"]}
    assert "Warning: The held-out source is not tested: " in err
    assert "Warning: Targets are not compared with the images that were trained on: " in err
    assert synreal("evaluate", "here", "--target", "imagefolder:photos")[0] == 0
    code, _, err = synreal("evaluate", "here")
    assert code == 2
    assert f"{tmp_path / 'renders'} does not exist" in err


def test_a_missing_folder_is_told_before_a_network_is_built(folders, tmp_path, synreal, monkeypatch):
    words = ["imagefolder:gone" if word == "imagefolder:photos" else word for word in folders]
    code, _, err = synreal(*words, "--dry-run")
    assert code == 0
    assert f"Warning: Data set 'imagefolder': {tmp_path / 'gone'} does not exist, expected a folder" in err
    monkeypatch.setattr(Classification, "build_student", None)
    code, _, err = synreal(*words, "--output", "here")
    assert code == 2
    assert f"{tmp_path / 'gone'} does not exist" in err
    assert not (tmp_path / "here").exists()


def test_copies_of_large_images_are_kept(folders, tmp_path, synreal):
    words = [*folders, "--regularizer", "none", "--set", "cache_size=16"]
    assert synreal(*words, "--output", "one")[0] == 0
    copies = sorted((tmp_path / "cache" / "resized").rglob("*.safetensors"))
    assert 4 <= len(copies) <= 8  # two steps of four training images
    assert synreal(*words, "--output", "two")[0] == 0
    assert sorted((tmp_path / "cache" / "resized").rglob("*.safetensors")) == copies
    one, two = (tiny.outcome(tmp_path / name) for name in ("one", "two"))
    assert one == two
    plain = synreal(*folders, "--regularizer", "none", "--output", "three")
    assert plain[0] == 0
    assert (
        read_record(tmp_path / "three").protocol.source_fingerprint != one["result"]["protocol"]["source_fingerprint"]
    )


def test_the_header_tells_how_to_build_a_classifier_with_a_hidden_layer(folders, tmp_path, synreal):
    assert synreal(*folders, "--set", "head_width=6", "--regularizer", "kl", "--output", "here")[0] == 0
    with safe_open(tmp_path / "here" / "model.safetensors", "pt") as file:
        made = {}
        exec(json.loads(file.metadata()["synreal"])["build"], made)
    made["model"].load_state_dict(read_student(tmp_path / "here" / "model.safetensors"))
    assert made["model"].eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    code, _, err = synreal("evaluate", "here")
    assert code == 0, err


@pytest.fixture
def scenes(tmp_path):
    own_trees.coco_tree(tmp_path / "blender")
    own_trees.masks_tree(tmp_path / "photos", seed=1)
    target = "masks(root='photos', classes=['background', 'bolt', 'nut', 'plate'])"
    return ["run", "--task", "seg", "--source", "coco:blender", "--target", target, *QUICK, *NETWORKS["seg"]]


@pytest.mark.parametrize("setting", ["error", "skip", "resize"])
def test_an_image_that_is_larger_than_its_mask(setting, scenes, tmp_path, synreal):
    path = tmp_path / "photos" / "images" / "0003.png"
    with Image.open(path) as image:
        image.resize((100, 70)).save(path)
    words = [*scenes, "--regularizer", "none", "--set", f"on_size_mismatch={setting}", "--output", "here"]
    code, _, err = synreal(*words)
    if setting == "error":
        assert code == 2
        assert f"{path} has 100 x 70 pixels, but its mask" in err
        assert "0003.png has 96 x 64" in err
        return
    assert code == 0, err
    record = read_record(tmp_path / "here")
    assert record.targets["masks"].images == (11 if setting == "skip" else 12)
    assert ("masks" in record.protocol.left_out) == (setting == "skip")


def test_class_weights_must_fit_the_classes_that_are_found(scenes, synreal):
    code, _, err = synreal(*scenes, "--set", "class_weights=[1, 2, 3]")
    assert code == 2
    assert "class_weights has 3 numbers, but the 4 classes of 'coco' are background, bolt, nut, plate" in err


def test_a_run_is_tested_again_on_other_data(scenes, tmp_path, synreal):
    assert synreal(*scenes, "--regularizer", "none", "--output", "here")[0] == 0
    own_trees.solo_tree(tmp_path / "unity", seed=2)
    code, out, err = synreal("evaluate", "here", "--target", "solo:unity")
    assert code == 0, err
    assert "solo (real)" in out


def test_a_run_on_files_is_resumed_from_anywhere_and_refuses_other_data(folders, tmp_path, synreal, monkeypatch):
    words = [*folders, "--regularizer", "none", "--output", "here"]
    assert synreal(*words)[0] == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "here" / "result.json").unlink()
    assert synreal("run", "--resume", tmp_path / "here")[0] == 0
    (tmp_path / "here" / "result.json").unlink()
    (tmp_path / "photos" / "nut" / "000.png").write_bytes((tmp_path / "photos" / "nut" / "001.png").read_bytes() + b"x")
    code, _, err = synreal("run", "--resume", tmp_path / "here")
    assert code == 1
    assert "The data changed since the checkpoint was made: imagefolder" in err

"""Predictions of files are what the run's own tests saw, in every form that they are told in."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from synreal import data
from synreal.engine.photos import find_images
from synreal.engine.predicting import predict, tell
from synreal.errors import ConfigError, DataError, Interrupted, TrainingError
from synreal.measures import Collection
from synreal.records import read_record
from synreal.tasks.detection import Detection
from tests.engine import tiny

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")
BUILD = Detection.build_student
SHORT = {"regularizers": "none", "epochs": 1, "eval_every": 0, "targets": "mnist"}


@pytest.fixture(scope="module", autouse=True)
def _all_boxes():
    """Let detectors tell boxes of which they are hardly sure: after two steps they are sure of none."""

    def build_student(self):
        student = BUILD(self)
        student.network.score_thresh = 1e-4
        return student

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Detection, "build_student", build_student)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of each task, with the images of its target as files."""
    folder = tmp_path_factory.mktemp("predicted")
    for task, label in (("cls", "classes"), ("seg", "masks"), ("det", "boxes")):
        more = {"batch_size": 2, "max_steps": 2, "architecture": "fcos"} if task == "det" else {}
        tiny.run(folder / task, task=task, **SHORT, **more)
        images = tiny.load("mnist", "test", label)
        (folder / f"{task}-images" / "more").mkdir(parents=True)
        for index in range(len(images)):
            name = f"more/{index}.png" if index % 2 else f"{index}.png"
            Image.fromarray(images[index][0].permute(1, 2, 0).numpy()).save(folder / f"{task}-images" / name)
    return folder


def told(runs, task, output=None, **settings):
    found = predict(runs / task, [runs / f"{task}-images"], device="cpu", show_progress=False, **settings)
    return tell(found, output)


def index_of(name):
    return int(name.rpartition("/")[2].removesuffix(".png"))


def test_classes_are_those_of_the_test(runs):
    found = json.loads(told(runs, "cls").json)
    images = tiny.load("mnist", "test")
    record = read_record(runs / "cls").targets["mnist"]
    assert [one["size"] for one in found["images"]] == [[32, 32]] * len(images)
    right = [one["class"] == images.classes[images[index_of(one["file"])][1]] for one in found["images"]]
    assert record.measures["accuracy"] == sum(right) / len(images)
    for one in found["images"]:
        assert list(one["probabilities"]) == list(images.classes) == found["classes"]
        assert sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert one["probability"] == max(one["probabilities"].values()) == one["probabilities"][one["class"]]
    rows = list(csv.DictReader(io.StringIO(told(runs, "cls", batch_size=3).table)))
    assert [(row["file"], row["class"]) for row in rows] == [(one["file"], one["class"]) for one in found["images"]]


def test_masks_are_those_of_the_test(runs, tmp_path):
    told(runs, "seg", tmp_path / "out")
    images = tiny.load("mnist", "test", "masks")
    collection = Collection(("mean_iou",), images)
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())
    for one in found["images"]:
        with Image.open(tmp_path / "out" / "masks" / one["file"]) as mask:
            assert mask.mode == "P"
            ids = torch.from_numpy(np.array(mask))
            colours = np.array(mask.convert("RGB"))
        image, label = images[index_of(one["file"])]
        collection.update([ids], [label])
        shares = [float((ids == number).double().mean()) for number in range(len(images.classes))]
        assert list(one["shares"].values()) == pytest.approx(shares, abs=1e-6)
        for number in ids.unique().tolist():
            hexed = "#{:02x}{:02x}{:02x}".format(*colours[ids == number][0])
            assert hexed == found["colours"][number]
        with Image.open(tmp_path / "out" / "overlays" / one["file"]) as overlay:
            over = torch.from_numpy(np.array(overlay)).permute(2, 0, 1)
        background = ids == images.classes.index("background")
        assert torch.equal(over[:, background], image[:, background])
        if not background.all():
            assert not torch.equal(over[:, ~background], image[:, ~background])
    collection.gather(torch.device("cpu"))
    record = read_record(runs / "seg").targets["mnist"]
    assert collection.compute().measures["mean_iou"] == record.measures["mean_iou"]


def test_boxes_are_those_of_the_test(runs, tmp_path):
    told(runs, "det", tmp_path / "out", threshold=0.0)
    folder = tmp_path / "out"
    truth = {"images": [], "annotations": [], "categories": [{"id": n, "name": str(n)} for n in range(1, 11)]}
    found = json.loads((folder / "coco.json").read_text())
    numbers = {image["id"]: index_of(image["file_name"]) + 1 for image in found["images"]}
    images = tiny.load("mnist", "test", "boxes")
    for index in range(len(images)):
        truth["images"].append({"id": index + 1, "height": 64, "width": 64})
        objects = images[index][1]
        fields = (objects.boxes.tolist(), objects.labels.tolist(), objects.area.tolist())
        for (x0, y0, x1, y1), label, area in zip(*fields, strict=True):
            box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "category_id": label + 1, "area": area, "iscrowd": 0}
            truth["annotations"].append({"id": len(truth["annotations"]) + 1, "image_id": index + 1, **box})
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    results = [{**one, "image_id": numbers[one["image_id"]]} for one in found["annotations"]]
    assert results
    judge = COCO(tmp_path / "truth.json")
    scored = COCOeval(judge, judge.loadRes([{k: v for k, v in one.items() if k != "id"} for one in results]), "bbox")
    scored.evaluate()
    scored.accumulate()
    scored.summarize()
    record = read_record(runs / "det").targets["mnist"]
    assert scored.stats[0] == pytest.approx(record.measures["ap"], abs=5e-3)  # corners are written to 1/100 of a pixel
    assert (folder / "classes.txt").read_text().split() == list(images.classes)
    said = json.loads((folder / "predictions.json").read_text())["images"]
    for one in said:
        lines = (folder / "labels" / one["file"]).with_suffix(".txt").read_text().splitlines()
        assert len(lines) == len(one["objects"])
        for line, thing in zip(lines, one["objects"], strict=True):
            number, x, y, width, height, score = map(float, line.split())
            assert images.classes[int(number)] == thing["class"]
            corners = [(x - width / 2) * 64, (y - height / 2) * 64, (x + width / 2) * 64, (y + height / 2) * 64]
            assert corners == pytest.approx(thing["box"], abs=0.01)
            assert score == pytest.approx(thing["score"], abs=1e-6)
        with Image.open(folder / "drawn" / one["file"]) as drawn:
            assert drawn.size == (64, 64)
    shutil.copytree(runs / "det-images", folder / "images")
    again = data.load(f"coco(root='{folder}', annotations='coco.json', images='images')", "test", "boxes")
    assert len(again) == len(images)
    assert sum(len(again[index][1].labels) for index in range(len(again))) > 0.5 * len(results)  # slivers are left out


def test_a_threshold_leaves_boxes_out(runs):
    def scores(threshold):
        found = json.loads(told(runs, "det", threshold=threshold).json)["images"]
        return [thing["score"] for one in found for thing in one["objects"]]

    every = scores(0.0)
    bound = sorted(every)[len(every) // 2]
    kept = scores(bound)
    assert 0 < len(kept) < len(every)
    assert min(kept) >= bound - 1e-6
    with pytest.raises(ConfigError, match="threshold is 2; expected a score from 0 to 1"):
        predict(runs / "det", [runs / "det-images"], threshold=2)


def test_files_folders_and_patterns_are_found_once_in_the_order_that_people_count_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/2.png", "a/10.png", "a/b/1.JPG", "a/notes.txt", "c/9.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [one.name for one in find_images(["a"])] == ["2.png", "10.png", "b/1.JPG"]
    assert [one.name for one in find_images(["a/*.png", "c", "a/10.png"])] == ["a/2.png", "a/10.png", "c/9.png"]
    assert [one.name for one in find_images(["a/**/*"])] == ["2.png", "10.png", "b/1.JPG"]
    assert [(one.name, one.file) for one in find_images(["c/9.png"])] == [("9.png", tmp_path / "c" / "9.png")]
    for given, message in (
        (["d"], "d does not exist"),
        (["*.gif"], r"\*\.gif holds no image: none ends in"),
        ([], "No image was given"),
    ):
        with pytest.raises(ConfigError, match=message):
            find_images(given)


def test_images_of_one_name_keep_files_apart(runs, tmp_path):
    for ending in ("png", "bmp"):
        Image.new("RGB", (40, 30), "red").save(tmp_path / f"one.{ending}")
    found = predict(runs / "seg", [tmp_path / "one.png", tmp_path / "one.bmp"], device="cpu", show_progress=False)
    tell(found, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out" / "masks").iterdir()) == ["one.bmp.png", "one.png"]
    with Image.open(tmp_path / "out" / "masks" / "one.png") as mask:
        assert mask.size == (40, 30)


def test_an_image_that_cannot_be_read_is_named_or_left_out(runs, tmp_path, capfd):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "one.png")
    (tmp_path / "two.png").write_bytes(b"no image")
    settings = {"device": "cpu", "show_progress": False}
    with pytest.raises(DataError, match=r"two\.png"):
        list(predict(runs / "cls", [tmp_path], **settings))
    found = list(predict(runs / "cls", [tmp_path], skip=True, **(settings | {"show_progress": True})))
    assert [one.picture.name for one in found] == ["one.png"]
    assert "Left out: " in " ".join(capfd.readouterr().err.split())


def test_nothing_is_written_over(runs, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(ConfigError, match="is not empty: predictions go into a new folder"):
        told(runs, "cls", tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="The predictions cannot be written"):
        told(runs, "seg", tmp_path / "file" / "out")


def test_a_stop_is_heard_between_batches(runs, monkeypatch):
    import signal

    found = iter(predict(runs / "cls", [runs / "cls-images"], device="cpu", batch_size=2, show_progress=False))
    next(found)
    signal.raise_signal(signal.SIGTERM)
    next(found)
    with pytest.raises(Interrupted, match="Stopped after 2 of 11 images") as stopped:
        next(found)
    assert stopped.value.exit_code == 143

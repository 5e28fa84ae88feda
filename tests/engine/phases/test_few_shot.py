"""A few labels of the target: which images are drawn, which never, and what learns from them."""

import json
from collections import Counter

import pytest
import torch

from synreal.data.labels.boxes import Boxes
from synreal.data.sets import ArrayBoxes, ArrayImages, ArrayMasks
from synreal.engine.checkpoint import load
from synreal.engine.phases.few_shot import drawn
from synreal.engine.phases.train import Train
from synreal.errors import ConfigError, DataError
from synreal.records import read_record
from tests.engine import tiny
from tests.engine.tiny import rows, run

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")

SHORT = {"eval_every": 0, "checkpoint_every": 1, "keep_checkpoints": 50, "epochs": 1, "targets": ["mnist"]}
NAMES = tuple("abcd")


def images(number, side=8):
    return torch.randint(0, 256, (number, 3, side, side), dtype=torch.uint8)


def labelled(counts):
    labels = torch.tensor([k for k, count in enumerate(counts) for _ in range(count)])
    return ArrayImages("photo", "train", images(len(labels)), labels, NAMES)


@pytest.mark.parametrize("n", [1, 3])
def test_each_class_gets_as_many_images(n):
    pool = labelled([5, 9, 3, 20])
    chosen = drawn(pool, n, seed=0)
    assert Counter(pool.labels[chosen].tolist()) == dict.fromkeys(range(4), n)
    assert chosen == sorted(set(chosen)) == drawn(pool, n, seed=0)
    assert chosen != drawn(pool, n, seed=1)


def test_all_images_are_equally_likely():
    pool = labelled([4, 4, 4, 4])
    counts = Counter(index for seed in range(400) for index in drawn(pool, 1, seed))
    assert len(counts) == 16
    assert all(60 < count < 140 for count in counts.values())


def test_a_class_with_too_few_images_is_told_and_one_without_any_left_out():
    with pytest.raises(ConfigError, match=r"4 images of each class, but photo \(train\) has fewer of b, c\. Use n=2"):
        drawn(labelled([5, 3, 2, 20]), 4, seed=0)
    assert len(drawn(labelled([5, 0, 2, 20]), 2, seed=0)) == 6


def test_masks_and_boxes_show_each_class_as_often():
    masks = torch.zeros(12, 8, 8, dtype=torch.uint8)
    for index in range(12):
        masks[index, : 1 + index % 3] = 1 + index % 3
    pool = ArrayMasks("photo", "train", images(12), masks, ("background", "x", "y", "z"))
    chosen = drawn(pool, 2, seed=0)
    shown = [set(masks[index].unique().tolist()) for index in chosen]
    assert all(sum(k in one for one in shown) >= 2 for k in range(4))
    assert len(chosen) == 6

    def objects(*labels):
        corners = torch.tensor([[0.0, 0.0, 4.0, 4.0]] * len(labels))
        return Boxes(corners, torch.tensor(labels), torch.zeros(len(labels), dtype=torch.bool), torch.ones(len(labels)))

    boxes = [objects(0, 1), objects(0), objects(1), objects(2, 2), objects(3), objects(0, 3)]
    pool = ArrayBoxes("photo", "train", images(6), boxes, NAMES)
    chosen = drawn(pool, 1, seed=3)
    assert {label for index in chosen for label in boxes[index].labels.tolist()} == {0, 1, 2, 3}


@pytest.mark.parametrize("with_regularizer", [True, False])
def test_the_last_phase_learns_from_what_was_drawn(with_regularizer, tmp_path, monkeypatch):
    seen = []
    original = Train.output

    def output(self, state, views, targets):
        seen.append((self.name, len(views), state.job.data.images))
        return original(self, state, views, targets)

    monkeypatch.setattr(Train, "output", output)
    phases = ["train", f"few_shot(n=1, epochs=2, images=uci, with_regularizer={with_regularizer})"]
    path = run(tmp_path / "run", phases=phases, regularizers="gcisg", **SHORT).folder
    (shots,) = {id(one): one for name, _, one in seen if name == "few_shot"}.values()
    assert sorted(label for _, label in map(shots.__getitem__, range(len(shots)))) == list(range(7))
    assert {views for name, views, _ in seen if name == "few_shot"} == {2 if with_regularizer else 1}
    found = [row for row in rows(path) if row.get("phase") == "few_shot" and "loss" in row]
    assert len(found) == 2  # 7 images in batches of 6
    assert all(("penalty" in row) == with_regularizer for row in found)
    before, after = (load(path / "checkpoints" / f"step-{step:08d}").model for step in (4, 6))
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == ({"student", "terms", "averages"} if with_regularizer else {"student"})
    record = read_record(path)
    assert record.protocol.seen_of_target == "labels"
    assert record.protocol.saw == "1 labels a class (uci, test)"
    facts = json.loads((path / "run.json").read_text())
    assert facts["data"]["phase-few_shot"] == shots.fingerprint


def test_seeds_draw_other_images_of_one_protocol(tmp_path):
    from synreal.records.protocols import differing, identity

    phases = ["train", "few_shot(n=1, epochs=1, images=uci)"]
    tiny_pool = {"regularizers": "none", "phases": phases, **SHORT}
    one, two = (read_record(run(tmp_path / str(seed), seed=seed, **tiny_pool).folder) for seed in (0, 1))
    assert differing(identity(one, ["mnist"]), identity(two, ["mnist"])) == []
    plain = read_record(run(tmp_path / "plain", **{**tiny_pool, "phases": ["train"]}).folder)
    assert {"phases", "seen", "seen_of_target"} <= set(differing(identity(one, ["mnist"]), identity(plain, ["mnist"])))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"phases": ["train", "few_shot"]}, "needs labelled images of the target that are not tested on"),
        ({"phases": ["train", "few_shot(images=mnist)"]}, "all images of 'mnist' are"),
        ({"phases": ["train", "few_shot(images=digits)"]}, "'digits' is synthetic"),
        ({"phases": ["few_shot(images=uci)", "few_shot(n=2, images=uci)"]}, "few_shot is there twice"),
        (
            {"targets": "none", "phases": ["train", "few_shot"]},
            "few_shot takes images of the target, and there is none",
        ),
    ],
)
def test_images_that_are_tested_on_are_refused_before_data_are_read(settings, message, tmp_path, monkeypatch):
    monkeypatch.setattr("synreal.data.load", None)
    with pytest.raises(ConfigError, match=message):
        run(tmp_path / "run", **{**SHORT, **settings})


def test_images_that_turn_out_to_be_tested_on_are_refused(tmp_path, monkeypatch):
    original = tiny.load

    def load_same(value, split, label="classes", **others):
        return original("mnist" if split == "test" else value, split, label, **others)

    monkeypatch.setattr("synreal.data.load", load_same)
    with pytest.raises(ConfigError, match="would draw from images that 'mnist' is tested on"):
        run(tmp_path / "run", phases=["train", "few_shot(n=1, images=uci)"], regularizers="none", **SHORT)


def test_images_that_can_teach_nothing_are_refused(tmp_path, monkeypatch):
    original = tiny.load

    def load_one_class(value, split, label="classes", **others):
        found = original(value, split, label, **others)
        if found.name == "uci":
            found.labels = torch.zeros_like(found.labels)
        return found

    monkeypatch.setattr("synreal.data.load", load_one_class)
    with pytest.raises(DataError, match=r"uci \(test\) can teach nothing: all images are of one class"):
        run(tmp_path / "run", phases=["train", "few_shot(n=1, images=uci)"], regularizers="none", **SHORT)

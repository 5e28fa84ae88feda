import json

import pytest
import torch
from torch import nn

from synreal.config import RunConfig
from synreal.data.labels.boxes import Boxes
from synreal.data.sets import ArrayBoxes
from synreal.tasks.detection import Detection
from synreal.tasks.reporting import draw, write_files
from synreal.weights import Student, WeightsOrigin

CPU = torch.device("cpu")


def objects(corners, labels, crowd=None):
    corners = torch.as_tensor(corners, dtype=torch.float32).reshape(-1, 4)
    sides = corners[:, 2:] - corners[:, :2]
    return Boxes(
        corners,
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(crowd or [False] * len(corners), dtype=torch.bool),
        sides.prod(1),
    )


def scenes():
    images = torch.randint(0, 256, (3, 3, 40, 40), dtype=torch.uint8)
    boxes = [
        objects([[4, 4, 20, 20], [22, 8, 36, 30]], [0, 1]),
        objects([], []),
        objects([[2, 2, 18, 30], [0, 0, 40, 40]], [1, 0], [False, True]),
    ]
    return ArrayBoxes("toy", "test", images, boxes, ("round", "flat"))


def task(**changes):
    data = scenes()
    settings = {"task": "det", "image_size": 40, "device": "cpu", "scale": (1, 1), **changes}
    config = RunConfig(**settings)
    return Detection(config.task, config.setup, data, {"source": data})


def student(network):
    return Student(network, WeightsOrigin("none", "random initialisation", None), ((0.5,) * 3, (0.5,) * 3))


def test_training_targets_count_classes_from_one_and_leave_crowds_out():
    data = task(strength=0).training_data(1)
    (view,), target = data[0, 0]
    assert torch.equal(view, scenes_image(data, 0))
    assert target["boxes"].tolist() == [[4, 4, 20, 20], [22, 8, 36, 30]]
    assert target["labels"].tolist() == [1, 2]
    assert type(target["boxes"]) is torch.Tensor
    _, empty = data[0, 1]
    assert empty["boxes"].shape == (0, 4)
    assert empty["labels"].dtype == torch.int64
    _, third = data[0, 2]
    assert third["boxes"].tolist() == [[2, 2, 18, 30]]
    assert third["labels"].tolist() == [2]


def scenes_image(data, index):
    return data.images[index][0]


def test_what_a_crop_leaves_of_a_box_is_no_object_if_it_is_thinner_than_two_pixels():
    data = task(scale=(2.5, 2.5)).training_data(1)
    kept = 0
    for epoch in range(60):
        _, target = data[epoch, 0]
        sides = target["boxes"][:, 2:] - target["boxes"][:, :2]
        assert (sides >= 2).all()
        assert len(target["labels"]) == len(target["boxes"])
        kept += len(sides)
    assert 0 < kept < 120


def test_views_of_a_batch_are_lists_and_reach_the_device_in_zero_to_one():
    built = task()
    data = built.training_data(2)
    views, targets = built.collate([data[0, 0], data[0, 1]])
    assert [len(view) for view in views] == [2, 2]
    (first, second), more = built.inputs(views, targets, student(nn.Identity()), CPU)
    assert torch.equal(first[0] * 255, views[0][0].float())
    assert torch.equal(second[1] * 255, views[1][1].float())
    assert [one["labels"].tolist() for one in more["targets"]] == [[1, 2], []]


class Oracle(nn.Module):
    """Finds what is there, in torchvision's form."""

    def __init__(self, data):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.known = {float(image.float().sum()): boxes for image, boxes in (data[i] for i in range(len(data)))}

    def forward(self, images):
        found = [self.known[float((image * 255).round().sum())] for image in images]
        return [
            {"boxes": boxes.boxes, "labels": boxes.labels + 1, "scores": torch.full((len(boxes.labels),), 0.9)}
            for boxes in found
        ]


def test_a_detector_that_knows_everything_scores_one_and_its_files_say_the_same(tmp_path):
    built = task()
    oracle = student(Oracle(built.tests["source"]).eval())
    data, collection = built.test_data("source"), built.collection("source")
    images, targets = built.collate_test([data[i] for i in range(3)])
    collection.update(built.predict(oracle, images, CPU), targets)
    score = collection.compute()
    assert score.measures["ap"] == score.measures["ap50"] == pytest.approx(1)
    assert score.per_class == {"round": pytest.approx(1), "flat": pytest.approx(1)}
    write_files("source", collection, tmp_path)
    draw(built, "source", score, oracle, tmp_path, "toy")
    truth = json.loads((tmp_path / "predictions" / "source-truth.json").read_text())
    results = json.loads((tmp_path / "predictions" / "source.json").read_text())
    assert [image["height"] for image in truth["images"]] == [40, 40, 40]
    assert len(truth["annotations"]) == 4
    assert len(results) == 4
    assert results[0]["bbox"] == [4, 4, 16, 16]
    assert results[0]["category_id"] == 1
    assert (tmp_path / "figures" / "predictions-source.png").stat().st_size > 5_000


def test_the_loss_is_the_sum_of_the_detector_s_own():
    losses = {"a": torch.tensor(1.5, requires_grad=True), "b": torch.tensor(0.25, dtype=torch.bfloat16)}
    loss = task().loss(losses, None)
    assert loss.item() == 1.75
    assert loss.dtype == torch.float32
    loss.backward()
    assert losses["a"].grad == 1

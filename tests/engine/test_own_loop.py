"""A loop of one's own around ``attach`` gives what the command gives, to the bit, from the same draws."""

from types import MappingProxyType

import pytest
import torch
from torch.nn import functional as F
from torchvision.tv_tensors import BoundingBoxes, Mask

import synreal
from synreal.engine.checkpoint import read_student
from synreal.engine.schedule import BatchPlan
from synreal.regularizers import get
from synreal.tasks import TASKS
from synreal.tasks.networks import create_detector, create_segmenter
from synreal.views import AlignedViews, derive_seed, seeded, to_float, training_views
from synreal.weights import create_backbone, normalization
from tests.engine import tiny
from tests.engine.tiny import run
from tests.regularizers.contract import tiny as small

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")

BACKBONE, SEED, STEPS = "test_efficientnet", 5, 5


class Classification:
    task, classes, patches = "classification", 10, 1
    config = MappingProxyType({"image_size": 32})

    def student(self):
        student, _ = create_backbone(BACKBONE, num_classes=self.classes, weights="none")
        synreal.zero_head(student)
        self.views = training_views(student, 32)
        return student

    def item(self, image, label):
        return *self.views(image), label

    def loss(self, model, items):
        x0, x1, labels = zip(*items, strict=True)
        labels = torch.tensor([int(label) for label in labels])
        out = model(torch.stack(x0), torch.stack(x1), targets=labels)
        return F.cross_entropy(out["output"], labels) + out["penalty"]


class Segmentation:
    task, classes, patches = "segmentation", 11, 8
    config = MappingProxyType(
        {"architecture": "fpn", "optimizer": "sgd", "weight_decay": 5e-4, "backbone_lr_scale": 0.1}
    )

    def student(self):
        student, _ = create_segmenter("fpn", BACKBONE, num_classes=self.classes, weights="none")
        self.views, self.statistics = AlignedViews(2, size=64), normalization(student)
        return student

    def item(self, image, mask):
        views, mask = self.views(image, Mask(mask))
        return *(to_float(view, *self.statistics) for view in views), mask

    def loss(self, model, items):
        x0, x1, masks = (torch.stack(tuple(part)) for part in zip(*items, strict=True))
        out = model(x0, x1, targets=masks)
        return F.cross_entropy(out["output"], masks.long(), ignore_index=255) + out["penalty"]


class Detection:
    task, classes, patches = "detection", 10, 4
    config = MappingProxyType({"architecture": "fcos"})

    def student(self):
        return create_detector("fcos", BACKBONE, num_classes=self.classes, weights="none", image_size=64)[0]

    def item(self, image, objects):
        views, boxes = AlignedViews(2)(image, BoundingBoxes(objects.boxes, format="XYXY", canvas_size=(64, 64)))
        kept = (boxes[:, 2:] - boxes[:, :2] >= 2).all(1)
        return *(view / 255 for view in views), {"boxes": boxes[kept], "labels": objects.labels[kept] + 1}

    def loss(self, model, items):
        x0, x1, targets = map(list, zip(*items, strict=True))
        out = model(x0, x1, targets=targets)
        return sum(out["output"].values()) + out["penalty"]


OWN = [Classification(), Segmentation(), Detection()]
# A classifier to keep is one of ImageNet's, which no network without weights has.
NAMES = [name for name in synreal.list_regularizers() if not get(name)().needs_classifier]


@pytest.mark.parametrize(
    ("own", "regularizer"),
    [
        pytest.param(own, name, id=f"{own.task}-{name}")
        for own in OWN
        for name in (NAMES if own is OWN[0] else ["none", "csg", "gcisg", "masked_feature_l2"])
    ],
)
def test_the_same_draws_give_the_same_weights(own, regularizer, tmp_path, monkeypatch):
    tiny.install(monkeypatch.setattr, drop_rate=0.0)
    settings = {"task": own.task, "batch_size": 6, "max_steps": STEPS, "lr": 0.05, "warmup_steps": 3, "seed": SEED}
    run(tmp_path / "run", regularizers=regularizer, eval_every=0, **settings, **own.config)
    theirs = read_student(tmp_path / "run" / "model.safetensors")

    images = tiny.load("digits", "train", TASKS.get(own.task).label)
    torch.manual_seed(derive_seed(SEED, "build"))
    student = own.student().to(memory_format=torch.channels_last)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    spec = small(regularizer, patches=own.patches).scheduled(len(images) // 6, STEPS).for_classes(images.classes)
    model = synreal.attach(student, spec)
    opt = torch.optim.SGD(synreal.parameter_groups(model, lr=0.05), momentum=0.9, weight_decay=5e-4)
    schedule = synreal.warmup_poly_schedule(opt, STEPS, warmup=3)
    model.bind(opt)
    for step, batch in enumerate(BatchPlan(len(images), 6, 2, SEED, most=STEPS)):
        items = []
        for epoch, index in batch:
            with seeded(derive_seed(SEED, "view", epoch, index)):
                items.append(own.item(*images[index]))
        torch.manual_seed(derive_seed(SEED, "step", step, 0))
        own.loss(model, items).backward()
        opt.step()
        schedule.step()
        opt.zero_grad()
    ours = model.detach().state_dict()
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert any(not torch.equal(ours[name], before[name]) for name in ours)

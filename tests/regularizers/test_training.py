"""The newer terms in training on the embedded digits, rendered as scenes with masks."""

import pytest
import torch
from torch.nn import functional as F
from torchvision.tv_tensors import Mask

import synreal
from synreal.data.rendered import scenes
from synreal.regularizers import REGULARIZERS
from synreal.tasks.networks import create_segmenter
from synreal.views import AlignedViews, seeded, to_float
from synreal.weights import normalization

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")

WEIGHTS = {"miro": 10.0, "texture": 3e5, "masked_feature_l2": 10.0, "pyramid_consistency": 300.0}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return scenes._source("train", 4, label="masks", seed=0, cache=tmp_path_factory.mktemp("digits"))


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_student_that_moved_away_comes_back(name, digits):
    torch.manual_seed(0)
    student, _ = create_segmenter("fpn", "test_efficientnet", num_classes=len(digits.classes), weights="none")
    spec = REGULARIZERS.build(name, {"weight": WEIGHTS[name], "stages": (2,)}).dense(8).for_classes(digits.classes)
    model = synreal.attach(student, spec).train()
    with torch.no_grad():
        for parameter in model.backbone_parameters:
            parameter.add_(0.05 * torch.randn_like(parameter))
    opt = torch.optim.AdamW(synreal.parameter_groups(model, lr=0.003, backbone_lr_scale=1))
    model.bind(opt)
    views, statistics, items = AlignedViews(2, size=64), normalization(student), []
    for index in range(len(digits)):
        image, mask = digits[index]
        with seeded(index):
            shown, moved = views(image, Mask(mask))
        items.append((*(to_float(view, *statistics) for view in shown), moved.as_subclass(torch.Tensor).long()))
    x0, x1, masks = (torch.stack(part) for part in zip(*items, strict=True))
    penalties, losses = [], []
    for _ in range(10):
        out = model(x0, x1, targets=masks)
        loss = F.cross_entropy(out["output"], masks, ignore_index=255)
        (loss + out["penalty"]).backward()
        opt.step()
        opt.zero_grad()
        penalties.append(float(out["penalty"].detach()))
        losses.append(float(loss.detach()))
    assert torch.tensor([*penalties, *losses]).isfinite().all()
    assert max(penalties[-3:]) < 0.7 * penalties[0]
    assert losses[-1] < losses[0]

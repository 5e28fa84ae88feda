import pytest
import torch
from torch import nn

from synreal.errors import ConfigError
from synreal.tasks.architectures import DETECTORS
from synreal.tasks.networks.detector_graphs import ExportedDetector, detector_graph
from tests.tasks.networks.builds import detector

SIZES = [(64, 80), (100, 70), (64, 128)]


def lively(architecture):
    """A detector that finds many boxes, of all classes, some of which overlap."""
    model = detector(architecture).eval()
    with torch.no_grad():
        if architecture == "fasterrcnn":
            heads = [model.rpn.head.cls_logits, model.rpn.head.bbox_pred, *model.roi_heads.box_predictor.children()]
            for layer, factor in zip(heads, (100, 30, 300, 50), strict=True):
                layer.weight.mul_(factor)
        else:
            layer = model.head.classification_head.cls_logits
            layer.weight.mul_(8)
            layer.bias.clamp_(min=-1).masked_fill_(
                torch.arange(len(layer.bias)) % model.head.classification_head.num_classes == 0, -20
            )
    return model


@pytest.mark.parametrize("architecture", DETECTORS)
@pytest.mark.parametrize("most", [7, 100])
def test_a_whole_batch_gives_what_torchvision_gives_image_by_image(architecture, most):
    model = lively(architecture)
    (model.roi_heads if architecture == "fasterrcnn" else model).detections_per_img = most
    images = [torch.rand(3, *size, generator=torch.Generator().manual_seed(n)) for n, size in enumerate(SIZES)]
    graph = detector_graph(model)
    with torch.no_grad():
        theirs = model([image.clone() for image in images])
        ours = ExportedDetector(model, lambda inputs: graph(**inputs))(images)
    assert sum(len(one["boxes"]) for one in theirs) > 3
    for one, other in zip(theirs, ours, strict=True):
        assert len(one["boxes"]) <= most
        for key in ("labels", "scores", "boxes"):
            torch.testing.assert_close(other[key], one[key], atol=1e-4, rtol=1e-5)


def test_another_network_is_refused():
    with pytest.raises(ConfigError, match="Linear cannot be exported; expected FasterRCNN, FCOS or RetinaNet"):
        detector_graph(nn.Linear(1, 1))

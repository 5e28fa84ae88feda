"""A torchvision detector that you built yourself, in the six-line loop.

Run it with ``python examples/own_detector.py``; it trains a few steps on the embedded scenes.
"""

from __future__ import annotations

import argparse
from collections import OrderedDict
from collections.abc import Iterator

import timm
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork
from torchvision.transforms import v2

import synreal
from synreal.tasks import data
from synreal.weights import create_backbone, normalization


class Backbone(nn.Module):
    """Any backbone of timm with a feature pyramid; synreal finds ``backbone.body`` by its name."""

    out_channels = 256

    def __init__(self, name: str) -> None:
        super().__init__()
        self.body = timm.create_model(name, features_only=True, out_indices=(1, 2, 3, 4))
        pretrained, _ = create_backbone(name, num_classes=0)  # with a network at hand: pretrained=True above
        self.body.load_state_dict(pretrained.state_dict(), strict=False)
        self.fpn = FeaturePyramidNetwork(self.body.feature_info.channels(), self.out_channels)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Return the pyramid."""
        return self.fpn(OrderedDict((str(i), features) for i, features in enumerate(self.body(images))))


def batches(steps: int, size: int) -> Iterator[tuple]:
    """Lists of images in [0, 1], the same in other colours, and their targets: stand-ins for your loader."""
    scenes = data.load("digits", "train", task="detection")
    jitter = v2.ColorJitter(0.4, 0.4, 0.4, 0.4)
    for _ in range(steps):
        chosen = [scenes[index] for index in torch.randint(len(scenes), (size,)).tolist()]
        x0 = [image.float() / 255 for image, _ in chosen]
        x1 = [jitter(image).float() / 255 for image, _ in chosen]
        yield (x0, x1), [{"boxes": boxes.boxes, "labels": boxes.labels + 1} for _, boxes in chosen]


def main(steps: int = 20, size: int = 4) -> list[float]:
    """Train a few steps and return the task's losses."""
    torch.manual_seed(0)
    backbone = Backbone("tf_efficientnet_lite0")
    mean, std = normalization(backbone.body)
    anchors = AnchorGenerator(((16,), (24,), (40,), (64,)), ((0.5, 1.0, 2.0),) * 4)
    student = FasterRCNN(
        backbone,
        num_classes=11,
        min_size=128,
        max_size=256,
        image_mean=mean,
        image_std=std,
        rpn_anchor_generator=anchors,
    )
    losses = []

    model = synreal.attach(student, [synreal.GCISG(patches=4, queue_size=4096)])
    opt = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=5e-3)
    model.bind(opt)
    for (x0, x1), targets in batches(steps, size):
        out = model(x0, x1, targets=targets)  # view 1 is resized as the detector resized view 0
        loss = sum(out["output"].values())
        (loss + out["penalty"]).backward()
        opt.step()
        opt.zero_grad()
        losses.append(loss.item())
        print(f"task {losses[-1]:.3f}  penalty {out['penalty'].item():.3f}")

    model.detach()  # gives the student back, without a hook
    return losses


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=4)
    arguments = parser.parse_args()
    main(arguments.steps, arguments.batch_size)

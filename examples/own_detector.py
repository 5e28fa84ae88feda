"""A torchvision detector that you built yourself, in the README's loop.

Run it with ``python examples/own_detector.py``; it trains a few steps on the embedded scenes.
"""

from __future__ import annotations

import argparse
from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice
from typing import Any

import timm
import torch
from pictures import endless
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork
from torchvision.tv_tensors import BoundingBoxes

import synreal
from synreal import data
from synreal.tasks.networks import proposals
from synreal.views import AlignedViews
from synreal.weights import create_backbone, normalization


class Scenes(Dataset):
    """``(x0, x1), target``: an image in [0, 1], the same in different colours, and its objects."""

    def __init__(self) -> None:
        self.images = data.load("digits", "train", "boxes")
        self.views = AlignedViews(2)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Return the views and the objects of an image."""
        image, objects = self.images[index]
        single = ~objects.crowd
        given = BoundingBoxes(objects.boxes[single], format="XYXY", canvas_size=image.shape[-2:])
        views, boxes = self.views(image, given)
        corners = boxes.as_subclass(Tensor)
        kept = (corners[:, 2:] - corners[:, :2] >= 2).all(1)  # a crop may have left next to nothing of an object
        target = {
            "boxes": corners[kept],
            "labels": objects.labels[single][kept] + 1,
        }  # 0 is the background
        return tuple(view.float() / 255 for view in views), target


def collate(rows: list[Any]) -> tuple[list[list[Tensor]], list[dict[str, Tensor]]]:
    """Do not stack images: one list per view, and a list of targets."""
    views, targets = zip(*rows, strict=True)
    return [list(view) for view in zip(*views, strict=True)], list(targets)


class Backbone(nn.Module):
    """Any backbone of timm with a feature pyramid; synreal finds ``backbone.body`` by its name."""

    out_channels = 256

    def __init__(self, name: str) -> None:
        super().__init__()
        self.body = timm.create_model(name, features_only=True, out_indices=(1, 2, 3, 4))
        pretrained, _ = create_backbone(name, num_classes=0)  # online, pretrained=True above does the same
        self.body.load_state_dict(pretrained.state_dict(), strict=False)
        self.fpn = FeaturePyramidNetwork(self.body.feature_info.channels(), self.out_channels)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Return the pyramid."""
        return self.fpn(OrderedDict((str(i), features) for i, features in enumerate(self.body(images))))


def build(classes: int) -> nn.Module:
    """Your own detector, for images of 128 pixels."""
    backbone = Backbone("tf_efficientnet_lite0")
    mean, std = normalization(backbone.body)
    return FasterRCNN(
        backbone,
        num_classes=classes + 1,
        min_size=128,
        max_size=256,
        image_mean=mean,
        image_std=std,
        rpn_anchor_generator=AnchorGenerator(((16,), (24,), (40,), (64,)), ((0.5, 1.0, 2.0),) * 4),
        **proposals(128),  # torchvision's defaults are for images of 800 pixels, and take most of a step's time
    )


def train(student: nn.Module, batches: Iterable, steps: int, regularizer: str) -> list[float]:
    """Train a detector with a pretrained backbone, and return the task's losses."""
    losses = []
    model = synreal.attach(student, [regularizer])  # keeps the backbone's BatchNorm statistics
    opt = torch.optim.SGD(synreal.parameter_groups(model, lr=0.02), momentum=0.9, weight_decay=5e-4)
    schedule = synreal.warmup_poly_schedule(opt, steps, warmup=50)
    model.bind(opt)
    for (x0, x1), targets in islice(batches, steps):
        out = model(x0, x1, targets=targets)  # view 1 is resized as the detector resized view 0
        loss = sum(out["output"].values())
        (loss + out["penalty"]).backward()
        opt.step()
        schedule.step()
        opt.zero_grad()
        losses.append(loss.item())
        print(f"task {losses[-1]:.3f}  penalty {out['penalty'].item():.3f}")
    model.detach()  # returns the student without any hooks
    return losses


def main(steps: int = 20, batch_size: int = 4, regularizer: str = "gcisg(patches=4, queue_size=4096)") -> list[float]:
    """Train a few steps and return the task's losses."""
    torch.manual_seed(0)
    student = build(classes=10)
    scenes = DataLoader(Scenes(), batch_size, shuffle=True, drop_last=True, collate_fn=collate)
    return train(student, endless(scenes), steps, regularizer)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=4)
    main(**vars(parser.parse_args()))

"""A segmentation model that you built yourself, in the README's loop.

Run it with ``python examples/own_segmenter.py``; it trains a few steps on the embedded scenes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from itertools import islice

import segmentation_models_pytorch as smp
import torch
from pictures import endless
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.tv_tensors import Mask

import synreal
from synreal import data
from synreal.views import AlignedViews, to_float
from synreal.weights import create_backbone, normalization


class Scenes(Dataset):
    """``(x0, x1), y``: two views that differ in colour alone, and the classes of their pixels."""

    def __init__(self, student: nn.Module) -> None:
        self.images = data.load("digits", "train", "masks")
        self.views = AlignedViews(2, size=128)
        self.statistics = normalization(student)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return the views and the mask of an image."""
        image, mask = self.images[index]
        views, mask = self.views(image, Mask(mask))
        return tuple(to_float(view, *self.statistics) for view in views), mask.as_subclass(Tensor).long()


def build(classes: int) -> nn.Module:
    """Your own model; online, ``encoder_weights="imagenet"`` fills the encoder as well."""
    student = smp.DeepLabV3Plus("tu-tf_efficientnet_lite0", encoder_weights=None, classes=classes)
    pretrained, _ = create_backbone("tf_efficientnet_lite0", num_classes=0)
    student.encoder.model.load_state_dict(pretrained.state_dict(), strict=False)
    return student


def train(student: nn.Module, batches: Iterable, steps: int, regularizer: str) -> list[float]:
    """Train a model with a pretrained encoder and a fresh decoder, and return the task's losses."""
    losses = []
    model = synreal.attach(student, [regularizer])  # keeps the encoder's BatchNorm statistics; the decoder's learn
    groups = synreal.parameter_groups(model, lr=0.002, backbone_lr_scale=0.3)
    opt = torch.optim.AdamW(groups, weight_decay=0.01)
    schedule = synreal.warmup_poly_schedule(opt, steps, warmup=50)
    model.bind(opt)
    for (x0, x1), masks in islice(batches, steps):
        out = model(x0, x1, targets=masks)  # for terms that look where objects are
        loss = F.cross_entropy(out["output"], masks, ignore_index=255)
        (loss + out["penalty"]).backward()
        opt.step()
        schedule.step()
        opt.zero_grad()
        losses.append(loss.item())
        print(f"task {losses[-1]:.3f}  penalty {out['penalty'].item():.3f}")
    model.detach()  # returns the student without any hooks
    return losses


def main(steps: int = 20, batch_size: int = 4, regularizer: str = "csg(patches=8, queue_size=4096)") -> list[float]:
    """Train a few steps and return the task's losses."""
    torch.manual_seed(0)
    student = build(classes=11)
    scenes = DataLoader(Scenes(student), batch_size, shuffle=True, drop_last=True)
    return train(student, endless(scenes), steps, regularizer)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=4)
    main(**vars(parser.parse_args()))

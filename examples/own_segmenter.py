"""A segmentation model that you built yourself, in the six-line loop.

Run it with ``python examples/own_segmenter.py``; it trains a few steps on the embedded scenes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import segmentation_models_pytorch as smp
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.tv_tensors import Mask

import synreal
from synreal.tasks import data
from synreal.views import AlignedViews, to_float
from synreal.weights import create_backbone, normalization


def batches(steps: int, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Iterator[tuple]:
    """Two views that differ in colour alone, and the classes of their pixels: stand-ins for your loader."""
    scenes = data.load("digits", "train", task="segmentation")
    views = AlignedViews(2, size=128)
    for _ in range(steps):
        chosen = [scenes[index] for index in torch.randint(len(scenes), (size,)).tolist()]
        pairs, masks = zip(*(views(image, Mask(mask)) for image, mask in chosen), strict=True)
        x0, x1 = (to_float(torch.stack(view), mean, std) for view in zip(*pairs, strict=True))
        yield (x0, x1), torch.stack(masks).as_subclass(torch.Tensor).long()


def build(classes: int) -> tuple[nn.Module, tuple, tuple]:
    """Your own model; with a network at hand, encoder_weights="imagenet" fills the encoder as well."""
    student = smp.Unet("tu-tf_efficientnet_lite0", encoder_weights=None, classes=classes)
    pretrained, _ = create_backbone("tf_efficientnet_lite0", num_classes=0)
    student.encoder.model.load_state_dict(pretrained.state_dict(), strict=False)
    return student, *normalization(pretrained)


def main(steps: int = 20, size: int = 4) -> list[float]:
    """Train a few steps and return the task's losses."""
    torch.manual_seed(0)
    student, mean, std = build(classes=11)
    losses = []

    model = synreal.attach(student, [synreal.CSG(patches=8, queue_size=4096)])
    opt = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    model.bind(opt)
    for (x0, x1), masks in batches(steps, size, mean, std):
        out = model(x0, x1)
        loss = F.cross_entropy(out["output"], masks, ignore_index=255)
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

"""The six-line loop: your own network, your own data, plain PyTorch.

Run it with ``python examples/plain.py``; it trains a few steps on the embedded digits.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import torch
from torch.nn import functional as F

import synreal
from synreal.tasks import data
from synreal.views import MultiView, classification_transform, to_float
from synreal.weights import create_backbone, normalization


def batches(steps: int, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Iterator[tuple]:
    """Two independently augmented views of synthetic images, and their labels: stand-ins for your loader."""
    images = data.load("digits", "train")
    views = MultiView(classification_transform(64, train=True))
    for _ in range(steps):
        chosen = torch.randint(len(images), (size,)).tolist()
        pairs = [views(images[index][0]) for index in chosen]
        x0, x1 = (to_float(torch.stack(view), mean, std) for view in zip(*pairs, strict=True))
        yield (x0, x1), torch.tensor([images[index][1] for index in chosen])


def main(steps: int = 20, size: int = 32) -> list[float]:
    """Train a few steps and return the task's losses."""
    torch.manual_seed(0)
    student, _ = create_backbone("tf_efficientnet_lite0", num_classes=10)  # any pretrained timm model
    loader = batches(steps, size, *normalization(student))
    losses = []

    model = synreal.attach(student, [synreal.CSG(stages=(3, 4))])
    opt = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    model.bind(opt)  # queues and moving averages follow the optimizer's steps
    for (x0, x1), y in loader:
        out = model(x0, x1)
        loss = F.cross_entropy(out["output"], y)
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
    parser.add_argument("--batch-size", type=int, default=32)
    arguments = parser.parse_args()
    main(arguments.steps, arguments.batch_size)

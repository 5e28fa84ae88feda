"""The README's loop: your own network, your own data, plain PyTorch.

Run it with ``python examples/plain.py``; it trains a few steps on the embedded digits.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import torch
from pictures import endless, loader, parser, student_and_pictures
from torch import nn
from torch.nn import functional as F

import synreal


def train(student: nn.Module, batches: Iterable, steps: int, regularizer: str = "csg") -> list[float]:
    """Train a pretrained network with a fresh classifier, and return the task's losses."""
    losses = []
    synreal.zero_head(student)  # a random classifier would shake the backbone before it has learnt anything
    model = synreal.attach(student, [regularizer])  # keeps BatchNorm's statistics as they were pretrained
    opt = torch.optim.SGD(synreal.parameter_groups(model, lr=0.02), momentum=0.9, weight_decay=5e-4)
    schedule = synreal.warmup_poly_schedule(opt, steps)
    model.bind(opt)  # queues and moving averages follow the optimizer's steps
    for (x0, x1), y in islice(batches, steps):
        out = model(x0, x1)
        loss = F.cross_entropy(out["output"], y)
        (loss + out["penalty"]).backward()
        opt.step()
        schedule.step()
        opt.zero_grad()
        losses.append(loss.item())
        print(f"task {losses[-1]:.3f}  penalty {out['penalty'].item():.3f}")
    model.detach()  # returns the student without any hooks
    return losses


def main(
    steps: int = 20, batch_size: int = 32, regularizer: str = "csg", source: str = "digits", image_size: int = 64
) -> list[float]:
    """Train a few steps and return the task's losses."""
    torch.manual_seed(0)
    student, pictures = student_and_pictures(source, image_size)
    student.to(memory_format=torch.channels_last)  # the same numbers but for rounding, in about half the time
    return train(student, endless(loader(pictures, batch_size)), steps, regularizer)


if __name__ == "__main__":
    main(**vars(parser(__doc__).parse_args()))

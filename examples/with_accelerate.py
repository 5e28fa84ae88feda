"""Hugging Face Accelerate: several devices, mixed precision and gradient accumulation.

Run it with ``python examples/with_accelerate.py``, or on several GPUs with
``accelerate launch examples/with_accelerate.py``.
"""

from __future__ import annotations

from itertools import islice

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from pictures import Pictures, endless, loader, parser, student_and_pictures
from torch import nn
from torch.nn import functional as F

import synreal

ACCUMULATE = 2


def train(student: nn.Module, pictures: Pictures, steps: int, batch_size: int, regularizer: str) -> list[float]:
    """Make ``steps`` optimizer steps, each of two batches, and return the task's losses, one per batch."""
    accelerator = Accelerator(
        gradient_accumulation_steps=ACCUMULATE,
        # Queues are equal on all processes anyway: there is no need to broadcast them in each forward pass.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    synreal.zero_head(student)
    regularized = synreal.attach(student, [regularizer])
    opt = torch.optim.SGD(synreal.parameter_groups(regularized, lr=0.02), momentum=0.9, weight_decay=5e-4)
    schedule = synreal.warmup_poly_schedule(opt, steps)  # not prepared: it counts steps of the optimizer
    model, opt, batches = accelerator.prepare(regularized, opt, loader(pictures, batch_size))
    regularized.bind(opt)  # Accelerate's optimizer; it steps with every second batch

    losses = []
    model.train()
    for (x0, x1), y in islice(endless(batches), ACCUMULATE * steps):
        with accelerator.accumulate(model):
            out = model(x0, x1)  # the prepared model: what runs outside it is not synchronised
            loss = F.cross_entropy(out["output"], y)
            accelerator.backward(loss + out["penalty"])
            opt.step()
            if accelerator.sync_gradients:
                schedule.step()
            opt.zero_grad()
        losses.append(loss.item())
        accelerator.print(f"task {losses[-1]:.3f}  penalty {out['penalty'].item():.3f}")
    regularized.detach()
    return losses


def main(
    steps: int = 20, batch_size: int = 32, regularizer: str = "gcisg", source: str = "digits", image_size: int = 64
) -> list[float]:
    """Train a few steps and return the task's losses."""
    set_seed(0)
    student, pictures = student_and_pictures(source, image_size)
    return train(student, pictures, steps, batch_size, regularizer)


if __name__ == "__main__":
    main(**vars(parser(__doc__, "gcisg").parse_args()))

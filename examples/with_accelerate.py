"""Hugging Face Accelerate: several devices, mixed precision and gradient accumulation.

Run it with ``python examples/with_accelerate.py``, or on several GPUs with
``accelerate launch examples/with_accelerate.py``.
"""

from __future__ import annotations

import argparse

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from digits import loader
from torch.nn import functional as F

import synreal
from synreal.weights import create_backbone


def main(steps: int = 20, size: int = 32) -> list[float]:
    """Make so many optimizer steps, each of two batches, and return the task's losses, one a batch."""
    set_seed(0)
    accelerator = Accelerator(
        gradient_accumulation_steps=2,
        # Queues are equal on all processes anyway: no need to send them around in each forward pass.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    student, _ = create_backbone("tf_efficientnet_lite0", num_classes=10)
    batches = loader(student, 2 * steps, size)

    regularized = synreal.attach(student, ["gcisg"])
    opt = torch.optim.AdamW([p for p in regularized.parameters() if p.requires_grad], lr=1e-3)
    model, opt, batches = accelerator.prepare(regularized, opt, batches)
    regularized.bind(opt)  # Accelerate's optimizer; it steps in every second batch

    losses = []
    model.train()
    for (x0, x1), y in batches:
        with accelerator.accumulate(model):
            out = model(x0, x1)  # the prepared model: what runs outside it is not synchronised
            loss = F.cross_entropy(out["output"], y)
            accelerator.backward(loss + out["penalty"])
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 5.0)
            opt.step()
            opt.zero_grad()
        losses.append(loss.item())
        accelerator.print(f"task {losses[-1]:.3f}  penalty {out['penalty'].item():.3f}")

    regularized.detach()
    return losses


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    arguments = parser.parse_args()
    main(arguments.steps, arguments.batch_size)

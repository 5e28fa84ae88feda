"""Plain PyTorch with all the trimmings: AMP, accumulation, clipping, an EMA of the student, resuming.

Run it with ``python examples/amp_accumulation.py``; with ``--checkpoint FILE`` a second run goes on from the first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from digits import loader
from timm.utils import ModelEmaV3
from torch.nn import functional as F

import synreal
from synreal.weights import create_backbone

ACCUMULATE = 2


def main(steps: int = 20, size: int = 32, checkpoint: Path | None = None) -> list[float]:
    """Make so many optimizer steps, each of two batches, and return the task's losses, one a batch."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    student, _ = create_backbone("tf_efficientnet_lite0", num_classes=10)
    student.to(device)
    batches = loader(student, ACCUMULATE * steps, size)

    model = synreal.attach(student, ["csg", "weight_l2(weight=0.001)"]).train()
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    model.bind(opt)
    scaler = torch.amp.GradScaler(device)
    ema = ModelEmaV3(model.student, decay=0.99)  # the student alone: a mean of queues would mean nothing
    parts = {"model": model, "opt": opt, "scaler": scaler, "ema": ema}
    if checkpoint is not None and checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])

    losses = []
    for index, ((x0, x1), y) in enumerate(batches, start=1):
        with torch.autocast(device, torch.float16 if device == "cuda" else torch.bfloat16):
            out = model(x0.to(device), x1.to(device))
            loss = F.cross_entropy(out["output"], y.to(device))
        scaler.scale((loss + out["penalty"]) / ACCUMULATE).backward()
        if index % ACCUMULATE == 0:
            scaler.unscale_(opt)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            scaler.step(opt)  # queues and averages move, unless the scaler skips the step
            scaler.update()
            opt.zero_grad()
            ema.update(model.student)
        losses.append(loss.item())
        print(f"task {losses[-1]:.3f}  penalty {out['penalty'].item():.3f}")

    if checkpoint is not None:
        torch.save({name: part.state_dict() for name, part in parts.items()}, checkpoint)
    model.detach()
    return losses


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--checkpoint", type=Path)
    arguments = parser.parse_args()
    main(arguments.steps, arguments.batch_size, arguments.checkpoint)

"""Plain PyTorch with all the trimmings: AMP, accumulation, clipping, an EMA of the student, resuming.

Run it with ``python examples/amp_accumulation.py``; with ``--checkpoint FILE`` a second run continues the first.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import torch
from pictures import endless, loader, parser, student_and_pictures
from timm.utils import ModelEmaV3
from torch.nn import functional as F

import synreal

ACCUMULATE = 2


def main(
    steps: int = 20,
    batch_size: int = 32,
    regularizer: str = "csg",
    source: str = "digits",
    image_size: int = 64,
    checkpoint: Path | None = None,
) -> list[float]:
    """Make ``steps`` optimizer steps, each of two batches, and return the task's losses, one per batch."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    student, pictures = student_and_pictures(source, image_size)
    student.to(device)
    batches = endless(loader(pictures, batch_size))

    synreal.zero_head(student)
    model = synreal.attach(student, [regularizer, "weight_l2(weight=0.001)"])
    opt = torch.optim.SGD(synreal.parameter_groups(model, lr=0.02), momentum=0.9, weight_decay=5e-4)
    schedule = synreal.warmup_poly_schedule(opt, steps)
    model.bind(opt)
    scaler = torch.amp.GradScaler(device)
    ema = ModelEmaV3(model.student, decay=0.99)  # the student alone: averaging queues makes no sense
    parts = {"model": model, "opt": opt, "schedule": schedule, "scaler": scaler, "ema": ema}
    if checkpoint is not None and checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])

    losses = []
    for index, ((x0, x1), y) in enumerate(islice(batches, ACCUMULATE * steps), start=1):
        with torch.autocast(device, torch.float16 if device == "cuda" else torch.bfloat16):
            out = model(x0.to(device), x1.to(device))
            loss = F.cross_entropy(out["output"], y.to(device))
        scaler.scale((loss + out["penalty"]) / ACCUMULATE).backward()
        if index % ACCUMULATE == 0:
            scaler.unscale_(opt)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            scaler.step(opt)  # queues and averages are updated too, unless the scaler skips the step
            scaler.update()
            schedule.step()
            opt.zero_grad()
            ema.update(model.student)
        losses.append(loss.item())
        print(f"task {losses[-1]:.3f}  penalty {out['penalty'].item():.3f}")

    if checkpoint is not None:
        torch.save({name: part.state_dict() for name, part in parts.items()}, checkpoint)
    model.detach()
    return losses


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--checkpoint", type=Path)
    main(**vars(options.parse_args()))

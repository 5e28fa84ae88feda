"""Transformers' Trainer: a module that returns ``{"loss", "logits"}``, and an optimizer and schedule of your own.

Run it with ``python examples/with_transformers.py``; it needs ``pip install transformers``.
"""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from pictures import Pictures, parser, student_and_pictures
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Trainer, TrainerCallback, TrainingArguments

import synreal

ACCUMULATE = 2


class ForTrainer(nn.Module):
    """Returns what the Trainer reads: a loss and logits."""

    def __init__(self, model: synreal.RegularizedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x0: Tensor, x1: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the loss, with the penalty in training, and the student's logits for view 0."""
        out = self.model(x0, x1)
        self.task_loss = F.cross_entropy(out["output"], labels)
        return {"loss": self.task_loss + out.get("penalty", 0.0), "logits": out["output"]}


class Losses(TrainerCallback):
    """Records the task's loss at each step."""

    def __init__(self, model: ForTrainer) -> None:
        self.model = model
        self.values: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Record the task's loss."""
        self.values.append(self.model.task_loss.item())


def collate(rows: list[Any]) -> dict[str, Tensor]:
    """Batch ``(x0, x1), y`` under the names of ``forward``'s arguments."""
    views = zip(*(views for views, _ in rows), strict=True)
    x0, x1 = (torch.stack(view) for view in views)
    return {"x0": x0, "x1": x1, "labels": torch.tensor([label for _, label in rows])}


def train(student: nn.Module, pictures: Pictures, steps: int, batch_size: int, regularizer: str) -> list[float]:
    """Make ``steps`` optimizer steps, each of two batches, and return the task's losses, one per step."""
    synreal.zero_head(student)
    model = ForTrainer(synreal.attach(student, [regularizer]))
    opt = torch.optim.SGD(synreal.parameter_groups(model, lr=0.02), momentum=0.9, weight_decay=5e-4)
    schedule = synreal.warmup_poly_schedule(opt, steps)
    model.model.bind(opt)
    losses = Losses(model)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=steps,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=ACCUMULATE,
            max_grad_norm=0.0,  # the Trainer clips at 1 by default
            dataloader_drop_last=True,
            remove_unused_columns=False,  # the dataset gives tuples; collate names them
            ddp_broadcast_buffers=False,
            logging_steps=1,
            report_to="none",
            save_strategy="no",
            seed=int(torch.initial_seed() % 2**31),
        )
        Trainer(
            model,
            arguments,
            train_dataset=pictures,
            data_collator=collate,
            optimizers=(opt, schedule),
            callbacks=[losses],
        ).train()
    model.model.detach()
    return losses.values


def main(
    steps: int = 20, batch_size: int = 32, regularizer: str = "csg", source: str = "digits", image_size: int = 64
) -> list[float]:
    """Train a few steps and return the task's losses."""
    torch.manual_seed(0)
    student, pictures = student_and_pictures(source, image_size)
    return train(student, pictures, steps, batch_size, regularizer)


if __name__ == "__main__":
    main(**vars(parser(__doc__).parse_args()))

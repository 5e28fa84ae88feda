"""Transformers' Trainer: a module that returns ``{"loss", "logits"}`` and a callback that binds the optimizer.

Run it with ``python examples/with_transformers.py``; it needs ``pip install transformers``.
"""

from __future__ import annotations

import argparse
import tempfile
from typing import Any

import torch
from digits import Digits
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Trainer, TrainerCallback, TrainingArguments

import synreal
from synreal.weights import create_backbone


class ForTrainer(nn.Module):
    """Gives the Trainer what it reads: a loss and logits."""

    def __init__(self, model: synreal.RegularizedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x0: Tensor, x1: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the loss, with the penalty in training, and the student's logits for view 0."""
        out = self.model(x0, x1)
        self.task_loss = F.cross_entropy(out["output"], labels)
        return {"loss": self.task_loss + out.get("penalty", 0.0), "logits": out["output"]}


class Bind(TrainerCallback):
    """Binds the Trainer's optimizer, which is there only once training begins."""

    def __init__(self, model: ForTrainer) -> None:
        self.model = model
        self.losses: list[float] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let the model hear of the optimizer's steps."""
        self.model.model.bind(kwargs["optimizer"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note the task's loss."""
        self.losses.append(self.model.task_loss.item())


def collate(rows: list[Any]) -> dict[str, Tensor]:
    """Batch ``(x0, x1), y`` under the names of ``forward``'s arguments."""
    views = zip(*(views for views, _ in rows), strict=True)
    x0, x1 = (torch.stack(view) for view in views)
    return {"x0": x0, "x1": x1, "labels": torch.tensor([label for _, label in rows])}


def main(steps: int = 20, size: int = 32) -> list[float]:
    """Make so many optimizer steps, each of two batches, and return the task's losses, one a step."""
    torch.manual_seed(0)
    student, _ = create_backbone("tf_efficientnet_lite0", num_classes=10)
    model = ForTrainer(synreal.attach(student, ["csg"]))
    binding = Bind(model)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=steps,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=2,
            learning_rate=1e-3,
            lr_scheduler_type="constant",
            remove_unused_columns=False,  # the dataset gives tuples; collate names them
            ddp_broadcast_buffers=False,
            logging_steps=1,
            report_to="none",
            seed=0,
        )
        Trainer(model, arguments, train_dataset=Digits(student), data_collator=collate, callbacks=[binding]).train()
    model.model.detach()
    return binding.losses


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    arguments = parser.parse_args()
    main(arguments.steps, arguments.batch_size)

"""Lightning: attach in ``__init__``, bind in ``configure_optimizers``, add the penalty in ``training_step``.

Run it with ``python examples/with_lightning.py``; it needs ``pip install lightning``.
"""

from __future__ import annotations

import argparse
from typing import Any

import lightning
import torch
from digits import loader
from torch import Tensor, nn
from torch.nn import functional as F

import synreal
from synreal.weights import create_backbone


class Classifier(lightning.LightningModule):
    """A LightningModule around a student and its regularizers."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.model = synreal.attach(student, ["csg"])
        self.losses: list[float] = []

    def training_step(self, batch: Any, index: int) -> Tensor:
        """Return the task's loss and the penalty."""
        (x0, x1), y = batch
        out = self.model(x0, x1)
        loss = F.cross_entropy(out["output"], y)
        self.log_dict({key: value for key, value in out.items() if key != "output"}, prog_bar=True)
        self.losses.append(loss.item())
        return loss + out["penalty"]

    def validation_step(self, batch: Any, index: int) -> None:
        """In eval mode only the student runs, on one view."""
        (x0, _), y = batch
        self.log("accuracy", (self.model(x0)["output"].argmax(1) == y).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make the optimizer of everything that learns, and let the model hear of its steps."""
        opt = torch.optim.AdamW([p for p in self.model.parameters() if p.requires_grad], lr=1e-3)
        self.model.bind(opt)
        return opt


def main(steps: int = 20, size: int = 32) -> list[float]:
    """Make so many optimizer steps, each of two batches, and return the task's losses, one a batch."""
    lightning.seed_everything(0, verbose=False)
    student, _ = create_backbone("tf_efficientnet_lite0", num_classes=10)
    module = Classifier(student)
    trainer = lightning.Trainer(
        max_epochs=1,
        accumulate_grad_batches=2,
        gradient_clip_val=5.0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader(student, 2 * steps, size), loader(student, 2, size))
    module.model.detach()
    return module.losses


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    arguments = parser.parse_args()
    main(arguments.steps, arguments.batch_size)

"""Lightning: attach in ``__init__``, bind in ``configure_optimizers``, add the penalty in ``training_step``.

Run it with ``python examples/with_lightning.py``; it needs ``pip install lightning``.
"""

from __future__ import annotations

from typing import Any

import lightning
import torch
from pictures import Pictures, loader, parser, student_and_pictures
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

import synreal

ACCUMULATE = 2


class Classifier(lightning.LightningModule):
    """A LightningModule around a student and its regularizers."""

    def __init__(self, student: nn.Module, regularizer: str = "csg", steps: int = 20) -> None:
        super().__init__()
        synreal.zero_head(student)
        self.model = synreal.attach(student, [regularizer])
        self.steps = steps
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

    def configure_optimizers(self) -> Any:
        """Make the optimizer of everything that learns and its schedule, and bind the model to its steps."""
        opt = torch.optim.SGD(synreal.parameter_groups(self.model, lr=0.02), momentum=0.9, weight_decay=5e-4)
        self.model.bind(opt)
        schedule = synreal.warmup_poly_schedule(opt, self.steps)
        return {"optimizer": opt, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def train(student: nn.Module, pictures: Pictures, steps: int, batch_size: int, regularizer: str) -> list[float]:
    """Make ``steps`` optimizer steps, each of two batches, and return the task's losses, one per batch."""
    module = Classifier(student, regularizer, steps)
    trainer = lightning.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accumulate_grad_batches=ACCUMULATE,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        check_val_every_n_epoch=None,
        val_check_interval=ACCUMULATE * steps,
    )
    some = Subset(pictures, range(min(len(pictures), 4 * batch_size)))  # held-out images of your own
    trainer.fit(module, loader(pictures, batch_size), DataLoader(some, batch_size))
    module.model.detach()
    return module.losses


def main(
    steps: int = 20, batch_size: int = 32, regularizer: str = "csg", source: str = "digits", image_size: int = 64
) -> list[float]:
    """Train a few steps and return the task's losses."""
    lightning.seed_everything(0, verbose=False)
    student, pictures = student_and_pictures(source, image_size)
    return train(student, pictures, steps, batch_size, regularizer)


if __name__ == "__main__":
    main(**vars(parser(__doc__).parse_args()))

"""Where a network looks in a few images: Grad-CAM, and the weights of attentional pooling."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from synreal.core.stages import as_map
from synreal.engine.looking import Backbone, Eyes, in_eval_mode
from synreal.errors import ConfigError, StageError
from synreal.figures import Looked
from synreal.functional.pooling import attention_weights
from synreal.functional.saliency import grad_cam
from synreal.measures.energy import FeatureRows
from synreal.tasks.shown import shown


def looked(eyes: Eyes, name: str, rows: FeatureRows) -> Looked:
    """Look at a few images of a set, spread evenly over it.

    Args:
        eyes: The network and what goes with it.
        name: Which set.
        rows: Features of all its images.

    Returns:
        What figures draw; without heat where the task has no score for Grad-CAM to explain.
    """
    task, student = eyes.task, eyes.student
    index, labels = rows.labels.value.unbind(1)
    order = index.argsort()
    images, targets, predictions = shown(task, name, student)
    backbone = Backbone(student.network)
    heat, attention = [], []
    with in_eval_mode(student.network):
        for image, target in zip(images, targets, strict=True):
            batch, _ = task.collate_test([(image, target)])
            with torch.no_grad(), backbone.reading() as maps:
                (entered,) = task.entry_tests(batch, student, eyes.device)
                weights = attention_weights(maps(entered)[backbone.last.name])[0]
            attention.append((weights * weights.numel()).float().cpu())
            heat.append(heat_of(eyes, backbone, batch))
    return Looked(
        title=eyes.title,
        classes=task.classes,
        features=rows.features.value[order],
        labels=labels[order] if bool((labels >= 0).all()) else None,
        images=images,
        targets=targets,
        predictions=predictions,
        heat=[one for one in heat if one is not None],
        attention=attention,
    )


def heat_of(eyes: Eyes, backbone: Backbone, batch: Any) -> Tensor | None:
    """Return Grad-CAM of one image, float32 (h, w), on the CPU; None if the task has no score for it."""
    stage = backbone.last
    seen: list[Tensor] = []
    size: list[tuple[int, int]] = []

    def enter(_module: Any, args: tuple[Any, ...]) -> None:
        size.append((int(args[0].shape[-2]), int(args[0].shape[-1])))

    def keep(_module: Any, _args: Any, output: Tensor) -> Tensor:
        # Cut here, the gradient does not go through the rest of the backbone, and needs no parameter that learns.
        seen.append(output.detach().requires_grad_())
        return seen[-1]

    network = eyes.student.network
    handles = [
        network.get_submodule(backbone.path).register_forward_pre_hook(enter),
        network.get_submodule(stage.path).register_forward_hook(keep),
    ]
    try:
        with torch.enable_grad():
            score = eyes.task.evidence(eyes.student, batch, eyes.device)
    except ConfigError:
        return None
    finally:
        for handle in handles:
            handle.remove()
    if len(seen) != 1:
        raise StageError(f"Stage {stage.name} ({stage.path}) ran {len(seen)} times where one score was asked for.")
    gradient = None
    if score.requires_grad:
        (gradient,) = torch.autograd.grad(score, seen, allow_unused=True)
    if gradient is None:  # nothing in the image speaks for anything, e.g. where no box was found
        gradient = torch.zeros_like(seen[0])
    maps, gradients = (as_map(one.detach(), stage, size[0]) for one in (seen[0], gradient))
    return grad_cam(maps, gradients)[0].float().cpu()

"""Sizes of images that timm's networks take, and networks that are built to be looked at alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import timm
import torch
from torch import nn


@cache
def any_size(backbone: str) -> dict[str, Any]:
    """Return what lets a transformer that is built for one size of images take others."""
    cfg = timm.models.get_pretrained_cfg(backbone)
    if cfg is not None and cfg.fixed_input_size:
        for option in ({"dynamic_img_size": True}, {"strict_img_size": False}):
            try:
                without_memory(partial(timm.create_model, backbone, **option))
            except TypeError:  # not an argument of this network's
                continue
            return option
    return {}


def without_memory(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network without its memory where it can be built so, else with it: what it then raises is meant."""
    try:
        with torch.device("meta"):
            return build()
    except Exception:  # networks raise whatever they like where they read a value that is not there
        with torch.random.fork_rng(devices=[]):
            return build()

"""Small networks that regularizers train beside the student."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ProjectionHead(nn.Module):
    """``norm(W2 relu(W1 v + b1) + b2)``: (N, C) -> (N, d) on the unit sphere.

    Args:
        channels: C, also the width of the hidden layer.
        dim: d.
    """

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, dim))

    def forward(self, vectors: Tensor) -> Tensor:
        """Project in the precision of the weights, and normalise in float32 or better."""
        projected: Tensor = self.layers(vectors.to(next(self.parameters()).dtype))
        return F.normalize(projected.to(torch.promote_types(projected.dtype, torch.float32)), dim=1)


class LinearAdapter(nn.Module):
    """A learned linear map of channels, for a teacher of another width: (N, C, ...) -> (N, C_teacher, ...).

    Args:
        channels: C.
        teacher_channels: C_teacher.
    """

    def __init__(self, channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, teacher_channels)

    def forward(self, features: Tensor) -> Tensor:
        """Map axis 1, in the precision of the weights."""
        last = features.to(self.linear.weight.dtype).movedim(1, -1)
        mapped: Tensor = self.linear(last).movedim(-1, 1)
        return mapped

"""What stays in float32 when a model is cast."""

import torch
from torch import nn

from synreal.core.precision import KeptWide
from synreal.core.queues import FeatureQueue
from synreal.core.teachers import EmaTeacher


def test_what_is_kept_follows_devices_and_wider_types_alone():
    module = KeptWide()
    module.register_buffer("number", torch.ones(1, dtype=torch.float32))
    module.register_buffer("count", torch.ones(1, dtype=torch.int64))
    assert module.half().number.dtype == torch.float32
    assert module.count.dtype == torch.int64
    assert module.double().number.dtype == torch.float64


def test_a_moving_average_of_half_precision_moves():
    layer = nn.Linear(1, 1, bias=False).bfloat16()
    nn.init.ones_(layer.weight)
    follower = EmaTeacher(layer, 0.999).bfloat16()
    nn.init.constant_(layer.weight, 2.0)
    for _ in range(10):
        follower.update(layer)
    assert abs(float(follower.average.weight) - (2 - 0.999**10)) < 1e-5  # in bfloat16 it would still be 1
    assert FeatureQueue(2, 1).half().bank.dtype == torch.float32

"""Features of a pretrained network on embedded images, which the tests of several measures share."""

from functools import cache

import torch
from torch.nn import functional as F

from synreal import data
from synreal.views import to_float
from synreal.weights import create_backbone, normalization

LITE = "tf_efficientnet_lite0"


@cache
def real_features():
    """float32, (96, 1280): pooled features of numerals that people wrote; and those of a network near it."""
    images = data.load("uci", "test")
    batch = torch.stack([images[index][0] for index in range(96)])
    found = []
    for noise in (0, 0.05):
        network, _ = create_backbone(LITE, num_classes=0, weights="packaged")
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in network.parameters():
                weight += noise * weight.std(correction=0) * torch.randn(weight.shape, generator=generator)
            inputs = F.interpolate(to_float(batch, *normalization(network)), size=64)
            found.append(network.eval()(inputs))
    return found

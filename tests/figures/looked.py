"""What looking into networks gives, made up for tests."""

import torch

from synreal.figures import Looked

CLASSES = ("cat", "dog", "owl")


def looked(title="csg, seed 0", *, images=4, features=30, width=6, seed=0, **change):
    """A look of some images; ``change`` replaces fields."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(features) % 3
    pictures = torch.randint(0, 256, (images, 3, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    attention = torch.rand(images, 3, 3, generator=generator) + 0.2
    fields = {
        "title": title,
        "classes": CLASSES,
        "features": torch.randn(features, width, generator=generator) + 2 * torch.eye(3, width)[labels],
        "labels": labels,
        "images": list(pictures),
        "targets": [index % 3 for index in range(images)],
        "predictions": list(torch.eye(3)[[0] * images]),
        "heat": list(torch.rand(images, 3, 3, generator=generator)),
        "attention": list(attention / attention.mean((1, 2), keepdim=True)),
    }
    return Looked(**{**fields, **change})

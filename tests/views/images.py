"""Images and labels that the tests of views share."""

import torch
from PIL import Image
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat, Mask

from synreal.views import VIEWS


def noise(*size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, size or (3, 32, 48), dtype=torch.uint8, generator=generator)


def scene(height=40, width=56):
    """An image whose red is its row, green its column; the same numbers as a mask and as one box."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([rows * 4, columns * 4, torch.full_like(rows, 90)]).to(torch.uint8)
    return image, Mask((rows // 8 * 8 + columns // 8).to(torch.uint8))


def boxes(corners, size=(40, 56)):
    corners = torch.as_tensor(corners, dtype=torch.float32)
    return BoundingBoxes(corners, format=BoundingBoxFormat.XYXY, canvas_size=size)


def spec_of(name, folder):
    """Return a view by name with its defaults; one that needs a folder of images gets one, made if need be."""
    if not VIEWS.get(name).uses_real_images:
        return VIEWS.spec(name)
    folder.mkdir(exist_ok=True)
    for index in range(4):
        Image.fromarray(noise(24, 36, 3, seed=index).numpy()).save(folder / f"{index}.png")
    return VIEWS.build(name, {"folder": folder})

"""Views in one piece each, with the draws in their order: what pipelines of steps must equal to the bit."""

import torch
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import Mask


def classified(augment, image, number, size, crop):
    """Views for classification: augmented, resized, cropped, one after the other.

    Args:
        augment: What changes an image first.
        image: uint8 (3, H, W).
        number: How many.
        size: Side in pixels.
        crop: "random" or "center".
    """
    cut = v2.RandomCrop(size) if crop == "random" else v2.CenterCrop(size)
    resize = v2.Resize(size, interpolation=v2.InterpolationMode.BILINEAR, antialias=True)
    return [cut(resize(augment(image))) for _ in range(number)]


def aligned(image, label, number, *, size, flip, scale, jitter):
    """Views that share their geometry, and the label in it.

    Args:
        image: uint8 (3, H, W).
        label: A Mask (H, W) or BoundingBoxes.
        number: How many.
        size: Side in pixels, or None.
        flip: Share of mirrored images.
        scale: Least and greatest factor.
        jitter: Strength.
    """
    change = v2.ColorJitter(jitter, jitter, jitter, min(jitter, 0.5)) if jitter else nn.Identity()
    height, width = image.shape[-2:]
    rows, columns = (size, size) if size is not None else (height, width)
    coin, factor, down, right = torch.rand(4, dtype=torch.float64).tolist()
    factor = scale[0] + factor * (scale[1] - scale[0])
    resized = [max(1, round(height * factor)), max(1, round(width * factor))]
    high, wide = max(0, rows - resized[0]), max(0, columns - resized[1])
    above, beside = int(down * (high + 1)), int(right * (wide + 1))
    padding = [beside, above, wide - beside, high - above]
    top, left = int(down * (max(0, resized[0] - rows) + 1)), int(right * (max(0, resized[1] - columns) + 1))
    if coin < flip:
        image, label = F.horizontal_flip(image), F.horizontal_flip(label)
    image = F.resize(image, resized, antialias=True)
    if isinstance(label, Mask):
        whole = label.as_subclass(Tensor)[None, None].float()  # bytes are whole numbers in float32
        whole = nn.functional.interpolate(whole, size=resized, mode="nearest-exact")[0, 0].to(torch.uint8)
        label = F.crop(F.pad(Mask(whole), padding, fill=255), top, left, rows, columns)
    else:
        label = F.crop(F.pad(F.resize(label, resized), padding), top, left, rows, columns)
    image = F.crop(F.pad(image, padding, fill=0), top, left, rows, columns)
    return [image, *(change(image) for _ in range(number - 1))], label

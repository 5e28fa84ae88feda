"""Views of an image: seeded random augmentation, and the transforms that the tasks use.

Images stay uint8 until the last step, :func:`to_float`, which normalises a whole batch on its own device.
"""

from __future__ import annotations

import hashlib
import math
import operator
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import Mask

from synreal.errors import ConfigError, DataError
from synreal.weights import normalization

# The 14 operations of CSG's RandAugment, each drawn with the same probability.
OPERATIONS = (
    "identity",
    "autocontrast",
    "equalize",
    "rotate",
    "posterize",
    "solarize",
    "color",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
# Operations without a magnitude take place only this often once they are drawn.
_PROBABILITY = {"autocontrast": 0.2, "equalize": 0.2}
_MAX_MAGNITUDE = 30
# The published 100 px belong to VisDA-17's renders, which are 384 px wide.
_TRANSLATE_SHARE = 100 / 384
_NO_LABEL = 255  # of pixels that no image covers


class RandAugment(v2.Transform):  # type: ignore[misc]  # torchvision is untyped
    """RandAugment (Cubuk et al., 2020) with the operations of CSG (Chen et al., ICLR 2021).

    Each image takes ``num_ops`` operations, drawn uniformly with replacement from :data:`OPERATIONS`.
    With m = magnitude / 30:

    - rotate by ± 30 m degrees about the centre;
    - posterize to int(8 - 4 m) bits; solarize, that is invert, pixels >= 256 - 256 m;
    - colour, contrast, brightness, sharpness by a factor 1 ± 0.9 m;
    - shear by a slope of ± 0.3 m about the top-left corner;
    - translate along either axis by ± 100/384 m of the image's width, rounded to whole pixels: 100 m pixels
      at the 384 px of VisDA-17's renders, as published;
    - identity, autocontrast and equalize know no magnitude; the last two, once drawn, take place with
      probability 0.2.

    Signs are random. Geometric operations pick the nearest pixel and fill with black.

    Draws from torch's default CPU generator only.

    Args:
        num_ops: Operations per image, >= 0.
        magnitude: Strength M, in [0, 30]; CSG's 6 is the default.
        translate_px: Largest translation (at M = 30) in pixels, >= 0, whatever the image's size; by
            default it follows the width as above.

    Raises:
        ConfigError: An argument is out of its range.

    Example:
        >>> image = torch.zeros(3, 48, 64, dtype=torch.uint8)
        >>> RandAugment(num_ops=2)(image).shape
        torch.Size([3, 48, 64])
    """

    def __init__(self, num_ops: int = 1, magnitude: float = 6, translate_px: float | None = None) -> None:
        super().__init__()
        if isinstance(num_ops, bool) or not isinstance(num_ops, int) or num_ops < 0:
            raise ConfigError(f"RandAugment: num_ops is {num_ops!r}; expected a whole number >= 0, e.g. 1.")
        if not _is_number(magnitude) or not 0 <= magnitude <= _MAX_MAGNITUDE:
            raise ConfigError(
                f"RandAugment: magnitude is {magnitude!r}; expected a number from 0 to {_MAX_MAGNITUDE}, e.g. 6."
            )
        if translate_px is not None and (
            not _is_number(translate_px) or not math.isfinite(translate_px) or translate_px < 0
        ):
            raise ConfigError(
                f"RandAugment: translate_px is {translate_px!r}; expected pixels >= 0, or None to follow the width."
            )
        self.num_ops = num_ops
        self.magnitude = magnitude
        self.translate_px = translate_px

    def forward(self, image: Tensor) -> Tensor:
        """Augment one image.

        Args:
            image: uint8 (3, H, W).

        Returns:
            uint8 (3, H, W).

        Raises:
            DataError: The image is not of this form.
        """
        if not isinstance(image, Tensor) or image.dtype != torch.uint8 or image.ndim != 3 or len(image) != 3:
            raise DataError(
                f"RandAugment got {_describe(image)}; expected one uint8 image tensor (3, H, W). "
                "Convert with torchvision.transforms.v2.functional.pil_to_tensor, and grey to RGB."
            )
        for _ in range(self.num_ops):
            name = OPERATIONS[int(torch.randint(len(OPERATIONS), ()))]
            chance, coin = torch.rand(2).tolist()
            if chance < _PROBABILITY.get(name, 1.0):
                image = self.apply_operation(image, name, sign=1 if coin < 0.5 else -1)
        return image

    def apply_operation(self, image: Tensor, name: str, sign: int = 1) -> Tensor:
        """Apply one operation at this magnitude, with no randomness.

        Args:
            image: uint8 (3, H, W).
            name: One of :data:`OPERATIONS`.
            sign: 1 or -1, the direction of rotations, shears, translations and factors; others ignore it.
                Positive is: clockwise, right, down, stronger. A positive shear moves what is further from the
                top-left corner.

        Returns:
            uint8 (3, H, W).
        """
        m = self.magnitude / _MAX_MAGNITUDE
        signed = sign * m
        result: Tensor
        match name:
            case "identity":
                result = image
            case "autocontrast":
                result = F.autocontrast(image)
            case "equalize":
                result = F.equalize(image)
            case "rotate":
                # torchvision's affine turns clockwise for positive angles, its rotate the other way round.
                result = F.rotate(image, -30.0 * signed, fill=0)
            case "posterize":
                result = F.posterize(image, int(8 - 4 * m))
            case "solarize":
                threshold = 256 * (1 - m)
                # Above 255 no pixel reaches it, and torchvision refuses it.
                result = F.solarize(image, threshold) if threshold <= 255 else image
            case "color":
                result = F.adjust_saturation(image, 1 + 0.9 * signed)
            case "contrast":
                result = F.adjust_contrast(image, 1 + 0.9 * signed)
            case "brightness":
                result = F.adjust_brightness(image, 1 + 0.9 * signed)
            case "sharpness":
                result = _sharpened(image, 1 + 0.9 * signed)
            case "shear_x" | "shear_y":
                # torchvision takes the angle of a slope, and shears left and up for positive ones.
                angle = -math.degrees(math.atan(0.3 * signed))
                shear = [angle, 0.0] if name == "shear_x" else [0.0, angle]
                result = F.affine(image, angle=0.0, translate=[0, 0], scale=1.0, shear=shear, center=[0.0, 0.0], fill=0)
            case "translate_x" | "translate_y":
                largest = _TRANSLATE_SHARE * image.shape[-1] if self.translate_px is None else self.translate_px
                pixels = round(signed * largest)
                shift = [pixels, 0] if name == "translate_x" else [0, pixels]
                result = F.affine(image, angle=0.0, translate=shift, scale=1.0, shear=[0.0, 0.0], fill=0)
            case _:
                raise ConfigError(f"Unknown RandAugment operation {name!r}. Known: {', '.join(OPERATIONS)}.")
        return result

    def extra_repr(self) -> str:
        """Return the arguments as the constructor takes them."""
        return f"num_ops={self.num_ops}, magnitude={self.magnitude}, translate_px={self.translate_px}"


def _sharpened(image: Tensor, factor: float) -> Tensor:
    """Adjust sharpness as torchvision does, to the bit, in a fifteenth of the time: sums instead of a convolution.

    The blurred image weighs a pixel 5 and its eight neighbours 1, over 13; the border stays.

    Args:
        image: uint8 (3, H, W).
        factor: 0 is blurred, 1 unchanged, >= 0.
    """
    if min(image.shape[-2:]) <= 2:
        return image
    wide = image.to(torch.int16)
    rows = wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]
    inner = wide[:, 1:-1, 1:-1]
    blurred = (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * inner).float().div_(13).round_()
    sharp = inner.float()
    sharp.add_(blurred.sub_(sharp), alpha=1 - factor)
    result = image.clone()
    result[:, 1:-1, 1:-1] = sharp.clamp_(0, 255).to(torch.uint8)
    return result


def classification_transform(
    size: int,
    *,
    train: bool,
    num_ops: int = 1,
    magnitude: float = 6,
    crop: Literal["random", "center"] = "random",
) -> nn.Module:
    """Build the image transform of CSG's classification runs (Chen et al., ICLR 2021); there is no flip.

    Training: :class:`RandAugment`, resize the short side to ``size``, random crop. Test: the same without
    RandAugment, centre crop. Resizing is bilinear with antialiasing.

    Args:
        size: Side of the square output in pixels, >= 1.
        train: Whether the transform is random.
        num_ops: RandAugment operations per image, >= 0; unused at test time.
        magnitude: RandAugment strength, in [0, 30]; unused at test time.
        crop: ``"random"``, or ``"center"`` as GCISG and ASG train; tests take the centre in any case.

    Returns:
        A module that maps a uint8 image (3, H, W) of any size to uint8 (3, size, size).

    Raises:
        ConfigError: An argument is out of its range.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ConfigError(f"Image size is {size!r}; expected the side of a square in whole pixels >= 1, e.g. 224.")
    augment = RandAugment(num_ops, magnitude)
    resize = v2.Resize(size, interpolation=v2.InterpolationMode.BILINEAR, antialias=True)
    center = v2.CenterCrop(size)
    steps = [augment, resize, v2.RandomCrop(size) if crop == "random" else center] if train else [resize, center]
    transform: nn.Module = v2.Compose(steps)
    return transform


class PreparedViews:
    """Turn an image into normalised views, as ``synreal run --task cls`` does; made by :func:`training_views`.

    Args:
        transform: Maps a uint8 image (3, H, W) to uint8 (3, S, S).
        views: How many views, each a draw of its own.
        statistics: Mean and standard deviation per channel, as for :func:`to_float`.
    """

    def __init__(self, transform: nn.Module, views: int, statistics: tuple[Sequence[float], Sequence[float]]) -> None:
        self.transform = MultiView(transform, views)
        self.statistics = statistics

    def __call__(self, image: Any) -> tuple[Tensor, ...]:
        """Return the views of an image.

        Args:
            image: A PIL image of any mode, or a uint8 tensor (3, H, W).

        Returns:
            float32 (3, S, S) each.
        """
        pixels = image if isinstance(image, Tensor) else F.pil_to_tensor(image.convert("RGB"))
        return tuple(to_float(view, *self.statistics) for view in self.transform(pixels))

    def __repr__(self) -> str:
        return f"PreparedViews({self.transform!r}, {self.statistics})"


class PreparedImage:
    """Turn an image into the one normalised view that a classifier is tested on; made by :func:`evaluation_view`.

    Args:
        transform: As for :class:`PreparedViews`.
        statistics: As for :class:`PreparedViews`.
    """

    def __init__(self, transform: nn.Module, statistics: tuple[Sequence[float], Sequence[float]]) -> None:
        self.views = PreparedViews(transform, 1, statistics)

    def __call__(self, image: Any) -> Tensor:
        """Return the view of an image, float32 (3, S, S).

        Args:
            image: A PIL image of any mode, or a uint8 tensor (3, H, W).
        """
        (view,) = self.views(image)
        return view

    def __repr__(self) -> str:
        return f"PreparedImage({self.views!r})"


def training_views(
    network: nn.Module,
    size: int,
    *,
    views: int = 2,
    num_ops: int = 1,
    magnitude: float = 6,
    crop: Literal["random", "center"] = "random",
) -> PreparedViews:
    """Build what turns an image into the views that a classifier trains on, as ``synreal run`` makes them.

    RandAugment, short side resized to ``size``, random crop, normalised as the network was pretrained; each view is an
    independent draw from torch's generator.

    Args:
        network: The student; images are normalised as it was pretrained, see ``synreal.weights.normalization``.
        size: Side of a view in pixels, >= 1.
        views: How many, >= 1; methods that compare views need 2.
        num_ops: As for :func:`classification_transform`.
        magnitude: As for :func:`classification_transform`.
        crop: As for :func:`classification_transform`.

    Returns:
        A callable, picklable for workers: PIL image or uint8 tensor (3, H, W) -> tuple of float32 (3, size, size). It
        serves as ``transform=`` of torchvision's ``ImageFolder``.

    Raises:
        ConfigError: An argument is out of its range.

    Example:
        >>> import timm
        >>> views = training_views(timm.create_model("resnet18"), 64)
        >>> x0, x1 = views(torch.zeros(3, 96, 128, dtype=torch.uint8))
        >>> x1.shape
        torch.Size([3, 64, 64])
    """
    transform = classification_transform(size, train=True, num_ops=num_ops, magnitude=magnitude, crop=crop)
    return PreparedViews(transform, views, normalization(network))


def evaluation_view(network: nn.Module, size: int) -> PreparedImage:
    """Build what turns an image into the view that a classifier is tested on: short side resized, centre crop.

    Args:
        network: As for :func:`training_views`.
        size: As for :func:`training_views`.

    Returns:
        A callable, picklable for workers: PIL image or uint8 tensor (3, H, W) -> float32 (3, size, size).

    Raises:
        ConfigError: ``size`` is out of its range.
    """
    return PreparedImage(classification_transform(size, train=False), normalization(network))


def to_float(batch: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalise uint8 images: ``(batch / 255 - mean) / std`` per channel, on the batch's device.

    Args:
        batch: uint8 (..., 3, H, W).
        mean: Three channel means for images in [0, 1].
        std: Three channel standard deviations, > 0.

    Returns:
        float32, of the batch's shape.

    Raises:
        ConfigError: ``mean`` or ``std`` are not three finite numbers, or a ``std`` is not positive.
        DataError: The batch is not uint8 with three channels.
    """
    if len(mean) != 3 or len(std) != 3 or not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise ConfigError(
            f"Normalisation has mean {tuple(mean)} and std {tuple(std)}; expected three finite numbers each, "
            "std above 0. synreal.weights.normalization(model) gives the network's own."
        )
    if batch.dtype != torch.uint8 or batch.ndim < 3 or batch.shape[-3] != 3:
        raise DataError(
            f"to_float got {_describe(batch)}; expected uint8 images (..., 3, H, W). Normalise once, as the last step."
        )
    shift = torch.tensor(mean, dtype=torch.float32, device=batch.device).view(3, 1, 1)
    scale = torch.tensor(std, dtype=torch.float32, device=batch.device).view(3, 1, 1)
    return batch.to(torch.float32).div_(255).sub_(shift).div_(scale)


class MultiView:
    """Give several independent views of one image.

    Args:
        transform: A random transform of one image.
        views: How many times it is applied to the same image, >= 1.

    Raises:
        ConfigError: ``views`` is no whole number >= 1, or ``transform`` cannot be called.
    """

    def __init__(self, transform: Callable[[Any], Tensor], views: int = 2) -> None:
        if not callable(transform):
            raise ConfigError(f"MultiView: transform is {transform!r}; expected something to call on an image.")
        if isinstance(views, bool) or not isinstance(views, int) or views < 1:
            raise ConfigError(f"MultiView: views is {views!r}; expected a whole number >= 1, e.g. 2.")
        self.transform = transform
        self.views = views

    def __call__(self, image: Any) -> tuple[Tensor, ...]:
        """Return ``views`` draws of the transform on ``image``, one after the other."""
        return tuple(self.transform(image) for _ in range(self.views))

    def __repr__(self) -> str:
        return f"MultiView({self.transform!r}, views={self.views})"


class AlignedViews:
    """Give several views of one image that share their geometry to the pixel and differ in colour alone.

    The image and its labels are mirrored, resized and cropped once; view 0 keeps its colours, each further view gets a
    colour jitter of its own, as CSG trains segmentation (Chen et al., ICLR 2021, published code).

    Args:
        views: How many, >= 1.
        size: Side of the square crop in pixels; None crops to the size that the image came with.
        flip: How often the image is mirrored, in [0, 1].
        scale: Least and greatest factor by which it is resized first. What is then too small for the crop is padded
            with black, and the mask there with 255.
        jitter: Strength of the colour jitter: brightness, contrast and saturation change by a factor in
            [1 - jitter, 1 + jitter], hue by up to ``jitter`` (at most half) of its circle.

    Raises:
        ConfigError: An argument is out of its range.
    """

    def __init__(
        self,
        views: int = 2,
        *,
        size: int | None = None,
        flip: float = 0.0,
        scale: Sequence[float] = (0.75, 1.25),
        jitter: float = 0.4,
    ) -> None:
        if views < 1 or not 0 <= flip <= 1 or not 0 <= jitter <= 1 or not 0 < scale[0] <= scale[1]:
            raise ConfigError(
                f"AlignedViews got views={views}, flip={flip:g}, scale={tuple(scale)}, jitter={jitter:g}; expected "
                "views >= 1, flip and jitter in [0, 1], and 0 < least <= greatest scale."
            )
        self.views = views
        self.size = size
        self.flip = flip
        self.scale = tuple(scale)
        self.jitter = v2.ColorJitter(jitter, jitter, jitter, min(jitter, 0.5)) if jitter else nn.Identity()

    def __call__(self, image: Tensor, labels: Any) -> tuple[tuple[Tensor, ...], Any]:
        """Draw the views.

        Args:
            image: uint8 (3, H, W).
            labels: A ``Mask`` (H, W) or ``BoundingBoxes`` of ``torchvision.tv_tensors``.

        Returns:
            The views, uint8 (3, S, S) each, and the labels in their geometry. Boxes are cut at the border; some may be
            left without an area.
        """
        height, width = image.shape[-2:]
        rows, columns = (self.size, self.size) if self.size is not None else (height, width)
        coin, factor, down, right = torch.rand(4, dtype=torch.float64).tolist()
        if coin < self.flip:
            image, labels = F.horizontal_flip(image), F.horizontal_flip(labels)
        factor = self.scale[0] + factor * (self.scale[1] - self.scale[0])
        resized = [max(1, round(height * factor)), max(1, round(width * factor))]
        high, wide = max(0, rows - resized[0]), max(0, columns - resized[1])
        down_by, right_by = int(down * (high + 1)), int(right * (wide + 1))
        padding = [right_by, down_by, wide - right_by, high - down_by]
        top, left = int(down * (max(0, resized[0] - rows) + 1)), int(right * (max(0, resized[1] - columns) + 1))
        if isinstance(labels, Mask):
            labels = _mask_crop(labels, resized, top, left, min(rows, resized[0]), min(columns, resized[1]))
            labels = F.pad(labels, padding, fill=_NO_LABEL) if high or wide else labels
        if resized != [height, width]:
            image = F.resize(image, resized, antialias=True)
            labels = labels if isinstance(labels, Mask) else F.resize(labels, resized)
        if high or wide:
            image = F.pad(image, padding, fill=0)
            labels = labels if isinstance(labels, Mask) else F.pad(labels, padding)
        # The jitter works channel by channel, and decoded images lie pixel by pixel.
        image = F.crop(image, top, left, rows, columns).contiguous()
        labels = labels if isinstance(labels, Mask) else F.crop(labels, top, left, rows, columns)
        return (image, *(self.jitter(image) for _ in range(self.views - 1))), labels


def _mask_crop(mask: Mask, size: list[int], top: int, left: int, rows: int, columns: int) -> Mask:
    """Resize a mask to ``size`` and cut a part out, without making the rest; to the nearest pixel.

    torchvision's own way with masks is off by up to half a pixel.
    """
    ys, xs = (_nearest(had, wanted) for had, wanted in zip(mask.shape[-2:], size, strict=True))
    # NumPy takes bytes ten times as fast as torch does.
    part = mask.as_subclass(Tensor).numpy().take(ys[top : top + rows], 0).take(xs[left : left + columns], 1)
    return Mask(torch.from_numpy(part))


def _nearest(had: int, wanted: int) -> NDArray[np.int64]:
    """Return which of ``had`` pixels each of ``wanted`` takes."""
    places = torch.arange(had, dtype=torch.float32).view(1, 1, had)
    return nn.functional.interpolate(places, size=wanted, mode="nearest-exact").long().view(-1).numpy()


def derive_seed(*parts: int | str) -> int:
    """Hash the parts to a seed that is the same in every process and on every machine.

    ``derive_seed(seed, epoch, index)`` makes a view a function of these three, however many workers load it.

    Args:
        *parts: Whole numbers (NumPy's too) and strings; 1 and ``"1"`` differ, and so do ``("ab", "c")`` and
            ``("a", "bc")``.

    Returns:
        An integer in [0, 2**63).

    Raises:
        ConfigError: A part is neither.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            text = "s" + part
        else:
            try:
                text = f"i{operator.index(part)}"
            except TypeError:
                raise ConfigError(
                    f"A seed cannot be derived from {part!r}; expected whole numbers and strings."
                ) from None
        data = text.encode()
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return int.from_bytes(digest.digest()[:8], "big") >> 1


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator, Python's ``random`` and NumPy's global generator for the length of a block.

    All three are put back afterwards, also when the block raises. CUDA generators are left alone, so that a
    forked worker never touches CUDA. The generators are global: not for several threads at once.

    Args:
        seed: In [0, 2**63), e.g. from :func:`derive_seed`.

    Yields:
        Nothing.

    Raises:
        ConfigError: The seed is out of range.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ConfigError(f"Seed is {seed!r}; expected a whole number in [0, 2**63). derive_seed() makes one.")
    torch_state = torch.default_generator.get_state()
    python_state = random.getstate()
    numpy_state = np.random.get_state()
    try:
        # torch's CPU generator looks at the low 32 bits only: fold the high ones in, so that every bit counts.
        torch.default_generator.manual_seed((seed ^ seed >> 32) & 0xFFFFFFFF)
        random.seed(seed)
        np.random.seed([seed & 0xFFFFFFFF, seed >> 32])  # it takes words of 32 bits
        yield
    finally:
        torch.default_generator.set_state(torch_state)
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def _is_number(value: object) -> bool:
    """Tell whether a value is an int or a float; True and False are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _describe(value: object) -> str:
    """Say what was given instead of an image."""
    if isinstance(value, Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')} and shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"

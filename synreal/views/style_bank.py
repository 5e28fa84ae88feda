"""Styles of real images: their amplitude spectrum, or the mean and spread of their colours, for synthetic ones."""

from __future__ import annotations

import math
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from typing_extensions import Self

from synreal.data.files.decoding import read_image
from synreal.data.files.file_sets import LabelFiles
from synreal.data.files.paths import SUFFIXES, hold_out, scan_images
from synreal.data.files.threads import in_threads
from synreal.errors import ConfigError, DataError
from synreal.functional.colours import lab_to_rgb, match_moments, rgb_to_lab, spread_and_mean
from synreal.functional.spectrum import mix_amplitude
from synreal.parsing import from_home
from synreal.views.base import VIEWS, FurtherView, ImageChange
from synreal.views.ranges import uniform, within

How: TypeAlias = Literal["amplitude", "fda", "reinhard", "adain"]

_FDA_REACH: Final = 0.05  # the middle one of the three that FDA averages over
_SIDE: Final = 512  # of what is kept of a style where the size of views is not known
_KEPT: Final = 32 * 2**20  # bytes of styles that each process keeps


@VIEWS.register
class StyleBankView(FurtherView):
    """Give each view the style of a real image, drawn from a folder of images without labels.

    The images are auxiliary, such as some of ImageNet, and never those that are tested on, which is refused. The
    protocol of a run says that it used real images, and it is ranked apart from runs that used none. It stands in for
    the stylisation of DRPC (Yue et al., ICCV 2019), which needs a translation network.

    A folder may hold more images than are used; which ones are is decided by a hash of their names. They are decoded
    once before training, so that a damaged one is told then, and again as they are drawn; each process keeps 32 MiB of
    copies, reduced to the pixels of a view.

    Attributes:
        folder: The folder; images in folders below it count.
        how: ``"amplitude"``: the amplitude spectrum is mixed with the style's (FACT, Xu et al., CVPR 2021).
            ``"fda"``: its low frequencies become the style's (Yang and Soatto, CVPR 2020). ``"reinhard"``: mean and
            spread of the channels in Lab (Reinhard et al., 2001). ``"adain"``: the same in RGB, adaptive instance
            normalization on pixels. The style is resized to the view first where spectra are taken.
        mix: Range of the share of the style that is drawn for each view, in [0, 1]; 0 changes nothing. By default
            (0, 1), and (1, 1) for fda, as published.
        beta: Of fda alone: the highest frequency that takes part, as a share of the short side, in [0, 0.5]; by default
            0.05. The paper takes 0.01, 0.05 and 0.09.
        most: How many images are used at most.
    """

    name: ClassVar[str] = "style_bank"
    summary: ClassVar[str] = "spectrum or colours of real images from a folder without labels"
    moves: ClassVar[bool] = False
    uses_real_images: ClassVar[bool] = True

    folder: Path
    how: How = "amplitude"
    mix: Annotated[tuple[float, float], within(0, 1)] | None = None
    beta: float | None = Field(default=None, ge=0, le=0.5)
    most: int = Field(default=1000, ge=1)

    @field_validator("folder")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return from_home(value).absolute()  # a run is resumed from anywhere

    @model_validator(mode="after")
    def _reach_is_of_fda(self) -> Self:
        if self.beta is not None and self.how != "fda":
            raise ValueError(f"beta is a setting of how=fda: {self.how} has no use for it")
        return self

    def build(self, size: int | None) -> ImageChange:
        """Build the change; it keeps the image's size.

        Raises:
            ConfigError: If the folder is missing or holds no image.
        """
        mix = self.mix or ((1.0, 1.0) if self.how == "fda" else (0.0, 1.0))
        styles = Styles(self.folder, self.files(), size or _SIDE, self.how)
        return _Stylised(styles, self.how, mix, _FDA_REACH if self.beta is None else self.beta)

    def files(self) -> list[str]:
        """Return the images that are used, relative to the folder, sorted.

        Raises:
            ConfigError: If the folder is missing or holds no image.
        """
        if not self.folder.is_dir():
            state = "is a file" if self.folder.exists() else "does not exist"
            raise ConfigError(f"The view style_bank: {self.folder} {state}, expected a folder of real images.")
        try:
            found = scan_images(self.folder)
        except DataError as error:
            raise ConfigError(f"The view style_bank: {error}") from None
        if not found:
            raise ConfigError(
                f"The view style_bank: {self.folder} holds no image. Expected files that end in {', '.join(SUFFIXES)}."
            )
        return [name for name, chosen in zip(found, hold_out(found, self.most), strict=True) if chosen]

    def real_images(self) -> LabelFiles:
        """Return the images that are used, each decoded once.

        Raises:
            ConfigError: If the folder is missing or holds no image.
            DataError: If an image cannot be read; names it.
        """
        files = self.files()
        images = LabelFiles(self.name, "styles", self.folder, files, [0] * len(files), ("style",))
        for _ in in_threads(partial(_decode, self.folder), files):
            pass
        return images


def _decode(folder: Path, name: str) -> None:
    try:
        read_image(folder / name)
    except DataError as error:
        raise DataError(f"The view style_bank: {error} Replace it, or take it out of the folder.") from None


class Styles:
    """What is needed of style images, read when it is first asked for; each process keeps what was asked for last.

    Args:
        folder: The folder.
        files: The images, relative to it.
        side: Images with more pixels than a square of this side are reduced.
        how: What is made of them: of ``"reinhard"`` and ``"adain"`` a spread and a mean, else the pixels.
    """

    def __init__(self, folder: Path, files: list[str], side: int, how: How) -> None:
        self.folder = folder
        self.files = files
        self.side = side
        self.how = how
        self._most = max(1, _KEPT // (3 * side**2))
        self._kept: OrderedDict[int, Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Any:
        """Return what is needed of a style: uint8 (3, H, W), or spread and mean, float32 (3, 1, 1).

        Raises:
            DataError: If the image cannot be read any more.
        """
        if index not in self._kept:
            self._kept[index] = self._read(index)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        self._kept.move_to_end(index)
        return self._kept[index]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is kept: each process reads for itself."""
        return {**vars(self), "_kept": OrderedDict()}

    def _read(self, index: int) -> Any:
        image = read_image(self.folder / self.files[index])
        height, width = image.shape[-2:]
        factor = self.side / math.sqrt(height * width)
        if factor < 1:
            image = F.resize(image, [max(1, round(height * factor)), max(1, round(width * factor))], antialias=True)
        if self.how in ("amplitude", "fda"):
            return image.contiguous()
        return spread_and_mean(rgb_to_lab(image / 255) if self.how == "reinhard" else image / 255)


class _Stylised:
    """Draws a style and a share of it for an image."""

    def __init__(self, styles: Styles, how: How, mix: tuple[float, float], beta: float) -> None:
        self.styles = styles
        self.how = how
        self.mix = mix
        self.beta = beta

    def __call__(self, image: Tensor) -> Tensor:
        style = self.styles[int(torch.randint(len(self.styles), ()))]
        share = float(uniform(self.mix))
        pixels = image / 255
        if self.how in ("amplitude", "fda"):
            size = list(image.shape[-2:])
            reach = math.floor(self.beta * min(size)) if self.how == "fda" else None
            changed = mix_amplitude(pixels, F.resize(style / 255, size, antialias=True), share, reach)
        else:
            std, mean = style
            in_lab = self.how == "reinhard"
            changed = match_moments(rgb_to_lab(pixels) if in_lab else pixels, std, mean, share)
            changed = lab_to_rgb(changed) if in_lab else changed
        return (255 * changed).round_().clamp_(0, 255).to(torch.uint8)

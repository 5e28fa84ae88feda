"""Trial passes: one made-up image through a network, which keeps its weights, statistics, modes and hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from synreal.core.declarations import says
from synreal.core.parts import model_config
from synreal.errors import StageError

# Small enough to be quick, large enough that a pooled 1 x 1 map is not of stride 32, and not square: the shape of a map
# then tells which axis holds the channels.
_PROBE_SIZE = (128, 160)
_OTHER_SIZES = ((224, 224), (256, 256), (320, 320), (64, 64))  # for networks whose windows do not fit into the first


@dataclass(frozen=True)
class Seen:
    """What one call of a module gave in a trial pass.

    Attributes:
        path: Module path from the root of the network.
        module: The module.
        output: What it returned.
        version: How often the output had been changed in place by then, as autograd counts; 0 if it is not a tensor.
    """

    path: str
    module: nn.Module
    output: Any
    version: int

    @property
    def final(self) -> bool:
        """Whether nothing changed the output in place afterwards."""
        return not isinstance(self.output, Tensor) or self.output._version == self.version


def fitting_shape(model: nn.Module) -> tuple[int, ...]:
    """Return the shape (1, C, H, W) of the first made-up image that a network takes, found by running it.

    Raises:
        StageError: If the network takes no image of any size that is tried.
    """
    return tuple(try_image(model, model, lambda: None).shape)


def check_channels(student: nn.Module, reference: nn.Module) -> None:
    """Refuse a reference that does not take the student's images.

    Raises:
        StageError: If their images have other numbers of channels.
    """
    firsts = [next((m for m in one.modules() if isinstance(m, nn.Conv2d)), None) for one in (student, reference)]
    counts = [0 if first is None else first.in_channels for first in firsts]
    if not all(counts) or counts[0] == counts[1]:
        return
    # A first convolution may read folded pixels.
    counts = [fitting_shape(one)[1] for one in (student, reference)]
    if counts[0] != counts[1]:
        raise StageError(
            f"The student takes images of {counts[0]} channel(s), the reference of {counts[1]}: it cannot look at what "
            f"the student sees. Give a reference made with in_chans={counts[0]}, or repeat the student's images to "
            f"{counts[1]} channels."
        )


def _blank_images(model: nn.Module) -> Iterator[Tensor]:
    """Yield blank images (1, C, H, W) on the network's device and in its dtype, the most promising first.

    They are not square unless the network says that it takes one size only.
    """
    cfg = says(model, "pretrained_cfg")
    cfg = cfg if isinstance(cfg, Mapping) else {}
    size: Any = getattr(says(model, "patch_embed"), "img_size", None)
    if size is None and cfg.get("fixed_input_size"):
        size = cfg["input_size"][-2:]
    if size is None:
        size = getattr(model, "image_size", None)
    sizes = [_PROBE_SIZE, *_OTHER_SIZES]
    if size is not None:
        sizes.insert(0, (size, size) if isinstance(size, int) else tuple(size))
    own = getattr(model_config(model), "image_size", None)  # transformers' ViT takes images of one size
    if isinstance(own, int) and (own, own) not in sizes:
        sizes.append((own, own))
    conv = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    # A network that folds pixels into channels has a first convolution of more channels than its images.
    channels = dict.fromkeys([conv.in_channels if conv is not None else 3, 3])
    parameter = next(model.parameters(), torch.zeros(()))
    for count in channels:
        for height, width in sizes:
            yield torch.zeros(1, count, height, width, device=parameter.device, dtype=parameter.dtype)


def try_image(network: nn.Module, model: nn.Module, start: Callable[[], None]) -> Tensor:
    """Run one image through a network, in eval mode and without gradient.

    Args:
        network: What takes the image.
        model: What contains it, put into eval mode as a whole.
        start: Called before each attempt.

    Returns:
        The image that went through.

    Raises:
        StageError: If the network takes no image of any size that is tried.
    """
    first: Exception | None = None
    with _quiet_eval(model), torch.no_grad():
        for image in _blank_images(network):
            start()
            # From zeros, an untrained network would give zeros everywhere, and its maps could not be told apart.
            image += torch.linspace(-1, 1, image.shape[3], device=image.device, dtype=image.dtype)
            try:
                network(image)
                return image
            except (RuntimeError, ValueError, TypeError, AssertionError) as error:
                first = first or error
    raise StageError(
        f"{type(network).__name__} failed on an image {tuple(next(_blank_images(network)).shape)}, and on other sizes: "
        f"{type(first).__name__}: {first}. Give entry=, the path of the module that takes images (N, C, H, W)."
    ) from first


def watch(network: nn.Module, modules: Mapping[str, nn.Module], model: nn.Module) -> tuple[Tensor, list[Seen]]:
    """Run one image through a network and watch modules.

    Args:
        network: What takes the image.
        modules: What to watch, by path.
        model: What contains the network.

    Returns:
        The image (1, C, H, W), and what each call of a watched module gave, in the order in which they ended.

    Raises:
        StageError: If the network takes no image of any size that is tried.
    """
    seen: list[Seen] = []

    def note(path: str, module: nn.Module, output: Any) -> None:
        seen.append(Seen(path, module, output, output._version if isinstance(output, Tensor) else 0))

    handles = [
        module.register_forward_hook(lambda module, _args, output, path=path: note(path, module, output))
        for path, module in modules.items()
    ]
    try:
        return try_image(network, model, seen.clear), seen
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _quiet_eval(model: nn.Module) -> Iterator[None]:
    """Put a network in eval mode for a probe, then give every module its own mode back."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode

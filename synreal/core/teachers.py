"""Networks that the student is compared with: a frozen reference and a moving average."""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from typing_extensions import Self

from synreal.core.noise import remove_noise
from synreal.core.norm_stats import never_trained, norm_layers
from synreal.core.parts import logits_of
from synreal.core.precision import KeptWide
from synreal.core.stages import Stage
from synreal.core.taps import FeatureTap, without_hooks
from synreal.core.trial import fitting_shape
from synreal.errors import CheckpointError, ConfigError, StageError


class Reference(nn.Module):
    """A frozen copy of a network that only gives feature maps.

    It is always in eval mode, has no gradient, and is not part of ``parameters()`` or ``state_dict()``: checkpoints
    hold a fingerprint of it, which is checked when they are loaded.

    Args:
        network: The module that turns images into maps; it is copied.
        stages: Where to read, with paths inside ``network``.
        ignore: Names of parameters that the maps do not depend on, such as a fresh classifier; they are left out of
            the fingerprint.
        renormalize: Scale and shift by channel, (3,) each, that turn images normalised for the student into images
            normalised for ``network``; None where both were pretrained alike.
    """

    def __init__(
        self,
        network: nn.Module,
        stages: Sequence[Stage],
        *,
        ignore: frozenset[str] = frozenset(),
        renormalize: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__()
        frozen = without_hooks(copy.deepcopy(network)).eval().requires_grad_(False)
        remove_noise(frozen)
        _warn_if_untrained(frozen)
        # In a tuple, so that nn.Module does not register it: see the class docstring.
        self._network = (frozen,)
        self.tap = FeatureTap(frozen, stages)
        self._renormalize = renormalize
        self._blank: tuple[int, ...] | None = None
        state = frozen.state_dict()
        self.fingerprint = state_sha256({name: state[name] for name in state if name not in ignore})

    @property
    def network(self) -> nn.Module:
        """The frozen network."""
        return self._network[0]

    @torch.no_grad()
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return each stage's map, (N, C, H, W), without gradient."""
        with self.tap.record() as maps:
            self.network(self.adapt(images))
        self.tap.take_input()
        return maps

    def adapt(self, images: Tensor) -> Tensor:
        """Turn images (N, 3, H, W) that are normalised for the student into what this network was pretrained on."""
        if self._renormalize is None:
            return images
        scale, shift = (value.to(images).view(1, -1, 1, 1) for value in self._renormalize)
        return images * scale + shift

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, whatever the surrounding model does."""
        return super().train(False)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.network._apply(fn, recurse)
        return self

    def tail(self, vectors: Tensor, stage: Stage) -> Tensor:
        """Run what follows a stage on single positions: what this network makes of them, as if each were the map.

        Args:
            vectors: (P, C), values of a map of that stage.
            stage: A stage of this network that its classifier depends on through position-wise layers and pooling
                alone: the last one of a convolutional network or of a Swin.

        Returns:
            (P, classes), with gradient to ``vectors``.

        Raises:
            StageError: If the network behind the stage does not give logits for such an input.
        """
        if stage.layout == "tokens" and stage.prefix_tokens:
            raise StageError(
                f"The classifier behind stage {stage.name} ({stage.path}) reads class tokens, so it cannot be applied "
                "to single positions. Use a reference that pools its last map."
            )
        grid = {"nchw": (-1, stage.channels, 1, 1), "nhwc": (-1, 1, 1, stage.channels)}
        shaped = vectors.reshape(grid.get(stage.layout, (-1, 1, stage.channels)))
        # The trunk runs on one blank image, for the sake of what follows it.
        if self._blank is None:
            self._blank = fitting_shape(self.network)
        own = next(self.network.parameters())
        handle = self.network.get_submodule(stage.path).register_forward_hook(_in_place_of(shaped))
        try:
            logits = logits_of(self.network(own.new_zeros(self._blank)))
        finally:
            handle.remove()
        if not isinstance(logits, Tensor) or logits.shape[:-1] != vectors.shape[:1]:
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise StageError(
                f"What follows stage {stage.name} ({stage.path}) of the reference gave {got} for {vectors.shape[0]} "
                "positions, expected one row of logits for each. Use a reference with its pretrained classifier."
            )
        return logits

    def get_extra_state(self) -> Tensor:
        """Return the fingerprint as a tensor, which any checkpoint format can hold."""
        return torch.frombuffer(bytearray.fromhex(self.fingerprint), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Check the fingerprint of a checkpoint against this network.

        Raises:
            CheckpointError: If the checkpoint was made with another teacher.
        """
        saved = bytes(state.cpu().tolist()).hex()
        if saved != self.fingerprint:
            raise CheckpointError(
                f"The checkpoint was trained against another teacher (fingerprint {saved[:12]}, here "
                f"{self.fingerprint[:12]}). Build the student with the same pretrained weights before attach()."
            )


def _in_place_of(shaped: Tensor) -> Any:
    """Return a forward hook that gives ``shaped`` in place of a map, also of tokens that stand first in a tuple."""
    return lambda _module, _args, output: (shaped, *output[1:]) if isinstance(output, tuple) else shaped


class EmaTeacher(KeptWide):
    """A copy of a module whose parameters follow the original as an exponential moving average.

    ``w_ema <- decay * w_ema + (1 - decay) * w``. Floating-point buffers follow alike, other buffers are copied. The
    copy takes no gradient, is saved with the model, and is kept in float32 or better.

    Args:
        module: The module to follow.
        decay: In [0, 1]; 0 copies, 1 never moves.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        super().__init__()
        if not 0 <= decay <= 1:
            raise ConfigError(f"The decay of a moving average must lie in [0, 1], got {decay}.")
        self.decay = decay
        self.average = copy.deepcopy(module).requires_grad_(False)

    def forward(self, *args: Any) -> Any:
        """Run the averaged module."""
        return self.average(*args)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move one step towards ``module``."""
        _follow(self.average, module, self.decay)


@dataclass(frozen=True)
class Average:
    """How a network's moving average is kept; terms that ask for the same one share it.

    Attributes:
        decay: In [0, 1], as of ``EmaTeacher``.
        norm: ``"own"``: normalisation layers work as the student's do, and where those normalise with the batch the
            average gathers running statistics from its own passes (GCISG's published code). ``"averaged"``: they
            always use running statistics, which are a moving average of the student's.
    """

    decay: float
    norm: Literal["own", "averaged"] = "own"


class AveragedNetwork(KeptWide):
    """A moving average of the student that gives feature maps; saved with the model, without gradient.

    It is kept in float32 or better, whatever the model is cast to.

    Args:
        network: The module that turns images into maps; it is copied.
        stages: Where to read, with paths inside ``network``.
        settings: How the average is kept.
    """

    def __init__(self, network: nn.Module, stages: Sequence[Stage], settings: Average) -> None:
        super().__init__()
        self.settings = settings
        self.network = without_hooks(copy.deepcopy(network)).eval().requires_grad_(False)
        self.tap = FeatureTap(self.network, stages)

    @torch.no_grad()
    def forward(self, images: Tensor, student: nn.Module) -> dict[str, Tensor]:
        """Return each stage's map, (N, C, H, W), without gradient.

        Args:
            images: (N, 3, H, W).
            student: The module that is followed; its normalisation layers say how those here normalise.
        """
        if self.settings.norm == "own":
            for layer, original in zip(norm_layers(self.network), norm_layers(student), strict=True):
                if layer.training != original.training:
                    layer.train(original.training)
        with self.tap.record() as maps:
            self.network(images.to(next(self.network.parameters()).dtype))
        self.tap.take_input()
        return maps

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode; ``forward`` lets normalisation layers follow the student's."""
        return super().train(False)

    @torch.no_grad()
    def restart(self, student: nn.Module) -> None:
        """Become what ``student`` is, running statistics too."""
        _follow(self.network, student, 0.0)

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """Move one step towards ``student``: ``w <- decay * w + (1 - decay) * w_student``."""
        own = norm_layers(self.network) if self.settings.norm == "own" else []
        _follow(self.network, student, self.settings.decay, but={id(b) for layer in own for b in layer.buffers()})


def _follow(average: nn.Module, module: nn.Module, decay: float, *, but: Collection[int] = ()) -> None:
    """Move parameters and buffers of a copy towards the original's, except the buffers whose ids are in ``but``."""
    for weight, value in zip(average.parameters(), module.parameters(), strict=True):
        weight.lerp_(value.to(weight.dtype), 1 - decay)
    for held, current in zip(average.buffers(), module.buffers(), strict=True):
        if id(held) in but:
            continue
        if held.is_floating_point():
            held.lerp_(current.to(held.dtype), 1 - decay)
        else:
            held.copy_(current)


class UntrainedTeacherWarning(UserWarning):
    """The pretrained network looks as if it had never been trained, so there is no knowledge to keep."""


def _warn_if_untrained(network: nn.Module) -> None:
    if never_trained(norm_layers(network)):
        warnings.warn(
            "The reference network's BatchNorm statistics were never trained: is it randomly initialised? "
            "A regularizer can only keep knowledge that is there. Load pretrained weights before attach().",
            UntrainedTeacherWarning,
            stacklevel=4,
        )


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Fingerprint a state dict: its names, dtypes, shapes and bytes, whatever their order and device.

    Args:
        state: Tensors of any dtype and shape by name.

    Returns:
        SHA-256 in hex, 64 characters.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        data = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        # A header of fixed form before the bytes: no two different states run together to the same stream.
        digest.update(f"{name!r} {tensor.dtype} {tuple(tensor.shape)} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()

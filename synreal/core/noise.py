"""Noise on feature maps: a hook that is active in the student's own training pass alone.

A forward hook and not a module, so that the network keeps its modules, their paths and its state dict. The random
numbers are a function of a buffer of the module that the hook is on: they follow the network to any device, into
copies, pickles and compiled graphs, and go on where they were.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from synreal import distributed
from synreal.core.stages import Stage
from synreal.errors import CheckpointError, ConfigError, StageError, TrainingError
from synreal.functional.draws import fold_in, uniform

_SEED, _PASSES, _LEFT_OUT = range(3)  # what the buffer of a site holds


class FeatureNoise(ABC):
    """A forward hook that changes a stage's map in training; a class, unlike a closure, can be copied and pickled.

    It is active where the module is in train mode and gradient is on, unless it is held (``hold_noise``): so never in
    eval mode, in a teacher, in a moving average, in a pass for statistics or in any other without gradient, nor in the
    further passes that regularizers ask for. Statistics are computed in float32 with autocast off.

    Every pass draws from three numbers in a buffer of the module, int64: a seed, the count of passes, and how many of
    these left a batch as it was because it was too small. The buffer is not part of the network's state dict;
    ``noise_state`` reads it, and the model that ``attach`` makes saves it with its own. It is equal in all processes:
    each draws other numbers, as its rank enters.

    Args:
        name: What it is called in messages.
        stage: Where.
        number: Number of the site among those of the same transform; sites draw other numbers.
        chance: How likely a batch is changed.
        least: The fewest images that it needs in a batch; smaller ones stay as they are, and are counted.

    Attributes:
        held: Whether it is to do nothing for now.
        ran: Whether it was active since this was last set to False; not noted in a compiled graph.
    """

    def __init__(self, name: str, stage: Stage, number: int, *, chance: float, least: int) -> None:
        self.name = name
        self.stage = stage
        self.number = number
        self.chance = chance
        self.least = least
        self.held = False
        self.ran = False

    @abstractmethod
    def disturb(self, maps: Tensor, key: Tensor) -> Tensor:
        """Change maps.

        Args:
            maps: (N, C, ...), at least float32; ``least`` images or more, two positions or more.
            key: What to draw with; see ``synreal.functional.draws``.

        Returns:
            Maps of the same shape and dtype.
        """

    @property
    def buffer(self) -> str:
        """Name of the buffer that the random numbers follow from."""
        return f"{self.name}_draws"

    def check(self, network: nn.Module) -> None:
        """Refuse a place where noise of this name is already.

        Raises:
            ConfigError: If it is.
        """
        if hasattr(network.get_submodule(self.stage.path), self.buffer):
            raise ConfigError(f"{self.name} is on stage {self.stage.name} ({self.stage.path}) already.")

    def put_on(self, network: nn.Module, seed: int) -> None:
        """Begin to listen.

        Args:
            network: The network.
            seed: In [0, 2^31).
        """
        module = network.get_submodule(self.stage.path)
        device = next(network.parameters()).device
        state = torch.tensor([seed, 0, 0], dtype=torch.int64, device=device)
        module.register_buffer(self.buffer, state, persistent=False)
        module.register_forward_hook(self)

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        """Return the changed output in place of the module's, or None to leave it."""
        if self.held or not module.training or not torch.is_grad_enabled():
            return None
        if not torch.compiler.is_compiling():
            self.ran = True
            if torch._C._current_graph_task_id() != -1:
                raise TrainingError(
                    f"{self.name} at stage {self.stage.name} ({self.stage.path}) runs within a backward pass: gradient "
                    "checkpointing makes the forward pass again there, with other noise than the loss was made with. "
                    "Switch checkpointing off for the modules around that stage."
                )
        maps = self._maps(output)
        if maps[0, 0].numel() < 2:
            raise TrainingError(
                f"{self.name} at stage {self.stage.name} ({self.stage.path}) gets a map of one position, which has no "
                "statistics. Use larger images, or an earlier stage."
            )
        state: Tensor = getattr(module, self.buffer)
        key = state[: _PASSES + 1].clone()
        for number in (self.number, distributed.rank()):
            key = fold_in(key, number)
        state[_PASSES] += 1
        if maps.shape[0] < self.least:
            state[_LEFT_OUT] += 1
            return None
        coin = uniform(fold_in(key, 0), ())
        if maps.device.type == "cpu" and not torch.compiler.is_compiling() and bool(coin >= self.chance):
            return None  # on an accelerator, looking at the coin would be to wait for it
        with torch.autocast(maps.device.type, enabled=False):
            wide = maps.to(torch.promote_types(maps.dtype, torch.float32))
            changed = torch.where(coin < self.chance, self.disturb(wide, fold_in(key, 1)), wide)
        return self._as_output(changed.to(output.dtype), output)

    def _maps(self, output: Tensor) -> Tensor:
        """Return a module's output as (N, C, ...), without class tokens."""
        if self.stage.layout == "nhwc":
            return output.permute(0, 3, 1, 2)
        if self.stage.layout == "tokens":
            return output[:, self.stage.prefix_tokens :].transpose(1, 2)
        return output

    def _as_output(self, maps: Tensor, output: Tensor) -> Tensor:
        """Put maps into the order of the module's output, and of its memory."""
        if self.stage.layout == "nhwc":
            return maps.permute(0, 2, 3, 1).contiguous()
        if self.stage.layout == "tokens":
            return torch.cat([output[:, : self.stage.prefix_tokens], maps.transpose(1, 2)], 1)
        last = output.is_contiguous(memory_format=torch.channels_last) and not output.is_contiguous()
        return maps.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def noise_of(network: nn.Module) -> list[tuple[str, nn.Module, FeatureNoise]]:
    """Return the noise on a network: path and module of each site, and the hook."""
    return [
        (path, module, hook)
        for path, module in network.named_modules()
        for hook in module._forward_hooks.values()
        if isinstance(hook, FeatureNoise)
    ]


def remove_noise(network: nn.Module) -> list[str]:
    """Take all noise off a network, which is then as if there had never been any.

    Args:
        network: The network; changed in place.

    Returns:
        The paths of the modules that noise was on.
    """
    found = noise_of(network)
    for _, module, noise in found:
        for number in [number for number, hook in module._forward_hooks.items() if hook is noise]:
            del module._forward_hooks[number]
        delattr(module, noise.buffer)
        module._non_persistent_buffers_set.discard(noise.buffer)
    return [path for path, _, _ in found]


def noise_state(network: nn.Module) -> dict[str, Tensor]:
    """Return what the random numbers of a network's noise follow from, to be saved beside its state dict.

    Returns:
        int64, (3,), on the CPU, by ``path.buffer``: seed, passes, and batches that were too small.
    """
    return {f"{path}.{n.buffer}": m.get_buffer(n.buffer).cpu().clone() for path, m, n in noise_of(network)}


def load_noise_state(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Let the noise on a network go on where another's was.

    Args:
        network: The network, with the same transforms.
        state: From ``noise_state``.

    Raises:
        CheckpointError: If the network has other noise.
    """
    own = {f"{path}.{noise.buffer}": module.get_buffer(noise.buffer) for path, module, noise in noise_of(network)}
    if own.keys() != state.keys() or any(own[name].shape != value.shape for name, value in state.items()):
        raise CheckpointError(
            f"The saved noise is of {', '.join(state) or 'no site'}; this network has it at {', '.join(own) or 'none'}."
            " Apply the same transforms before loading."
        )
    for name, value in state.items():
        own[name].copy_(value)


class HeldNoise(nn.Module):
    """The noise of a student, as the model that trains it sees it: saved, held in further passes, and watched.

    It registers nothing of the student again; its state is one tensor, which any checkpoint format can hold.

    Args:
        network: The student.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._network = (network,)  # in a tuple, so that it is not registered
        found = noise_of(network)
        self._sites = tuple((module, noise) for _, module, noise in found)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let a pass run without noise."""
        for _, noise in self._sites:
            noise.held = True
        try:
            yield
        finally:
            for _, noise in self._sites:
                noise.held = False

    def check_ran(self) -> None:
        """Look whether all noise was active in the pass that was made.

        Raises:
            StageError: If some was not although its module is in train mode.
        """
        silent = [f"{n.name} at {n.stage.name} ({n.stage.path})" for m, n in self._sites if m.training and not n.ran]
        for _, noise in self._sites:
            noise.ran = False
        if silent:
            raise StageError(
                f"{', '.join(silent)} did not run in this forward pass, so it does nothing. Gradient checkpointing "
                "that goes around the module, or a branch not taken, can do this."
            )

    def agree(self) -> None:
        """Give all processes rank 0's state: where each seeds torch for itself, each drew another seed."""
        self.set_extra_state(torch.tensor(distributed.gather_values(self.get_extra_state().tolist())[0]))

    @property
    def left_out(self) -> int:
        """How many batches were too small for it, over all sites."""
        return sum(int(module.get_buffer(noise.buffer)[_LEFT_OUT]) for module, noise in self._sites)

    def get_extra_state(self) -> Tensor:
        """Return the state of all sites, int64, (sites, 3)."""
        return torch.stack([module.get_buffer(noise.buffer).cpu() for module, noise in self._sites])

    def set_extra_state(self, state: Tensor) -> None:
        """Go on where another model was.

        Raises:
            CheckpointError: If that had other noise.
        """
        own = list(noise_state(self._network[0]))
        names = own if len(own) == len(state) else [f"site {number}" for number in range(len(state))]
        load_noise_state(self._network[0], dict(zip(names, state.cpu(), strict=True)))

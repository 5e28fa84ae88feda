"""Read feature maps of a network without changing it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from synreal.core.declarations import tokens_of
from synreal.core.stages import Stage, as_map
from synreal.core.whitening import Whitening
from synreal.errors import StageError


class _Store:
    """Where hooks put what they see; empty (None) outside ``record()``, so that nothing is kept alive."""

    def __init__(self) -> None:
        self.outputs: dict[str, Any] | None = None
        self.inputs: list[Tensor] | None = None
        self.versions: dict[str, int] = {}


class _OutputHook:
    """A forward hook that can be copied and pickled, unlike a closure.

    A copy of the network carries a copy of the store, so it never writes into the original's.
    """

    def __init__(self, store: _Store, name: str) -> None:
        self.store = store
        self.name = name

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Tensor | None:
        outputs = self.store.outputs
        if outputs is None:
            return None
        if self.name in outputs:
            raise StageError(
                f"Stage {self.name} ran twice in one recorded forward. One call of the model is one view; run other "
                "images through model.student outside the training forward."
            )
        output = tokens_of(output)
        outputs[self.name] = output
        if isinstance(module, Whitening):
            apart: Tensor = output.clone()  # the activation behind it may work in place
            return apart
        if not torch.compiler.is_compiling() and isinstance(output, Tensor):
            self.store.versions[self.name] = output._version
        return None


class _BeforeHook:
    """The same for a stage that is the input of a module."""

    def __init__(self, store: _Store, name: str) -> None:
        self.inner = _OutputHook(store, name)

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.inner(module, args, args[0])


class _InputHook:
    def __init__(self, store: _Store) -> None:
        self.store = store

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.store.inputs is not None:
            self.store.inputs.append(args[0] if args else next(iter(kwargs.values())))  # transformers names them


class FeatureTap:
    """Permanent forward hooks on chosen stages, silent except inside ``record()``.

    The hooks are there from the start because a hook added after the first compiled call never fires.

    Args:
        model: The network.
        stages: Where to read.
        entry: Path of the module whose first input is recorded too; empty for the network itself.
    """

    def __init__(self, model: nn.Module, stages: Sequence[Stage], *, entry: str = "") -> None:
        self.stages = tuple(stages)
        self._store = _Store()
        self._handles = []
        for stage in self.stages:
            module = model.get_submodule(stage.path)
            if stage.layout == "input":
                self._handles.append(module.register_forward_pre_hook(_BeforeHook(self._store, stage.name)))
            else:
                self._handles.append(module.register_forward_hook(_OutputHook(self._store, stage.name)))
        self._handles.append(
            model.get_submodule(entry).register_forward_pre_hook(_InputHook(self._store), with_kwargs=True)
        )

    @contextmanager
    def record(self) -> Iterator[dict[str, Tensor]]:
        """Record one forward pass.

        Yields:
            A dict that holds, once the block has ended, each stage's map as (N, C, H, W), by stage name; of a stage
            that is a module's input, that input.

        Raises:
            StageError: If a stage did not run, ran twice, or gave another layout than it was probed with.
        """
        maps: dict[str, Tensor] = {}
        outputs: dict[str, Any] = {}
        inputs: list[Tensor] = []
        self._store.outputs, self._store.inputs, self._store.versions = outputs, inputs, {}
        try:
            yield maps
        finally:
            self._store.outputs = self._store.inputs = None
        silent = [f"{s.name} ({s.path})" for s in self.stages if s.name not in outputs]
        if silent or not inputs:
            raise StageError(
                f"{'Stage ' + ', '.join(silent) if silent else 'The entry'} did not run in this forward pass, so there "
                "is nothing to regularize. Gradient checkpointing that goes around the module, or a branch not taken, "
                "can do this."
            )
        size = (int(inputs[0].shape[-2]), int(inputs[0].shape[-1]))
        self.last_input = inputs[0]
        for stage in self.stages:
            maps[stage.name] = as_map(outputs[stage.name], stage, size)
        if not torch.compiler.is_compiling():
            self._check_untouched(maps)

    def _check_untouched(self, maps: dict[str, Tensor]) -> None:
        # A hook inside a compiled graph notes no version; there, nothing can be compared.
        changed = [
            name for name, value in maps.items() if value._version != self._store.versions.get(name, value._version)
        ]
        if changed:
            raise StageError(
                f"The map of stage {', '.join(changed)} was changed in place after it was recorded (an in-place "
                "activation does this). Name a module further on, whose output is final."
            )

    def take_input(self) -> Tensor:
        """Return the entry's input of the last recorded pass, and forget it."""
        value = self.last_input
        del self.last_input
        return value

    def remove(self) -> None:
        """Remove every hook."""
        for handle in self._handles:
            handle.remove()
        self._handles = []


def tapped(model: nn.Module) -> bool:
    """Return whether a network carries hooks of a FeatureTap."""
    return any(isinstance(h, _InputHook) for m in model.modules() for h in m._forward_pre_hooks.values())


def without_hooks(model: nn.Module) -> torch.nn.Module:
    """Remove a FeatureTap's hooks from a copied network and return it."""
    for module in model.modules():
        for table in (module._forward_hooks, module._forward_pre_hooks):
            for key in [k for k, hook in table.items() if isinstance(hook, (_OutputHook, _BeforeHook, _InputHook))]:
                del table[key]
    return model

"""Where a network is changed: first convolution, stem, stages, and the modules between two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field
from torch import nn

from synreal.core.parts import find_entry
from synreal.core.stages import Stage, find_stages, resolve
from synreal.errors import ConfigError, StageError

FIRST: Final = "conv"
"""The first convolution, before its normalisation."""

STEM: Final = "stem"
"""The pooling between stage 0 and stage 1; in a network without one, stage 0."""


def _place(value: Any) -> Any:
    value = int(value) if isinstance(value, str) and value.isdecimal() else value
    number = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 4
    if not number and not (isinstance(value, str) and value):
        raise ValueError(f"a place is a number from 0 to 4, {FIRST!r}, {STEM!r} or a module path")
    return value


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, (int, str)) and not isinstance(value, bool) else value


def _distinct(value: tuple[int | str, ...]) -> tuple[int | str, ...]:
    if len(set(value)) < len(value):
        raise ValueError("a place is named twice")
    return value


Places = Annotated[
    tuple[Annotated[int | str, BeforeValidator(_place)], ...],
    BeforeValidator(_as_tuple),
    Field(min_length=1),
    AfterValidator(_distinct),
]


def find_places(network: nn.Module, wanted: Sequence[int | str], *, but_last: str | None = None) -> list[Stage]:
    """Find places in a network, by trial passes that leave it as it is.

    Args:
        network: A classifier, segmenter or detector.
        wanted: Numbers of stages, ``FIRST``, ``STEM``, or module paths.
        but_last: Name of a transform that may not be put on the last stage; None if it may.

    Returns:
        What is there, in the order asked for, each under the name it was asked for by.

    Raises:
        StageError: If there is no such place, or two names are one place.
        ConfigError: If it is the last stage and may not be.
    """
    named = [str(place) for place in wanted]
    stages = find_stages(network) if any(n.isdecimal() or n == STEM for n in named) or but_last else {}
    paths = dict(zip(named, named, strict=True))
    if FIRST in paths:
        paths[FIRST] = _first_convolution(network)
    if STEM in paths:
        paths[STEM] = _stem(network, stages)
    known = {place.path: place for place in stages.values()}
    rest = [path for name, path in paths.items() if name not in stages and path not in known]
    known |= {place.path: place for place in resolve(network, rest).values()}
    places = [replace(stages.get(name) or known[paths[name]], name=name) for name in named]
    for index, place in enumerate(places):
        if same := [named[other] for other in range(index) if places[other].path == place.path]:
            raise StageError(
                f"{named[index]} and {same[0]} are one place in {type(network).__name__}, {place.path}: name it once."
            )
    last = list(stages.values())[-1].path if stages else ""
    if but_last and any(place.path == last for place in places):
        raise ConfigError(
            f"{but_last} at the last stage ({last}) would take away what tells classes apart: name earlier ones."
        )
    return places


def groups(network: nn.Module, stages: Mapping[str, Stage]) -> dict[str, list[tuple[str, nn.Module]]]:
    """Group the modules of a network by the stage that they belong to: that which ends with them or next after them.

    Modules are taken in the order in which the network names them, which is that of depth.

    Args:
        network: The network.
        stages: Its stages, in order of depth.

    Returns:
        Paths and modules by the name of the stage; what stands behind the last one is left out.
    """
    modules = dict(network.named_modules())
    entry = find_entry(network)
    order = {path: index for index, path in enumerate(modules)}
    ends = [
        (name, max(i for path, i in order.items() if f"{path}.".startswith(f"{stage.path}.")))
        for name, stage in stages.items()
    ]
    found: dict[str, list[tuple[str, nn.Module]]] = {name: [] for name in stages}
    for path, index in order.items():
        group = next((name for name, end in ends if index <= end), None)
        # A module that reaches beyond the group, such as the network itself, belongs to none.
        beyond = not path or any(
            f"{stage.path}.".startswith(f"{path}.") and stage.path != path for stage in stages.values()
        )
        if group is not None and not beyond and f"{path}.".startswith(f"{entry}." if entry else ""):
            found[group].append((path, modules[path]))
    return found


def _first_convolution(network: nn.Module) -> str:
    entry = find_entry(network)
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and f"{path}.".startswith(f"{entry}." if entry else ""):
            return str(path)
    raise StageError(f"{type(network).__name__} has no convolution: name stages or module paths instead of {FIRST!r}.")


def _stem(network: nn.Module, stages: Mapping[str, Stage]) -> str:
    if "0" not in stages:
        raise StageError(
            f"{type(network).__name__} has no stage 0, so no {STEM!r}. It has: "
            + ", ".join(f"{stage.name} ({stage.path}, stride {stage.stride})" for stage in stages.values())
            + "."
        )
    behind = list(stages).index("0") + 1
    following = groups(network, stages)[list(stages)[behind]] if behind < len(stages) else []
    inside = stages[list(stages)[behind]].path if following else ""
    for path, module in following:
        pools = any(isinstance(part, nn.MaxPool2d) for part in module.modules())
        if pools and not f"{path}.".startswith(f"{inside}."):
            return path
    return stages["0"].path

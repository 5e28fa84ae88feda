"""The parameters of a backbone, stage by stage."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from torch import nn

from synreal.core.stages import Stage

BACKBONE = "backbone"
"""Name of the group of all parameters of a backbone."""


def stage_groups(network: nn.Module, stages: Iterable[Stage], backbone: Collection[str]) -> dict[str, list[str]]:
    """Group the parameters of a backbone by the stage that they belong to.

    A parameter belongs to the first stage whose module ends behind it, in the order in which the network names its
    parameters, which is that of depth in all networks whose stages are found. What stands behind the last stage, such
    as an EfficientNet's last convolution, is ``"after"`` and that stage's name.

    Args:
        network: The network.
        stages: Its stages, in order of depth.
        backbone: Names of the parameters of the backbone.

    Returns:
        Names of parameters: all under ``"backbone"``, then those of each stage by its name; a stage without parameters
        of its own is absent.
    """
    order = {name: index for index, name in enumerate(dict(network.named_modules()))}
    ends = []
    for stage in stages:
        inside = [at for name, at in order.items() if f"{name}.".startswith(f"{stage.path}.")]
        ends.append((stage.name, max(inside)))
    behind = f"after {ends[-1][0]}" if ends else BACKBONE
    groups: dict[str, list[str]] = {BACKBONE: [], **{name: [] for name, _ in ends}, behind: []}
    for name, _ in network.named_parameters():
        if name not in backbone:
            continue
        at = order[name.rpartition(".")[0]]
        groups[BACKBONE].append(name)
        if ends:
            groups[next((stage for stage, end in ends if at <= end), behind)].append(name)
    return {name: found for name, found in groups.items() if found}

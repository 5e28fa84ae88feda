"""Drift: how far weights have moved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from synreal.errors import DataError
from synreal.functional.precision import to_float64


def weight_drift(
    weights: Mapping[str, Tensor], origin: Mapping[str, Tensor], groups: Mapping[str, Iterable[str]]
) -> dict[str, float]:
    """Return how far groups of weights are from where they began, relative to their length there.

    ``||w - w_0||_2 / ||w_0||_2`` over all numbers of a group, in float64.

    What is named is counted, except integers, such as a BatchNorm's number of batches. BatchNorm's running statistics
    are numbers like others here, but no weights: variances of some layers are thousands of times larger than any weight
    and would decide the result alone. Name ``network.named_parameters()`` to leave them out.

    Args:
        weights: Tensors by name, of any floating dtype and device.
        origin: The same tensors before training.
        groups: Names of tensors by the name of the group, e.g. of a stage.

    Returns:
        The drift by group; NaN for a group without numbers or with nothing but zeros on both sides, infinite if it was
        zero and no longer is.

    Raises:
        DataError: If a tensor is missing on a side or has another shape there.
    """
    found = {}
    for group, names in groups.items():
        moved = length = 0.0
        for name in names:
            for side, tensors in (("weights", weights), ("origin", origin)):
                if name not in tensors:
                    raise DataError(
                        f"{name!r} of group {group!r} is not among the {side}: both must be of one network."
                    )
            now, then = weights[name], origin[name]
            if now.shape != then.shape:
                raise DataError(
                    f"{name!r} of group {group!r} has shape {tuple(now.shape)}, but {tuple(then.shape)} in the origin."
                )
            if now.is_floating_point():
                wide = to_float64(then)
                moved += float((to_float64(now).to(wide.device) - wide).square().sum())
                length += float(wide.square().sum())
        found[group] = (moved / length) ** 0.5 if length else float("inf") if moved else float("nan")
    return found

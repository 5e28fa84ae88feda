"""What makes a run the one that it is: the settings that its numbers depend on, compared when it is resumed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from synreal.config import RunConfig, make_config
from synreal.errors import ConfigError
from synreal.records import leaves

FREE_ON_RESUME: Final = frozenset(
    {
        "output.folder",
        "output.keep_checkpoints",
        "output.checkpoint_every",
        "output.log_every",
        "training.device",
        "data.strict",
        "data.workers",
        "testing.eval_batch_size",
    }
)
"""Settings that may change when a run is resumed: they move no number of the result."""

_MOST_CHARACTERS: Final = 60  # of a value in a table


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Compare two whole configurations.

    Args:
        then: One, as ``RunConfig.model_dump(mode="json")`` gives it.
        now: The other.

    Returns:
        Key, value then and value now of each setting that differs and is not free, by full key.
    """
    first, second = leaves(dict(then)), leaves(dict(now))
    keys = [*first, *(key for key in second if key not in first)]
    return [
        row
        for key in keys
        if key not in FREE_ON_RESUME and first.get(key) != second.get(key)
        for row in _finer(key, first.get(key), second.get(key))
    ]


def _finer(key: str, then: Any, now: Any) -> list[tuple[str, Any, Any]]:
    """Tell which settings of the same specs differ, e.g. ``regularizers.csg.weight``, not all that they have."""
    if isinstance(then, list) and isinstance(now, list) and _names(then) == _names(now) != []:
        return [
            (f"{key}.{one['name']}.{name}", one.get(name), other.get(name))
            for one, other in zip(then, now, strict=True)
            for name in dict.fromkeys((*one, *other))
            if one.get(name) != other.get(name)
        ]
    return [(key, then, now)]


def _names(specs: list[Any]) -> list[Any]:
    whole = all(isinstance(spec, Mapping) and "name" in spec for spec in specs)
    return [spec["name"] for spec in specs] if whole else []


def table(rows: Iterable[tuple[str, Any, Any]], headings: tuple[str, str, str] = ("key", "then", "now")) -> str:
    """Write differences as lines with three columns."""
    texts = [headings, *((key, _short(then), _short(now)) for key, then, now in rows)]
    first, second = (max(len(row[column]) for row in texts) for column in (0, 1))
    return "\n".join(f"  {key:<{first}}  {then:<{second}}  {now}" for key, then, now in texts)


def check(path: Path, stored: Mapping[str, Any], config: RunConfig) -> None:
    """Check that a run is gone on with as it was begun.

    Args:
        path: The run folder.
        stored: The configuration in its ``run.json``.
        config: The one that is given now.

    Raises:
        ConfigError: If a setting differs that is not free.
    """
    different = differences(make_config(stored).model_dump(mode="json"), config.model_dump(mode="json"))
    if different:
        raise ConfigError(
            f"Cannot resume {path} with another configuration:\n{table(different)}\nThese are settings that the "
            "result depends on. Leave them as they were, or start a new run with another --output. Free are "
            f"{', '.join(sorted(FREE_ON_RESUME - {'output.folder'}))}."
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 3] + "..."

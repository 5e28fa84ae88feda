"""Whether a run that was made is the one that is wanted."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from synreal.config import RunConfig, make_config
from synreal.engine.identity import FREE_ON_RESUME
from synreal.errors import ConfigError
from synreal.records import leaves

_ADDS_ONLY: Final = frozenset({"testing.shifts", "testing.wise_ft", "testing.averages"})
# They add to a result and change nothing of the rest of it: a run that has them serves one that has not.

_HOME_OF_DATA: Final = "SYNREAL_DATA"


def differences(stored: Mapping[str, Any], wanted: RunConfig) -> list[str]:
    """Say in words what of a stored configuration is not as it is wanted; nothing if the run serves.

    Args:
        stored: A whole configuration; settings that have been added since have their defaults.
        wanted: Another one.
    """
    then, now = _leaves(stored), _leaves(wanted.model_dump(mode="json"))
    return [
        f"{key} was {then.get(key)!r}, now {now.get(key)!r}"
        for key in now | then
        if then.get(key) != now.get(key) and not (key in _ADDS_ONLY and not now.get(key))
    ]


def identity(config: Mapping[str, Any]) -> str:
    """Return what two runs share if one serves for the other, apart from what a result may have in addition."""
    return json.dumps({key: value for key, value in _leaves(config).items() if key not in _ADDS_ONLY}, sort_keys=True)


def _leaves(config: Mapping[str, Any]) -> dict[str, Any]:
    try:
        config = make_config(config).model_dump(mode="json")
    except ConfigError:  # a record of things that are not known here is one still
        pass
    found = leaves(without_home(config))
    return {key: value for key, value in found.items() if key not in FREE_ON_RESUME and not key.startswith("output.")}


def without_home(value: Any) -> Any:
    """Write paths below the folder that ``$SYNREAL_DATA`` names by that name, in all texts of plain values."""
    home = os.environ.get(_HOME_OF_DATA, "").rstrip("/")
    return (
        _replaced(value, re.compile(rf"(?<![\w./-]){re.escape(str(Path(home).absolute()))}(?=[/'\"]|$)"))
        if home
        else value
    )


def _replaced(value: Any, home: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return home.sub(f"${_HOME_OF_DATA}", value)
    if isinstance(value, Mapping):
        return {key: _replaced(item, home) for key, item in value.items()}
    return [_replaced(item, home) for item in value] if isinstance(value, list) else value

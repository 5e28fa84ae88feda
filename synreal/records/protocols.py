"""What two runs must share for their numbers to compare, and how a protocol reads in words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from synreal.errors import ConfigError
from synreal.records.record import RunRecord

_FREE: Final = (
    "regularizers",
    "data.source",  # what they bring is told by fingerprints, wherever a machine keeps it
    "data.targets",
    "data.on_bad_image",
    "data.strict",
    "data.workers",
    "training.seed",
    "training.device",  # which one it was is in the cost
    "student.start",  # which run it was is told with the weights
    "testing.measures",
    "testing.figures",
    "testing.look",
    "testing.shifts",
    "testing.wise_ft",
    "testing.averages",
    "testing.max_test_images",  # fingerprints of what was tested tell it
    "output",
)
"""Settings, or sections, that move no number of the headline, or that rows of a table tell apart."""

_TOLD_APART: Final = {"views": ("folder",), "phases": ("images",)}
"""Settings of specs that name real images on a machine; a protocol tells by fingerprints which these were."""

_TOLD: Final = ("synreal", "torch", "torchvision", "timm")
"""Packages whose next release may train another network; the others move the last bits at most, as a machine does."""


def identity(record: RunRecord, targets: Iterable[str]) -> dict[str, Any]:
    """Return all that makes runs comparable, by a name that says what it is.

    Args:
        record: A run.
        targets: The real data sets whose scores shall compare; none for what a run is before it is tested on any.

    Returns:
        Facts of the protocol, fingerprints of the data, and each setting that moves a number by its dotted key. Two
        runs compare if, and only if, these are equal.
    """
    facts = record.protocol.model_dump(mode="json", exclude={"seed", "views", "left_out", "versions"})
    facts |= {
        f"version of {name}": _release(version) for name, version in record.protocol.versions.items() if name in _TOLD
    }
    facts |= {"network": record.network, "device": record.cost.device}
    facts |= {f"weights, {key}": value for key, value in record.weights.items()}
    facts |= {"headline": record.source_heldout.headline_name}
    facts |= {"fingerprint of held-out source": record.source_heldout.fingerprint}
    facts |= {f"fingerprint of {name}": record.targets[name].fingerprint for name in targets}
    return facts | settings(record.config)


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a configuration that move a number, by dotted key; regularizers and seed are no part."""
    found = {key: value for key, value in leaves(config).items() if not _is_free(key)}
    for section, keys in _TOLD_APART.items():
        if isinstance(specs := found.get(section), (list, tuple)):
            found[section] = [_without(spec, keys) for spec in specs]
    return found


def _without(spec: Any, keys: Collection[str]) -> Any:
    return {key: value for key, value in spec.items() if key not in keys} if isinstance(spec, Mapping) else spec


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in _FREE)


def _release(version: str) -> str:
    """Return the first two numbers of a version."""
    return ".".join(version.split("+")[0].split(".")[:2])


def digest(facts: Mapping[str, Any]) -> str:
    """Return a short name of an identity, equal for equal ones only."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the names of the facts in which two identities differ, sorted."""
    missing = object()
    return sorted(key for key in {**one, **other} if one.get(key, missing) != other.get(key, missing))


def check_comparable(records: Iterable[RunRecord], targets: Iterable[str] = ()) -> None:
    """Refuse runs whose numbers do not compare.

    Raises:
        ConfigError: Names what the first run that differs does not share.
    """
    names = list(targets)
    first: dict[str, Any] | None = None
    for record in records:
        facts = identity(record, names)
        first = facts if first is None else first
        if different := differing(first, facts):
            raise ConfigError(f"Runs do not compare: they differ in {', '.join(different)}.")


def leaves(config: Mapping[str, Any], within: str = "") -> dict[str, Any]:
    """Return the values of nested mappings by dotted key, e.g. ``{"training.lr": 0.01}``; lists are values."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{within}{key}"
        found |= leaves(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return found


def steps_in_words(record: RunRecord) -> str:
    """Say how many steps a run has, and of how many images on each process."""
    protocol, training = record.protocol, record.config.get("training")
    batches = training.get("accumulate", 1) if isinstance(training, Mapping) else 1
    return f"{protocol.steps} steps of {protocol.batch_size if batches == 1 else f'{batches} x {protocol.batch_size}'}"


def in_words(record: RunRecord) -> str:
    """Say what the protocol of a run consists of, as far as people want to read it."""
    protocol, config = record.protocol, record.config
    views = [str(view["name"]) for view in config.get("views", ()) if isinstance(view, Mapping) and "name" in view]
    rate = config["training"].get("lr") if isinstance(config.get("training"), Mapping) else None
    parts = [
        f"{record.network} with weights from {record.weights.get('detail') or record.weights.get('source')}",
        f"{protocol.image_size} pixels",
        steps_in_words(record),
        *([f"rate {rate:g}"] if isinstance(rate, (int, float)) else []),
        *([f"views {' and '.join(views)}"] if views else []),
        *([f"phases {', '.join(protocol.phases)}"] if protocol.phases != ["train"] else []),
        f"tested with {protocol.evaluation}{', mirrored too' if protocol.test_time_flips else ''}",
        f"on {record.cost.device}",
        f"training saw {protocol.saw}",
        *([f"{' and '.join(protocol.real_images)} uses real images"] if protocol.real_images else []),
    ]
    return ", ".join(parts)

"""The cells of a grid: one run each, resolved and checked, with a folder of a name that people can read."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from synreal.bench.grid import Grid
from synreal.config import RunConfig, make_config, read_yaml, with_values
from synreal.engine import preflight
from synreal.errors import ConfigError, SynrealError
from synreal.parsing import file_stem
from synreal.records import label_of, leaves
from synreal.regularizers.baselines import NoRegularizer, Oracle
from synreal.specs import Spec, spec_registry

_APART = ("regularizers", "training.seed", "output.")  # leaves that are no changes of a method


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Attributes:
        pair: Name of the pair: its file's, without the ending.
        label: The regularizers with what is not at its default, as ``RunRecord.label`` has it.
        changes: Other settings that are not the pair's own, e.g. ``"lr=0.01"``; empty for none.
        seed: Of training.
        config: The whole configuration; ``output.folder`` is the run folder.
    """

    pair: str
    label: str
    changes: str
    seed: int
    config: RunConfig

    @property
    def method(self) -> str:
        """Label and changes, e.g. ``"csg(weight=0.3) lr=0.01"``."""
        return f"{self.label} {self.changes}".rstrip()

    @property
    def name(self) -> str:
        """What the cell is called: the end of its folder's path, e.g. ``"pacs-cartoon/csg/seed0"``."""
        return "/".join(self.folder.parts[-3:])

    @property
    def folder(self) -> Path:
        """The run folder."""
        assert self.config.output.folder is not None
        return self.config.output.folder

    @property
    def log(self) -> Path:
        """The file of what the run's process writes, beside its folder."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def order(self) -> Path:
        """The file of the configuration that the run's process is given, beside its folder."""
        return self.folder.with_name(f"{self.folder.name}.yaml")


def cells_of(grid: Grid, *, shifts: Sequence[str] = ()) -> list[Cell]:
    """Resolve a grid; of equal cells the first stays.

    Args:
        grid: The grid.
        shifts: ``testing.shifts`` of runs that have none otherwise.

    Returns:
        The cells by pair, then by seed, then in the order of the regularizers: what compares is run in a row.

    Raises:
        ConfigError: If a cell's configuration is wrong, names the cell; or an axis applies to no cell.
    """
    found: dict[str, Cell] = {}
    unused = set(grid.axes)
    for pair in grid.pairs:
        values = read_yaml(pair)
        variants = list(_variants(grid, pair, values, unused, shifts))
        for seed in grid.seeds:
            for variant in variants:
                cell = _cell(grid, pair, variant, seed, check=seed == grid.seeds[0])
                found.setdefault(_identity(cell.config), cell)
    if unused:
        raise ConfigError(
            f"The axis {', '.join(sorted(unused))} applies to no run of the grid: none has such a regularizer."
        )
    cells = list(found.values())
    folders = [cell.folder for cell in cells]
    if len(set(folders)) < len(folders):
        twice = next(cell for cell in cells if folders.count(cell.folder) > 1)
        raise ConfigError(f"Two different runs of the grid would have the folder {twice.folder}: name one otherwise.")
    return cells


@dataclass(frozen=True)
class _Variant:
    """What the seeds of a method share: values of a configuration, and the same without the axes."""

    entry: Any
    axes: dict[str, Any]
    values: dict[str, Any]
    base: dict[str, Any]


def _variants(
    grid: Grid, pair: Path, values: Mapping[str, Any], unused: set[str], shifts: Sequence[str]
) -> Iterator[_Variant]:
    for entry in grid.regularizers:
        with _named(pair, entry):
            specs = spec_registry("regularizers").specs(entry)
            names = {spec.name for spec in specs}
            settings = {key: value for key, value in grid.settings.items() if _applies(key, names)}
            base = with_values(values, {"regularizers": entry, **settings})
            plain = make_config(base)
            if shifts and not plain.testing.shifts:
                base = with_values(base, {"testing.shifts": list(shifts)})
            weights = _weights(grid, specs, plain)
        keys = [key for key in grid.axes if _applies(key, names)]
        unused.difference_update(keys)
        for chosen in itertools.product(*(grid.axes[key] for key in keys)):
            axes = dict(zip(keys, chosen, strict=True))
            for weight in weights:
                own = axes if weight is None else {"regularizers.0.weight": weight, **axes}
                with _named(pair, entry, own):
                    whole = with_values(base, own)
                yield _Variant(entry, own, whole, base)


def _applies(key: str, names: set[str]) -> bool:
    """Tell whether a setting is one of a run: of a regularizer's, whether the run has it."""
    first, _, rest = key.partition(".")
    return first != "regularizers" or rest.partition(".")[0] in names or rest[:1].isdecimal()


def _weights(grid: Grid, specs: list[Spec], plain: RunConfig) -> list[float | None]:
    """Return the weights that a method is run with; None stands for the one that it has."""
    (first, *others) = specs
    given = "weight" in first.model_fields_set or any(
        key in (f"regularizers.{first.name}.weight", "regularizers.0.weight") for key in {**grid.settings, **grid.axes}
    )
    if not grid.weights or others or given or isinstance(first, (NoRegularizer, Oracle)):
        return [None]
    default = plain.terms[0].weight
    return [float(f"{factor * default:.12g}") for factor in grid.weights]  # 0.3, not 0.30000000000000004


def _cell(grid: Grid, pair: Path, variant: _Variant, seed: int, *, check: bool) -> Cell:
    with _named(pair, variant.entry, variant.axes, seed):
        config = make_config(with_values(variant.values, {"training.seed": seed}))
        cell = Cell(pair.stem, _label(config), _changes(config, variant), seed, config)
        folder = grid.output / cell.pair / file_stem(cell.method) / f"seed{seed}"
        config = config.model_copy(update={"output": config.output.model_copy(update={"folder": folder})})
        if check:
            preflight.check(config)
    return replace(cell, config=config)


@contextmanager
def _named(pair: Path, entry: Any, axes: Mapping[str, Any] | None = None, seed: int | None = None) -> Iterator[None]:
    """Say in which cell a setting is wrong."""
    words = [f"pair {pair}", f"regularizers {entry}", *(f"{key}={value}" for key, value in (axes or {}).items())]
    words += [] if seed is None else [f"seed {seed}"]
    try:
        yield
    except SynrealError as error:
        raise ConfigError(f"In the cell {', '.join(words)}: {error}") from None


def _identity(config: RunConfig) -> str:
    return json.dumps(config.model_dump(mode="json", exclude={"output": {"folder"}}), sort_keys=True)


def _label(config: RunConfig) -> str:
    ours, plain = ([spec.model_dump(mode="json") for spec in specs] for specs in (config.terms, config.plain_terms))
    return label_of(ours, plain)


def _changes(config: RunConfig, variant: _Variant) -> str:
    """Name the settings that axes have changed, apart from those of regularizers."""
    whole = [one.model_dump(mode="json") for one in (config, make_config(variant.base))]
    for key in ("views", "phases"):
        first, second = ([spec["name"] for spec in values[key]] for values in whole)
        if first == second:  # the same ones in the same order: what is set otherwise tells them apart
            for values in whole:
                values[key] = dict(zip(map(str, range(len(first))), values[key], strict=True))
    ours, theirs = map(leaves, whole)
    return " ".join(
        f"{key.rpartition('.')[2]}={ours.get(key)}"
        for key in ours | theirs
        if ours.get(key) != theirs.get(key) and not key.startswith(_APART)
    )

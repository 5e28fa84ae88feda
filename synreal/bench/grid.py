"""The file of a grid: what is written in it, and what is wrong with it. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from synreal.errors import ConfigError, unknown_name
from synreal.parsing import from_home, problems, read_mapping

_OWN_KEYS = {
    "regularizers": "regularizers",
    "seed": "seeds",
    "training.seed": "seeds",
    "output": "output",
    "output.folder": "output",
}
"""Settings of a run that a grid has a key of its own for."""


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, (str, int, float, Path)) and not isinstance(value, bool) else value


class Grid(BaseModel):
    """Runs to be made: each regularizer on each pair of data with each seed, times the axes.

    Attributes:
        pairs: Run configurations, one for each pair of source and targets; at least one.
        regularizers: What each run trains with: a name, ``"name(key=value)"``, a mapping with ``name``, or a list of
            these for several at once.
        seeds: Of training, each once.
        axes: Values of any field by its key, e.g. ``{"training.lr": (0.01, 0.02)}``; their product is run. An axis on a
            regularizer's setting, ``"regularizers.csg.weight"``, is one of the runs that have it.
        settings: Values of any field for every run, likewise.
        weights: Multiples of the default weight that each regularizer is run with, above 0. What is no single
            regularizer, sets its weight itself or has no penalty is run as it is.
        output: Folder of the run folders.
        records: JSON file of the records of all finished runs; None for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    pairs: Annotated[tuple[Path, ...], BeforeValidator(_listed)] = Field(min_length=1)
    regularizers: Annotated[tuple[Any, ...], BeforeValidator(_listed)] = Field(min_length=1)
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], BeforeValidator(_listed)] = Field(
        default=(0, 1, 2), min_length=1
    )
    axes: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = {}
    settings: dict[str, Any] = {}
    weights: Annotated[tuple[Annotated[float, Field(gt=0)], ...], BeforeValidator(_listed)] = ()
    output: Path
    records: Path | None = None

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            raise ValueError("a seed stands there twice")
        return value

    @field_validator("axes", "settings")
    @classmethod
    def _not_the_grids(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key in value:
            if key in _OWN_KEYS:
                raise ValueError(f"{key} is set by the grid's own key {_OWN_KEYS[key]}")
        return value

    @field_validator("pairs")
    @classmethod
    def _stems_differ(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        stems = [path.stem for path in value]
        if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
            raise ValueError(f"two pairs have the name {', '.join(twice)}, which names their folders: rename one")
        return value


def read_grid(path: str | Path) -> Grid:
    """Read the file of a grid.

    Args:
        path: YAML; its pairs and its records are looked for from its own folder, its output from the working directory.

    Raises:
        ConfigError: If the file is missing or not YAML, or a key is unknown or has a wrong value.
    """
    path = Path(path)
    values = read_mapping(path, "grid")
    for key in values:
        if key not in Grid.model_fields:
            raise unknown_name(f"key of the grid {path}:", str(key), Grid.model_fields)
    try:
        found = Grid.model_validate({"output": Path("runs") / path.stem, **values})
    except ValidationError as error:
        raise ConfigError(f"The grid {path}: {problems(error)}.") from None
    here = path.parent
    return found.model_copy(
        update={
            "pairs": tuple(here / from_home(pair) for pair in found.pairs),
            "output": from_home(found.output),
            "records": None if found.records is None else here / from_home(found.records),
        }
    )

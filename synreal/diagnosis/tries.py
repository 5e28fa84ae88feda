"""The short runs of a diagnosis: the same data and recipe, trained in a few ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from synreal.bench import Cell
from synreal.bench.planning import SHIFTS
from synreal.config import RunConfig
from synreal.diagnosis.verdict import Way
from synreal.engine import preflight
from synreal.engine.sureness import MEASURE, can_tell
from synreal.errors import ConfigError
from synreal.parsing import file_stem
from synreal.records import label_of
from synreal.regularizers.baselines import NoRegularizer, Oracle
from synreal.specs import Spec

METHODS: Final = ("csg", "feature_l2")
"""The regularizers that are tried where none is named."""

FOLDER: Final = "tries"
HALF: Final = 0.5

_CHECKPOINT_EVERY = 50  # steps


@dataclass(frozen=True)
class Try:
    """A run of a diagnosis.

    Attributes:
        name: What it is called.
        way: How it trains.
        cell: The run.
    """

    name: str
    way: Way
    cell: Cell


def tries_of(
    config: RunConfig, output: Path, *, regularizers: Sequence[Any] = METHODS, steps: int | None = None
) -> list[Try]:
    """Resolve and check the runs.

    Args:
        config: What is to be trained in the end; its data, network and recipe are those of each run.
        output: Folder of the diagnosis.
        regularizers: What is tried, each alone.
        steps: Training steps of each run; by default the task's ``trial``.

    Returns:
        The runs: frozen, fine-tuned, head first, and one for each regularizer.

    Raises:
        ConfigError: If the configuration has phases of its own or no pretrained weights, or a regularizer is unknown
            or is there twice.
    """
    if [phase.name for phase in config.phases] != ["train"]:
        raise ConfigError(
            "diagnose trains in phases of its own: leave phases (--phase) out, and give them to the run that follows."
        )
    if config.student.weights == "none":
        raise ConfigError("weights: none leaves no knowledge to lose. Diagnose with pretrained weights.")
    trial = config.task.trial
    steps = trial.steps if steps is None else steps
    found = [
        _try("frozen", "frozen", config, output, steps, regularizers="oracle"),
        _try("fine-tuned", "tuned", config, output, steps, regularizers="none", wise_ft=[HALF]),
        _try(
            "head first",
            "head_first",
            config,
            output,
            steps,
            regularizers="none",
            phases=[{"name": "head_first", "max_steps": steps, "epochs": steps}, "train"],
        ),
    ]
    for one in regularizers:
        made = _try("", "regularizer", config, output, steps, regularizers=one)
        if any(isinstance(term, (NoRegularizer, Oracle)) for term in made.cell.config.terms):
            raise ConfigError(f"{made.name} is tried anyway: name regularizers beside it, or none at all.")
        found.append(made)
    names = [one.name for one in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"The regularizer {twice} is there twice. Name each once.")
    return found


def _try(name: str, way: Way, config: RunConfig, output: Path, steps: int, **settings: Any) -> Try:
    most = config.testing.max_test_images
    trial = config.task.trial
    made = config.updated(
        epochs=steps,
        max_steps=steps,
        warmup_steps=min(config.training.warmup_steps, max(steps // 3, min(trial.warmup, steps // 2))),
        eval_every=0,
        shifts=[_plain(view) for view in config.testing.shifts] or list(SHIFTS),
        figures=(),
        look=(),
        averages=(),
        measures=_measures(config),
        max_test_images=trial.images if most is None else most,
        checkpoint_every=_CHECKPOINT_EVERY,
        **{"wise_ft": (), **settings},
    )
    label = label_of(*([_plain(spec) for spec in specs] for specs in (made.terms, made.plain_terms)))
    name = name or label
    folder = output / FOLDER / file_stem(name) / f"seed{made.training.seed}"
    made = made.updated(output={**made.output.model_dump(mode="json"), "folder": str(folder)})
    preflight.check(made)
    return Try(name, way, Cell(FOLDER, name, "", made.training.seed, made))


def _measures(config: RunConfig) -> list[str]:
    """Return the measures that were asked for, and what says how sure the network is, if it can."""
    asked = config.testing.measures
    more = [MEASURE] if can_tell(config.task.runtime()) and MEASURE not in asked else []
    return [*asked, *more]


def _plain(spec: Spec) -> dict[str, Any]:
    found: dict[str, Any] = spec.model_dump(mode="json")
    return found

"""What a diagnosis found, as plain values that go into a file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from synreal.diagnosis.verdict import Verdict, Way

SCHEMA_VERSION: Final = 1


@dataclass(frozen=True)
class Estimate:
    """What a network's confidence tells of a set of images.

    Attributes:
        accuracy: Average thresholded confidence, the estimated share of right predictions; the threshold is that of
            held-out source in other styles.
        confidence: Mean probability of the class that is predicted.
        agreement: Share of predictions that fine-tuning shares.
        truth: The share that is right; None where there are no labels.
    """

    accuracy: float
    confidence: float
    agreement: float
    truth: float | None


@dataclass(frozen=True)
class Outcome:
    """What one run of a diagnosis gave.

    Attributes:
        name: What it is called.
        way: How it trained.
        folder: The run.
        seconds: Of training and testing.
        scores: The headline by set: ``"source"``, ``"styles"`` and each target; None where it is not defined.
        half_way: The same of weights half-way from the start; empty unless they were tested.
        estimates: By set of real images; empty where the task's networks do not say how sure they are.
    """

    name: str
    way: Way
    folder: str
    seconds: float
    scores: dict[str, float | None]
    half_way: dict[str, float | None] = field(default_factory=dict)
    estimates: dict[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class Diagnosis:
    """What ``diagnose`` found; ``diagnosis.json`` holds the same.

    Attributes:
        task: Name of the task.
        source: What results call the synthetic data.
        targets: What they call the labelled real ones.
        network: What was trained.
        steps: Training steps of each run.
        measure: What the scores are, e.g. ``"mean-class"``.
        verdict: What to do. With labels it has looked at the target: scores on those images are no test of it.
        guess: The verdict that estimates without labels give; None where there are none, or no image.
        outcomes: What each run gave.
        network_measures: What looking into fine-tuning and into the network beside it found, by run, set and measure.
        data: What reading the data found, in sentences.
        commands: What to run next.
        left_out: What is not there, and why.
        seconds: Wall-clock seconds that this call took.
        folder: Where all of it lies.
    """

    task: str
    source: str
    targets: tuple[str, ...]
    network: str
    steps: int
    measure: str
    verdict: Verdict
    guess: Verdict | None
    outcomes: tuple[Outcome, ...]
    network_measures: dict[str, dict[str, dict[str, float | None]]]
    data: tuple[str, ...]
    commands: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]
    seconds: float
    folder: Path

    def as_plain(self) -> dict[str, Any]:
        """Return what the file holds."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self), "folder": str(self.folder)}

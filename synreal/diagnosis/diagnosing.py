"""``diagnose``: short runs side by side, and what to do about them."""

from __future__ import annotations

import os
import shlex
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
import yaml

from synreal import atomic
from synreal.bench.planning import plan_of
from synreal.bench.running import carry_out
from synreal.config import RunConfig
from synreal.data.inspection.report import PartReport, Report, check
from synreal.data.sets import evenly
from synreal.diagnosis.found import Diagnosis, Estimate, Outcome
from synreal.diagnosis.page import Neighbours, as_html
from synreal.diagnosis.tries import METHODS, Try, tries_of
from synreal.diagnosis.verdict import Tried, Verdict, judge, without_labels
from synreal.engine.neighbours import nearest_renders
from synreal.engine.page_contents import picture_of
from synreal.engine.photos import Picture, find_images
from synreal.engine.progress import RunProgress
from synreal.engine.run_page import page_contents
from synreal.engine.sureness import PHOTOS, STYLES, Sureness, can_tell, read_sureness, sureness
from synreal.errors import ConfigError, DataError, TrainingError
from synreal.functional import agreement, thresholded_confidence
from synreal.records import RunRecord, write_json
from synreal.records.run_page import Contents
from synreal.terminal import printable

JSON_FILE: Final = "diagnosis.json"
PAGE_FILE: Final = "diagnosis.html"
CONFIG_FILE: Final = "config.yaml"
WEIGHTS_FILE: Final = "weights.yaml"

_ROWS: Final = 6  # failed images that are shown with renders
_UNEVEN: Final = 10  # times as many labels of one class as of another are worth a word
_MOST_FINDINGS: Final = 12


def diagnose(
    config: RunConfig,
    output: str | Path,
    *,
    photos: Sequence[str | Path] = (),
    regularizers: Sequence[Any] = METHODS,
    steps: int | None = None,
    jobs: int | None = None,
    threads: int | None = None,
    plugins: Sequence[Path] = (),
    show: bool = True,
) -> Diagnosis:
    """See in a few short runs whether a network's knowledge of the real world is worth keeping, and by what.

    The head alone on the frozen backbone, plain fine-tuning (with its weights half-way), the head first and then
    everything, and each regularizer are trained on the same data, and tested on held-out source, on that in other
    styles, and on real images. What is done is not done again: a diagnosis that was stopped goes on where it was.

    Args:
        config: What is to be trained in the end: data, network and recipe. Its regularizers, the length of its
            training and its measures are those of later runs.
        output: Folder of everything that this leaves behind.
        photos: Real images without labels: files, folders, or patterns.
        regularizers: What is tried, each alone, as a configuration names them.
        steps: Training steps of each run; by default the task's own, minutes on two CPU cores.
        jobs: How many run at a time; by default two on a CPU with as many cores, else one.
        threads: Of each; by default the processors are divided among them.
        plugins: Plugin files that the runs load; this process has loaded them too.
        show: Write progress to stderr.

    Returns:
        What was found. ``diagnosis.json``, ``diagnosis.html``, ``config.yaml`` and ``weights.yaml``, a grid of
        weights for ``synreal bench --select``, are in the folder.

    Raises:
        ConfigError: If a setting is wrong, before data or networks; or a folder holds another run.
        DataError: If data are missing, or can teach nothing.
        TrainingError: If a run failed.
        Interrupted: If it was asked to stop; what ran is saved.
    """
    began = time.monotonic()
    output = Path(output)
    tries = tries_of(config, output, regularizers=regularizers, steps=steps)
    pictures = find_images(photos) if photos else []
    most = tries[0].cell.config.testing.max_test_images
    if most is not None and len(pictures) > most:
        pictures = [pictures[place] for place in evenly(len(pictures), most)]
    report = _checked(config, show)
    planned = plan_of([one.cell for one in tries])
    jobs = _jobs(config) if jobs is None else jobs
    carry_out(planned, jobs=jobs, threads=threads, plugins=plugins, show=show)
    records = {}
    for one, row in zip(tries, planned.rows, strict=True):
        if row.record is None:
            why = row.problem or "another command is making it: wait for that, then give the same command again"
            raise TrainingError(f"The run {one.name!r} of the diagnosis has no result: {why}. See {one.cell.log}.")
        records[one.name] = row.record
    return _Diagnosing(config, output, tries, records, pictures, report, show).all(began)


def _jobs(config: RunConfig) -> int:
    """Return how many run at a time: on an accelerator, which one run fills, or a single core, one."""
    on_cpu = config.training.device == "cpu" or (
        config.training.device == "auto" and not torch.cuda.is_available() and not torch.backends.mps.is_available()
    )
    return 2 if on_cpu and (os.cpu_count() or 1) > 1 else 1


def _checked(config: RunConfig, show: bool) -> Report:
    """Read the data once; raises ``DataError`` if training would fail."""
    target = next(iter(config.data.targets), None)
    with RunProgress(show=show) as progress:
        counted: list[str] = []

        def told(name: str, done: int, total: int) -> None:
            if name not in counted:
                counted.append(name)
                progress.start(f"reading {name}", total, 0)
            progress.step(done, {})

        report = check(
            config.data.source,
            config.task.label,
            target=target,
            domain="source",
            policy=config.setup.policy,
            progress=told,
        )
    if report.fails:
        findings = [*report.findings, *(one for part in report.parts for one in part.findings)]
        why = next(one.message for one in findings if one.effect == "stops")
        raise DataError(f"Training would fail: {why} synreal data check tells all that is wrong.")
    return report


class _Diagnosing:
    """Puts together what was found, once the runs are there."""

    def __init__(
        self,
        config: RunConfig,
        output: Path,
        tries: Sequence[Try],
        records: Mapping[str, RunRecord],
        pictures: Sequence[Picture],
        report: Report,
        show: bool,
    ) -> None:
        self.config = config
        self.output = output
        self.tries = tries
        self.records = records
        self.pictures = pictures
        self.report = report
        self.show = show
        self.tuned = next(one for one in tries if one.way == "tuned")
        self.targets = [target.label for target in config.data.targets]
        self.left_out: list[tuple[str, str]] = []

    def all(self, began: float) -> Diagnosis:
        """Look into the networks, judge, and write everything."""
        sure = self._sureness()
        estimates = {name: self._estimates(one, sure[self.tuned.name]) for name, one in sure.items()}
        tried = self._tried(sure)
        verdict = judge(tried)
        guess = self._guess(tried, estimates)
        if not self.targets and guess is not None:
            verdict, guess = guess, None
        beside = self._beside(verdict)
        contents = self._contents(beside)
        near = self._neighbours(contents)
        score = self.records[self.tuned.name].source_heldout
        found = Diagnosis(
            task=self.config.task.name,
            source=self.config.data.source.label,
            targets=tuple(self.targets),
            network=self.records[self.tuned.name].network,
            steps=self.records[self.tuned.name].protocol.steps,
            measure=score.headings[score.headline_name],
            verdict=verdict,
            guess=guess,
            outcomes=tuple(self._outcome(one, estimates.get(one.name, {})) for one in self.tries),
            network_measures={
                side.title: {
                    name: {measure: value.value for measure, value in look.measures.items()}
                    for name, look in side.look.sets.items()
                }
                | ({"weights": {name: value.value for name, value in side.look.measures.items()}})
                for side in contents.sides
            },
            data=tuple(_sentences(self.report)),
            commands=tuple(self._commands(verdict)),
            left_out=tuple(self.left_out),
            seconds=time.monotonic() - began,
            folder=self.output,
        )
        self._write(found, contents, near)
        return found

    # --- without labels ---

    def _sureness(self) -> dict[str, dict[str, Sureness]]:
        if not can_tell(self.config.task.runtime()):
            self.left_out.append(
                (
                    "how sure networks are",
                    f"networks for {self.config.task.name} do not say how sure they are of a class",
                )
            )
            return {}
        if not self.targets and not self.pictures:
            self.left_out.append(("how sure networks are of real images", "no real image was given"))
            return {}
        found = {one.name: read_sureness(one.cell.folder, self.records[one.name]) for one in self.tries}
        if self.pictures:
            for one in self.tries:
                found[one.name][PHOTOS] = sureness(one.cell.folder, self.pictures, show_progress=self.show)
        return found

    def _estimates(self, sure: Mapping[str, Sureness], tuned: Mapping[str, Sureness]) -> dict[str, Estimate]:
        known = sure[STYLES]
        assert known.right is not None
        return {
            name: Estimate(
                accuracy=thresholded_confidence(known.confidences, known.right, one.confidences),
                confidence=float(one.confidences.double().mean()),
                agreement=agreement(one.predicted, tuned[name].predicted),
                truth=one.accuracy,
            )
            for name, one in sure.items()
            if name in (*self.targets, PHOTOS)
        }

    def _guess(self, tried: Sequence[Tried], estimates: Mapping[str, Mapping[str, Estimate]]) -> Verdict | None:
        """Judge by estimates: of photos where there are some, else of the first target."""
        names = [*([PHOTOS] if self.pictures else []), *self.targets]
        if not estimates or not names:
            return None
        guessed = {name: found[names[0]].accuracy for name, found in estimates.items()}
        return judge(without_labels(tried, guessed), estimated=True)

    # --- the verdict ---

    def _tried(self, sure: Mapping[str, Mapping[str, Sureness]]) -> list[Tried]:
        """Return what each way gave, on the first target."""
        target = next(iter(self.targets), None)
        found = []
        for one in self.tries:
            record = self.records[one.name]
            noise = 0.0 if target is None or not sure else _noise(sure[one.name][target], sure[self.tuned.name][target])
            found.append(
                Tried(
                    one.name,
                    one.way,
                    None if target is None else record.targets[target].headline,
                    record.source_heldout.headline,
                    _styles(record),
                    noise,
                )
            )
            for of_sets in record.averaged.values():
                real = None if target is None else of_sets[target].headline
                found.append(Tried(f"{one.name}, half-way", "half_way", real, of_sets["source"].headline))
        return found

    def _outcome(self, one: Try, estimates: dict[str, Estimate]) -> Outcome:
        record = self.records[one.name]
        scores = {"source": record.source_heldout.headline, "styles": _styles(record)}
        scores |= {name: score.headline for name, score in record.targets.items()}
        half = next(iter(record.averaged.values()), {})
        return Outcome(
            name=one.name,
            way=one.way,
            folder=str(one.cell.folder),
            seconds=sum(record.seconds.values()),
            scores={name: _defined(value) for name, value in scores.items()},
            half_way={name: _defined(score.headline) for name, score in half.items()},
            estimates=estimates,
        )

    def _beside(self, verdict: Verdict) -> Try:
        """Return the run that fine-tuning is shown beside: what is advised, or the frozen backbone."""
        return next((one for one in self.tries if one.name == verdict.regularizer), self.tries[0])

    # --- pictures ---

    def _contents(self, beside: Try) -> Contents:
        contents = page_contents(self.tuned.cell.folder, against=beside.cell.folder, show_progress=self.show)[1]
        assert contents is not None  # one process alone
        return contents

    def _neighbours(self, contents: Contents) -> Neighbours:
        """Find renders near to images in which fine-tuning is wrong, one of each kind of mistake."""
        failed = {
            one.name: list(
                {kind.examples[0].index: kind.examples[0] for kind in one.mistakes if kind.examples}.values()
            )
            for one in contents.sets
            if one.name in self.targets
        }
        failed = {name: examples[:_ROWS] for name, examples in failed.items()}
        wanted = {name: [one.index for one in examples] for name, examples in failed.items()}
        near = nearest_renders(self.tries[0].cell.folder, wanted, show_progress=self.show)
        return {
            name: [
                (
                    example,
                    [
                        (picture_of(one.pixels, f"held-out render {one.index}"), one.similarity)
                        for one in near[name][example.index]
                    ],
                )
                for example in examples
            ]
            for name, examples in failed.items()
        }

    # --- what is left behind ---

    def _commands(self, verdict: Verdict) -> list[str]:
        config = self.output / CONFIG_FILE
        if verdict.advice == "unclear":
            more = ["--photos", "FOLDER"] if not self.targets and not self.pictures else []
            steps = 2 * (self.tuned.cell.config.training.max_steps or 1)
            longer = self.output.with_name(f"{self.output.name}-longer")
            return [_words("synreal", "diagnose", "--config", config, "--steps", steps, "--output", longer, *more)]
        found = [_words("synreal", "run", "--config", config, "--regularizer", verdict.regularizer)]
        if verdict.advice == "keep" and verdict.regularizer != "none":
            found.append(_words("synreal", "bench", self.output / WEIGHTS_FILE, "--select"))
        return found

    def _write(self, found: Diagnosis, contents: Contents, near: Neighbours) -> None:
        plain = self.config.updated(output={**self.config.output.model_dump(mode="json"), "folder": None})
        grid = {
            "pairs": [CONFIG_FILE],
            "regularizers": ["none", *(one.name for one in self.tries if one.way == "regularizer")],
            "seeds": [self.config.training.seed],
            "output": "weights",
        }
        page = printable(as_html(found, contents, near), lines=True)
        try:
            atomic.write_text(self.output / CONFIG_FILE, plain.to_yaml())
            atomic.write_text(self.output / WEIGHTS_FILE, yaml.safe_dump(grid, sort_keys=False, allow_unicode=True))
            write_json(self.output / JSON_FILE, found.as_plain())
            atomic.write_text(self.output / PAGE_FILE, page)
        except OSError as error:
            raise ConfigError(f"Cannot write into {self.output}: {error.strerror or error}.") from None


def _words(*words: object) -> str:
    return shlex.join(map(str, words))


def _styles(record: RunRecord) -> float | None:
    """Return the mean headline of held-out source in other styles; None if one is not defined."""
    values = [score.headline for score in record.shifted.values()]
    return _defined(statistics.fmean(values)) if values else None


def _defined(value: float | None) -> float | None:
    return None if value is None or value != value else value


def _noise(one: Sureness, other: Sureness) -> float:
    """Return twice the standard error of the difference of two accuracies on the same images; 0 of pixels."""
    if one.right is None or other.right is None or len(one.right) != len(other.right) or len(one.right) < 2:
        return 0.0
    difference = one.right.double() - other.right.double()
    return float(2 * difference.std() / len(difference) ** 0.5)


def _sentences(report: Report) -> list[str]:
    """Say what is worth knowing of the data."""
    found = [f"The target {line}." for line in report.differences]
    found += [_uneven(part) for part in report.parts if part.classes]
    findings = [*report.findings, *(one for part in report.parts for one in part.findings)]
    found += [one.message for one in findings]
    found = [line for line in dict.fromkeys(found) if line]
    more = len(found) - _MOST_FINDINGS
    return [*found[:_MOST_FINDINGS], *([f"And {more} more: synreal data check lists all."] if more > 0 else [])]


def _uneven(part: PartReport) -> str:
    counted = {row["name"]: row["labels"] for row in part.classes if row["labels"]}
    if len(counted) < 2:
        return ""
    most, least = max(counted, key=counted.__getitem__), min(counted, key=counted.__getitem__)
    if counted[most] < _UNEVEN * counted[least]:
        return ""
    return (
        f"{part.data} ({part.part}) has {counted[most] / counted[least]:.0f} times as many {part.unit} of {most} as of "
        f"{least}."
    )

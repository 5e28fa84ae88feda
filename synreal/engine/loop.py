"""The training loop. The only file that imports accelerate."""

from __future__ import annotations

import contextlib
import json
import math
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from synreal import distributed, weights
from synreal.config import RunConfig, make_config, stored_config
from synreal.core.attach import attach
from synreal.core.norm_stats import norm_layers
from synreal.data import find
from synreal.engine import checkpoint, run_folder
from synreal.engine.progress import RunProgress
from synreal.engine.schedule import BatchPlan
from synreal.engine.signals import StopRequest, deaf, listening
from synreal.errors import CheckpointError, ConfigError, Interrupted, SynrealError, TrainingError
from synreal.optim import parameter_groups, warmup_poly
from synreal.records import (
    HEADINGS,
    Protocol,
    RunRecord,
    Score,
    TargetSelected,
    headline_of,
    percent,
    read_record,
    write_json,
)
from synreal.registry import loaded
from synreal.tasks import task_class
from synreal.tasks.base import MEMORY_FORMATS, Meter, Task
from synreal.views import derive_seed
from synreal.weights import IMAGENET_CLASSES, WeightsOrigin, create_backbone

# What may change when a run is resumed: it moves no number of the result.
_FREE_ON_RESUME = frozenset({"output", "device", "workers", "eval_batch_size", "keep_checkpoints", "checkpoint_every"})


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        folder: The run folder.
        record: What ``result.json`` holds.
    """

    folder: Path
    record: RunRecord


def run(config: RunConfig, *, resume: bool = False, overwrite: bool = False, show_progress: bool = True) -> RunResult:
    """Train on synthetic images, test on real ones, and leave a run folder.

    Args:
        config: The configuration.
        resume: Go on with the run in ``config.output``, from its newest whole checkpoint.
        overwrite: Replace a run in ``config.output``.
        show_progress: Write progress to stderr.

    Returns:
        The result; its headline is the last epoch.

    Raises:
        ConfigError: If a setting is wrong or the run folder cannot be used; before any data are read.
        DataError: If data are missing or damaged.
        WeightsError: If pretrained weights cannot be had.
        CheckpointError: If a run cannot be resumed.
        TrainingError: If a loss is not finite.
        Interrupted: If the run was asked to stop; it has saved a checkpoint.
    """
    task_class(config.task).check(config)
    if config.reference is not None:
        weights.check(config.reference)
    accelerator = _accelerator(config)
    path = config.output or run_folder.default_output(config)
    if resume:
        stored_config(path, "resume")
        if (path / "result.json").is_file():
            return RunResult(path, read_record(path))
    elif accelerator.is_main_process:
        run_folder.create(path, overwrite=overwrite)
    with listening() as request, RunProgress(show=show_progress and accelerator.is_main_process) as progress:
        try:
            return _Run(config, path, accelerator, progress, request).go(resume=resume)
        except OSError as error:  # a full disk, a folder that went away
            raise TrainingError(f"The run in {path} cannot go on: {error}. Its checkpoints are whole.") from error


def evaluate(
    path: str | Path, *, targets: Iterable[str] = (), device: str = "auto", show_progress: bool = True
) -> dict[str, Score]:
    """Test the student of a finished run again, or on other targets.

    Args:
        path: The run folder.
        targets: Real data to test on; by default those of the run.
        device: As in ``RunConfig``.
        show_progress: Write progress to stderr.

    Returns:
        Score by set: ``"source"`` and each target.

    Raises:
        ConfigError: If the folder holds no run or a target is unknown.
        CheckpointError: If the student cannot be read.
    """
    path = Path(path)
    stored = stored_config(path, "evaluate")
    config = make_config({**stored, "device": device, **({"targets": tuple(targets)} if targets else {})})
    state = checkpoint.read_student(path / "model.safetensors")
    accelerator = _accelerator(config)
    task = task_class(config.task).load(config.model_copy(update={"weights": "none"}))
    student, _ = task.build_student()
    _load_student(student, state, path)
    student.to(accelerator.device)
    student.to(memory_format=MEMORY_FORMATS[config.memory_format])
    with listening() as request, RunProgress(show=show_progress):
        return _test_all(student, task, config, accelerator, request)[1]


class _Run:
    """One run, from a checked configuration and a folder that can be written."""

    def __init__(
        self, config: RunConfig, path: Path, accelerator: Accelerator, progress: RunProgress, request: StopRequest
    ) -> None:
        self.config = config
        self.path = path
        self.accelerator = accelerator
        self.progress = progress
        self.request = request
        self.main = accelerator.is_main_process
        self.step = 0
        self.saved = -1
        self.history: list[dict[str, Any]] = []
        self.seconds = {"training": 0.0, "testing": 0.0}
        self.since = time.monotonic()

    def go(self, *, resume: bool) -> RunResult:
        config = self.config
        if resume:
            _check_same_config(self.path, config)
        try:
            self._build()
        except SynrealError:
            if self.main and not resume:
                run_folder.discard(self.path)
            raise
        if resume:
            self._restore()
        self.model.calibrate(self._source_images())
        if not resume and self.main:
            run_folder.clear(self.path)
            (self.path / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
        if self.main and not (self.path / "environment.json").exists():
            facts = run_folder.environment(self.accelerator.device, self.accelerator.num_processes)
            facts |= {"data": self.task.fingerprints, "weights": self.origin.as_dict()}
            facts |= {"reference": self.reference_origin and self.reference_origin.as_dict()}
            write_json(self.path / "environment.json", facts)
        self.accelerator.wait_for_everyone()
        with self._metrics_file() as self.metrics:
            self._train()
            meters, scores = self._test()
        return self._finish(meters, scores)

    def _build(self) -> None:
        config, accelerator = self.config, self.accelerator
        self.task = task_class(config.task).load(config)
        self.views = max(spec.views for spec in config.regularizers)
        data = self.task.training_data(self.views)
        self.plan = BatchPlan(
            _length(data),
            config.batch_size,
            config.epochs,
            config.seed,
            most=config.max_steps,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
        )
        self.data = data
        self.loader = _loader(data, config.workers, self.task.collate, batch_sampler=self.plan)
        torch.manual_seed(derive_seed(config.seed, "build"))
        student, self.origin = self.task.build_student()
        reference, self.reference_origin = _reference(config, self.task)
        for network in (student, reference):
            if network is not None:
                network.to(memory_format=MEMORY_FORMATS[config.memory_format])
        specs = [spec.scheduled(self.plan.steps_per_epoch) for spec in config.regularizers]
        model = attach(student, specs, reference=reference, norm=config.norm)
        groups = parameter_groups(model, lr=config.lr, backbone_lr_scale=config.backbone_lr_scale)
        optimizer = _optimizer(groups, config)
        self.peaks = [group["lr"] for group in optimizer.param_groups]
        self.model = model
        self.wrapped, self.optimizer = accelerator.prepare(model, optimizer)
        model.bind(self.optimizer)

    def _source_images(self) -> Iterator[Tensor]:
        """Give training images in batches, the same on all processes, to terms that look at some before training."""
        order = BatchPlan(self.plan.images, 1, 1, derive_seed(self.config.seed, "calibrate"))
        for ((_, index),) in order:
            views, _ = self.task.collate([self.data[0, index]])
            yield self.task.entry_images(views, self.accelerator.device)

    def _train(self) -> None:
        config = self.config
        self.progress.start(self.plan.total, self.step)
        self.since = time.monotonic()
        self.plan.start = self.step
        if self._test_due() and self.step not in [row["step"] for row in self.history]:
            self._test()  # the run was stopped before this test had ended
        self.wrapped.train()
        for views, targets in _batches(self.loader):
            row = self._one_step(views, targets)
            self.step += 1
            self.progress.step(self.step, {k: v for k, v in row.items() if k.startswith(("loss", "penalty"))})
            if self.main and (self.step % config.log_every == 0 or self.step == self.plan.total):
                self._log(row)
            if self._test_due():
                self._test()
                self.wrapped.train()
            every = config.checkpoint_every or self.plan.steps_per_epoch
            due = self.step % every == 0 or self.step == self.plan.total
            if due:
                self._save()
            if self.request.agreed(self.accelerator.device):
                if not due:
                    self._save()
                raise _stopped(self.request, self.path, self.step)

    def _test_due(self) -> bool:
        """Whether an epoch has just ended after which to test; the test after the last step is made in any case."""
        epoch, rest = divmod(self.step, self.plan.steps_per_epoch)
        every = self.config.eval_every
        return 0 < self.step < self.plan.total and rest == 0 and every > 0 and epoch % every == 0

    def _one_step(self, views: Any, targets: Any) -> dict[str, float]:
        config, accelerator = self.config, self.accelerator
        factor = 1.0
        if config.schedule == "warmup_poly":
            factor = warmup_poly(
                self.step,
                self.plan.total,
                warmup=config.warmup_steps,
                power=config.poly_power,
                until=config.poly_until,
            )
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        # Dropout and its like draw from here: a function of seed, step and process, so a resumed step repeats it.
        torch.manual_seed(derive_seed(config.seed, "step", self.step, accelerator.process_index))
        images, more = self.task.inputs(views, targets, accelerator.device)
        out = self.wrapped(*images, **more)
        loss = self.task.loss(out["output"], targets)
        total = loss + out["penalty"]
        names = [name for name in out if name.startswith("penalty")]
        values = torch.stack([loss.detach(), *(out[name].detach() for name in names)]).tolist()
        row = {"loss": values[0], **dict(zip(names, values[1:], strict=True))}
        self._check_finite(row)
        accelerator.backward(total)
        if config.clip_norm is not None:
            norm = accelerator.clip_grad_norm_(self.wrapped.parameters(), config.clip_norm)
            row["grad_norm"] = float(norm)
            if config.precision != "fp16":  # a scaler skips such a step by itself
                self._check_finite(row)
        self.optimizer.step()
        self.optimizer.zero_grad()
        row["lr"] = self.optimizer.param_groups[-1]["lr"]
        return row

    def _check_finite(self, row: Mapping[str, float]) -> None:
        bad = torch.tensor([float(not all(math.isfinite(value) for value in row.values()))])
        if float(distributed.all_reduce_sum(bad.to(self.accelerator.device))):
            values = ", ".join(f"{name} = {value:g}" for name, value in row.items())
            raise TrainingError(
                f"Step {self.step} is not finite: {values}. The weights were not changed by it; the newest checkpoint "
                f"is in {self.path / 'checkpoints'}. Lower lr or the weight of the term that grows, or set clip_norm."
            )

    def _test(self) -> tuple[dict[str, Meter], dict[str, Score]]:
        self._count("training")
        self._same_norm_stats()
        meters, scores = _test_all(
            self.model.student, self.task, self.config, self.accelerator, self.request, on_stop=self._save_and_stop
        )
        self._count("testing")
        self.history.append({"step": self.step, **{name: score.measures for name, score in scores.items()}})
        heading = HEADINGS[next(iter(scores["source"].measures))]
        text = "  ".join(f"{name} {percent([score.headline])} %" for name, score in scores.items())
        self.progress.say(f"step {self.step}  {heading}  {text}")
        if self.main:
            self._log({f"eval/{name}/{m}": v for name, score in scores.items() for m, v in score.measures.items()})
        return meters, scores

    def _same_norm_stats(self) -> None:
        """Give all processes rank 0's running statistics: with ``norm=train`` each saw other images."""
        for layer in norm_layers(self.model):
            for buffer in layer.buffers():
                distributed.broadcast(buffer)

    def _count(self, phase: str) -> None:
        """Add the time since the last call to a phase."""
        now = time.monotonic()
        self.seconds[phase] += now - self.since
        self.since = now

    def _save_and_stop(self) -> None:
        self._count("testing")
        if self.saved != self.step:  # replacing a whole checkpoint by its equal could only lose it
            self._save()
        raise _stopped(self.request, self.path, self.step)

    def _save(self) -> None:
        self._count("training")
        self._same_norm_stats()
        state = self.model.state_dict()
        broken = [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
        if broken:
            raise TrainingError(
                f"After step {self.step} {len(broken)} tensors are not finite, e.g. {broken[0]}: no checkpoint was "
                f"made of them; earlier ones are in {self.path / 'checkpoints'}. Lower lr, or set clip_norm."
            )
        if self.main:
            snapshot = checkpoint.Snapshot(
                self.step,
                state,
                self.optimizer.state_dict(),
                {
                    "config": self.config.model_dump(mode="json"),
                    "data": self.task.fingerprints,
                    "processes": self.accelerator.num_processes,
                    "threads": torch.get_num_threads(),
                    "versions": run_folder.versions(),
                    "plugins": run_folder.plugins(self.config),
                    "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else None,
                    "history": self.history,
                    "seconds": self.seconds,
                },
            )
            checkpoint.save(self.path / "checkpoints", snapshot, keep=self.config.keep_checkpoints)
        self.saved = self.step
        self.accelerator.wait_for_everyone()

    def _restore(self) -> None:
        snapshot = checkpoint.load_latest(self.path / "checkpoints")
        if snapshot is None:
            self.progress.say(f"{self.path} holds no checkpoint yet: starting at step 0.")
            if self.main:
                run_folder.truncate_metrics(self.path / "metrics.jsonl", 0)
            return
        facts = snapshot.facts
        if facts["data"] != self.task.fingerprints:
            changed = sorted(k for k, v in self.task.fingerprints.items() if facts["data"].get(k) != v)
            raise CheckpointError(f"The data changed since the checkpoint was made: {', '.join(changed)}.")
        here = {
            "processes": self.accelerator.num_processes,
            "threads": torch.get_num_threads(),
            "versions": run_folder.versions(),
            "plugins": run_folder.plugins(self.config),
        }
        for name, value in here.items():
            if facts[name] != value:
                self.progress.say(f"Not bit-exact: {name} changed from {facts[name]} to {value}.")
        self.model.load_state_dict(snapshot.model)
        self.optimizer.load_state_dict(snapshot.optimizer)
        for parameter, held in self.optimizer.state.items():
            for name, value in held.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    held[name] = torch.empty_like(parameter).copy_(value)  # in the order of the parameter, for its bits
        if self.accelerator.scaler and facts["scaler"]:
            self.accelerator.scaler.load_state_dict(facts["scaler"])
        self.step = self.saved = snapshot.step
        self.history = list(facts["history"])
        self.seconds = dict(facts["seconds"])
        if self.main:
            tested = [row["step"] for row in self.history]
            run_folder.truncate_metrics(self.path / "metrics.jsonl", self.step, tested)
        self.progress.say(f"Resuming {self.path} at step {self.step}.")

    def _metrics_file(self) -> Any:
        return (self.path / "metrics.jsonl").open("a", encoding="utf-8") if self.main else contextlib.nullcontext()

    def _log(self, row: Mapping[str, float | None]) -> None:
        epoch = math.ceil(self.step / self.plan.steps_per_epoch)
        self.metrics.write(json.dumps({"step": self.step, "epoch": epoch, **row}, allow_nan=False) + "\n")
        self.metrics.flush()

    def _finish(self, meters: dict[str, Meter], scores: dict[str, Score]) -> RunResult:
        config = self.config
        record = RunRecord(
            regularizers=[spec.model_dump(mode="json") for spec in config.regularizers],
            backbone=config.backbone,
            weights=self.origin.as_dict(),
            config=config.model_dump(mode="json"),
            protocol=Protocol(
                task=config.task,
                source=find(config.source).label,
                source_fingerprint=self.task.fingerprints["train"],
                source_images=self.plan.images,
                image_size=config.image_size,
                views=self.views,
                evaluation=self.task.evaluation,
                test_time_flips=config.test_flip,
                checkpoint="last",
                seed=config.seed,
                epochs=config.epochs,
                steps=self.step,
                batch_size=config.batch_size,
                processes=self.accelerator.num_processes,
                chance=self.task.chance,
                left_out=self.task.left_out,
                versions=run_folder.versions(),
            ),
            source_heldout=scores["source"],
            targets={name: score for name, score in scores.items() if name != "source"},
            target_selected=self._target_selected(),
            seconds={name: round(value, 1) for name, value in self.seconds.items()},
        )
        if self.main:
            metadata = {"backbone": config.backbone, "classes": self.task.classes, "library": self.task.library}
            metadata |= self.task.recipe
            checkpoint.export_student(self.path / "model.safetensors", self.model.student.state_dict(), metadata)
            for name, meter in meters.items():
                title = f"{scores[name].data} ({scores[name].split}), {record.method}, seed {config.seed}"
                self.task.report(name, meter, scores[name], self.model.student, self.path, title)
            write_json(self.path / "result.json", record.model_dump(mode="json"))
        self.accelerator.wait_for_everyone()
        return RunResult(self.path, record)

    def _target_selected(self) -> dict[str, TargetSelected]:
        if len(self.history) < 2:
            return {}
        best = {}
        for name in self.task.tests:
            if name == "source":
                continue
            first = [headline_of(row[name]) for row in self.history]
            if all(map(math.isnan, first)):
                continue
            row = self.history[first.index(max(value for value in first if not math.isnan(value)))]
            best[name] = TargetSelected(measures=row[name], step=row["step"])
        return best


def _accelerator(config: RunConfig) -> Accelerator:
    """Make the Accelerator; every mismatch of device and precision is an error before anything else happens."""
    kind = config.device.partition(":")[0]
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {config.device!r} was asked for, but this machine has no CUDA device.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device 'mps' was asked for, but this machine has none.")
    if config.device.startswith("cuda:"):
        if int(config.device[5:]) >= torch.cuda.device_count():
            raise ConfigError(f"device {config.device!r}: this machine has {torch.cuda.device_count()} CUDA device(s).")
        torch.cuda.set_device(config.device)
    if not distributed.is_distributed():
        # Accelerate keeps the first run's precision and device for the whole process otherwise.
        AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(
        cpu=kind == "cpu",
        mixed_precision={"fp32": "no"}.get(config.precision, config.precision),
        # Queues are equal on all ranks by construction: sending them each step would cost megabytes.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    if config.precision == "fp16" and accelerator.device.type == "cpu":
        raise ConfigError("precision 'fp16' needs a GPU: on a CPU it would silently run in float32. Use bf16 or fp32.")
    return accelerator


def _reference(config: RunConfig, task: Task) -> tuple[nn.Module | None, WeightsOrigin | None]:
    """Build the teacher where it is not simply the student as it is: another network, or one with its classifier."""
    if config.reference is not None:
        return create_backbone(config.reference, num_classes=IMAGENET_CLASSES)
    if any(spec.needs_classifier for spec in config.regularizers):
        return task.build_classifier()
    return None, None


def _optimizer(groups: list[dict[str, Any]], config: RunConfig) -> torch.optim.Optimizer:
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, betas=(config.momentum, 0.999), weight_decay=config.weight_decay)
    return torch.optim.SGD(groups, momentum=config.momentum, weight_decay=config.weight_decay)


def _test_all(
    student: nn.Module,
    task: Task,
    config: RunConfig,
    accelerator: Accelerator,
    request: StopRequest,
    *,
    on_stop: Any = None,
) -> tuple[dict[str, Meter], dict[str, Score]]:
    """Test the student on every set, each image once, over all processes; return what was collected, and the scores."""
    meters = {}
    was_training = student.training
    student.eval()
    for name in task.tests:
        data, meter = task.test_data(name), task.meter(name)
        shard = range(accelerator.process_index, _length(data), accelerator.num_processes)
        loader = _loader(
            data, config.workers, task.collate_test, batch_size=config.eval_batch_size, sampler=list(shard)
        )
        with torch.no_grad(), accelerator.autocast():
            for images, targets in _batches(loader):
                meter.update(task.predict(student, images, accelerator.device), targets)
                if accelerator.num_processes == 1 and request.exit_code:
                    if on_stop is None:
                        raise Interrupted("Stopped while testing.", request.exit_code)
                    on_stop()
        meter.gather(accelerator.device)
        meters[name] = meter
    student.train(was_training)
    return meters, {name: meter.compute() for name, meter in meters.items()}


def _loader(
    data: Dataset[Any],
    workers: int,
    collate: Callable[[Sequence[Any]], Any],
    *,
    batch_size: int = 1,
    batch_sampler: Sampler[Any] | None = None,
    sampler: Any = None,
) -> DataLoader[Any]:
    shared: dict[str, Any] = {"num_workers": workers, "worker_init_fn": deaf, "pin_memory": torch.cuda.is_available()}
    data, shared["collate_fn"] = _Told(data), partial(_collated, collate)
    if batch_sampler is not None:
        return DataLoader(data, batch_sampler=batch_sampler, **shared)
    return DataLoader(data, batch_size=batch_size, sampler=sampler, **shared)


class _Told(Dataset[Any]):
    """Hands over an error of synreal's instead of raising it: a worker process would bury it in a traceback."""

    def __init__(self, data: Dataset[Any]) -> None:
        self.data = data

    def __len__(self) -> int:
        return _length(self.data)

    def __getitem__(self, index: Any) -> Any:
        try:
            return self.data[index]
        except SynrealError as error:
            return error


def _collated(collate: Callable[[Sequence[Any]], Any], items: Sequence[Any]) -> Any:
    return next((item for item in items if isinstance(item, SynrealError)), None) or collate(items)


def _batches(loader: DataLoader[Any]) -> Iterator[Any]:
    """Give the batches, and raise the first error that came instead of an image."""
    for batch in loader:
        if isinstance(batch, SynrealError):
            raise batch
        yield batch


def _length(data: Any) -> int:
    return len(data)


def _stopped(request: StopRequest, path: Path, step: int) -> Interrupted:
    files = "".join(f" --plugin {shlex.quote(str(plugin.path))}" for plugin in loaded() if plugin.path)
    return Interrupted(
        f"Stopped at step {step}; everything is saved. Go on with: synreal run --resume {path}{files}",
        request.exit_code,
    )


def _check_same_config(path: Path, config: RunConfig) -> None:
    stored = make_config(stored_config(path, "resume")).model_dump(mode="json")
    given = config.model_dump(mode="json")
    different = [key for key in given if key not in _FREE_ON_RESUME and stored.get(key) != given[key]]
    if different:
        raise ConfigError(
            f"Cannot resume {path} with another configuration: "
            + "; ".join(f"{key} was {stored.get(key)!r}, now {given[key]!r}" for key in different)
            + ". Start a new run instead."
        )


def _load_student(student: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    try:
        student.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path / 'model.safetensors'} does not fit the run's configuration: {error}") from None

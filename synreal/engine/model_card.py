"""The model card of an exported network, in Markdown: what it was trained on, what it reached, and how to load it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import timm

from synreal.engine import run_folder
from synreal.engine.trained import LAST, Trained
from synreal.errors import ConfigError
from synreal.records import RunRecord, Score, read_record
from synreal.tasks.base import Task
from synreal.tasks.exported import Exportable
from synreal.weights import Student

_UNKNOWN = "not known to synreal; look it up before you pass the file on"


def written(
    trained: Trained, task: Task[Any], student: Student, exportable: Exportable, done: Mapping[str, Any]
) -> str:
    """Return the card.

    Args:
        trained: The run.
        task: Its task.
        student: The network.
        exportable: The same as it was written.
        done: ``Export.as_dict`` of the file.
    """
    record = _record(trained)
    name = done["file"].replace("\\", "/").rpartition("/")[2]
    parts = [
        f"# {name}",
        _network(trained, task),
        "## Data",
        _data(trained, task, record),
        "## Numbers",
        *_numbers(trained, record),
        "## Weights and their licence",
        _weights(trained),
        "## The file",
        _file(task, exportable, done),
        "## How to load it",
        *_loading(trained, task, student, exportable, name, done["format"]),
    ]
    return "\n\n".join(parts) + "\n"


def licence(backbone: str, origin: Mapping[str, Any]) -> str | None:
    """Return the licence of pretrained weights as timm or their package tells it; None where neither does.

    Args:
        backbone: Name of the backbone.
        origin: As ``WeightsOrigin.as_dict`` gives it.
    """
    if origin.get("source") == "timm":
        cfg = timm.models.get_pretrained_cfg(backbone) if timm.is_model(backbone.partition(".")[0]) else None
        return getattr(cfg, "license", None) or None
    if origin.get("source") == "packaged":
        try:
            about: Any = importlib.metadata.metadata(str(origin["detail"]).partition(" ")[0])
        except importlib.metadata.PackageNotFoundError:
            return None
        for told in (about.get("License-Expression"), about.get("License")):
            if told and told != "UNKNOWN" and "\n" not in told:
                return str(told)
        named = [one for one in about.get_all("Classifier", []) if one.startswith("License ::")]
        return named[0].rpartition(" :: ")[2] if named else None
    return None


def _record(trained: Trained) -> RunRecord | None:
    if not (trained.path / run_folder.RESULT_FILE).is_file():
        return None
    try:
        return read_record(trained.path)
    except ConfigError:
        return None


def _network(trained: Trained, task: Task[Any]) -> str:
    around = task.spec.built_around
    network = f"{around} on {task.setup.backbone}" if around else task.setup.backbone
    methods = " + ".join(spec.name for spec in trained.config.regularizers) or "none"
    which = "the last weights" if trained.checkpoint == LAST else f"the weights {trained.checkpoint!r}"
    names = ", ".join(task.classes)
    return (
        f"{task.spec.name.capitalize()} with {network} ({task.spec.library}), trained by synreal with the regularizer "
        f"{methods}; {which} of a run with seed {trained.config.training.seed}.\n\n"
        f"{len(task.classes)} classes, in the order of the outputs: {names}."
    )


def _data(trained: Trained, task: Task[Any], record: RunRecord | None) -> str:
    setup = trained.config.setup
    lines = [f"- trained on synthetic images: {setup.source.label}"]
    if record is not None:
        protocol = record.protocol
        lines[0] += f" ({protocol.source_images} images)"
        lines += [
            f"- seen of real images in training: {protocol.saw}",
            f"- {protocol.steps} steps of {protocol.batch_size * protocol.processes} images; "
            f"phases: {', '.join(protocol.phases)}",
        ]
    flips = ", averaged with the mirror image" if task.flips else ""
    lines.append(f"- tested on: {task.evaluation}{flips}; image size {task.setup.image_size}")
    lines.append("- licence of the data: synreal does not know it; it is that of whoever made them")
    return "\n".join(lines)


def _numbers(trained: Trained, record: RunRecord | None) -> Iterator[str]:
    if record is None:
        yield "The run has no result yet: nothing was measured."
        return
    scores: Mapping[str, Score] = {"source": record.source_heldout, **record.targets}
    if trained.checkpoint != LAST:
        scores = record.averaged.get(trained.checkpoint, {})
    if not scores:
        yield f"These weights ({trained.checkpoint}) were not tested by the run; `synreal evaluate` does it."
        return
    names = [name for name in next(iter(scores.values())).measures]
    yield "\n".join(
        [
            _row(["tested on", "images", *(next(iter(scores.values())).headings[name] for name in names)]),
            _row(["---"] * (len(names) + 2)),
            *(
                _row([_called(name, score), score.images, *(_number(score.measures.get(one)) for one in names)])
                for name, score in scores.items()
            ),
        ]
    )
    yield "After the last step; nothing was chosen on a target. Numbers are those of synreal's own test of the run."


def _called(name: str, score: Score) -> str:
    return f"{score.data} (synthetic, held out)" if name == "source" else f"{name} (real)"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _weights(trained: Trained) -> str:
    origin = trained.facts.weights
    if origin.get("source") == "none":
        return "The network began with random weights: no licence of pretrained weights applies."
    told = licence(trained.config.student.backbone, origin)
    digest = f", SHA-256 {origin['sha256']}" if origin.get("sha256") else ""
    return (
        f"It began with pretrained weights: {origin.get('detail')} ({origin.get('source')}{digest}). Their licence: "
        f"{told or _UNKNOWN}. Weights pretrained on ImageNet may also be bound by the terms of its images."
    )


def _file(task: Task[Any], exportable: Exportable, done: Mapping[str, Any]) -> str:
    agreement = done["agreement"]
    inputs = [f"`{name}` {str(value.dtype).removeprefix('torch.')} ({_shape(exportable, name)})" for name, value in (
        exportable.example.items()
    )]  # fmt: skip
    prepared = [f"  - {key}: {value}" for key, value in exportable.preparation.items()]
    return "\n".join(
        [
            f"- format: {done['format']}",
            f"- inputs: {', '.join(inputs)}",
            f"- outputs: {', '.join(f'`{name}`' for name in exportable.outputs)}",
            "- preparation of an image:",
            *prepared,
            f"- checked against torch on {done['checked_on']}: largest difference {agreement['difference']:.2g}, "
            f"{agreement['equal']} of {agreement['total']} {agreement['unit']} equal; accepted was "
            f"{done['tolerance']:g}",
        ]
    )


def _shape(exportable: Exportable, name: str) -> str:
    free = exportable.free.get(name, {})
    return ", ".join(free[axis][0] if axis in free else str(n) for axis, n in enumerate(exportable.example[name].shape))


def _loading(
    trained: Trained, task: Task[Any], student: Student, exportable: Exportable, name: str, form: str
) -> Iterator[str]:
    if form == "onnx":
        yield "With onnxruntime:"
        yield _code(exportable.loading.replace("student.onnx", name))
    elif form == "torchscript":
        yield _code(f'import torch\n\nnetwork = torch.jit.load("{name}")')
    else:
        yield _code(f'import torch\n\nnetwork = torch.export.load("{name}").module()')
    yield f"The plain network in {task.spec.library}, with `{trained.weights_file.name}` of the run folder:"
    load = f'from safetensors.torch import load_file\n\nmodel.load_state_dict(load_file("{trained.weights_file.name}"))'
    yield _code(f"{task.recipe['build'].strip()}\n\n{load}")


def _code(text: str) -> str:
    return f"```python\n{text.strip()}\n```"

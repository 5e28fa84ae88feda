"""The files that a network is exported to: written with what they tell, and run."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from synreal.errors import ConfigError, ExportError, unknown_name
from synreal.tasks.exported import Exportable, Run

FORMATS: Final = {"onnx": ".onnx", "torch.export": ".pt2", "torchscript": ".ts"}
"""Endings by name of the format."""

TOLD: Final = "synreal.json"
"""The extra file in .pt2 and .ts that holds what ONNX has as its metadata."""

_PACKAGES: Final = ("onnx", "onnxscript", "onnxruntime")
_OPSET: Final = 17  # of what is traced; it has all that detectors need


def format_of(path: Path, name: str | None) -> str:
    """Return the format of a file by its ending, or by name; check that it can be written.

    Raises:
        ConfigError: If neither says it, both disagree, or a package is missing.
    """
    found = next((one for one, ending in FORMATS.items() if path.suffix.lower() == ending), None)
    if name is not None and name not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    if found is None:
        endings = ", ".join(f"{ending} ({one})" for one, ending in FORMATS.items())
        raise ConfigError(f"{path}: its ending does not say what to write. End it in one of {endings}.")
    if name not in (None, found):
        raise ConfigError(f"{path} would be {found}, but --format says {name}. End it in {FORMATS[str(name)]}.")
    missing = [one for one in _PACKAGES if importlib.util.find_spec(one) is None] if found == "onnx" else []
    if missing:
        raise ConfigError(f"To write ONNX takes {', '.join(missing)}: pip install 'synreal[export]'")
    return found


def write(name: str, exportable: Exportable, path: Path, told: Mapping[str, Any]) -> None:
    """Write a network in a format.

    Args:
        name: The format.
        exportable: The network.
        path: The file.
        told: What the file tells of it, plain values by name; ONNX holds those that are no text as JSON.

    Raises:
        ConfigError: If networks of this kind cannot be written in this format.
        ExportError: If this network cannot.
    """
    if exportable.traced and name == "torch.export":
        raise ConfigError(
            "A network for images of any size is not written by torch.export, which takes minutes or fixes the size. "
            f"End the file in {FORMATS['onnx']} or {FORMATS['torchscript']}."
        )
    try:
        with torch.no_grad(), _quiet():
            _WRITERS[name](exportable, path, told)
    except Exception as error:  # whatever an operator that cannot be exported raises
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = f"{type(error).__name__}: {lines[0] if lines else 'without a reason'}"
        others = " or ".join(ending for one, ending in FORMATS.items() if one != name)
        raise ExportError(f"This network cannot be written as {name} ({reason}). Try {others}.") from error


def reader(name: str, exportable: Exportable, path: Path) -> Run:
    """Return what runs a file of a format on the CPU."""
    if name == "onnx":
        return _onnx_run(path, exportable.outputs)
    loaded: Any
    with _quiet():
        loaded = torch.jit.load(str(path)) if name == "torchscript" else torch.export.load(path).module()
    names = list(exportable.example)

    def run(inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        with torch.no_grad():
            found = loaded(*(inputs[one].contiguous() for one in names))
        return (found,) if isinstance(found, Tensor) else tuple(found)

    return run


def _onnx_run(path: Path, outputs: tuple[str, ...]) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        found = session.run(list(outputs), {one: value.contiguous().numpy() for one, value in inputs.items()})
        return tuple(map(torch.from_numpy, found))

    return run


def _write_onnx(exportable: Exportable, path: Path, told: Mapping[str, Any]) -> None:
    names: dict[str, Any] = {"input_names": list(exportable.example), "output_names": list(exportable.outputs)}
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in told.items()}
    arguments = tuple(exportable.example.values())
    if exportable.traced:
        import onnx

        axes = {one: {axis: free for axis, (free, _) in sides.items()} for one, sides in exportable.free.items()}
        axes |= {one: {0: "found"} for one in exportable.outputs}
        torch.onnx.export(
            exportable.graph, arguments, str(path), dynamo=False, opset_version=_OPSET, dynamic_axes=axes, **names
        )
        model = onnx.load(str(path))
        onnx.helper.set_model_props(model, texts)
        onnx.save(model, str(path))
        return
    program: Any = torch.onnx.export(
        exportable.graph, arguments, dynamo=True, dynamic_shapes=_shapes(exportable), verbose=False, **names
    )
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # it would hold paths of this machine
    program.model.metadata_props.update(texts)
    program.save(str(path))


def _write_program(exportable: Exportable, path: Path, told: Mapping[str, Any]) -> None:
    arguments = tuple(exportable.example.values())
    program = torch.export.export(exportable.graph, arguments, dynamic_shapes=_shapes(exportable))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # likewise
    torch.export.save(program, path, extra_files={TOLD: json.dumps(dict(told))})


def _write_script(exportable: Exportable, path: Path, told: Mapping[str, Any]) -> None:
    arguments = tuple(exportable.example.values())
    traced: Any = torch.jit.trace(exportable.graph, arguments, check_trace=False)
    torch.jit.save(traced, str(path), _extra_files={TOLD: json.dumps(dict(told))})


_WRITERS: Final = {"onnx": _write_onnx, "torch.export": _write_program, "torchscript": _write_script}


def _shapes(exportable: Exportable) -> tuple[dict[int, Any], ...]:
    """Return which axes may have other lengths, as torch.export takes it."""
    free: dict[str, Any] = {}
    shapes = []
    for name in exportable.example:
        sides: dict[int, Any] = {}
        for axis, (what, multiple) in exportable.free.get(name, {}).items():
            length = free.setdefault(what, torch.export.Dim(what, min=1))
            sides[axis] = length if multiple == 1 else multiple * length
        shapes.append(sides)
    return tuple(shapes)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters from talking; what goes wrong they raise."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield

"""Write the fixtures of the formats as they are now: ``python -m tests.formats.write``.

Fixtures of earlier numbers stay: they are what the world has. A fixture is written again only until its number is
released.
"""

import os
import shutil
import tempfile
import warnings
from pathlib import Path

import torch

from synreal.engine import checkpoint, run_folder
from synreal.records import INSIGHT_FILE, LOOK_VERSION, SCHEMA_VERSION, read_look, write_json
from tests.engine import tiny

HERE = Path(__file__).parent
NUMBERS = {"run": run_folder.FORMAT, "checkpoint": checkpoint.FORMAT, "record": SCHEMA_VERSION, "look": LOOK_VERSION}
FILES = {"train": b"0" * 64 + b"  a.png\n"}
MACHINE = {"device_name": "", "platform": "Linux", "git_commit": None}


def folder(kind: str, number: int | None = None) -> Path:
    """Return the folder of a fixture, by default of the number that is written now."""
    return HERE / f"{kind}-{NUMBERS[kind] if number is None else number}"


def tiny_state() -> tuple[dict[str, torch.Tensor], dict]:
    """Return a model's and an optimizer's state of a few numbers."""
    weight = torch.nn.Parameter(torch.arange(3.0))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    weight.sum().backward()
    optimizer.step()
    return {"student.weight": weight.detach()}, optimizer.state_dict()


def write(output: Path) -> None:
    """Make a run in a folder, and write the fixtures from it."""
    record = tiny.run(output, regularizers="none", epochs=1, max_steps=2, look=["cka", "drift"]).record
    snapshot = checkpoint.load_latest(output / "checkpoints")
    facts = run_folder.read(output, "copy")
    machine = facts.environment.model_copy(update=MACHINE)
    for kind in NUMBERS:
        shutil.rmtree(folder(kind), ignore_errors=True)
        folder(kind).mkdir()
    run_folder.record(
        folder("run"),
        facts.model_copy(update={"environment": machine, "command": "synreal"}),
        tiny.make_config(output),
        FILES,
    )
    shutil.copy(output / run_folder.METRICS_FILE, folder("run"))
    model, optimizer = tiny_state()
    checkpoint.save(folder("checkpoint"), checkpoint.Snapshot(snapshot.step, model, optimizer, snapshot.facts), keep=1)
    write_json(folder("record") / run_folder.RESULT_FILE, record.model_dump(mode="json"))
    write_json(folder("look") / INSIGHT_FILE, read_look(output).model_dump(mode="json"))


if __name__ == "__main__":
    os.chdir(tempfile.mkdtemp())
    warnings.simplefilter("ignore")
    os.environ["SYNREAL_CACHE"] = os.path.abspath("cache")
    tiny.install()
    write(Path("run"))

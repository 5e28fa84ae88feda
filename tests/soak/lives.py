"""Processes that make a run, or go on with one, until they end or are killed: forked from one that has imported it all.

Nothing is mended between two lives of a run: what ``kill -9`` leaves behind is what the next one finds.
"""

import gc
import hashlib
import multiprocessing
import os
import signal
import socket
import sys
import time
import types
from multiprocessing import forkserver
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from tests.engine import tiny
from tests.faults import Faults

CONTEXT = multiprocessing.get_context("forkserver")
_LATE = ("transformers",)  # other libraries import them once a run begins, where they are installed
PATIENCE = 120  # seconds for a run of less than two
PILOT = """\
from typing import ClassVar

import torch

from synreal.engine.phases import register
from synreal.engine.phases.train import Train


@register
class Pilot(Train):
    name: ClassVar[str] = "pilot"
    summary: ClassVar[str] = "a few steps with an optimizer of its own"

    def make_plan(self, job):
        return job.plan(epochs=1, most=2)

    def make_optimizer(self, job):
        return torch.optim.SGD([each for each in job.model.parameters() if each.requires_grad], lr=0.01, momentum=0.5)

    def factor(self, state):
        return 1.0
"""


class Case(NamedTuple):
    """What is run, by how many processes."""

    config: dict
    processes: int = 1


class Death(NamedTuple):
    """When a process is killed: after so many seconds, or in that call of the system of those below the run folder."""

    seconds: float | None = None
    call: int | None = None
    rank: int = 0


class Life(NamedTuple):
    """How it went: exit codes by process, seconds, and what the processes said."""

    codes: list[int]
    seconds: float
    said: str

    @property
    def killed(self):
        return -signal.SIGKILL in self.codes


def live(case, folder, death=None, **changes):
    """Make a run in a folder, or go on with the one that is there, and let it die as told."""
    death = death or Death()
    order = {"config": {**case.config, **changes, "output": str(folder)}, "plugin": str(folder.parent / "pilot.py")}
    Path(order["plugin"]).write_text(PILOT)
    order["resume"] = (folder / "run.json").exists()
    _prepare()
    log = folder.with_suffix(".log")
    log.write_text("")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.monotonic()
    processes = [
        CONTEXT.Process(target=_run, args=(order, log, (rank, case.processes, port), death))
        for rank in range(case.processes)
    ]
    for process in processes:
        process.start()
    victim = processes[death.rank]
    if death.seconds is not None:
        victim.join(death.seconds)
        victim.kill()
    victim.join(PATIENCE)
    for process in processes:  # as launchers do once one of several is dead
        if victim.exitcode and process.is_alive():
            process.terminate()
        process.join(PATIENCE)
        process.kill()
        process.join()
    return Life([process.exitcode for process in processes], time.monotonic() - started, log.read_text())


def _prepare():
    """Import once what every life needs: that takes longer than a life."""
    CONTEXT.set_forkserver_preload(["tests.engine.tiny", "synreal.data.kinds", "synreal.data.inspection", *_LATE])
    with mock.patch.dict(os.environ, {"PYTHONPATH": str(tiny.ROOT), "OMP_NUM_THREADS": "1"}):
        forkserver.ensure_running()


def _run(order, log, place, death):
    """What happens in the process."""
    rank, processes, port = place
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if processes > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(processes)}
    gc.freeze()  # to look at all that was imported takes as long as a run
    folder = Path(order["config"]["output"])
    faults = Faults(types.SimpleNamespace(setattr=setattr))
    faults.plan_kill(folder, death.call if death.rank == rank else None)
    tiny.main(order)
    if rank == 0:
        folder.with_suffix(".calls").write_text(str(len(faults.seen)))
    sys.stdout.flush()
    os._exit(0)  # no handler of the parent's runs twice


def calls(folder):
    """How many calls of the system, of those that a run must survive, it took to make a folder."""
    return int(folder.with_suffix(".calls").read_text())


def end(folder):
    """All that two runs of one seed share to the bit: what a run says of itself, and the state that it ended in."""
    (newest,) = sorted((folder / "checkpoints").iterdir())[-1:]
    files = {name: newest / name for name in ("model.safetensors", "optimizer.safetensors")}
    state = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    return {**tiny.outcome(folder), "checkpoint": newest.name, "state": state}


def draw_death(draw, case, seconds, calls):
    """Draw a moment to die at: by the clock, or between two calls of the system in what is written."""
    rank = draw.randrange(case.processes)
    if rank or draw.random() < 0.5:  # the first process alone writes
        return Death(seconds=draw.uniform(0, seconds), rank=rank)
    return Death(call=draw.randrange(calls))

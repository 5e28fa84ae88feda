"""Runs that are asked to stop between two steps."""

import contextlib
import importlib

import pytest

from synreal.engine.progress import RunProgress
from synreal.engine.signals import StopRequest
from synreal.errors import Interrupted
from tests.engine.tiny import run

running = importlib.import_module("synreal.engine.run")  # as an attribute of the package it is the function


def ask_after(patch, calls):
    """Ask the run to stop once so many steps are made."""
    original, requests, made = RunProgress.step, [], []

    @contextlib.contextmanager
    def listening():
        requests.append(StopRequest())
        yield requests[-1]

    def step(self, number, losses):
        original(self, number, losses)
        made.append(number)
        if len(made) == calls:
            requests[-1].exit_code = 143

    patch.setattr(running, "listening", listening)
    patch.setattr(RunProgress, "step", step)


def stop_after(calls, path, match=None, **settings):
    """Make a run that is stopped after so many steps."""
    with pytest.MonkeyPatch.context() as patch:
        ask_after(patch, calls)
        with pytest.raises(Interrupted, match=match or f"Stopped at step {calls}; "):
            run(path, **settings)

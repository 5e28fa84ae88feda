import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from synreal.engine.checkpoint import load_latest
from synreal.engine.signals import listening
from tests.engine import tiny
from tests.engine.tiny import ROOT, outcome, steps_saved

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")

EVERY = [(143, signal.SIGTERM), (130, signal.SIGINT), (129, signal.SIGHUP), (138, signal.SIGUSR1)]
PATIENCE = 90  # seconds; a child mostly imports torch


@contextlib.contextmanager
def child(output, **order):
    """A run in a process and a process group of its own."""
    order["config"] = {"output": str(output), **order.pop("config", {})}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.engine.tiny", json.dumps(order)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(process, happened):
    give_up = time.monotonic() + PATIENCE
    while not happened():
        assert process.poll() is None, process.communicate()[1][-2000:]
        assert time.monotonic() < give_up
        time.sleep(0.01)


def exit_code(process):
    _, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, errors[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_group_saves_and_ends_every_process(tmp_path, whole, number, code):
    output, marker = tmp_path / "run", tmp_path / "held"
    with child(output, hold=3, marker=str(marker), config={"workers": 2}) as process:
        wait_for(process, marker.exists)
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) >= 2
        # As a terminal's Ctrl-C and most schedulers do: the workers get it too.
        os.killpg(process.pid, number)
        found, errors = exit_code(process)
        assert found == code, errors
        _, alive = psutil.wait_procs(workers, timeout=20)
        assert not alive
    assert steps_saved(output) == ["step-00000003"]
    assert not (output / "result.json").exists()
    tiny.run(output, resume=True)
    assert outcome(output) == outcome(whole())


@pytest.mark.slow
def test_a_second_signal_ends_the_run_at_once(tmp_path):
    output, marker = tmp_path / "run", tmp_path / "held"
    # Held in step 5 the first signal is heard, but the step does not end before the second one.
    with child(output, hold=5, marker=str(marker), deaf_hold=True) as process:
        wait_for(process, marker.exists)
        process.send_signal(signal.SIGTERM)
        wait_for(process, lambda: not marker.exists())
        process.send_signal(signal.SIGTERM)
        assert exit_code(process)[0] == -signal.SIGTERM
    assert load_latest(output / "checkpoints").step == 4


@pytest.mark.slow
def test_data_loading_processes_do_not_outlive_a_killed_run(tmp_path):
    output = tmp_path / "run"
    marker = tmp_path / "held"
    with child(output, hold=2, deaf_hold=True, marker=str(marker), config={"workers": 2}) as process:
        wait_for(process, marker.exists)
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) >= 2
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(workers, timeout=30)
        assert not alive


# ---------------------------------------------------------------------------------------------- in this process


@pytest.fixture
def handlers():
    """The handlers of before, put back whatever the test does."""
    before = {number: signal.getsignal(number) for _, number in EVERY}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("code", "number"), EVERY)
def test_the_first_signal_is_a_request_and_the_second_has_its_effect(handlers, code, number):
    heard = []
    signal.signal(number, lambda *_: heard.append(1))
    with listening() as request:
        assert request.exit_code == 0
        signal.raise_signal(number)
        assert request.exit_code == code
        assert heard == []
        signal.raise_signal(number)
        assert heard == [1]


def test_what_is_ignored_stays_ignored(handlers):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    with listening() as request:
        signal.raise_signal(signal.SIGHUP)
        assert request.exit_code == 0
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_handlers_are_put_back(handlers):
    def fail():
        with listening():
            assert signal.getsignal(signal.SIGTERM) is not handlers[signal.SIGTERM]
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert {number: signal.getsignal(number) for number in handlers} == handlers


def test_listening_outside_the_main_thread_leaves_signals_alone(handlers):
    seen = []

    def work():
        with listening() as request:
            seen.append((request.exit_code, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(0, handlers[signal.SIGTERM])]

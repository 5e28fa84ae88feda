"""Locks between processes; other processes are forked ones, as data-loading workers are."""

import contextlib
import json
import os
import signal
import socket
import time

import pytest

from synreal import locking
from synreal.errors import ConfigError
from synreal.locking import Lock, holder, reaches_other_hosts

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@contextlib.contextmanager
def elsewhere(act):
    """A process that does something and then waits; gives its number once that is done."""
    ready, done = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            act()
            os.write(done, b"1")
            time.sleep(60)
        finally:
            os._exit(1)  # never back into pytest
    assert os.read(ready, 1) == b"1"
    try:
        yield child
    finally:
        end(child)
        os.close(ready)
        os.close(done)


def end(child):
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.lock"


def take(path, patience=0.0):
    lock = Lock(path, "The run folder runs/mine")
    lock.acquire(patience)
    return lock


def leave(path, host=None, pid=2**22 - 1):
    """What a killed process left: a file without a lock."""
    path.write_text(json.dumps({"host": host or socket.gethostname(), "pid": pid, "since": "2026-01-02 03:04:05"}))


def test_a_second_process_is_refused_with_host_and_number_of_the_first(path):
    with elsewhere(lambda: take(path)) as child:
        message = rf"The run folder runs/mine is in use by process {child} on host {socket.gethostname()}, since 20"
        with pytest.raises(ConfigError, match=message) as caught:
            take(path)
        assert caught.value.exit_code == 2
        assert holder(path).pid == child


def test_what_a_killed_process_held_is_taken_over(path):
    with elsewhere(lambda: take(path)) as child:
        end(child)
        assert path.exists()
        assert holder(path) is None
        lock = take(path)
        assert holder(path).pid == os.getpid()
        lock.release()
    assert not path.exists()


def test_a_process_that_a_killed_one_left_behind_holds_nothing(path):
    def act():
        take(path)
        if os.fork() == 0:  # like a data-loading worker
            time.sleep(20)
            os._exit(0)

    with elsewhere(act) as child:
        end(child)
        take(path).release()


def test_a_process_does_not_take_a_lock_twice_and_looking_loses_none(path):
    lock = take(path)
    with pytest.raises(ConfigError, match=f"in use by process {os.getpid()} "):
        take(path)
    assert holder(path).pid == os.getpid()
    assert holder(path.with_name("other")) is None

    def refused():
        with pytest.raises(ConfigError):
            take(path)

    with elsewhere(lambda: (locking._OURS.clear(), refused())):
        assert lock.held
    lock.release()
    lock.release()
    assert not lock.held
    take(path).release()


def test_it_waits_for_a_moment(path):
    def act():
        lock = take(path)
        if os.fork() == 0:
            os._exit(0)
        lock.release()

    with elsewhere(act):
        take(path, patience=5.0).release()


def test_a_lock_goes_with_its_folder(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    lock = take(folder / "run.lock")
    assert lock.held
    folder.rename(tmp_path / "moved")
    assert not lock.held
    folder.mkdir()
    take_over = Lock(folder / "run.lock", "It")
    locking._OURS.clear()  # as another process would
    take_over.acquire()
    lock.release()
    assert take_over.held  # the file of another one is left alone
    take_over.release()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": 1}', '{"host": "a", "pid": -1, "since": ""}', "\x00" * 9000])
def test_a_file_that_says_nothing_hinders_nobody(path, text):
    path.write_text(text)
    assert holder(path) is None
    take(path).release()


def test_a_pipe_in_its_place_is_not_opened(path):
    os.mkfifo(path)
    assert holder(path) == ("", 0, "")  # it cannot be told
    with pytest.raises(OSError, match="it is not a file"):
        Lock(path, "It").acquire(0)


def test_a_lock_of_another_host_is_taken_over_where_hosts_share_locks(path, monkeypatch):
    leave(path, "node7", 1)
    monkeypatch.setattr(locking, "reaches_other_hosts", lambda path: True)
    assert holder(path) is None
    take(path).release()


def test_a_lock_of_another_host_that_cannot_be_checked_is_refused(path, monkeypatch):
    leave(path, "node7", 1)
    before = path.read_text()
    monkeypatch.setattr(locking, "reaches_other_hosts", lambda path: False)
    assert holder(path).host == "node7"
    with pytest.raises(ConfigError, match=r"marked as in use by process 1 on host node7.*remove .*run\.lock") as caught:
        take(path)
    assert socket.gethostname() in str(caught.value)
    assert path.read_text() == before


def test_without_locks_of_the_system_the_number_of_the_process_decides(path, monkeypatch):
    monkeypatch.setattr(locking, "_lock", lambda descriptor: None)
    lock = take(path)
    lock.release()
    leave(path)
    assert holder(path) is None
    take(path).release()
    leave(path, pid=os.getppid())
    assert holder(path).pid == os.getppid()
    with pytest.raises(ConfigError, match=f"in use by process {os.getppid()}"):
        take(path)
    leave(path, "node7")
    with pytest.raises(ConfigError, match="node7"):
        take(path)


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /nfs rw - nfs4 server:/n rw,vers=4.2,local_lock=none
31 22 0:41 / /old rw - nfs server:/old rw,vers=3,nolock,local_lock=all
32 22 0:42 / /scratch rw - lustre server:/s rw,flock,lazystatfs
33 22 0:43 / /fast rw - lustre server:/f rw,localflock
34 22 0:44 / /my\\040disk rw - fuse.sshfs server: rw
35 22 0:45 / /tmp rw - tmpfs tmpfs rw
nonsense
"""


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("/runs", True), ("/nfs/me/runs", True), ("/nfsx", True), ("/old/runs", False), ("/scratch/x", True),
        ("/fast/x", False), ("/my disk/x", False), ("/my", True), ("/tmp/x", True),
    ],
)  # fmt: skip
def test_which_file_systems_share_locks(place, expected, tmp_path):
    if not os.path.exists("/proc/filesystems"):
        pytest.skip("needs Linux")
    assert reaches_other_hosts(tmp_path.__class__(place), MOUNTS) == expected

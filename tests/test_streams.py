"""Output that can no longer be written."""

import io
import os
import subprocess
import sys

import pytest

from synreal.streams import Unfailing, unfailing

needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")


def test_what_can_be_written_is():
    stream = io.StringIO()
    mine = Unfailing(stream)
    assert mine.write("one") == 3
    mine.flush()
    assert stream.getvalue() == "one"
    assert (mine.lost, mine.isatty(), mine.encoding) == (None, False, stream.encoding)


def test_a_closed_pipe_drops_the_rest():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        mine = Unfailing(stream)
        mine.write("one")
        mine.flush()
        assert isinstance(mine.lost, BrokenPipeError)
        mine.write("two")
        mine.flush()


def test_a_stream_that_is_closed_or_missing():
    stream = io.StringIO()
    stream.close()
    mine = Unfailing(stream)
    mine.write("one")
    assert isinstance(mine.lost, ValueError)
    none = Unfailing(None)
    none.write("one")
    none.flush()
    assert not none.isatty()


def test_the_stream_of_before_is_put_back():
    before = sys.stdout

    def fail():
        with unfailing("stdout") as stream:
            assert sys.stdout is stream
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert sys.stdout is before


@needs_full
def test_a_process_on_a_full_disk_ends_well():
    # Python writes what it keeps once more at its end; without the guard the exit code is 120.
    text = "from synreal.streams import unfailing\nimport sys\n"
    text += "with unfailing('stdout'), unfailing('stderr'):\n    print('x' * 10)\n    print('y', file=sys.stderr)\n"
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", text], stdout=full, stderr=full, check=False)
    assert done.returncode == 0

"""Long work that looks whether to stop."""

import pytest

from synreal import stopping
from synreal.data.files.threads import in_threads
from synreal.errors import Interrupted


def test_only_what_is_heeded_stops():
    request = stopping.Request()
    request.exit_code = 138
    stopping.poll()
    with stopping.heeding(request):
        with pytest.raises(Interrupted) as caught:
            stopping.poll()
        assert caught.value.exit_code == 138
    stopping.poll()


def test_work_in_threads_stops_between_two_pieces():
    request = stopping.Request()
    with stopping.heeding(request):
        values = in_threads(lambda piece: piece, range(100), 2)
        assert [next(values) for _ in range(11)] == list(range(11))
        request.exit_code = 143
        with pytest.raises(Interrupted):
            next(values)

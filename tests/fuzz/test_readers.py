"""Every reader is given files that are damaged or of another shape: each is read, or refused with a typed error.

``SYNREAL_FUZZ`` is the number of files for each reader, ``SYNREAL_FUZZ_SEED`` begins the same files again. A failure
prints both, and hypothesis the smallest file that it found.
"""

import contextlib
import os
import random
import warnings

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from synreal.errors import SynrealError
from tests.fuzz.mutations import damaged, reshaped
from tests.fuzz.readers import READERS

NUMBER = int(os.environ.get("SYNREAL_FUZZ", "8"))
SEED = int(os.environ.get("SYNREAL_FUZZ_SEED") or (random.randrange(2**32) if "SYNREAL_FUZZ" in os.environ else 0))


@pytest.mark.parametrize("name", READERS)
def test_any_file_is_read_or_refused(name, tmp_path):
    subject = READERS[name](tmp_path)
    whole = subject.path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        subject.read()  # or all that follows would be refused for another reason
    print(f"To be replayed with SYNREAL_FUZZ={NUMBER} SYNREAL_FUZZ_SEED={SEED}, reader {name}.")
    whole = subject.path.read_bytes() if name == "metrics" else whole

    @seed(SEED)
    @settings(max_examples=NUMBER, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(raw=damaged(whole) | reshaped(whole) if subject.as_json else damaged(whole))
    def one(raw):
        subject.path.write_bytes(raw)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(SynrealError):
                subject.read()

    one()


@given(st.data())
@settings(max_examples=20, deadline=None, database=None)
def test_another_shape_is_json_still(drawn):
    assert drawn.draw(reshaped(b'{"a": [1, {"b": null}]}'))

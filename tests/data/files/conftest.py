from __future__ import annotations

import os
from pathlib import Path

import pytest

from synreal.data.files.paths import scan_images
from tests.data.trees import write


@pytest.fixture
def misnamed(tmp_path: Path) -> str:
    """The only image of the test's folder, under a name that is no UTF-8."""
    try:
        write(tmp_path / os.fsdecode(b"gr\xfcn.png"), "x")
    except OSError:
        pytest.skip("this file system refuses such names")
    (name,) = scan_images(tmp_path)
    return name

"""Random draws that are a function of a seed, however many processes load."""

from __future__ import annotations

import hashlib
import operator
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from synreal.errors import ConfigError


def derive_seed(*parts: int | str) -> int:
    """Hash the parts to a seed that is the same in every process and on every machine.

    ``derive_seed(seed, epoch, index)`` makes a view a function of these three, however many workers load it.

    Args:
        *parts: Whole numbers (NumPy's too) and strings; 1 and ``"1"`` differ, and so do ``("ab", "c")`` and
            ``("a", "bc")``.

    Returns:
        An integer in [0, 2**63).

    Raises:
        ConfigError: A part is neither.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            text = "s" + part
        else:
            try:
                text = f"i{operator.index(part)}"
            except TypeError:
                raise ConfigError(
                    f"A seed cannot be derived from {part!r}; expected whole numbers and strings."
                ) from None
        data = text.encode()
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return int.from_bytes(digest.digest()[:8], "big") >> 1


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator, Python's ``random`` and NumPy's global generator for the length of a block.

    All three are put back afterwards, also when the block raises. CUDA generators are left alone, so that a
    forked worker never touches CUDA. The generators are global: not for several threads at once.

    Args:
        seed: In [0, 2**63), e.g. from :func:`derive_seed`.

    Yields:
        Nothing.

    Raises:
        ConfigError: The seed is out of range.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ConfigError(f"Seed is {seed!r}; expected a whole number in [0, 2**63). derive_seed() makes one.")
    torch_state = torch.default_generator.get_state()
    python_state = random.getstate()
    numpy_state = np.random.get_state()
    try:
        # torch's CPU generator looks at the low 32 bits only: fold the high ones in, so that every bit counts.
        torch.default_generator.manual_seed((seed ^ seed >> 32) & 0xFFFFFFFF)
        random.seed(seed)
        np.random.seed([seed & 0xFFFFFFFF, seed >> 32])  # it takes words of 32 bits
        yield
    finally:
        torch.default_generator.set_state(torch_state)
        random.setstate(python_state)
        np.random.set_state(numpy_state)

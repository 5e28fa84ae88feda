"""Random numbers as functions of a key: the same on all devices, in a compiled graph and after a run went on.

torch's generators cannot be read on an accelerator without waiting for it, cannot be part of a compiled graph, and give
other numbers on another device. A key is two integers in a tensor; ``fold_in`` makes another one of it and a number,
e.g. that of a step, and whoever draws with one key twice gets the same numbers. Integers and uniform numbers are equal
to the bit everywhere, the others up to the rounding of ``log`` and its like.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

_WORD: Final = 0xFFFFFFFF
_MULTIPLIERS: Final = (0x21F0AAAD, 0x735A2D97)  # below 2^31, so that a product of a word stays within an int64
_UNIT: Final = 2.0**-23
_TRIES: Final = 8  # each fails in less than 5 % of cases


def fold_in(key: Tensor, number: Tensor | int) -> Tensor:
    """Make a key of a key and a number; other numbers give keys that have nothing to do with each other.

    Args:
        key: int64, (2,), each in [0, 2^32).
        number: An integer, or a 0-d int64 tensor on the key's device.

    Returns:
        int64, (2,), on the key's device.
    """
    number = _mixed((number + 0x9E3779B9) & _WORD)  # small numbers and small seeds must not meet
    words = torch.stack([key[0] + number, key[1] ^ number]) & _WORD
    first, second = _mixed(words).unbind()
    folded: Tensor = _mixed(torch.stack([first + 0x9E3779B9 + (second << 6), second + (first ^ 0x7F4A7C15)]) & _WORD)
    return folded


def random_words(key: Tensor, count: int) -> Tensor:
    """Draw words of 32 bits.

    Args:
        key: int64, (2,).
        count: How many.

    Returns:
        int64, (count,), in [0, 2^32).
    """
    words = _mixed(torch.arange(count, device=key.device, dtype=torch.int64) & _WORD)
    drawn: Tensor = _mixed((_mixed(words ^ key[0]) + key[1]) & _WORD)
    return drawn


def uniform(key: Tensor, shape: Sequence[int]) -> Tensor:
    """Draw from U(0, 1); neither end is drawn.

    Args:
        key: int64, (2,).
        shape: Of the result.

    Returns:
        float32: odd multiples of 2^-24.
    """
    return (((random_words(key, math.prod(shape)) >> 9).float() + 0.5) * _UNIT).view(tuple(shape))


def normal(key: Tensor, shape: Sequence[int]) -> Tensor:
    """Draw from N(0, 1), cut at 5.4.

    Args:
        key: int64, (2,).
        shape: Of the result.

    Returns:
        float32.
    """
    return math.sqrt(2.0) * torch.erfinv(2.0 * uniform(key, shape) - 1.0)


def permutation(key: Tensor, count: int) -> Tensor:
    """Draw an order of ``count`` things, int64, (count,)."""
    return random_words(key, count).argsort(stable=True)


def symmetric_beta(key: Tensor, alpha: float, count: int) -> Tensor:
    """Draw from Beta(alpha, alpha), as the share that one of two gamma variables has in their sum.

    Of ``Gamma(alpha) = Gamma(alpha + 1) U^(1/alpha)`` the logarithm is taken, which holds for the smallest alpha, and
    ``Gamma(alpha + 1)`` is drawn by rejection (Marsaglia & Tsang, ACM TOMS 2000), eight tries at once; if all were to
    fail, which has a chance below 10^-10, the first counts.

    Args:
        key: int64, (2,).
        alpha: Above 0.
        count: How many.

    Returns:
        float32, (count,), in [0, 1].
    """
    shape = alpha + 2.0 / 3.0
    scale = 1.0 / math.sqrt(9.0 * shape)
    deviate = normal(fold_in(key, 0), (_TRIES, 2, count))
    height = uniform(fold_in(key, 1), (_TRIES, 2, count)).log()
    root = 1.0 + scale * deviate
    cube = root.clamp_min(1e-6) ** 3
    accepted = (root > 0) & (height < 0.5 * deviate.square() + shape * (1.0 - cube + cube.log()))
    first = accepted.float().argmax(0, keepdim=True)
    large = cube.gather(0, first)[0].log()
    logs = large + uniform(fold_in(key, 2), (2, count)).log() / alpha
    return torch.sigmoid(logs[0] - logs[1])


def _mixed(words: Any) -> Any:
    """Scramble words of 32 bits: each bit of the result depends on all of them (a bijection)."""
    words = words ^ (words >> 16)
    words = (words * _MULTIPLIERS[0]) & _WORD
    words = words ^ (words >> 15)
    words = (words * _MULTIPLIERS[1]) & _WORD
    return words ^ (words >> 15)

"""Linear centred kernel alignment: how alike two representations of the same images are."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from synreal.errors import DataError
from synreal.functional.precision import to_float64

_NUMBERS: Final = 2**23  # of features that are held in float64 at once: 64 MB
_ROUNDING: Final = 1e-14  # share of what is summed below which a spread is rounding


def linear_cka(x: Tensor, y: Tensor, *, unbiased: bool = False) -> Tensor:
    """Return the linear CKA of two matrices.

    Kornblith et al., ICML 2019, eq. 4, with linear kernels: ``HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y))``, where HSIC is
    ``||Yc^T Xc||_F^2 / (n - 1)^2`` of centred columns (eq. 2 and 3; the factor cancels). It does not change if one
    side is rotated, scaled or shifted. ``unbiased`` takes HSIC_1 (Song et al., JMLR 2012; Nguyen et al., ICLR 2021, eq.
    3) in its place, which does not grow as images become few: two unrelated sides give about 0, also less.

    It is computed from products of features, D x D, or, if there are fewer images than features, from those of
    images, n x n.

    Args:
        x: (n, D_x), of any dtype; row i of both sides is of one image.
        y: (n, D_y), on the same device.
        unbiased: Whether to estimate without the bias of few images.

    Returns:
        float64, 0-d: in [0, 1], or at most 1 if unbiased. NaN if a side is constant or not finite, or for fewer than 2
        images, 4 if unbiased.

    Raises:
        DataError: If a side is no matrix, or the two have different numbers of rows.
    """
    _check(x, y)
    if max(x.shape[1], y.shape[1]) > len(x):
        return _of_grams(_gram(x), _gram(y), unbiased)
    pilots = pilot_mean(x), pilot_mean(y)
    rows = max(1, _NUMBERS // max(1, x.shape[1], y.shape[1]))
    total = torch.zeros(cka_numbers(x.shape[1], y.shape[1]), dtype=torch.float64, device=pilots[0].device)
    for some, others in zip(x.split(rows), y.split(rows), strict=True):
        total += cka_sums(some, others, *pilots)
    return cka_of_sums(total, x.shape[1], y.shape[1], unbiased=unbiased)


def pilot_mean(features: Tensor) -> Tensor:
    """Return the mean of features, float64, (D,): a point to sum about.

    For a side that is constant it is that constant to the bit, so that what is summed about it is zero.

    Args:
        features: (n, D), of any dtype, n at least 1 or D at least 0; zeros without rows.
    """
    if not len(features):
        return to_float64(features.new_zeros(features.shape[1]))
    first = to_float64(features[0])
    rows = max(1, _NUMBERS // max(1, features.shape[1]))
    total = torch.zeros_like(first)
    for some in features.split(rows):
        total += (to_float64(some) - first).sum(0)
    return first + total / len(features)


def cka_numbers(d_x: int, d_y: int) -> int:
    """Return how many numbers ``cka_sums`` returns for sides of these widths."""
    return sum(_sizes(d_x, d_y))


def cka_sums(x: Tensor, y: Tensor, pilot_x: Tensor, pilot_y: Tensor) -> Tensor:
    """Return all that linear CKA, biased or not, needs of a batch; batches and processes add up.

    Adding up in another order changes the last digits, nothing else.

    Args:
        x: (n, D_x), of any dtype.
        y: (n, D_y), on the same device.
        pilot_x: (D_x,), a point near the features, which keeps digits: e.g. the ``pilot_mean`` of a first batch. CKA
            does not depend on it, but it must be the same for all that is added up.
        pilot_y: (D_y,).

    Returns:
        float64, (``cka_numbers(D_x, D_y)``,), on the device of x; on the CPU if that has no float64.

    Raises:
        DataError: As ``linear_cka``.
    """
    _check(x, y)
    x, y = to_float64(x), to_float64(y)
    x, y = x - pilot_x.to(x), y - pilot_y.to(y)
    k, l = x.square().sum(1), y.square().sum(1)  # noqa: E741 - the equations' own letters
    parts = [
        torch.stack([x.new_tensor(len(x)), k @ k, l @ l, k @ l]),
        x.sum(0), y.sum(0), k @ x, l @ x, k @ y, l @ y,
        (x.T @ x).flatten(), (y.T @ y).flatten(), (x.T @ y).flatten(),
    ]  # fmt: skip
    return torch.cat(parts)


def cka_of_sums(sums: Tensor, d_x: int, d_y: int, *, unbiased: bool = False) -> Tensor:
    """Return the linear CKA from what ``cka_sums`` returned, added up over all images.

    Args:
        sums: float64.
        d_x: Width of x.
        d_y: Width of y.
        unbiased: As for ``linear_cka``.

    Returns:
        As ``linear_cka``.
    """
    counts, s_x, s_y, kx, lx, ky, ly, xx, yy, xy = sums.split(_sizes(d_x, d_y))
    n, kk, ll, kl = counts.unbind()
    products = xx.view(d_x, d_x), yy.view(d_y, d_y), xy.view(d_x, d_y)
    held = [product.diagonal().sum() for product in products[:2]]
    for whole, total in zip(held, (s_x, s_y), strict=True):
        if not bool(whole - total.square().sum() / n > _ROUNDING * whole):
            return torch.full_like(n, torch.nan)  # constant, not finite, or fewer than two rows
    if not unbiased:
        both, first, second = (
            (product - torch.outer(left, right) / n).square().sum()
            for product, left, right in zip(products[::-1], (s_x, s_y, s_x), (s_y, s_y, s_x), strict=True)
        )
        return _ratio(both, first, second)
    sides = (
        _Side(products[2], s_x, s_y, held[0], held[1], kl, lx, ky),
        _Side(products[0], s_x, s_x, held[0], held[0], kk, kx, kx),
        _Side(products[1], s_y, s_y, held[1], held[1], ll, ly, ly),
    )
    return _ratio(*(_hsic_1(side, n) for side in sides))


class _Side(NamedTuple):
    """The sums of two sides a and b with squared lengths p and q, about the pilots."""

    product: Tensor  # a^T b
    s_a: Tensor
    s_b: Tensor
    p: Tensor  # sum of p
    q: Tensor
    pq: Tensor  # sum of p q
    qa: Tensor  # sum of q a
    pb: Tensor  # sum of p b


def _hsic_1(side: _Side, n: Tensor) -> Tensor:
    """Return HSIC_1 of linear kernels: all that the n x n matrices without diagonals would be asked for, from sums."""
    if n < 4:
        return torch.full_like(n, torch.nan)
    trace = side.product.square().sum() - side.pq
    totals = (side.s_a.square().sum() - side.p) * (side.s_b.square().sum() - side.q)
    rows = side.s_a @ side.product @ side.s_b - side.s_a @ side.qa - side.s_b @ side.pb + side.pq
    return (trace + totals / ((n - 1) * (n - 2)) - 2 * rows / (n - 2)) / (n * (n - 3))


def _of_grams(k: Tensor, l: Tensor, unbiased: bool) -> Tensor:  # noqa: E741 - the equations' own letters
    """Return CKA from products of centred images, (n, n)."""
    if unbiased:
        n = len(k)
        if n < 4:
            return k.new_tensor(torch.nan)
        k.fill_diagonal_(0)
        l.fill_diagonal_(0)

    def hsic(a: Tensor, b: Tensor) -> Tensor:
        trace = (a * b).sum()
        if not unbiased:
            return trace
        rows_a, rows_b = a.sum(1), b.sum(1)
        return trace + rows_a.sum() * rows_b.sum() / ((n - 1) * (n - 2)) - 2 * (rows_a @ rows_b) / (n - 2)

    return _ratio(hsic(k, l), hsic(k, k), hsic(l, l))


def _ratio(both: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return eq. 4."""
    found: Tensor = both / (first * second).sqrt()
    return found


def _gram(features: Tensor) -> Tensor:
    """Return the products of images, float64, (n, n), of centred features."""
    pilot = pilot_mean(features)
    total = pilot.new_zeros(len(features), len(features))
    columns = max(1, _NUMBERS // max(1, len(features)))
    for some, mean in zip(features.split(columns, dim=1), pilot.split(columns), strict=True):
        centred = to_float64(some) - mean
        total.addmm_(centred, centred.T)
    return total


def _sizes(d_x: int, d_y: int) -> list[int]:
    return [4, d_x, d_y, d_x, d_x, d_y, d_y, d_x * d_x, d_y * d_y, d_x * d_y]


def _check(x: Tensor, y: Tensor) -> None:
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        raise DataError(
            f"Expected two matrices with a row for each image, (n, D), got {tuple(x.shape)} and {tuple(y.shape)}."
        )

"""Hyperspherical energy: how evenly the directions of features spread over the sphere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

from synreal.errors import DataError
from synreal.functional.precision import to_float64

CLOSEST: Final = 1e-6
"""Distance up to which two directions count as one: what float32 features of one image differ by in two batches."""

_TILE: Final = 1024  # rows of a tile: with 2,048 features 16 MB in float64, and its products 8 MB
_DIFFERENCES: Final = 2**21  # numbers of differences that are formed at once
_LOSES_DIGITS: Final = 1e-6  # a squared distance below this share of its terms has lost six of sixteen digits


class Energies(NamedTuple):
    """Hyperspherical energies of one set of features.

    Attributes:
        values: Mean over the pairs that do not coincide, float64, one per power, on the CPU. NaN for fewer than two
            rows, or if a row has no direction: length 0, or a number that is not finite. Infinite if all pairs
            coincide.
        pairs: Number of pairs i < j, those that coincide included.
        coincident: Number of pairs that coincide.
    """

    values: Tensor
    pairs: int
    coincident: int


def hyperspherical_energy(
    features: Tensor, powers: Sequence[float] = (0.0, 1.0, 2.0), *, closest: float = CLOSEST
) -> Energies:
    """Return the mean energy of pairs of directions, for several powers s in one pass.

    Liu et al., NeurIPS 2018, eq. 1, as a mean over the pairs i != j of v, the rows as unit vectors:
    ``||v_i - v_j||^-s`` for s > 0, and ``log(||v_i - v_j||^-1)`` for s = 0. Lower is more diverse.

    The tables of CSG and GCISG (Chen et al., ICLR 2021; Nam et al., ECCV 2022) hold means as well, but under s = 0 they
    fit only ``log(||v_i - v_j||^-2)``, which is twice the equation. Here the equation is used: put twice the value of
    s = 0 beside one of theirs.

    The energy of a pair at distance 0 is infinite, and that of one whose distance is rounding is as good as any number.
    Pairs up to ``closest`` apart, such as two copies of an image, are therefore left out of the mean and counted.

    It is exact: each pair is seen, in float64, and in tiles, so that memory beside the features does not grow with
    their number (about 0.2 GiB at 2,048 features). Rows are ordered by their sums first: the order that they come in
    changes no bit. N^2 D operations.

    Args:
        features: (N, D), of any dtype and device, of any lengths.
        powers: s of each energy, at least 0.
        closest: Distance up to which a pair coincides, in [0, 2).

    Returns:
        The energies, and how many pairs coincide.

    Raises:
        DataError: If the features are no matrix, or a power or ``closest`` is out of range.
    """
    return energy_of_tiles(energy_tiles(features, powers, closest=closest))


def energy_tiles(
    features: Tensor,
    powers: Sequence[float] = (0.0, 1.0, 2.0),
    *,
    closest: float = CLOSEST,
    part: int = 0,
    parts: int = 1,
) -> Tensor:
    """Return the sums of ``hyperspherical_energy`` tile by tile, so that processes may share the work.

    Each process calls it with all features, gathered in any order, and with its own ``part``. What they return has
    zeros where another part has numbers: the sum over the parts is to the bit what one process finds.

    Args:
        features: As for ``hyperspherical_energy``, the same rows for each part.
        powers: Likewise.
        closest: Likewise.
        part: Which part of the tiles is computed, in ``[0, parts)``.
        parts: How many there are.

    Returns:
        float64, (T, 2 + P), on the CPU: for each tile its pairs, those that coincide, and of the others the sum of
        each energy.

    Raises:
        DataError: As ``hyperspherical_energy``.
    """
    if features.ndim != 2 or not features.shape[1]:
        raise DataError(f"Features must be a matrix, (N, D), got {tuple(features.shape)}. Pool maps first.")
    if not all(power >= 0 for power in powers) or not 0 <= closest < 2:
        raise DataError(
            f"Expected powers of at least 0 and a closest distance in [0, 2), got {list(powers)} and {closest}."
        )
    blocks = _sorted_rows(features).split(_TILE)
    center = _center(features, blocks)
    tiles = [(i, j) for i in range(len(blocks)) for j in range(i, len(blocks))]
    table = torch.zeros(len(tiles), 2 + len(powers), dtype=torch.float64)
    first, rows = -1, center
    for index in range(part, len(tiles), parts):
        i, j = tiles[index]
        if i != first:
            first, rows = i, _directions(features[blocks[i]]) - center
        columns = rows if i == j else _directions(features[blocks[j]]) - center
        squared, coincide, outside = _squared_distances(rows, columns, closest, within=i == j)
        pairs, coincident = (~outside).sum(), coincide.sum()
        outside |= coincide
        squared.masked_fill_(outside, 1)
        found = [
            (squared.log().mul_(-0.5) if power == 0 else squared.pow(-power / 2)).masked_fill_(outside, 0).sum()
            for power in powers
        ]
        table[index] = torch.stack([pairs.double(), coincident.double(), *found]).cpu()
    return table


def energy_of_tiles(table: Tensor) -> Energies:
    """Return the energies from the sums of all tiles.

    Args:
        table: What ``energy_tiles`` returned, added up over its parts.
    """
    sums = table.double().sum(0)
    pairs, coincident = sums[0], sums[1]
    # No pair at all: 0 / 0.
    values = torch.full_like(sums[2:], torch.inf) if pairs == coincident > 0 else sums[2:] / (pairs - coincident)
    return Energies(values, int(pairs), int(coincident))


def _sorted_rows(features: Tensor) -> Tensor:
    """Return the order of rows by their sums: one that depends on the rows alone."""
    sums = torch.zeros_like(to_float64(features[:, 0]))
    for start in range(0, len(features), _TILE):  # small results between large ones would keep these from being freed
        sums[start : start + _TILE] = to_float64(features[start : start + _TILE]).sum(1)
    return sums.argsort(stable=True).to(features.device)


def _center(features: Tensor, blocks: Sequence[Tensor]) -> Tensor:
    """Return the mean direction: distances of features that hardly differ are told apart about it."""
    total = sum(_directions(features[block]).sum(0) for block in blocks)
    return torch.as_tensor(total) / max(1, len(features))


def _directions(rows: Tensor) -> Tensor:
    """Return rows as unit vectors, float64; NaN for a row that has no direction."""
    wide = to_float64(rows)
    wide = wide / wide.abs().amax(1, keepdim=True) if wide.numel() else wide  # squares must not overflow
    lengths: Tensor = torch.linalg.vector_norm(wide, dim=1, keepdim=True)
    return wide / lengths


def _squared_distances(rows: Tensor, columns: Tensor, closest: float, *, within: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return squared distances between the rows of two tiles, which pairs coincide, and which are none of the tile's.

    Args:
        rows: (N, D), float64, about the common centre.
        columns: (M, D), likewise.
        closest: Distance up to which a pair coincides.
        within: Whether the two are one tile, of which each pair i < j counts.

    Returns:
        float64, bool and bool, (N, M).
    """
    terms = rows.square().sum(1)[:, None] + columns.square().sum(1)
    squared = torch.addmm(terms, rows, columns.T, alpha=-2)
    lost = squared < _LOSES_DIGITS * terms
    coincide = terms <= closest**2 / 2  # no two points so near to the centre can be further apart
    outside = torch.ones_like(coincide).tril() if within else torch.zeros_like(coincide)
    lost &= ~(coincide | outside)
    pairs = lost.nonzero()
    for some in pairs.split(max(1, _DIFFERENCES // max(1, rows.shape[1]))):
        i, j = some.unbind(1)
        squared[i, j] = (rows[i] - columns[j]).square().sum(1)
    coincide |= squared <= closest**2
    return squared, coincide & ~outside, outside

import math

import numpy as np
import pytest
import torch

from synreal.errors import DataError
from synreal.functional import angle_density, circle, plane_angles, principal_plane, variance_in_plane

FULL_TURN = torch.linspace(-math.pi, math.pi, 2001, dtype=torch.float64)


def features(number=40, width=7):
    return torch.randn(number, width, dtype=torch.float64) * torch.arange(1, width + 1) + 2


def naive_plane(values):
    rows = [[v / math.sqrt(sum(w * w for w in row)) for v in row] for row in values.tolist()]
    matrix = np.array(rows)
    mean = matrix.mean(0)
    return mean, np.linalg.svd(matrix - mean)[2][:2], matrix - mean


@pytest.mark.parametrize("rows", [5, 4096])
def test_the_plane_is_that_of_the_principal_components(rows, monkeypatch):
    monkeypatch.setattr(circle, "_ROWS", rows)
    values = features()
    mean, axes = principal_plane(values)
    expected_mean, expected, centred = naive_plane(values)
    np.testing.assert_allclose(mean, expected_mean, atol=1e-12)
    np.testing.assert_allclose((axes @ torch.from_numpy(expected).T).abs(), np.eye(2), atol=1e-9)
    assert (axes.gather(1, axes.abs().argmax(1, keepdim=True)) > 0).all()
    share = variance_in_plane(values, axes)
    assert share == pytest.approx(((centred @ expected.T) ** 2).sum() / (centred**2).sum(), abs=1e-12)
    parts = centred @ axes.numpy().T
    np.testing.assert_allclose(plane_angles(values, mean, axes), np.arctan2(parts[:, 1], parts[:, 0]), atol=1e-12)


def test_the_length_of_a_feature_has_no_part():
    values = features()
    longer = values * torch.rand(len(values), 1, dtype=torch.float64).add(0.1)
    plane = principal_plane(values)
    torch.testing.assert_close(principal_plane(longer), plane)
    torch.testing.assert_close(plane_angles(longer, *plane), plane_angles(values, *plane))


def naive_density(angles, at):
    """A Gaussian of Scott's bandwidth at each angle, on a line that is wound around the circle."""
    middle = math.atan2(sum(map(math.sin, angles)), sum(map(math.cos, angles)))
    own = [(a - middle + math.pi) % (2 * math.pi) - math.pi for a in angles]
    mean = sum(own) / len(own)
    width = len(own) ** -0.2 * math.sqrt(sum((a - mean) ** 2 for a in own) / (len(own) - 1))
    return [
        sum(
            math.exp(-((x - middle - a + 2 * math.pi * turn) ** 2) / (2 * width**2)) / (width * math.sqrt(2 * math.pi))
            for a in own
            for turn in range(-8, 9)
        )
        / len(own)
        for x in at
    ]


@pytest.mark.parametrize("number", [3, 50])
@pytest.mark.parametrize("about", [0.4, math.pi])
def test_the_density_is_a_gaussian_kde_on_the_circle(number, about):
    angles = (torch.randn(number, dtype=torch.float64) * 0.8 + about + math.pi) % (2 * math.pi) - math.pi
    density = angle_density(angles, FULL_TURN)
    np.testing.assert_allclose(density[::100], naive_density(angles.tolist(), FULL_TURN[::100].tolist()), atol=1e-9)
    assert float(torch.trapezoid(density, FULL_TURN)) == pytest.approx(1, abs=1e-6)
    assert float(density[0]) == pytest.approx(float(density[-1]), abs=1e-9)


def test_the_density_turns_with_the_angles():
    angles = torch.randn(30, dtype=torch.float64)
    turned = angle_density(torch.atan2((angles + 2.5).sin(), (angles + 2.5).cos()), FULL_TURN + 2.5)
    torch.testing.assert_close(turned, angle_density(angles, FULL_TURN))


def test_evenly_spread_angles_have_an_even_density():
    density = angle_density(FULL_TURN[:-1:10], FULL_TURN[::10])
    assert density.numpy() == pytest.approx(1 / (2 * math.pi), rel=0.05)


@pytest.mark.parametrize(
    ("angles", "message"),
    [
        ([0.1, 0.2], "at least 3 images; got 2"),
        ([0.5] * 4, "All 4 features have the same direction"),
        ([math.pi, -math.pi, math.pi], "All 3 features have the same direction"),
    ],
)
def test_what_has_no_density_is_refused(angles, message):
    with pytest.raises(DataError, match=message):
        angle_density(torch.tensor(angles), FULL_TURN)


@pytest.mark.parametrize("shape", [(2, 5), (5, 1), (5, 2, 2)])
def test_what_has_no_plane_is_refused(shape):
    with pytest.raises(DataError, match="A plane needs features"):
        principal_plane(torch.rand(shape))

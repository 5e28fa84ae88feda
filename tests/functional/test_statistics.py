"""Maps whose statistics are changed, against NumPy in float64, gradients included."""

import numpy as np
import pytest
import torch

from synreal.functional import (
    channel_statistics,
    match_distributions,
    mix_statistics,
    perturb_statistics,
    relative_spread,
    shift_statistics,
)

EPS = 1e-6
SHAPES = [(4, 2, 3, 4), (2, 4, 1, 2), (3, 2, 7)]


def maps(shape, seed=0):
    """Maps of different level and contrast in each channel, some of them constant."""
    generator = np.random.default_rng(seed)
    size = [*shape[:2], *[1] * (len(shape) - 2)]
    found = generator.normal(size=shape) * generator.uniform(0.2, 3, size) + generator.normal(size=size)
    found[0, 0] = 0.7
    found[-1, -1] = 0
    return found


def noise(shape, number):
    return np.random.default_rng(100 + number).normal(size=shape[:2])


def pairs(images):
    generator = np.random.default_rng(9)
    share = generator.uniform(size=images)
    share[0] = 1.0
    return np.roll(np.arange(images), 1), share


def statistics(v):
    """mu_nc and sig_nc = sqrt(sum (x - mu)^2 / (P - 1) + eps), one channel of one image at a time."""
    mean, deviation = np.zeros(v.shape[:2]), np.zeros(v.shape[:2])
    for n in range(v.shape[0]):
        for c in range(v.shape[1]):
            values = v[n, c].ravel()
            mean[n, c] = sum(values) / len(values)
            deviation[n, c] = (sum((q - mean[n, c]) ** 2 for q in values) / (len(values) - 1) + EPS) ** 0.5
    return mean, deviation


def mixstyle(v, partner, share, fixed=None):
    mean, deviation = statistics(v if fixed is None else fixed)
    out = np.zeros_like(v)
    for n in range(v.shape[0]):
        for c in range(v.shape[1]):
            k, keep = partner[n], share[n]
            level = keep * mean[n, c] + (1 - keep) * mean[k, c]
            width = keep * deviation[n, c] + (1 - keep) * deviation[k, c]
            out[n, c] = (v[n, c] - mean[n, c]) / deviation[n, c] * width + level
    return out


def efdmix(v, partner, share):
    out = np.zeros_like(v)
    for n in range(v.shape[0]):
        for c in range(v.shape[1]):
            own, other = v[n, c].ravel(), sorted(v[partner[n], c].ravel())
            order = sorted(range(len(own)), key=lambda i, own=own: (own[i], i))
            matched = np.zeros(len(own))
            for rank, index in enumerate(order):
                matched[index] = other[rank]
            out[n, c] = (own + (1 - share[n]) * (matched - own)).reshape(v.shape[2:])
    return out


def dsu(v, mean_noise, deviation_noise):
    mean, deviation = statistics(v)
    out = np.zeros_like(v)
    for c in range(v.shape[1]):
        spreads = [
            (sum((q - sum(values) / len(values)) ** 2 for q in values) / (len(values) - 1) + EPS) ** 0.5
            for values in (list(mean[:, c]), list(deviation[:, c]))
        ]
        for n in range(v.shape[0]):
            level = mean[n, c] + mean_noise[n, c] * spreads[0]
            width = deviation[n, c] + deviation_noise[n, c] * spreads[1]
            out[n, c] = (v[n, c] - mean[n, c]) / deviation[n, c] * width + level
    return out


def perturbed(v, a, b):
    mean, _ = statistics(v)
    out = np.zeros_like(v)
    for n in range(v.shape[0]):
        for c in range(v.shape[1]):
            out[n, c] = a[n, c] * (v[n, c] - mean[n, c]) + b[n, c] * mean[n, c]
    return out


def tensor(value):
    return torch.from_numpy(np.asarray(value))


def gradient(function, v, weights):
    """Central differences of sum(weights * function(v)), in float64."""
    found = np.zeros_like(v)
    for index in np.ndindex(*v.shape):
        step = np.zeros_like(v)
        step[index] = 1e-6
        found[index] = (weights * (function(v + step) - function(v - step))).sum() / 2e-6
    return found


def check(ours, reference, v, *, rtol=1e-9, against=None, atol=1e-9):
    """Compare values, and gradients with central differences of what the paper differentiates."""
    given = tensor(v).requires_grad_()
    output = ours(given)
    assert output.dtype == torch.float64
    assert np.allclose(output.detach().numpy(), reference(v), rtol=rtol, atol=atol)
    weights = np.random.default_rng(3).normal(size=v.shape)
    (output * tensor(weights)).sum().backward()
    # Where a map is constant, a deviation turns within 1e-3 and differences are coarse.
    want = gradient(against or reference, v, weights)
    assert np.allclose(given.grad.numpy(), want, rtol=2e-4, atol=2e-4 * max(1.0, abs(want).max()))


@pytest.mark.parametrize("shape", SHAPES)
def test_channel_statistics(shape):
    v = maps(shape)
    mean, deviation = channel_statistics(tensor(v))
    want_mean, want_deviation = statistics(v)
    assert mean.shape == deviation.shape == (*shape[:2], *[1] * (len(shape) - 2))
    assert np.allclose(mean.numpy().reshape(shape[:2]), want_mean, rtol=1e-12, atol=1e-12)
    assert np.allclose(deviation.numpy().reshape(shape[:2]), want_deviation, rtol=1e-12, atol=1e-12)
    assert float(deviation.min()) == pytest.approx(EPS**0.5)


@pytest.mark.parametrize("shape", SHAPES)
def test_mixed_statistics(shape):
    v = maps(shape)
    partner, share = pairs(shape[0])

    def ours(given):
        return mix_statistics(given, tensor(partner), tensor(share))

    # The paper's statistics carry no gradient: differences are taken with those of the map itself.
    check(ours, lambda w: mixstyle(w, partner, share), v, against=lambda w: mixstyle(w, partner, share, fixed=v))
    assert torch.allclose(ours(tensor(v))[0], tensor(v)[0], atol=1e-12)  # an image that keeps all of itself
    mean, deviation = statistics(ours(tensor(v)).numpy())
    own, other = statistics(v)[0], statistics(v)[0][partner]
    assert np.allclose(mean, share[:, None] * own + (1 - share[:, None]) * other)
    assert deviation.min() > 0


@pytest.mark.parametrize("shape", SHAPES)
def test_matched_distributions(shape):
    v = maps(shape)
    partner, share = pairs(shape[0])
    given = tensor(v).requires_grad_()
    output = match_distributions(given, tensor(partner), tensor(share))
    assert np.allclose(output.detach().numpy(), efdmix(v, partner, share), rtol=1e-12, atol=1e-12)
    weights = np.random.default_rng(3).normal(size=shape)
    (output * tensor(weights)).sum().backward()
    # To x the identity, and to each value of the partner what its place in the order is given.
    want = weights.copy()
    for n in range(shape[0]):
        for c in range(shape[1]):
            own, other = v[n, c].ravel(), v[partner[n], c].ravel()
            places = [sorted(range(len(q)), key=lambda i, q=q: (q[i], i)) for q in (own, other)]
            for index, source in zip(*places, strict=True):
                want[partner[n], c].ravel()[source] += (1 - share[n]) * weights[n, c].ravel()[index]
    assert np.allclose(given.grad.numpy(), want, rtol=1e-10, atol=1e-12)
    whole = match_distributions(tensor(v), tensor(partner), torch.zeros(shape[0], dtype=torch.float64))
    torch.testing.assert_close(whole.flatten(2).sort(2)[0], tensor(v)[partner].flatten(2).sort(2)[0])


@pytest.mark.parametrize("shape", SHAPES)
def test_shifted_statistics(shape):
    v, first, second = maps(shape), noise(shape, 0), noise(shape, 1)
    # Constant maps are left out of the gradient: their deviation turns within eps.
    v[0, 0], v[-1, -1] = maps(shape, 1)[0, -1], maps(shape, 2)[-1, 0]
    v += 0.1 * np.random.default_rng(4).normal(size=shape)
    check(lambda w: shift_statistics(w, tensor(first), tensor(second)), lambda w: dsu(w, first, second), v)
    constant = maps(shape)
    found = shift_statistics(tensor(constant), tensor(first), tensor(second))
    assert np.allclose(found.numpy(), dsu(constant, first, second), atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_perturbed_statistics(shape):
    v, a, b = maps(shape), 1 + noise(shape, 0), 1 + noise(shape, 1)
    check(lambda w: perturb_statistics(w, tensor(a), tensor(b)), lambda w: perturbed(w, a, b), v)
    assert torch.allclose(perturb_statistics(tensor(v), *[torch.ones(shape[:2]).double()] * 2), tensor(v))


def test_the_relative_spread_of_means():
    v = maps((5, 3, 4, 6))
    mean, _ = statistics(v)
    spread = [(sum((q - mean[:, c].mean()) ** 2 for q in mean[:, c]) / 4) ** 0.5 for c in range(3)]
    given = tensor(v).requires_grad_()
    found = relative_spread(given)
    assert not found.requires_grad
    assert np.allclose(found.numpy(), np.array(spread) / max(spread), rtol=1e-12)
    assert torch.equal(relative_spread(torch.full((4, 3, 2, 2), 0.5)), torch.ones(3))


def test_constant_maps_give_finite_values_and_gradients():
    v = torch.full((3, 2, 4, 4), 0.3, requires_grad=True)
    partner, share = torch.tensor([1, 2, 0]), torch.tensor([0.1, 0.5, 0.9])
    ones = torch.ones(3, 2)
    for output in (
        mix_statistics(v, partner, share),
        match_distributions(v, partner, share),
        shift_statistics(v, ones, ones),
        perturb_statistics(v, ones, ones),
    ):
        assert output.isfinite().all()
        (grad,) = torch.autograd.grad(output.sum(), v)
        assert grad.isfinite().all()

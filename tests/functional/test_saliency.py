import pytest
import torch

from synreal.errors import ConfigError
from synreal.functional import grad_cam


def naive(maps, gradients):
    """Eq. 1 and 2, one number at a time."""
    heats = []
    for a, g in zip(maps.tolist(), gradients.tolist(), strict=True):
        high, wide = len(a[0]), len(a[0][0])
        weights = [sum(map(sum, channel)) / (high * wide) for channel in g]
        heat = [
            [max(0.0, sum(w * channel[i][j] for w, channel in zip(weights, a, strict=True))) for j in range(wide)]
            for i in range(high)
        ]
        largest = max(map(max, heat))
        heats.append([[value / largest if largest else 0.0 for value in row] for row in heat])
    return torch.tensor(heats, dtype=torch.float64)


def test_follows_the_equations():
    maps, gradients = torch.randn(2, 5, 6, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(grad_cam(maps, gradients), naive(maps, gradients), rtol=0, atol=1e-12)


def test_of_a_network_whose_head_is_linear_it_is_the_class_activation_map():
    maps, head = torch.rand(3, 4, 2, 2, dtype=torch.float64, requires_grad=True), torch.randn(5, 4, dtype=torch.float64)
    (gradients,) = torch.autograd.grad((maps.mean((2, 3)) @ head.T)[:, 1].sum(), maps)
    expected = torch.einsum("nchw,c->nhw", maps, head[1]).relu()
    torch.testing.assert_close(grad_cam(maps, gradients).detach(), expected / expected.amax((1, 2), keepdim=True))


def test_each_image_has_its_own_scale_and_nothing_stays_nothing():
    maps = torch.rand(3, 2, 4, 4) * torch.tensor([1.0, 1e-6, 1.0]).view(3, 1, 1, 1)
    gradients = torch.ones(3, 2, 4, 4) * torch.tensor([1.0, 1.0, -1.0]).view(3, 1, 1, 1)
    heat = grad_cam(maps, gradients)
    assert heat.dtype == torch.float64
    assert heat.amax((1, 2)).tolist() == [1, 1, 0]
    assert heat.min() >= 0


@pytest.mark.parametrize("shapes", [((2, 3, 4), (2, 3, 4)), ((2, 3, 4, 4), (2, 3, 4, 5))])
def test_what_are_no_maps_is_refused(shapes):
    with pytest.raises(ConfigError, match=r"one shape \(N, C, H, W\); got \(2, 3, 4"):
        grad_cam(*(torch.zeros(shape) for shape in shapes))

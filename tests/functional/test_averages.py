import pytest
import torch

from synreal.errors import ConfigError
from synreal.functional import wise_ft

SHAPES = {"weight": (4, 3), "running_mean": (4,), "scale": ()}


def network(seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in SHAPES.items()}
    return {**tensors, "batches": torch.tensor(seed)}


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_number_lies_that_far_between(alpha, dtype):
    start, end = network(1), network(2, dtype)
    before = {name: value.clone() for name, value in end.items()}
    between = wise_ft(start, end, alpha)
    for name in SHAPES:
        wanted = (1 - alpha) * start[name].to(dtype).double() + alpha * end[name].double()
        assert between[name].dtype == dtype
        torch.testing.assert_close(
            between[name].double(), wanted, rtol=1e-2 if dtype == torch.bfloat16 else 1e-6, atol=1e-6
        )
    assert int(between["batches"]) == 2  # a count has no middle
    between["batches"].add_(1)
    between["weight"].zero_()
    assert all(torch.equal(end[name], value) for name, value in before.items())


def test_networks_that_do_not_fit():
    start, end = network(1), network(2)
    with pytest.raises(ConfigError, match=r"alpha is 1\.5"):
        wise_ft(start, end, 1.5)
    with pytest.raises(ConfigError, match="differ in head"):
        wise_ft(start, {**end, "head": torch.zeros(2)})
    with pytest.raises(ConfigError, match="differ in weight"):
        wise_ft({**start, "weight": torch.zeros(2, 3)}, end)

import math

import pytest
import timm
import torch

from synreal.errors import DataError
from synreal.functional import weight_drift


def test_the_drift_of_a_group_is_that_of_all_its_numbers_together():
    generator = torch.Generator().manual_seed(0)
    origin = {name: torch.randn(size, generator=generator) for name, size in (("a", (3, 4)), ("b", (5,)), ("c", ()))}
    weights = {name: value + 0.1 * torch.randn(value.shape, generator=generator) for name, value in origin.items()}
    found = weight_drift(weights, origin, {"first": ["a"], "rest": ["b", "c"], "all": ["a", "b", "c"], "none": []})
    for group, names in (("first", "a"), ("rest", "bc"), ("all", "abc")):
        now, then = ([float(number) for name in names for number in side[name].flatten()] for side in (weights, origin))
        moved = math.sqrt(sum((p - q) ** 2 for p, q in zip(now, then, strict=True)))
        assert found[group] == pytest.approx(moved / math.sqrt(sum(q * q for q in then)), rel=1e-12)
    assert math.isnan(found["none"])


def test_small_steps_of_many_weights_are_not_lost():
    origin = {"a": torch.ones(1_000_000)}
    moved = {"a": torch.ones(1_000_000) * (1 + 2**-20)}
    assert weight_drift(moved, origin, {"all": ["a"]})["all"] == pytest.approx(2**-20, rel=1e-9)


def test_integers_are_left_out_and_statistics_count_only_if_they_are_named():
    network = timm.create_model("test_resnet")
    state = network.state_dict()
    other = {name: value + 1 for name, value in state.items()}
    for name, value in state.items():
        if "running" in name or "num_batches" in name:
            other[name] = value + 1000
    weights = [name for name, _ in network.named_parameters()]
    found = weight_drift(other, state, {"weights": weights, "all": list(state), "count": ["bn1.num_batches_tracked"]})
    length = math.sqrt(sum(float(state[name].double().square().sum()) for name in weights))
    number = sum(state[name].numel() for name in weights)
    assert found["weights"] == pytest.approx(math.sqrt(number) / length, rel=1e-6)
    assert found["all"] > 10 * found["weights"]
    assert math.isnan(found["count"])


def test_weights_that_began_at_zero():
    zero, one = {"a": torch.zeros(2)}, {"a": torch.ones(2)}
    assert weight_drift(one, zero, {"all": ["a"]})["all"] == math.inf
    assert math.isnan(weight_drift(zero, zero, {"all": ["a"]})["all"])


def test_weights_of_another_network_are_refused():
    one, two = {"a": torch.ones(2)}, {"a": torch.ones(3)}
    with pytest.raises(DataError, match=r"'a' of group 'all' has shape \(2,\), but \(3,\) in the origin"):
        weight_drift(one, two, {"all": ["a"]})
    for weights, origin, side in (({}, one, "weights"), (one, {}, "origin")):
        with pytest.raises(DataError, match=f"'a' of group 'all' is not among the {side}"):
            weight_drift(weights, origin, {"all": ["a"]})

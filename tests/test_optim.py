import itertools

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn
from torch.optim import SGD

import synreal
from synreal.errors import ConfigError
from synreal.optim import warmup_poly
from tests.regularizers.contract import network, tiny

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")


@pytest.mark.parametrize(
    ("step", "total", "expected"),
    [
        # min(0.01 + 0.99 (i/100)^2, 1) * (1 - i/max)^0.9, computed with 30 decimal digits
        (0, 1000, 0.01),
        (1, 1000, 0.01008991044537828),
        (50, 1000, 0.24588298576753620),
        (99, 1000, 0.89250543916241794),
        (100, 1000, 0.90953257608296219),
        (500, 1000, 0.53588673126814658),
        (999, 1000, 0.00199526231496888),
        (50, 100, 0.13799083330154775),
        (1000, 1000, 0.0),
    ],
)
def test_schedule_against_numbers_computed_apart(step, total, expected):
    assert warmup_poly(step, total) == pytest.approx(expected, rel=1e-12)


def test_schedule_rises_to_the_end_of_the_warm_up_and_falls_after_it():
    factors = [warmup_poly(step, 5000, warmup=100) for step in range(5001)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert all(a < b for a, b in itertools.pairwise(factors[:101]))
    assert all(a > b for a, b in itertools.pairwise(factors[100:]))


def test_schedule_without_warm_up_starts_at_the_peak():
    assert warmup_poly(0, 10, warmup=0) == 1
    assert warmup_poly(5, 10, warmup=0, power=1) == 0.5
    assert warmup_poly(9, 10, warmup=0, power=0) == 1


def test_schedule_that_stops_early_stays_where_it_was():
    factors = [warmup_poly(step, 1000, until=0.8) for step in range(1000)]
    assert factors[:801] == [warmup_poly(step, 1000) for step in range(801)]
    assert factors[800:] == pytest.approx([0.2**0.9] * 200, rel=1e-12)


def names_of(model, group):
    ids = {id(parameter) for parameter in group["params"]}
    return {name for name, parameter in model.named_parameters() if id(parameter) in ids}


@pytest.mark.parametrize("wrap", [lambda m: m, nn.Sequential, torch.compile])
def test_groups_part_the_backbone_from_all_heads(wrap):
    model = synreal.attach(network(), [tiny("csg")])
    backbone, heads = synreal.parameter_groups(wrap(model), lr=0.3, backbone_lr_scale=0.5)
    assert (backbone["lr"], heads["lr"]) == (0.15, 0.3)
    inside = {name.removeprefix("student.") for name in names_of(model, backbone)}
    assert inside == {name for name, _ in model.student.named_parameters()} - {"fc.weight", "fc.bias"}
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert names_of(model, backbone) | names_of(model, heads) == learning
    assert len(backbone["params"]) + len(heads["params"]) == len(learning)
    model.bind(SGD([backbone, heads]))  # the regularizer's heads are among them


def test_groups_of_a_segmenter_count_its_decoder_as_head():
    student = smp.Unet("resnet18", encoder_weights=None, decoder_channels=(16, 8, 8, 4, 4))
    for model in (student, synreal.attach(student, "none")):
        backbone, heads = synreal.parameter_groups(model, lr=1.0)
        assert all("encoder." in name for name in names_of(model, backbone))
        assert not any("encoder." in name for name in names_of(model, heads))


def test_groups_hold_what_learns_alone():
    model = synreal.attach(network(), ["oracle", tiny("csg")])
    (heads,) = synreal.parameter_groups(model, lr=1.0)
    assert heads["lr"] == 1.0
    assert all(parameter.requires_grad for parameter in heads["params"])
    frozen = network().requires_grad_(False)
    with pytest.raises(ConfigError, match="nothing to train"):
        synreal.parameter_groups(frozen, lr=1.0)


def test_the_schedule_gives_each_group_its_share_of_its_peak():
    weights = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    opt = SGD([{"params": [weights[0]], "lr": 0.2}, {"params": [weights[1]], "lr": 3.0}])
    schedule = synreal.warmup_poly_schedule(opt, 12, warmup=4, power=0.5, until=0.75)
    for step in range(15):
        factor = warmup_poly(min(step, 12), 12, warmup=4, power=0.5, until=0.75)
        assert [group["lr"] for group in opt.param_groups] == pytest.approx([0.2 * factor, 3.0 * factor], rel=1e-12)
        opt.step()
        schedule.step()
    with pytest.raises(ConfigError, match="total is 0"):
        synreal.warmup_poly_schedule(opt, 0)

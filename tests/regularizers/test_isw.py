"""RobustNet's whitening losses on networks that have the layers for them."""

import pytest
import torch
from torch.nn import functional as F

import synreal
from synreal.config import make_config
from synreal.core.passes import STUDENT, Pass
from synreal.core.whitening import whitening_layers
from synreal.errors import ConfigError, StageError
from synreal.functional.whitening import sensitive_entries
from synreal.transforms import InstanceWhitening
from tests.functional.test_whitening import covariance64
from tests.regularizers.contract import batch, captured, network, optimizer_of

OTHER = Pass("student", 1)


def whitened():
    student = network()
    InstanceWhitening().apply(student)
    return student


def above(width):
    return torch.ones(width, width, dtype=torch.bool).triu(1)


def loss64(maps, mask, margin=0.0):
    """The mean over images of one layer."""
    covariance = covariance64(maps.detach())
    sums = (covariance.abs() * mask).sum((1, 2))
    return float(((sums - margin).clamp(min=0) / max(1, int(mask.sum()))).mean())


@pytest.mark.parametrize("variant", ["iw", "irw"])
def test_all_entries(variant):
    student = whitened()
    model = synreal.attach(student, f"isw(variant={variant}, weight=1)").train()
    steps = captured(model)
    penalty = model(batch(0)[0])["penalty"]
    maps = steps[0].maps[STUDENT]
    assert list(maps) == list(whitening_layers(student))
    assert len(maps) == 4
    wants = []
    for value in maps.values():
        torch.testing.assert_close(value.mean((2, 3)), torch.zeros(value.shape[:2]), rtol=0, atol=1e-4)
        mask = above(value.shape[1])
        wants.append(loss64(value, mask, int(mask.sum()) // 64 if variant == "irw" else 0.0))
    assert float(penalty.detach()) == pytest.approx(sum(wants) / len(wants), rel=1e-4)
    assert float(penalty.detach()) > 0


def take_step(model, optimizer, number):
    view0, view1, target = batch(number)
    output = model(view0, view1)
    (F.cross_entropy(output["output"], target) + output["penalty"]).backward()
    optimizer.step()
    optimizer.zero_grad()
    return float(output["penalty"].detach())


def test_entries_are_chosen_by_what_varies_between_views():
    """Two steps of rest, two of four images each that are looked at, and then a penalty on what was chosen."""
    model = synreal.attach(whitened(), "isw(weight=1, start=2, images=8, clusters=3)").train()
    optimizer = optimizer_of(model)
    steps = captured(model)
    said = [take_step(model, optimizer, number) for number in range(6)]
    assert [OTHER in step.maps for step in steps] == [False, False, True, True, False, False]
    assert said[:4] == [0.0] * 4
    names, wants = list(steps[0].maps[STUDENT]), []
    for name in names:
        differences = [covariance64(step.maps[STUDENT][name].detach()) - covariance64(step.maps[OTHER][name])
                       for step in steps[2:4]]  # fmt: skip
        variance = torch.cat(differences).square().div(2).mean(0)
        mask = sensitive_entries(variance, 3)
        assert 0 < int(mask.sum()) < int(above(len(mask)).sum())
        assert torch.equal(model.terms["isw"].get_buffer("mask_stage_" + name.replace(".", "_")), mask)
        wants.append(loss64(steps[4].maps[STUDENT][name], mask))
    assert said[4] == pytest.approx(sum(wants) / len(wants), rel=1e-4)


def test_what_was_chosen_is_loaded():
    models = [synreal.attach(whitened(), "isw(start=1, images=4)").train() for _ in range(2)]
    optimizer = optimizer_of(models[0])
    for number in range(2):
        take_step(models[0], optimizer, number)
    models[1].load_state_dict(models[0].state_dict())
    steps = captured(models[1])
    view0, view1, _ = batch(5)
    penalty = models[1](view0, view1)["penalty"]
    assert OTHER not in steps[0].maps
    assert float(penalty.detach()) > 0
    assert torch.equal(penalty, models[0](view0, view1)["penalty"])


def test_a_short_run_chooses_by_what_it_saw():
    spec = synreal.ISW(images=10_000).scheduled(steps_per_epoch=100, steps=8)
    assert (spec.start, spec.latest) == (2, 4)
    assert synreal.ISW().scheduled(10, 1000).start == 60
    assert synreal.ISW(start=0, latest=7).scheduled(10, 1000) == synreal.ISW(start=0, latest=7)
    model = synreal.attach(whitened(), spec).train()
    optimizer = optimizer_of(model)
    said = [take_step(model, optimizer, number) for number in range(5)]
    assert said[:4] == [0.0] * 4
    assert said[4] > 0
    assert int(model.terms["isw"].seen) == 8


def test_the_teacher_of_another_term_has_no_such_layers():
    model = synreal.attach(whitened(), ["isw(variant=iw)", "feature_l2"], reference=network()).train()
    output = model(batch(0)[0])
    assert float(output["penalty/isw"]) > 0
    assert float(output["penalty/feature_l2"]) > 0
    assert whitening_layers(model.reference.network) == {}


def test_a_network_without_the_layers_is_refused():
    with pytest.raises(StageError, match=r"has no whitening layers.*--transform instance_whitening"):
        synreal.attach(network(), "isw")
    with pytest.raises(ConfigError, match=r"isw reads the layers.*Add --transform instance_whitening"):
        make_config({"regularizers": "isw"})
    assert synreal.RunConfig(regularizers="isw", transforms="instance_whitening").terms[0].stages is None
    assert synreal.RunConfig(regularizers="isw(stages=[1])").terms[0].stages == (1,)

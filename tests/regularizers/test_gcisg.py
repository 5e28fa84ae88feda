"""GCISG over several steps, against a float64 recomputation."""

import pytest
import torch

import synreal
from synreal.regularizers import REGULARIZERS
from tests.reference.steps import NormToy, close, train_beside_a_shadow
from tests.regularizers.contract import Toy, attached, batch, bits, tiny


def attend(name="gcisg", student=None, **settings):
    return synreal.attach(Toy() if student is None else student, tiny(name, **settings)).train()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"guidance_weight": 0.5, "invariance_weight": 2.0, "weight": 0.3},
        {"guidance_stages": 4, "invariance_stages": [2, 3], "guidance_pooling": "gap"},
        {"guidance_norm": "batch", "directions": "sum", "guidance_pooling": "spatial"},
        {"stages": (3, 4), "stage_weights": (0.5, 2.0), "adapter": True, "target_head": "average"},
    ],
)
def test_four_steps_agree_with_the_equations(settings):
    shadow = train_beside_a_shadow("gcisg", **settings)
    parts = list(shadow.model.terms["gcisg"].invariance.invariances.values())
    for part, queue in zip(parts, shadow.queues, strict=True):
        close(part.queue.ordered(), torch.stack(list(queue)), 1e-5)


def test_four_steps_with_batch_norm_agree():
    train_beside_a_shadow("gcisg", NormToy(), average_norm="averaged", tolerance=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"pooling": "channel", "weight": 0.5},
        {"pooling": "none", "norm": "batch"},
        {"pooling": "spatial", "stages": (4,), "stage_weights": (3.0,)},
        {"adapter": True, "pooling": "gap"},
    ],
)
def test_four_steps_of_guidance_agree_with_the_equation(settings):
    train_beside_a_shadow("guidance", **settings)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("feature_l2", {}),
        ("feature_l2", {"spatial": True, "stages": (2, 3), "stage_weights": (1.0, 0.5)}),
        ("kl", {"temperature": 2.0}),
        ("kl", {"stage": 4}),
        ("kl", {"adapter": True, "temperature": 0.5}),
        ("weight_l2", {"weight": 0.3}),
    ],
)
def test_four_steps_of_what_keeps_no_state_agree_with_the_equations(name, settings):
    train_beside_a_shadow(name, rows=2, **settings)


def test_it_is_guidance_plus_causal_invariance():
    torch.manual_seed(0)
    both, _ = attached("gcisg", Toy(), steps=2, guidance_weight=0.5, invariance_weight=2.0)
    shares = {}
    for name, half in (("guidance", "guidance"), ("causal_invariance", "invariance")):
        torch.manual_seed(0)
        single = attend(name)
        state = {key.replace(f"terms.gcisg.{half}", f"terms.{name}"): value for key, value in bits(both).items()}
        single.load_state_dict({key: state[key] for key in single.state_dict()})
        shares[name] = float(single(*batch(2)[:2])["penalty"].detach())
    want = 0.5 * shares["guidance"] + 2.0 * shares["causal_invariance"]
    assert float(both(*batch(2)[:2])["penalty"].detach()) == pytest.approx(want, rel=1e-6)
    assert min(shares.values()) > 0


def test_each_half_has_stages_of_its_own():
    spec = REGULARIZERS.spec("gcisg(guidance_stages=4, invariance_stages=[2, 3])")
    assert (spec.guidance.stages, spec.invariance.stages) == ((4,), (2, 3))
    assert spec.wanted_stages == (4, 2, 3)
    assert REGULARIZERS.spec("gcisg(stages=[1, 2])").guidance.stages == (1, 2)
    assert REGULARIZERS.spec("gcisg(stages=[1, 2])").invariance.stages == (1, 2)
    with pytest.raises(synreal.SynrealError, match="stage_weights applies to stages alone"):
        REGULARIZERS.spec("gcisg(guidance_stages=4, stage_weights=[1, 2])")


def test_a_half_takes_its_settings_from_the_whole():
    spec = REGULARIZERS.spec(
        "gcisg(temperature=0.3, target_temperature=0.2, momentum=0.5, directions=sum, target_head=average, patches=2, "
        "pooling=attentional, dim=5, queue_size=7, moves_stats=true, average_norm=averaged, weight=9, "
        "guidance_pooling=none, guidance_norm=batch, adapter=true)"
    )
    half = spec.invariance
    for field in ("temperature", "target_temperature", "momentum", "directions", "target_head", "patches", "pooling"):
        assert getattr(half, field) == getattr(spec, field) != type(half).model_fields[field].default
    assert (half.dim, half.queue_size, half.moves_stats, half.average_norm) == (5, 7, True, "averaged")
    assert half.weight == spec.guidance.weight == 1.0  # lambda multiplies the sum, once
    assert (spec.guidance.pooling, spec.guidance.norm, spec.guidance.adapter) == ("none", "batch", True)

import pytest
import torch

import synreal
from synreal.config import make_config
from synreal.core.passes import STUDENT, Pass, Step
from synreal.errors import ConfigError, TrainingError
from synreal.functional import gram_distance, gram_generalization
from synreal.regularizers import REGULARIZERS
from tests.regularizers.contract import Toy, attached, batch, call, captured, optimizer_of, tiny, train

PUBLISHED = {"1": 5e-3, "2": 5e-4, "3": 5e-5, "4": 5e-6}
TEACHER, STYLIZED, STYLE = Pass("reference", 0), Pass("student", 1, grad=True), Pass("student", 2, grad=True)


def test_stages_have_the_papers_factors():
    model, _ = attached("texture", Toy(), steps=2, weight=1.0)
    steps = captured(model)
    penalty = float(call(model, 2)["penalty"].detach())
    student, teacher = steps[0].maps[STUDENT], steps[0].maps[TEACHER]
    want = sum(u * gram_distance(student[stage], teacher[stage]) for stage, u in PUBLISHED.items())
    assert penalty == pytest.approx(float(want.detach()), rel=1e-6)
    assert REGULARIZERS.spec("texture(stages=3)").factors == {"3": 5e-5}
    assert REGULARIZERS.spec("texture(stages=[4, 1], stage_weights=[2, 0])").factors == {"4": 2, "1": 0}


def test_a_stage_without_a_published_factor_needs_one():
    with pytest.raises(ConfigError, match=r"no factor for stage 0, blocks\.3, only for 1 to 4; give stage_weights"):
        REGULARIZERS.spec("texture(stages=[0, 1, 'blocks.3'])")
    assert REGULARIZERS.spec("texture(stages=[0, 1], stage_weights=[1, 1])").factors["0"] == 1


def test_the_term_decays_to_nothing_over_its_steps():
    model, optimizer = attached("texture", Toy(), steps=0, weight=1000.0)
    decaying = synreal.attach(Toy(), tiny("texture", weight=1000.0, steps=4)).train()
    for step in range(6):
        decaying.student.load_state_dict(model.student.state_dict())
        decaying.reference.network.load_state_dict(model.reference.network.state_dict())
        shares = []
        for one in (model, decaying):
            shares.append(float(call(one, step)["penalty"].detach()))
        assert shares[1] == pytest.approx(shares[0] * max(0, 1 - step / 4), rel=1e-6)
        assert step == 0 or shares[0] > 0
        train(model, optimizer, 1, first=step)
        decaying.after_step()
    assert int(decaying.terms["texture"].made) == 6
    assert "texture" in decaying.stateful_terms
    assert "texture" not in model.stateful_terms


def test_a_run_says_how_long_it_is():
    spec = REGULARIZERS.spec("texture")
    assert spec.steps is None
    assert spec.scheduled(37, 74).steps == 74
    assert REGULARIZERS.spec("texture(steps=5)").scheduled(37, 74).steps == 5


def test_styles_are_compared_at_the_first_two_stages():
    spec = REGULARIZERS.spec("texture(generalization=true, weight=1)")
    assert (spec.views, spec.styled_stages) == (3, ("1", "2"))
    model = synreal.attach(Toy(), spec).train()
    optimizer_of(model)
    steps = captured(model)
    x, stylized, _ = batch(0)
    style = batch(1)[0]
    penalty = model(x, stylized, style)["penalty"]
    maps = steps[0].maps
    want = sum(
        u * gram_generalization(maps[STYLE][stage], maps[STYLIZED][stage], maps[STUDENT][stage])
        for stage, u in PUBLISHED.items()
        if stage in "12"
    )
    want = want + sum(u * gram_distance(maps[STUDENT][s], maps[TEACHER][s]) for s, u in PUBLISHED.items())
    assert float(penalty.detach()) == pytest.approx(float(want.detach()), rel=1e-6)
    assert float(penalty.detach()) > 0
    assert all(maps[one]["1"].requires_grad for one in (STUDENT, STYLIZED, STYLE))
    with pytest.raises(TrainingError, match=r"texture needs 3 views, got 2\. Call model\(view0, view1, view2\)"):
        model(x, stylized)


def test_styles_are_refused_where_nobody_makes_them():
    with pytest.raises(ConfigError, match=r"texture needs the images of styles .* which synreal run does not make"):
        make_config({"regularizers": "texture(generalization=true)"})
    with pytest.raises(ConfigError, match="generalization compares styles at stages 1 and 2, and stages has neither"):
        REGULARIZERS.spec("texture(generalization=true, stages=[3, 4])")


def test_the_threshold_chooses_what_counts():
    maps = {one: {"1": torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(number))}
            for number, one in enumerate((STUDENT, STYLIZED, STYLE))}  # fmt: skip
    maps[TEACHER] = maps[STUDENT]
    model = synreal.attach(Toy(), "texture(generalization=true, stages=1, threshold=1e9)")
    assert float(model.terms["texture"](Step(maps))) == 0

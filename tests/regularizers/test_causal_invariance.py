"""Causal invariance over several steps, against a float64 recomputation."""

import pytest
import torch

import synreal
from synreal.core.norm_stats import freeze_norm_stats, norm_layers, release_norm_stats
from tests.reference.steps import NormToy, close, maps_of, train_beside_a_shadow, wide
from tests.regularizers.contract import Toy, attached, batch, bits, optimizer_of, same_bits, tiny, train


def attend(student=None, **settings):
    spec = tiny("causal_invariance", **settings)
    return synreal.attach(Toy() if student is None else student, spec, norm="train").train()


def parts(model):
    return list(model.terms["causal_invariance"].invariances.values())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"directions": "sum", "weight": 0.5},
        {"directions": "first", "momentum": 0.5},
        {"target_head": "average", "momentum": 0.5},
        {"patches": 2, "queue_size": 20, "directions": "first"},
        {"patches": 2, "target_head": "average", "stages": (3,), "queue_size": 50},
        {"pooling": "attentional", "temperature": 0.5, "target_temperature": 0.2},
        {"stages": (4, 2), "stage_weights": (0.5, 2.0), "queue_size": 5},
    ],
)
def test_four_steps_agree_with_the_equations(settings):
    shadow = train_beside_a_shadow("causal_invariance", **settings)
    model = shadow.model
    for part, queue, second in zip(parts(model), shadow.queues, shadow.second_heads, strict=True):
        close(part.queue.ordered(), torch.stack(list(queue)), 1e-5)
        for held, want in zip(part.target_head.average.layers.parameters(), second.parameters(), strict=True):
            close(held, want, 1e-5)
    network = model.averages["0"].network
    for held, want in zip(network.blocks.parameters(), shadow.average.blocks.parameters(), strict=True):
        close(held, want, 1e-5)


def test_the_initial_head_stays_as_it_was_drawn():
    model = attend()
    drawn = [bits(part.head) for part in parts(model)]
    train(model, optimizer_of(model), 3)
    for part, before in zip(parts(model), drawn, strict=True):
        assert same_bits(bits(part.target_head.average), before)
        assert not same_bits(bits(part.head), before)


@pytest.mark.parametrize("directions", ["first", "mean"])
@pytest.mark.parametrize("norm", ["own", "averaged"])
def test_four_steps_with_batch_norm_agree(norm, directions):
    settings = {"average_norm": norm, "directions": directions, "momentum": 0.7}
    shadow = train_beside_a_shadow("causal_invariance", NormToy(), tolerance=1e-4, **settings)
    state = shadow.model.averages["0"].network.state_dict()
    before = shadow.anchors.state_dict()["blocks.0.1.running_mean"].float()
    assert not torch.equal(state["blocks.0.1.running_mean"], before)
    # With two directions the average runs on both views, and which it runs on first is not promised.
    tolerance = 1e-4 if directions == "first" or norm == "averaged" else 0.05
    for key, value in shadow.average.blocks.state_dict().items():
        if value.is_floating_point():
            close(state[f"blocks.{key}"], value, tolerance)


def test_the_averages_own_statistics_stand_still_where_the_students_do():
    model = attend(NormToy())
    optimizer = optimizer_of(model)
    held = freeze_norm_stats(model.student)
    network = model.averages["0"].network
    before = bits(network)
    train(model, optimizer, 2)
    assert not any(layer.training for layer in norm_layers(network))
    after = bits(network)
    for key in before:
        assert torch.equal(after[key], before[key]) == ("running" in key or "num_batches" in key)
    release_norm_stats(held)
    train(model, optimizer, 1)
    assert all(layer.training for layer in norm_layers(network))
    assert not torch.equal(bits(network)["blocks.0.1.running_mean"], before["blocks.0.1.running_mean"])


def test_averaged_statistics_never_normalise_by_the_batch():
    model = attend(NormToy(), average_norm="averaged")
    optimizer = optimizer_of(model)
    train(model, optimizer, 1)
    network = model.averages["0"].network
    assert not any(layer.training for layer in norm_layers(network))
    copied = wide(network).eval()
    seen = []
    model.terms["causal_invariance"].register_forward_pre_hook(lambda _, args: seen.append(args[0].maps))
    view0, view1, _ = batch(1)
    model(view0, view1)
    own = {needed.view: maps for needed, maps in seen[0].items() if needed.net == "average"}
    assert sorted(own) == [0, 1]
    for view, images in enumerate((view0, view1)):
        close(own[view]["4"], maps_of(copied, images.double())[4].detach(), 1e-5)


@pytest.mark.parametrize("moves", [False, True])
def test_statistics_move_with_the_second_view_only_if_told(moves):
    plain = NormToy()
    model = attend(wide(plain).float(), moves_stats=moves)
    view0, view1, _ = batch(0)
    model(view0, view1)
    plain.train()(view0)
    once = bits(plain)
    plain(view1)
    twice = bits(plain)
    for key, value in model.student.state_dict().items():
        assert torch.equal(value, (twice if moves else once)[key]), key
    assert not torch.equal(once["blocks.4.1.running_mean"], twice["blocks.4.1.running_mean"])


def test_gradient_flows_through_both_views_unless_one_direction_is_asked_for():
    for directions, passes in (("mean", 2), ("sum", 2), ("first", 1)):
        model, _ = attached("causal_invariance", Toy(), steps=1, directions=directions)
        runs = []
        model.student.blocks[0].register_forward_hook(lambda _, __, out, runs=runs: runs.append(out.requires_grad))
        model(*batch(1)[:2])
        assert runs == [True] * passes
        assert model.views == 2


def test_the_sum_is_twice_the_mean():
    first, _ = attached("causal_invariance", Toy(), steps=2, weight=1.0)
    second = attend(directions="sum")
    second.load_state_dict(first.state_dict())
    mean, total = (float(model(*batch(2)[:2])["penalty"].detach()) for model in (first, second))
    assert total == pytest.approx(2 * mean, rel=1e-6)


def test_the_first_step_has_nothing_to_compare_with():
    model = attend()
    optimizer = optimizer_of(model)
    output = train(model, optimizer, 1)
    assert float(output["penalty"].detach()) == 0
    assert [int(part.queue.count) for part in parts(model)] == [4, 4]


def test_terms_share_a_moving_average_of_one_kind_and_no_other():
    specs = [tiny("causal_invariance"), tiny("gcisg"), tiny("causal_invariance", momentum=0.5)]
    specs.append(tiny("causal_invariance", average_norm="averaged"))
    model = synreal.attach(Toy(), specs)
    assert len(model.averages) == 3
    assert sum(run.shared.net == "average" for run in model.extra_runs) == 6
    assert sum(run.shared.net == "student" for run in model.extra_runs) == 1

"""What every registered regularizer must do; a new one is tested here as soon as it is registered."""

import copy
import gc
import io
import pickle
import warnings
import weakref

import pytest
import torch
import torch._dynamo.utils
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch.nn import functional as F

import synreal
from synreal.errors import ConfigError, TrainingError
from synreal.regularizers import REGULARIZERS, FeatureRegularizer, get
from tests.regularizers.contract import (
    COUPLED,
    PENALTY_FREE,
    VARIANTS,
    Toy,
    attached,
    batch,
    bits,
    call,
    captured,
    hooks,
    network,
    optimizer_of,
    same_bits,
    tiny,
    train,
)

# The tiny network stands for a pretrained one, but its classifier is a fresh one.
pytestmark = pytest.mark.filterwarnings("ignore:.* reads the reference's own classifier, but that has 3 classes")

NAMES = synreal.list_regularizers()
EVERY = [*NAMES, *VARIANTS]
BY_STAGE = [name for name in NAMES if issubclass(get(name), FeatureRegularizer)]
PENALIZING = [name for name in NAMES if name not in PENALTY_FREE]
WEIGHTED = [name for name in NAMES if name not in {"none", "oracle"}]  # their weight does something
STATEFUL = [name for name in NAMES if any(term.stateful for term in synreal.attach(Toy(), tiny(name)).terms.values())]


def views_of(name):
    return 1 + max((needed.view for needed in tiny(name).passes), default=0)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.mark.parametrize("norm", ["frozen", "train"])
def test_the_output_is_the_students_own(name, norm):
    plain = network()
    model, _ = attached(name, copy.deepcopy(plain), norm=norm)
    view0, view1, target = batch(0)
    plain.train(norm == "train" and name != "oracle")  # the oracle's statistics stand still in any case
    assert torch.equal(model(view0, view1, targets=target)["output"], plain(view0))
    assert torch.equal(model.eval()(view0, view1)["output"], plain.eval()(view0))


def test_in_eval_mode_only_the_student_runs(name):
    model, _ = attached(name, steps=1)
    before = bits(model)
    with torch.no_grad():
        assert list(model.eval()(batch(0)[0])) == ["output"]
    assert same_bits(bits(model), before)


def test_the_penalty_is_the_sum_of_its_shares(name):
    model, _ = attached(name, steps=2)
    output = call(model, 2)
    assert list(output) == ["output", "penalty", f"penalty/{name}"]
    assert output["penalty"].shape == ()
    assert output["penalty"].dtype == torch.float32
    assert torch.equal(output["penalty"].detach(), output[f"penalty/{name}"])
    assert not output[f"penalty/{name}"].requires_grad
    assert output["penalty"].isfinite()
    assert (float(output[f"penalty/{name}"]) != 0) == (name in PENALIZING)


@pytest.mark.parametrize("name", PENALIZING)
def test_the_weight_multiplies_the_penalty(name):
    student = network()
    single, _ = attached(name, copy.deepcopy(student), weight=1.0)
    threefold, _ = attached(name, copy.deepcopy(student), weight=3.0)
    train(single, optimizer_of(single), 2)
    threefold.load_state_dict(single.state_dict())
    share = f"penalty/{name}"
    one, three = call(single, 2)[share], call(threefold, 2)[share]
    assert float(three) == pytest.approx(3 * float(one))


@pytest.mark.parametrize("name", [name for name in EVERY if get(name.partition("(")[0]).penalizes])
def test_the_gradient_reaches_student_and_heads_and_never_a_teacher(name):
    model, _ = attached(name, steps=2)
    output = call(model, 2)
    assert output["penalty"].isfinite()
    assert float(output["penalty"].detach()) != 0
    output["penalty"].backward()
    assert model.student.conv1[0].weight.grad.abs().max() > 0
    for key, parameter in model.terms.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert parameter.grad.abs().max() > 0, key
        else:
            assert parameter.grad is None, key
    if model.reference is not None:
        assert not any(p.requires_grad or p.grad is not None for p in model.reference.network.parameters())
    assert not any(p.requires_grad or p.grad is not None for p in model.averages.parameters())


def test_the_teacher_never_changes(name):
    model, optimizer = attached(name)
    before = bits(model.student)
    teacher = None if model.reference is None else bits(model.reference.network)
    for step in range(6):  # queues are full after three
        model.train()
        train(model, optimizer, 1, first=step)
    assert not same_bits(bits(model.student), before)
    if teacher is not None:
        assert same_bits(bits(model.reference.network), teacher)


@pytest.mark.parametrize("norm", ["frozen", "train"])
@pytest.mark.parametrize("name", [name for name in EVERY if any(p.average for p in tiny(name).passes)])
def test_moving_averages_follow_the_student_alone(name, norm):
    model, optimizer = attached(name, steps=1, norm=norm)
    (average,) = model.averages.values()
    decay = average.settings.decay
    assert 0 < decay < 1
    before = {key: value.double() for key, value in average.network.named_parameters()}
    train(model, optimizer, 1, first=1)
    for key, value in average.network.named_parameters():
        want = decay * before[key] + (1 - decay) * model.student.get_parameter(key).detach().double()
        torch.testing.assert_close(value.double(), want, rtol=1e-6, atol=1e-7)
        assert value.grad is None
    assert not all(torch.equal(before[key].float(), value) for key, value in average.network.named_parameters())
    held = bits(average)
    call(model, 2)
    moved = {key for key, value in average.state_dict().items() if not torch.equal(value, held[key])}
    assert all("running" in key or "num_batches" in key for key in moved)
    assert bool(moved) == (average.settings.norm == "own" and norm == "train")


@pytest.mark.parametrize("name", WEIGHTED)
def test_a_weight_of_zero_leaves_the_students_training_alone(name):
    students = []
    for spec in (tiny("none"), tiny(name, weight=0.0), tiny(name)):
        model = synreal.attach(network(), spec)
        train(model, optimizer_of(model), 3 if get(name).penalizes else 12)
        students.append(bits(model.student))
    assert same_bits(students[0], students[1])
    assert not same_bits(students[0], students[2])


@pytest.mark.parametrize("name", EVERY)
def test_a_resumed_model_takes_the_same_step(name):
    model, optimizer = attached(name, steps=3)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    student = network()
    torch.manual_seed(77)  # other heads
    again, other = attached(name, student)
    again.load_state_dict(saved["model"])
    other.load_state_dict(saved["optimizer"])
    assert same_bits(bits(again), bits(model))
    for step in (3, 4):
        first, second = train(model, optimizer, 1, first=step), train(again, other, 1, first=step)
        assert torch.equal(first["penalty"], second["penalty"])
    assert same_bits(bits(again), bits(model))
    assert same_bits(bits(other), bits(optimizer))
    assert not same_bits(bits(again), dict(saved["model"]))


@pytest.mark.parametrize(
    ("name", "way"), [*((name, "deepcopy") for name in EVERY), *((name, "pickle") for name in NAMES)]
)
def test_a_copy_is_whole_unbound_and_apart(name, way):
    model, optimizer = attached(name, steps=2)
    copied = copy.deepcopy(model) if way == "deepcopy" else pickle.loads(pickle.dumps(model))
    assert model.bound
    assert not copied.bound
    before = bits(model)
    assert same_bits(bits(copied), before)
    fresh = optimizer_of(copied)
    train(copied, fresh, 1, first=9)
    assert same_bits(bits(model), before)
    again = copy.deepcopy(model)
    optimizer_of(again)
    train(again, optimizer_of(again), 1, first=9)
    assert same_bits(bits(again), bits(copied))
    train(model, optimizer, 1, first=9)
    copied_hooks = hooks(copied.student)
    plain = copied.detach()
    assert hooks(plain) == 0
    assert hooks(model.student) == copied_hooks
    train(model, optimizer, 1, first=10)


@pytest.mark.parametrize("name", EVERY)
def test_detach_gives_the_student_back(name):
    student = network()
    before, kind = bits(student), type(student)
    trainable = [p.requires_grad for p in student.parameters()]
    model = synreal.attach(student, tiny(name))
    assert same_bits(bits(student), before)
    assert type(model.student) is kind
    optimizer = optimizer_of(model)
    train(model, optimizer, 1)
    trained = bits(student)
    assert model.detach() is student
    assert hooks(student) == 0
    assert list(student.state_dict()) == list(before)
    assert same_bits(bits(student), trained)
    assert [p.requires_grad for p in student.parameters()] == trainable
    assert not optimizer._optimizer_step_post_hooks
    with pytest.raises(TrainingError, match="detached"):
        call(model, 0)
    train(*attached(name, student), 1)


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("name", EVERY)
def test_nothing_lives_on_once_a_model_is_detached(name):
    student = network()
    own = {id(value) for value in [*student.parameters(), *student.buffers()]}
    model, optimizer = attached(name, student, steps=2)
    steps = captured(model)
    output = call(model, 2)
    modules = [model.terms, model.averages]
    if model.reference is not None:
        modules += [model.reference, model.reference.network]
    tensors = [value for step in steps for maps in step.maps.values() for value in maps.values()]
    tensors += [value for module in modules for value in [*module.parameters(), *module.buffers()]]
    assert not own.intersection(map(id, tensors))
    parts = [part for module in modules for part in module.modules()]
    watched = [weakref.ref(one) for one in [*tensors, *parts, model]]
    assert model.detach() is student
    del model, optimizer, output, steps, modules, tensors, parts
    gc.collect()
    assert [one() for one in watched if one() is not None] == []
    assert student(batch(0)[0]).isfinite().all()


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("kept", ["model", "terms"])
def test_who_keeps_a_detached_model_or_its_terms_keeps_no_networks(name, kept):
    model, optimizer = attached(name, Toy(), steps=1)
    networks = {"averages": model.averages, "terms": model.terms, "student": model.student}
    if model.reference is not None:
        networks["reference"] = model.reference.network
    still = {"model": {"student"}, "terms": {"terms"}}[kept]
    watched = {
        key: [weakref.ref(one) for part in network.modules() for one in (part, *part.parameters(recurse=False))]
        for key, network in networks.items()
    }
    held = model if kept == "model" else model.terms
    model.detach()
    del model, optimizer, networks
    gc.collect()
    for key, references in watched.items():
        if key not in still:
            assert [one() for one in references if one() is not None] == [], key
    assert held is not None


def test_two_of_one_kind_are_told_apart(name):
    model = synreal.attach(network(), [tiny(name), tiny(name)])
    train(model, optimizer_of(model), 2)
    output = call(model, 2)
    shares = [output[f"penalty/{name}"], output[f"penalty/{name}_2"]]
    assert len(output) == 4
    assert float(output["penalty"].detach()) == pytest.approx(float(sum(shares)), rel=1e-6)
    keys = [key for key in model.state_dict() if key.startswith(f"terms.{name}.")]
    assert {key.replace(f"terms.{name}.", f"terms.{name}_2.") for key in keys} == {
        key for key in model.state_dict() if key.startswith(f"terms.{name}_2.")
    }
    model.detach()


def test_the_order_of_terms_does_not_matter():
    names = [name for name in NAMES if name != "oracle"]
    student = network()
    models = [synreal.attach(copy.deepcopy(student), [tiny(name) for name in order]) for order in (names, names[::-1])]
    train(models[0], optimizer_of(models[0]), 2)
    models[1].load_state_dict(models[0].state_dict())
    first, second = ({key: value.detach() for key, value in call(model, 2).items()} for model in models)
    assert float(first["penalty"]) == pytest.approx(float(second["penalty"]), rel=1e-6)
    assert float(first["penalty"]) == pytest.approx(sum(float(first[f"penalty/{name}"]) for name in names), rel=1e-6)
    for name in names:
        assert torch.equal(first[f"penalty/{name}"], second[f"penalty/{name}"])


@pytest.mark.parametrize("name", BY_STAGE)
def test_stages_are_summed_with_their_weights(name):
    pretrained = Toy()
    full, _ = attached(name, copy.deepcopy(pretrained), 2, stages=(2, 4), stage_weights=(0.5, 2.0), weight=1.0)
    shares = []
    ones = [{"stages": stage, "stage_weights": (1.0,)} for stage in (2, 4)]
    for settings in ({"stages": (2, 4)}, {"stages": 2}, {"stages": 4}, *ones):
        model = synreal.attach(copy.deepcopy(pretrained), tiny(name, weight=1.0, **settings)).train()
        state = full.state_dict()
        model.load_state_dict({key: state[key] for key in model.state_dict()})
        shares.append(float(call(model, 2)["penalty"].detach()))
    weighted = float(call(full, 2)["penalty"].detach())
    unweighted, own_second, own_fourth, second, fourth = shares
    assert all(shares)
    assert unweighted == pytest.approx(own_second + own_fourth, rel=1e-5)
    assert weighted == pytest.approx(0.5 * second + 2.0 * fourth, rel=1e-5)


@pytest.mark.parametrize("name", BY_STAGE)
@pytest.mark.parametrize("weights", ["[1]", "[1, 2, 3]"])
def test_a_weight_for_each_stage_or_none(name, weights):
    count = weights.count(",") + 1
    with pytest.raises(ConfigError, match=rf"Regularizer {name}: .*stage_weights has {count} values for 2 stages"):
        REGULARIZERS.spec(f"{name}(stages=[3, 4], stage_weights={weights})")
    with pytest.raises(ConfigError, match="greater than or equal to 0"):
        REGULARIZERS.spec(f"{name}(stages=[3, 4], stage_weights=[1, -1])")


def test_a_compiled_model_trains_like_an_eager_one(name):
    torch.manual_seed(0)
    student = Toy()
    torch.manual_seed(1)
    eager, eager_optimizer = attached(name, copy.deepcopy(student))
    torch.manual_seed(1)
    inner, optimizer = attached(name, copy.deepcopy(student))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(inner, backend="eager", fullgraph=True)
    for step in range(3):
        want, got = train(eager, eager_optimizer, 1, first=step), train(compiled, optimizer, 1, first=step)
        torch.testing.assert_close(got["penalty"], want["penalty"], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(got["output"], want["output"], rtol=1e-6, atol=1e-6)
    for key, value in eager.state_dict().items():
        torch.testing.assert_close(inner.state_dict()[key], value, rtol=1e-6, atol=1e-6)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    torch._dynamo.reset()


def test_bfloat16_comes_close_to_float32(name):
    model, _ = attached(name, steps=2)
    view0, view1, target = batch(2)
    want = model(view0, view1, targets=target)["penalty"].detach()
    inside = []
    model.terms[name].register_forward_pre_hook(lambda *_: inside.append(torch.is_autocast_enabled("cpu")))
    with torch.autocast("cpu", torch.bfloat16):
        output = model(view0, view1, targets=target)
    assert inside == [False]
    assert output["output"].dtype == torch.bfloat16
    assert output["penalty"].dtype == torch.float32
    assert float(output["penalty"].detach()) == pytest.approx(float(want), rel=0.1)
    if name in PENALIZING:
        output["penalty"].backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", EVERY)
def test_a_model_that_is_cast_after_attach_trains(name):
    torch.manual_seed(0)
    wide, _ = attached(name, Toy())
    model = copy.deepcopy(wide).to(torch.bfloat16)
    optimizer = optimizer_of(model, lr=0.01)
    before = bits(model)
    for step in range(2):
        view0, view1, target = batch(step)
        output = model(view0.bfloat16(), view1.bfloat16(), targets=target)
        if step == 0:
            want = float(wide(view0, view1, targets=target)["penalty"].detach())
            assert float(output["penalty"].detach()) == pytest.approx(want, rel=0.1, abs=0.02)
        assert output["penalty"].dtype == torch.float32
        (F.cross_entropy(output["output"].float(), target) + output["penalty"]).backward()
        optimizer.step()
        optimizer.zero_grad()
    after = bits(model)
    assert all(value.isfinite().all() for value in after.values())
    # What follows by small steps does not stand still, but for a head that is meant to.
    following = [key for key in before if ".key_head." in key or key.startswith("averages.")]
    assert all(before[key].dtype == torch.float32 for key in following if before[key].is_floating_point())
    assert not following or any(not torch.equal(before[key], after[key]) for key in following)


def test_a_missing_view_is_missed(name):
    model, _ = attached(name)
    view0, _, target = batch(0)
    if views_of(name) == 1:
        assert "penalty" in model(view0, targets=target)
        return
    with pytest.raises(TrainingError, match=rf"{name} needs 2 views, got 1.*model\(view0, view1\)"):
        model(view0, targets=target)


def test_missing_targets_are_missed(name):
    model, _ = attached(name)
    view0, view1, _ = batch(0)
    if not get(name)().needs_targets:
        assert "penalty" in model(view0, view1)
        return
    with pytest.raises(TrainingError, match=rf"{name} needs the targets of view 0: call model\(view0, targets=targets"):
        model(view0, view1)


@pytest.mark.parametrize("name", EVERY)
def test_weight_decay_leaves_alone_what_it_would_spoil(name):
    model, _ = attached(name)
    groups = synreal.parameter_groups(model, lr=0.1)
    rates = {id(p): (group["lr"], group.get("weight_decay")) for group in groups for p in group["params"]}
    learning = [p for p in model.parameters() if p.requires_grad]
    assert len(rates) == sum(len(group["params"]) for group in groups) == len(learning)
    undecayed = {id(p) for term in model.terms.values() for p in term.undecayed}
    undecayed -= set(map(id, model.backbone_parameters))  # a group of their own, whose decay a bound step leaves out
    for parameter in learning:
        own = any(parameter is p for p in model.terms.parameters())
        rate = 0.1 if own or any(parameter is p for p in model.student.fc.parameters()) else 0.01
        assert rates[id(parameter)] == (pytest.approx(rate), 0.0 if id(parameter) in undecayed else None)


def test_training_without_gradient_is_refused(name):
    model, _ = attached(name)
    with torch.no_grad(), pytest.raises(TrainingError, match=r"train mode without gradient; call model\.eval\(\)"):
        call(model, 0)


@pytest.mark.parametrize("name", STATEFUL)
def test_an_unbound_model_does_not_grow(name):
    model = synreal.attach(Toy(), tiny(name)).train()
    view0, view1, target = batch(0, rows=2)
    sizes = []
    for _ in range(9):
        model(view0, view1, targets=target)
        sizes.append(len(pickle.dumps(model)))
    assert max(sizes[2:]) == min(sizes[2:])


@pytest.mark.parametrize("name", STATEFUL)
def test_a_bound_model_keeps_nothing_once_the_optimizer_has_stepped(name):
    model = synreal.attach(Toy(), tiny(name)).train()
    optimizer = optimizer_of(model)
    train(model, optimizer, 8)  # queues are full, so that their fill counts move no more
    size = len(pickle.dumps(model))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(20):
            train(model, optimizer, 1, first=step, rows=2)
    assert len(pickle.dumps(model)) == size


def test_an_optimizer_without_the_heads_is_refused(name):
    model = synreal.attach(network(), tiny(name))
    optimizer = torch.optim.SGD(model.student.parameters(), lr=0.1)
    if any(parameter.requires_grad for parameter in model.terms.parameters()):
        with pytest.raises(TrainingError, match="not in the optimizer and would never learn"):
            model.bind(optimizer)
        assert not model.bound
    else:
        assert model.bind(optimizer) is model
        assert model.bound


def test_accelerates_optimizer_binds_too(name, monkeypatch):
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=True)
    try:
        model = synreal.attach(Toy(), tiny(name)).train()
        plain = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        prepared, optimizer = accelerator.prepare(model, plain)
        steps = []
        monkeypatch.setattr(model, "after_step", lambda: steps.append(1))
        accelerator.unwrap_model(prepared).bind(optimizer)
        view0, view1, target = batch(0)
        output = prepared(view0, view1, targets=target)
        accelerator.backward(torch.nn.functional.cross_entropy(output["output"], target) + output["penalty"])
        optimizer.step()
        assert steps == [1]
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def test_statistics_move_once_a_step(name):
    plain = network()
    model, _ = attached(name, copy.deepcopy(plain), norm="train")
    view0, view1, target = batch(0)
    before = bits(plain)
    model(view0, view1, targets=target)
    if name != "oracle":
        plain(view0)
        assert not same_bits(bits(plain), before)
    assert same_bits(bits(model.student), bits(plain))
    assert all(layer.track_running_stats for layer in model.student.modules() if hasattr(layer, "running_mean"))


@pytest.mark.parametrize("name", EVERY)
def test_accumulated_batches_teach_what_one_does(name):
    models = []
    for parts in (1, 2):
        torch.manual_seed(0)
        model = synreal.attach(Toy(), tiny(name)).double().train()
        optimizer, seen, means = optimizer_of(model), [], []
        for step in range(3):
            losses = []
            for view0, view1, target in zip(*(value.chunk(parts) for value in batch(step)), strict=True):
                output = model(view0.double(), view1.double(), targets=target)
                losses.append(torch.nn.functional.cross_entropy(output["output"], target) + output["penalty"])
                (losses[-1] / parts).backward()
            means.append(sum(losses).detach() / parts)
            seen += [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
            optimizer.step()
            optimizer.zero_grad()
        models.append({"losses": torch.stack(means), "seen": seen, **bits(model)})
    whole, accumulated = models
    if name in COUPLED:
        assert (accumulated["losses"] - whole["losses"]).abs().max() > 1e-4
    else:
        torch.testing.assert_close(accumulated, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", STATEFUL)
def test_a_step_that_is_skipped_leaves_no_nan_behind(name):
    model = synreal.attach(Toy(), tiny(name)).train()
    optimizer = optimizer_of(model)
    scaler = torch.amp.GradScaler("cpu")
    for step in range(4):
        view0, view1, target = batch(step)
        if step == 1:
            view0, view1 = view0 * torch.inf, view1 * torch.inf
        before = bits(model)
        output = model(view0, view1, targets=target)
        loss = torch.nn.functional.cross_entropy(output["output"], target) + output["penalty"]
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        assert same_bits(bits(model), before) == (step == 1)
    for key, value in model.terms.state_dict().items():
        assert value.isfinite().all(), key


def test_every_spec_describes_itself(name):
    spec = tiny(name)
    assert spec.name == name
    assert spec.summary
    assert spec.paper
    assert type(spec).__doc__


DENSE = {"feature_l2": {"spatial": True}, "pyramid_consistency": {"sizes": (1, 2, 4)}}


def test_a_dense_spec_compares_places(name):
    cls = get(name)
    plain, dense = cls(), cls().dense(4)
    assert type(dense) is cls
    changed = {key: getattr(dense, key) for key in cls.model_fields if getattr(dense, key) != getattr(plain, key)}
    if cls.__module__.startswith("synreal."):
        assert changed == ({"patches": 4} if "patches" in cls.model_fields else DENSE.get(name, {}))
    assert dense.dense(4) == dense
    for key, value in changed.items():
        given = cls(**{key: getattr(plain, key)})
        assert given.dense(4) == given, f"{key} was given, so {value} must not override it"
    assert cls(weight=0.7).dense(4).weight == 0.7
    assert cls(weight=0.7).dense(4) == dense.model_copy(update={"weight": 0.7})


def test_dense_settings_reach_both_halves_of_a_sum():
    dense = REGULARIZERS.spec("gcisg(guidance_pooling=gap)").dense(8)
    assert dense.invariance.patches == 8
    assert dense.aligned
    assert REGULARIZERS.spec("gcisg(patches=2)").dense(8).invariance.patches == 2

"""Steps of several batches: the same as steps of one large batch, wherever a run is stopped or a step is skipped."""

import contextlib
import itertools
import math
import signal
import weakref

import pytest
import torch
from accelerate import Accelerator

from synreal import distributed
from synreal.engine.checkpoint import load_latest
from synreal.engine.phases.train import Train
from synreal.engine.schedule import BatchPlan
from synreal.errors import ConfigError, Interrupted, TrainingError
from synreal.tasks.classification import Classification
from synreal.tasks.items import TrainingItems
from synreal.views import derive_seed
from tests.engine import tiny
from tests.engine.tiny import outcome, rows, run, steps_saved

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")

SHORT = {"epochs": 1, "eval_every": 0}
THREE = {"batch_size": 2, "accumulate": 3}  # the four steps an epoch of tiny runs, in three batches each


def at_loss(patch, spoiled, number=None):
    """Replace the ``number``-th loss of a batch, counted from 0, or each one, by ``spoiled(loss, output)``."""
    original, calls = Classification.loss, itertools.count()

    def loss(self, output, targets):
        value = original(self, output, targets)
        return spoiled(value, output) if next(calls) == number or number is None else value

    patch.setattr(Classification, "loss", loss)


def training(path):
    return [row for row in rows(path) if "loss" in row]


@pytest.mark.parametrize("name", ["csg", "gcisg", "si"])
def test_several_batches_teach_what_one_does(name, tmp_path, monkeypatch):
    tiny.install(monkeypatch.setattr, drop_rate=0.0)  # dropout draws batch by batch
    settings = {**SHORT, "regularizers": name, "max_steps": 2, "clip_norm": 0.5}
    one, three = (run(tmp_path / str(k), batch_size=6 // k, accumulate=k, **settings).folder for k in (1, 3))
    for ours, theirs in zip(training(three), training(one), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)
    ours, theirs = (load_latest(path / "checkpoints").model for path in (three, one))
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        torch.testing.assert_close(value, theirs[key], rtol=1e-5, atol=1e-6, msg=key)


def test_the_rate_follows_steps_not_batches(tmp_path):
    settings = {**SHORT, "regularizers": "none"}
    one, four = (run(tmp_path / str(k), batch_size=4 // k, accumulate=k, **settings).folder for k in (1, 4))
    rates = [(row["step"], row["epoch"], row["lr"]) for row in training(one)]
    assert len(rates) == len({rate for _, _, rate in rates}) == 6
    assert [(row["step"], row["epoch"], row["lr"]) for row in training(four)] == rates


@pytest.mark.parametrize("number", [3, 4, 5], ids=["first batch", "second batch", "last batch"])
def test_a_run_stopped_inside_of_a_step_ends_it_and_goes_on_in_the_same_bits(number, whole, tmp_path):
    settings = {**THREE, "regularizers": "gcisg"}
    with pytest.MonkeyPatch.context() as patch:
        at_loss(patch, lambda loss, _: (signal.raise_signal(signal.SIGTERM), loss)[1], number)
        with pytest.raises(Interrupted, match="Stopped at step 2; ") as stop:
            run(tmp_path / "run", **settings)
    assert stop.value.exit_code == 143
    assert steps_saved(tmp_path / "run") == ["step-00000002"]
    assert outcome(run(tmp_path / "run", resume=True, **settings).folder) == outcome(whole(**settings))


def infinite_gradient(loss, output):
    output.register_hook(lambda gradient: gradient * math.inf)
    return loss


@pytest.mark.parametrize("number", [3, 5], ids=["first batch", "last batch"])
def test_a_step_that_the_scaler_skips_runs_all_its_batches_again(number, whole, tmp_path, monkeypatch, scaled):
    settings = {**THREE, "regularizers": "gcisg"}
    batches = []
    at_loss(monkeypatch, lambda loss, _: (batches.append(1), loss)[1])
    at_loss(monkeypatch, infinite_gradient, number)
    made = run(tmp_path / "run", **settings).folder
    assert load_latest(made / "checkpoints").facts.scaler["scale"] == 2.0**9
    assert len(batches) == 3 * (tiny.STEPS + 1)
    # A power of two scales without rounding: the same steps, rates, queues and averages as without a scaler.
    assert outcome(made) == outcome(whole(**settings))


def test_a_loss_that_is_not_finite_names_the_images_of_its_batch(tmp_path, monkeypatch):
    at_loss(monkeypatch, lambda loss, _: loss * math.nan, 4)
    with pytest.raises(TrainingError, match=r"Step 1 is not finite: loss = nan, penalty = 0") as error:
        run(tmp_path / "run", **THREE, regularizers="none")
    images = [f"image {index} of digits (train)" for _, index in BatchPlan(24, 2, 2, 0, accumulate=3).at(1)[1]]
    assert f"Its batch, number 2 of 3 of the step: {', '.join(images)}. The weights were not" in str(error.value)


def test_a_gradient_that_is_not_finite_names_the_images_of_the_step(tmp_path, monkeypatch):
    at_loss(monkeypatch, infinite_gradient, 1)
    with pytest.raises(TrainingError, match=r"Step 0 is not finite: .*grad_norm = nan\. Its 3 batches: ") as error:
        run(tmp_path / "run", **THREE, regularizers="none", clip_norm=1.0)
    assert str(error.value).count("of digits (train)") == 6


@pytest.mark.parametrize("parts", [1, 3])
def test_each_batch_has_a_draw_of_its_own_and_a_single_one_that_of_the_step(parts, tmp_path, monkeypatch):
    seeds = []
    at_loss(monkeypatch, lambda loss, _: (seeds.append(torch.initial_seed()), loss)[1])
    run(tmp_path / "run", **SHORT, batch_size=6 // parts, accumulate=parts, regularizers="none", seed=5)
    assert len(seeds) == len(set(seeds)) == parts * tiny.STEPS_PER_EPOCH
    assert seeds[::parts] == [derive_seed(5, "step", step, 0) for step in range(tiny.STEPS_PER_EPOCH)]


@pytest.mark.parametrize("parts", [1, 3])
def test_processes_meet_once_a_step(parts, tmp_path, monkeypatch):
    apart, batches, sums = [], [], []
    at_loss(monkeypatch, lambda loss, _: (batches.append(len(apart)), loss)[1])
    all_reduce_sum = distributed.all_reduce_sum
    monkeypatch.setattr(distributed, "all_reduce_sum", lambda value: (sums.append(1), all_reduce_sum(value))[1])

    @contextlib.contextmanager
    def no_sync(self, model):
        apart.append(model)
        yield
        apart.clear()

    monkeypatch.setattr(Accelerator, "no_sync", no_sync)
    stepped = []
    step = Train.make_step
    monkeypatch.setattr(Train, "make_step", lambda *given: (sums.clear(), step(*given), stepped.append(len(sums)))[1])
    run(tmp_path / "run", **SHORT, batch_size=6 // parts, accumulate=parts, regularizers="none")
    assert batches == ([1] * (parts - 1) + [0]) * tiny.STEPS_PER_EPOCH
    assert stepped == [1] * tiny.STEPS_PER_EPOCH


class _Seen(torch.autograd.Function):
    """Does nothing, and is part of the graph."""

    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def test_the_graph_of_a_batch_is_gone_before_the_next_one(tmp_path, monkeypatch):
    graphs, alive = [], []

    def watched(loss, output):
        alive.append(sum(graph() is not None for graph in graphs))
        seen = _Seen.apply(loss)
        graphs.extend([weakref.ref(seen.grad_fn), weakref.ref(output)])
        return seen

    at_loss(monkeypatch, watched)
    run(tmp_path / "run", **SHORT, **THREE, regularizers="none")
    assert alive == [0] * 3 * tiny.STEPS_PER_EPOCH


def test_batches_that_a_phase_leaves_out_are_not_the_next_steps(tmp_path, monkeypatch):
    seen = []
    read = TrainingItems.__getitem__
    monkeypatch.setattr(TrainingItems, "__getitem__", lambda self, at: (seen.append(at), read(self, at))[1])
    firsts = []

    def first_only(self, state, batches):
        before = len(seen)
        next(batches)
        firsts.append(seen[before:])
        return {"loss": 0.0}

    monkeypatch.setattr(Train, "step_that_counts", first_only)
    run(tmp_path / "run", **SHORT, **THREE, regularizers="none")
    plan = BatchPlan(24, 2, 1, 0, accumulate=3)
    assert firsts == [plan.at(step)[0] for step in range(plan.total)]


def test_each_batch_must_be_large_enough_however_many_there_are(tmp_path):
    with pytest.raises(ConfigError, match=r"batch_size is 1\. .* one value .*training\.batch_size=2"):
        run(tmp_path / "run", regularizers="none", batch_size=1, accumulate=6, norm="train")

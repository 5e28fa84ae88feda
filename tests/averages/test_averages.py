"""What every average of weights keeps to, and each equation in float64."""

import math
import random

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from synreal.averages import AVERAGES, Average, Course, MeanWeights
from synreal.averages.base import AverageWarning
from synreal.errors import CheckpointError, ConfigError
from synreal.functional import wise_ft

STEPS = 24
# Settings with which a walk of so many steps shows what an average does.
LIVELY = {
    "ema": "ema(decay=0.8)",
    "swa": "swa(start=0.3, every=4)",
    "swad": "swad(segment=2, n_start=2, n_end=4, tolerance=1.1)",
    "wise_ft": "wise_ft(alpha=0.3)",
}
NAMES = AVERAGES.available()


class Walker(nn.Module):
    """A network whose weights go where they like."""

    def __init__(self, seed=0, dtype=torch.float32):
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)
        self.conv = nn.Conv2d(3, 4, 3, dtype=dtype).to(memory_format=torch.channels_last)
        self.norm = nn.BatchNorm2d(4, dtype=dtype)
        self.walk()

    @torch.no_grad()
    def walk(self):
        for value in self.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.randn(value.shape, generator=self.generator))
            else:
                value.add_(3)


def copied(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def loss_at(losses):
    """Give losses one after the other, and say how often that was asked for."""
    given = iter(losses)
    return lambda: next(given)


def lively(name, losses=None, steps=STEPS):
    spec = AVERAGES.spec(LIVELY.get(name, name))
    draws = random.Random(3)
    return spec, Course(steps, 8, loss_at(losses or [draws.random() for _ in range(steps)]))


def walked(spec, course, seed=0, dtype=torch.float32, steps=STEPS):
    """Follow a walk to its end; gives what followed, and the weights at the start and after each step."""
    network = Walker(seed, dtype)
    way = [copied(network)]
    averaging = spec.begin(way[0], course)
    for _ in range(steps):
        network.walk()
        averaging.update(network)
        way.append(copied(network))
    return averaging, way


def mean(states, name):
    return torch.stack([state[name].double() for state in states]).mean(0)


# ------------------------------------------------------------------------------------------------ every average


@pytest.mark.parametrize("name", NAMES)
def test_every_average_says_what_it_is(name):
    spec = AVERAGES.spec(name)
    assert isinstance(spec, Average)
    assert spec.summary[0].islower()
    assert not spec.summary.endswith(".")
    assert spec.paper
    assert AVERAGES.spec(spec.model_dump(mode="json")) == spec
    assert spec.label.startswith(name)
    assert AVERAGES.build(name, {"recompute": not spec.recompute}).label != spec.label


def test_results_call_an_average_by_what_is_not_at_its_default():
    labels = [AVERAGES.spec(text).label for text in ("ema(decay=0.999)", "ema(ramp=false, decay=0.99)", "swa(every=5)")]
    assert labels == ["ema", "ema(decay=0.99, ramp=False)", "swa(every=5)"]
    assert AVERAGES.spec("ema(recompute=false, decay=0.9)").label == "ema(decay=0.9, recompute=False)"
    assert AVERAGES.spec("wise_ft(alpha=0.50)").label == "wise_ft(0.5)"  # as testing.wise_ft calls it
    assert AVERAGES.spec("wise_ft(recompute=true)").label == "wise_ft(0.5, recompute=True)"


@pytest.mark.parametrize("name", NAMES)
def test_an_average_leaves_the_network_alone_and_is_a_state_dict_of_its_own(name):
    averaging, _ = walked(*lively(name))
    network = Walker(seed=0)
    last = copied(network)
    found = averaging.weights(network.state_dict())
    assert list(found) == list(last)
    assert all((found[key].dtype, found[key].shape) == (value.dtype, value.shape) for key, value in last.items())
    again = averaging.weights(last)
    for value in found.values():
        value.zero_()
    assert all(torch.equal(value, averaging.weights(last)[key]) for key, value in again.items())
    assert all(torch.equal(value, last[key]) for key, value in network.state_dict().items())
    assert averaging.describe()


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_copied_and_not_averaged(name):
    averaging, way = walked(*lively(name))
    counts = {int(state["norm.num_batches_tracked"]) for state in way}
    found = averaging.weights(way[-1])["norm.num_batches_tracked"]
    assert found.dtype == torch.int64
    assert int(found) in counts


@pytest.mark.parametrize("at", range(0, STEPS + 1, 3))
@pytest.mark.parametrize("name", NAMES)
def test_a_walk_that_goes_on_from_a_saved_state_ends_in_the_same_bits(name, at):
    draws = random.Random(5)
    losses = [draws.random() for _ in range(STEPS)]
    whole, way = walked(*lively(name, losses))
    network = Walker()
    spec, course = lively(name, losses)
    start = copied(network)
    first = spec.begin(start, course)
    for _ in range(at):
        network.walk()
        first.update(network)
    saved = load(save({key: value.contiguous() for key, value in first.tensors().items()}))
    # Another process begins where the network stands by then, and has measured nothing yet.
    second = spec.begin(start if spec.uses_start else copied(network), course)
    second.load(saved, network.state_dict())
    for _ in range(STEPS - at):
        network.walk()
        second.update(network)
    ours, theirs = second.weights(way[-1]), whole.weights(way[-1])
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())
    assert all(torch.equal(second.tensors()[key], value) for key, value in whole.tensors().items())
    assert second.describe() == whole.describe()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "wise_ft"])
def test_a_state_of_another_average_or_network_is_refused(name):
    averaging, way = walked(*lively(name))
    spec, course = lively(name)
    with pytest.raises(CheckpointError, match=r"does not fit: step is missing"):
        spec.begin(way[0], course).load({}, way[0])
    broken = {key: value.flatten()[:1] if "conv.weight" in key else value for key, value in averaging.tensors().items()}
    with pytest.raises(CheckpointError, match=r"conv.weight has shape \(1,\), expected \(4, 3, 3, 3\)"):
        spec.begin(way[0], course).load(broken, way[0])


# ------------------------------------------------------------------------------------------------ moving average


@pytest.mark.parametrize("ramp", [True, False])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_a_moving_average_follows_its_equation(ramp, dtype, close):
    averaging, way = walked(AVERAGES.build("ema", {"decay": 0.9, "ramp": ramp}), Course(), dtype=dtype)
    for name in ("conv.weight", "norm.running_var"):
        wanted = way[0][name].double()
        for step, state in enumerate(way[1:], 1):
            keep = min(1 - 1 / (step + 1), 0.9) if ramp else 0.9
            wanted = keep * wanted + (1 - keep) * state[name].double()
        torch.testing.assert_close(averaging.weights(way[-1])[name].double(), wanted, rtol=close, atol=close)


def test_until_the_decay_is_reached_it_is_the_mean_of_all():
    averaging, way = walked(AVERAGES.build("ema", {"decay": 0.999}), Course())
    torch.testing.assert_close(averaging.weights(way[-1])["conv.weight"].double(), mean(way, "conv.weight"))


def test_the_average_of_a_network_in_bfloat16_moves_by_less_than_its_digits():
    network = Walker(dtype=torch.bfloat16)
    averaging = AVERAGES.build("ema", {"decay": 0.999, "ramp": False}).begin(copied(network), Course())
    start = network.conv.weight.double()
    with torch.no_grad():
        network.conv.weight.add_(1)
    moved = network.conv.weight.double() - start
    for _ in range(50):
        averaging.update(network)
    held = averaging.tensors()["mean/conv.weight"]
    assert held.dtype == torch.float32
    torch.testing.assert_close(held.double() - start, moved * (1 - 0.999**50), rtol=1e-3, atol=1e-6)
    assert averaging.weights(network.state_dict())["conv.weight"].dtype == torch.bfloat16


# ------------------------------------------------------------------------------------------------ ends of epochs


@pytest.mark.parametrize(
    ("settings", "steps", "averaged"),
    [
        ("swa(start=0)", 24, (8, 16, 24)),
        ("swa(start=0.5)", 24, (16, 24)),
        ("swa(start=0.5)", 22, (16, 22)),  # the end counts as the end of an epoch
        ("swa(start=0.3, every=5)", 24, (10, 15, 20, 24)),
    ],
)
def test_the_mean_of_the_ends_of_epochs(settings, steps, averaged):
    averaging, way = walked(AVERAGES.spec(settings), Course(steps, 8), steps=steps)
    for name in ("conv.weight", "norm.running_mean"):
        wanted = mean([way[step] for step in averaged], name)
        torch.testing.assert_close(averaging.weights(way[-1])[name].double(), wanted, rtol=1e-5, atol=1e-6)
    assert averaging.describe().startswith(f"mean of {len(averaged)} weights")


@pytest.mark.parametrize(("steps", "taken"), [(8, 8), (0, 0)])
def test_a_mean_of_one_is_told(steps, taken):
    averaging, way = walked(AVERAGES.spec("swa"), Course(8, 8), steps=steps)
    with pytest.warns(AverageWarning, match=rf"swa has averaged {int(taken > 0)} weights in {steps} steps"):
        found = averaging.weights(way[-1])
    assert all(torch.equal(found[name], value) for name, value in way[taken].items())


def test_what_an_average_asks_for_must_be_given():
    start = copied(Walker())
    with pytest.raises(ConfigError, match=r"swa .* steps=NUMBER"):
        AVERAGES.spec("swa").begin(start, Course())
    with pytest.raises(ConfigError, match=r"swa averages ends of epochs: .*epoch=len\(loader\), or every"):
        AVERAGES.spec("swa").begin(start, Course(steps=5))
    assert AVERAGES.spec("swa(every=2)").begin(start, Course(steps=5))
    with pytest.raises(ConfigError, match=r"swad asks for a loss on held-out images: give loss="):
        AVERAGES.spec("swad").begin(start, Course(steps=5, epoch=5))


# ------------------------------------------------------------------------------------------------ the flat stretch


def stretch(losses, n_start, n_end, tolerance):
    """The first and the last segment, with all losses at hand and the rules in their own words; None if none starts."""
    for newest in range(n_start - 1, len(losses)):
        window = losses[newest - n_start + 1 : newest + 1]
        if window[0] == min(window):
            break
    else:
        return None
    oldest = newest - n_start + 1
    threshold = sum(window) / len(window) * tolerance
    first = oldest
    for moved in range(1, n_end - n_start + 1):
        if oldest - moved < 0 or losses[oldest - moved] > threshold:
            break
        first = oldest - moved
    for begin in range(oldest, len(losses) - n_end + 1):
        if min(losses[begin : begin + n_end]) > threshold:
            return first, begin - 1
    return first, max(index for index in range(oldest, len(losses)) if losses[index] <= threshold)


def curve(seed):
    """A loss that falls, lies flat and rises, with noise; every other one has few values, so that some are equal."""
    draws = random.Random(seed)
    length = draws.randint(1, 25)
    falls, rises = draws.uniform(0, 12), draws.uniform(5, 25)
    losses = [
        1 + max(0, falls - at) / 3 + max(0, at - rises) / 4 + draws.gauss(0, draws.choice([0.02, 0.3, 1]))
        for at in range(length)
    ]
    losses = [max(0.05, loss) for loss in losses]
    return [round(loss * 4) / 4 + 0.25 for loss in losses] if seed % 2 else losses


def test_the_stretch_is_the_one_of_the_rules_on_random_curves():
    found = {"none": 0, "moved": 0, "ended": 0, "whole": 0}
    for seed in range(400):
        draws = random.Random(seed)
        losses, n_start = curve(seed), draws.randint(1, 4)
        settings = {
            "n_start": n_start,
            "n_end": n_start + draws.randint(0, 4),
            "tolerance": draws.choice([1, 1.1, 1.3]),
        }
        spec = AVERAGES.build("swad", {"segment": 2, **settings})
        steps = 2 * len(losses) - seed % 2  # the last segment may be cut short
        averaging, way = walked(spec, Course(steps, None, loss_at(losses)), seed, torch.float64, steps)
        wanted = stretch(losses, **settings)
        if wanted is None:
            found["none"] += 1
            with pytest.warns(AverageWarning, match=r"found no start in \d+ segments of 2 steps"):
                got = averaging.weights(way[-1])
            states = way[2 * len(losses) - 1 :]
        else:
            first, last = wanted
            states = way[2 * first + 1 : 2 * last + 3]
            assert (averaging.first, averaging.last) == (2 * first + 1, min(2 * last + 2, steps)), (seed, losses)
            got = averaging.weights(way[-1])
            found["ended" if averaging.ended else "whole"] += 1
            oldest = next(at for at in range(len(losses)) if losses[at] == min(losses[at : at + n_start]))
            found["moved"] += first < oldest
        for name in ("conv.weight", "norm.running_var"):
            torch.testing.assert_close(got[name], mean(states, name), rtol=1e-10, atol=1e-10)
    assert min(found.values()) >= 15, found  # each rule was needed


def test_copies_of_the_network_are_as_many_as_promised():
    most = {False: 0, True: 0}
    for seed in range(60):
        spec = AVERAGES.build("swad", {"segment": 2, "n_start": 2, "n_end": 5})
        losses = curve(seed)
        network = Walker(seed)
        averaging = spec.begin(copied(network), Course(None, None, loss_at(losses)))
        for _ in range(2 * len(losses)):
            network.walk()
            averaging.update(network)
            copies = sum(name.endswith(".count") for name in averaging.tensors())
            started = averaging.threshold is not None
            most[started] = max(most[started], copies)
    assert most == {False: 5, True: 3}


def test_after_the_end_nothing_is_measured_any_more():
    asked = []
    losses = iter([1.0, 2.0, 2.0, 2.0])
    spec = AVERAGES.build("swad", {"segment": 1, "n_start": 1, "n_end": 2, "tolerance": 1})
    averaging, way = walked(spec, Course(None, None, lambda: (asked.append(1), next(losses))[1]), steps=10)
    assert len(asked) == 3
    assert (averaging.first, averaging.last) == (1, 1)
    assert torch.equal(averaging.weights(way[-1])["conv.weight"], way[1]["conv.weight"])


def test_a_loss_that_is_no_number_starts_nothing():
    losses = [math.nan, math.inf, math.nan, 1.0, 2.0, 2.0]
    spec = AVERAGES.build("swad", {"segment": 1, "n_start": 2, "n_end": 2, "tolerance": 1.0})
    averaging, _ = walked(spec, Course(None, None, loss_at(losses)), steps=6)
    assert (averaging.first, averaging.last) == (4, 4)
    assert averaging.losses[:3] == [math.inf] * 3


def test_a_training_shorter_than_a_segment_gives_the_mean_of_its_steps():
    averaging, way = walked(AVERAGES.spec("swad"), Course(None, None, loss_at([])), steps=5)
    with pytest.warns(AverageWarning, match="found no start in 0 segments of 100 steps"):
        found = averaging.weights(way[-1])
    torch.testing.assert_close(found["conv.weight"].double(), mean(way[1:], "conv.weight"), rtol=1e-5, atol=1e-6)


def test_a_window_for_the_end_holds_that_for_the_start():
    with pytest.raises(ConfigError, match="n_end is 2, expected at least n_start, which is 3"):
        AVERAGES.spec("swad(n_end=2)")


# ------------------------------------------------------------------------------------------------ between start and end


def test_weights_between_are_those_of_the_function():
    averaging, way = walked(AVERAGES.spec("wise_ft(alpha=0.3)"), Course())
    wanted = wise_ft(way[0], way[-1], 0.3)
    assert all(torch.equal(averaging.weights(way[-1])[name], value) for name, value in wanted.items())


# ------------------------------------------------------------------------------------------------ means


def test_means_of_parts_are_the_mean_of_all():
    network = Walker()
    way = [copied(network)]
    for _ in range(9):
        network.walk()
        way.append(copied(network))
    parts = [MeanWeights(way[0]) for _ in range(3)]
    for part, states in zip(parts, (way[:2], way[2:3], way[3:]), strict=True):
        for state in states:
            part.add(state)
    empty = MeanWeights(way[5])
    for part in parts:
        empty.join(part)
    assert empty.count == 10
    torch.testing.assert_close(empty.state()["conv.weight"].double(), mean(way, "conv.weight"), rtol=1e-5, atol=1e-6)
    before = empty.state()["conv.weight"].clone()
    empty.join(MeanWeights(way[0]))  # one that holds nothing adds nothing
    assert torch.equal(empty.state()["conv.weight"], before)

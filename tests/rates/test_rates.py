import copy
import itertools
import json
import math

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

import synreal
from synreal.errors import ConfigError
from synreal.rates import (
    GROUPS,
    SHARES,
    LearnedRates,
    RatePolicy,
    last_weight,
    policy_loss,
    rate_groups,
    reinforce,
    returns,
    rewards,
    window_length,
)
from tests.regularizers.contract import Toy, network, tiny

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")


def windows(epoch, epochs, shortest):
    lengths, made = [], 0
    while made < epoch * epochs:
        current = made % epoch
        lengths.append(window_length(current, made - current, epoch - current, shortest))
        made += lengths[-1]
    return lengths


def test_windows_are_those_of_the_published_schedule():
    """VisDA's 4763 steps an epoch, worked out by hand from max(10, current + before // 20)."""
    assert windows(4763, 2, 10) == [
        10, 10, 20, 40, 80, 160, 320, 640, 1280, 2203,
        238, 476, 952, 1904, 1193,
    ]  # fmt: skip
    assert windows(50, 1, 20) == [20, 20, 10]
    assert windows(3, 2, 10) == [3, 3]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def naive_logits(state, observation):
    """The policy in NumPy, float64: gates in PyTorch's order i, f, g, o; hidden and cell state are zero."""
    seen = []
    for index in range(5):
        gates = state[f"cells.{index}.weight_ih"][:, 0] * observation[index]
        gates = gates + state[f"cells.{index}.bias_ih"] + state[f"cells.{index}.bias_hh"]
        enter, _, new, leave = (gates[20 * k : 20 * (k + 1)] for k in range(4))
        seen.append(sigmoid(leave) * np.tanh(sigmoid(enter) * np.tanh(new)))
    return np.stack([
        state[f"layers.{index}.weight"] @ np.concatenate([*seen, [observation[5 + index]]])
        + state[f"layers.{index}.bias"]
        for index in range(len(GROUPS))
    ])  # fmt: skip


def observations(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scalars = torch.randn(count, 5, generator=generator).abs()
    shares = torch.randint(11, (count, len(GROUPS)), generator=generator) / 10
    return torch.cat([scalars, shares], 1)


def test_the_policy_agrees_with_numpy():
    policy = RatePolicy(3)
    with torch.no_grad():
        for value in policy.parameters():
            value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(1)) * 0.3)
    state = {key: value.double().numpy() for key, value in policy.state_dict().items()}
    seen = observations(4)
    found = policy(seen).detach().numpy()
    assert found.shape == (4, 6, 11)
    for row, logits in zip(seen.double().numpy(), found, strict=True):
        np.testing.assert_allclose(logits, naive_logits(state, row), rtol=1e-4, atol=1e-5)


def test_a_fresh_policy_is_orthogonal_and_nearly_uniform():
    policy = RatePolicy(0)
    state = policy.state_dict()
    hidden = state["cells.2.weight_hh"]
    torch.testing.assert_close(hidden.T @ hidden, torch.eye(20), rtol=0, atol=1e-5)
    layer = state["layers.4.weight"]
    torch.testing.assert_close(layer @ layer.T, 1e-4 * torch.eye(11), rtol=0, atol=1e-8)
    assert not any(value.any() for key, value in state.items() if "bias" in key)
    assert float((policy(observations(5)).softmax(2) - 1 / 11).abs().max().detach()) < 0.01
    assert policy.fingerprint == RatePolicy(0).fingerprint != RatePolicy(1).fingerprint


def test_draws_follow_the_probabilities_and_the_seed_alone():
    policy, seen = RatePolicy(0), observations(1)[0].tolist()
    with torch.no_grad():
        policy.layers[1].bias[7] += 2.0
    torch.manual_seed(5)
    before = torch.get_rng_state()
    drawn = np.array([policy.draw(seen, seed) for seed in range(400)])
    assert torch.equal(torch.get_rng_state(), before)
    assert policy.draw(seen, 3) == drawn[3].tolist()
    assert float((drawn[:, 1] == 7).mean()) == pytest.approx(math.exp(2) / (math.exp(2) + 10), abs=0.08)
    assert set(drawn[:, 0]) == set(range(11))


def test_rewards_and_returns():
    assert rewards([2.0, 1.0, 1.0]) == pytest.approx([math.log(2.0), math.log(0.9 * 2 + 0.1 * 1)])
    assert rewards([2.0]) == []
    assert returns([1.0, 2.0, 4.0]) == [1.0, 2.0, 4.0]
    assert returns([1.0, 2.0, 4.0], 0.5) == [3.0, 4.0, 4.0]


def test_what_reinforce_minimises():
    policy, seen = RatePolicy(1), observations(7)
    actions = torch.randint(11, (7, len(GROUPS)), generator=torch.Generator().manual_seed(2))
    gained = torch.randn(7, generator=torch.Generator().manual_seed(3))
    state = {key: value.double().numpy() for key, value in policy.state_dict().items()}
    total = 0.0
    for row, drawn, value in zip(seen.double().numpy(), actions.tolist(), gained.tolist(), strict=True):
        logits = naive_logits(state, row)
        logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        total -= value * sum(logs[group, action] for group, action in enumerate(drawn))
    assert float(policy_loss(policy, seen, actions, gained).detach()) == pytest.approx(total / 7, rel=1e-5)


def test_an_episode_is_learnt_from_in_fives():
    steps, policy = [], RatePolicy(0)

    class Spy(torch.optim.SGD):
        def step(self, closure=None):
            steps.append([value.grad.clone() for value in self.param_groups[0]["params"] if value.grad is not None])

    seen = observations(8)
    found = reinforce(policy, Spy(policy.parameters(), lr=7e-4), seen.tolist())
    losses = (seen[:, 0] + seen[:, 1]).double().tolist()
    assert found == pytest.approx(sum(rewards(losses)) / 7, rel=1e-6)
    actions = (seen[1:, 5:] * 10).round().long()
    for part, step in zip(([0, 5], [5, 7]), steps, strict=True):
        chosen = slice(*part)
        policy.zero_grad()
        policy_loss(policy, seen[:-1][chosen], actions[chosen], torch.tensor(rewards(losses))[chosen]).backward()
        for want, got in zip([v.grad for v in policy.parameters() if v.grad is not None], step, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-8)
    before = copy.deepcopy(policy.state_dict())
    assert reinforce(policy, torch.optim.SGD(policy.parameters(), lr=1.0), seen[:1].tolist()) == 0
    assert all(torch.equal(value, before[key]) for key, value in policy.state_dict().items())


def test_groups_are_stages_and_a_head_on_any_backbone():
    for name, absent in (
        ("test_resnet", set()),
        ("test_efficientnet", set()),
        ("test_convnext", {"0"}),
        ("test_vit", {"0"}),
    ):
        student = timm.create_model(name, num_classes=3)
        model = synreal.attach(
            student, tiny("guidance", adapter=True), reference=timm.create_model(name, num_classes=3)
        )
        groups = {group["name"]: group["params"] for group in rate_groups(model, 0.3)}
        assert set(GROUPS) - groups.keys() == absent, name
        held = [id(parameter) for parameters in groups.values() for parameter in parameters]
        assert len(held) == len(set(held))
        assert set(held) == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
        fresh = {id(p) for p in (*student.get_classifier().parameters(), *model.terms.parameters())}
        assert {id(parameter) for parameter in groups["head"]} == {key for key in fresh if key in set(held)}
        assert last_weight(model) is student.get_classifier().weight
        model.detach()


def test_groups_of_a_resnet():
    groups = {group["name"]: group for group in rate_groups(Toy(), 0.3)}
    of = {id(parameter): name for name, group in groups.items() for parameter in group["params"]}
    student = network()
    names = {key: value for key, value in student.named_parameters()}
    groups = {group["name"]: group for group in rate_groups(student, 0.3)}
    of = {id(parameter): name for name, group in groups.items() for parameter in group["params"]}
    found = {name: {key.split(".")[0] for key, value in names.items() if of[id(value)] == name} for name in groups}
    assert found == {
        "0": {"conv1", "bn1"}, "1": {"layer1"}, "2": {"layer2"}, "3": {"layer3"}, "4": {"layer4"}, "head": {"fc"},
    }  # fmt: skip
    assert {group["lr"] for group in groups.values()} == {0.3}


def training(policy, *, total=40, epoch=20, seed=0, model=None):
    model = model or Toy()
    optimizer = torch.optim.SGD(rate_groups(model, 0.5), momentum=0.9)
    options = {"total": total, "steps_per_epoch": epoch, "shortest": 4, "seed": seed}
    return optimizer, LearnedRates(optimizer, policy, last_weight(model), **options)


def losses_of(step):
    return 2.0 / (1 + step), 0.1 * (step % 3)


def test_a_policy_sees_windows_and_sets_rates():
    policy, model = RatePolicy(2), Toy()
    optimizer, rates = training(policy, model=model)
    ends, shares = list(itertools.accumulate([4, 4, 8, 4, 4, 5, 10, 1])), [1.0] * 6
    started = 0
    for step in range(40):
        rates.apply(0.5)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(
            [0.25 * shares[GROUPS.index(group["name"])] for group in optimizer.param_groups]
        )
        with torch.no_grad():
            model.fc.weight.add_(0.01 * step)
        ended = rates.step(*losses_of(step))
        assert ended == (step + 1 in ends)
        if not ended:
            continue
        inside = [losses_of(one) for one in range(started, step + 1)]
        weight = model.fc.weight.detach().double()
        want = [*(sum(values) / len(inside) for values in zip(*inside, strict=True)), (step + 1) / 40]
        want += [float(weight.mean()), float(weight.std()), *shares]
        assert rates.observations[-1] == pytest.approx(want, rel=1e-5)
        started, shares = step + 1, list(rates.shares.values())
        assert set(shares) <= set(SHARES)
    assert len(rates.observations) == len(ends)
    assert any(row[5:] != [1.0] * 6 for row in rates.observations)


def test_rates_go_on_from_the_optimizers_state_to_the_bit():
    policy, model = RatePolicy(2), Toy()
    whole = training(policy, model=model)
    for step in range(40):
        whole[1].apply()
        whole[1].step(*losses_of(step))
    optimizer, rates = training(policy, model=model)
    for step in range(13):
        rates.apply()
        rates.step(*losses_of(step))
    saved = json.loads(json.dumps(optimizer.state_dict()))
    optimizer, rates = training(policy, model=model)
    optimizer.load_state_dict(saved)
    for step in range(13, 40):
        rates.apply()
        rates.step(*losses_of(step))
    assert rates.observations == whole[1].observations
    assert optimizer.state_dict() == whole[0].state_dict()
    with pytest.raises(ConfigError, match="set by another policy"):
        LearnedRates(optimizer, RatePolicy(9), last_weight(Toy()), total=40, steps_per_epoch=20)


def test_what_cannot_be_set():
    model = Toy()
    plain = torch.optim.SGD(synreal.parameter_groups(model, lr=0.1))
    with pytest.raises(ConfigError, match=r"has one named None\. Make it from synreal\.rates\.rate_groups"):
        LearnedRates(plain, RatePolicy(), last_weight(model), total=4, steps_per_epoch=4)
    with pytest.raises(ConfigError, match="no head was found"):
        last_weight(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(ConfigError, match="nothing to train"):
        rate_groups(Toy().requires_grad_(False), 0.1)


def test_a_policy_is_written_and_read(tmp_path):
    policy, path = RatePolicy(4), tmp_path / "policy.safetensors"
    policy.save(path, {"episodes": 3})
    first = path.read_bytes()
    policy.save(path, {"episodes": 3})
    assert path.read_bytes() == first
    assert RatePolicy.load(path).fingerprint == policy.fingerprint
    for damage, told in (
        (lambda: path.write_bytes(first[:100]), "holds no policy"),
        (lambda: path.write_text("{}"), "holds no policy"),
        (lambda: save_file({"a": torch.zeros(1)}, path), "is no policy of learning rates of format 1"),
        (lambda: save_file(dict(list(policy.state_dict().items())[1:]), path, {"synreal": header(first)}), "holds no"),
        (lambda: save_file({k: v * math.nan for k, v in policy.state_dict().items()}, path, {"synreal": header(first)}),
         "not finite"),
        (path.unlink, "Cannot read the policy"),
    ):  # fmt: skip
        damage()
        with pytest.raises(ConfigError, match=told) as caught:
            RatePolicy.load(path)
        assert str(path) in str(caught.value)


def header(raw):
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length])["__metadata__"]["synreal"]


def test_a_policy_that_is_trained_earns_more():
    """A loss that falls faster the less the head moves: rewards rise, and the head is given less."""
    policy, head = RatePolicy(0), GROUPS.index("head")
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.05, momentum=0.9)
    earned = []
    for episode in range(60):
        _, rates = training(policy, seed=episode)
        loss = 1.0
        for _ in range(40):
            rates.apply()
            loss *= 1.0 - 0.2 * (1 - rates.shares["head"])
            rates.step(loss, 0.0)
        earned.append(reinforce(policy, optimizer, rates.observations))
    assert sum(earned[-10:]) / 10 > 1.2 * sum(earned[:10]) / 10
    probabilities = policy(observations(20)).softmax(2)[:, head].mean(0)
    assert float((probabilities.detach() * torch.tensor(SHARES)).sum()) < 0.4  # 0.5 at first

"""The head of networks whose parts have names of their own."""

import pytest
import timm
import torch
from torch import nn

import synreal
from synreal.core.head_search import search_head
from synreal.core.norm_stats import pretrained_norm_layers
from synreal.errors import StageError
from tests.core.networks import Numbered, halve, same, snapshot


def trunk():
    """A pretrained network that says nothing of itself; ends in a normalisation that was trained."""
    network = nn.Sequential(halve(3, 8), halve(8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 8))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
    return network


def around(head, body=None):
    return Numbered(lambda self, x: self.cls(self.body(x)), body=body or trunk(), cls=head)


def twice():
    parts = {"body": trunk(), "first": nn.Linear(8, 3), "second": nn.Linear(8, 2)}
    return Numbered(lambda self, x: (self.first(y := self.body(x)), self.second(y)), **parts)


def apart():
    parts = {"body": trunk(), "hidden": nn.Linear(8, 8), "cls": nn.Linear(8, 2)}
    return Numbered(lambda self, x: self.cls(self.hidden(self.body(x)).relu()).log_softmax(1), **parts)


def passed_on():
    return Numbered(lambda self, x: self.net(x * 2), net=timm.create_model("test_resnet", num_classes=3))


def around_timm(**settings):
    body = timm.create_model("test_resnet", num_classes=0, **settings)
    parts = {"neck": nn.BatchNorm2d(96), "fc": nn.Linear(96, 3)}
    run = {True: lambda self, x: self.body(x)[-1], False: lambda self, x: self.body.forward_features(x)}
    features = run["features_only" in settings]
    return Numbered(lambda self, x: self.fc(self.neck(features(self, x)).mean((2, 3))), body=body, **parts)


HIDDEN = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
CASES = {
    "one layer": (lambda: around(nn.Linear(8, 3)), ("cls",)),
    "one without bias": (lambda: around(nn.Linear(8, 3, bias=False)), ("cls",)),
    "hidden layers": (lambda: around(HIDDEN), ("cls",)),
    "several layers": (apart, ("hidden", "cls")),
    "two outputs": (twice, ("first", "second")),
    "numbers for names": (lambda: nn.Sequential(trunk(), nn.Linear(8, 3)), ("1",)),
    "timm's network inside": (around_timm, ("neck", "fc")),
    "timm's maps inside": (lambda: around_timm(features_only=True), ("neck", "fc")),
    "a network passed on": (passed_on, ("net.fc",)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_head_of_any_name_is_found(case):
    build, head = CASES[case]
    torch.manual_seed(0)
    network = build()
    before = snapshot(network)
    found = search_head(network)
    assert all(same(old, new) for old, new in zip(before, snapshot(network), strict=True))
    assert {name for name, _ in network.named_parameters() if name.startswith(head)} == found.names
    assert found.doubt == ""


@pytest.mark.parametrize(
    ("network", "doubt"),
    [
        (timm.create_model("test_resnet", num_classes=0), ""),
        (timm.create_model("test_vit", num_classes=0), ""),
        (nn.Sequential(trunk(), nn.LayerNorm(8)), ""),
        (nn.Sequential(trunk()[:2], nn.Upsample(scale_factor=4), nn.Conv2d(8, 3, 1)), "2"),
        (Numbered(lambda self, x, y: self.cls(x + y), cls=nn.Linear(8, 3)), "cls"),  # takes no image
        (nn.Sequential(nn.ReLU()), ""),
    ],
)
def test_without_a_head_a_fresh_last_layer_is_doubted(network, doubt):
    found = search_head(network)
    assert found.doubt == doubt
    # A last layer that makes vectors of vectors is the head of the body alone, trained or not.
    assert found.names <= {"0.4.weight", "0.4.bias", "0.4.1.weight"} | {"1.weight", "1.bias"}


def test_around_the_entry_that_the_user_names_all_is_the_head():
    network = nn.Sequential(trunk()[:2], nn.Upsample(scale_factor=4), nn.Conv2d(8, 3, 1))
    assert search_head(network, "0") == ({"2.weight", "2.bias"}, "")
    assert search_head(network, "") == (frozenset(), "")
    model = synreal.attach(network, "weight_l2", entry="0")
    assert model.anatomy.head == {"2.weight", "2.bias"}


def test_statistics_of_a_head_are_its_own():
    network = around(HIDDEN, nn.Sequential(halve(3, 8), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    found = search_head(network)
    assert pretrained_norm_layers(network, head=found.names) == [network.body[1]]
    model = around_timm()
    assert model.neck not in pretrained_norm_layers(model)
    assert len(pretrained_norm_layers(model)) == len(pretrained_norm_layers(model.body)) > 0


@pytest.mark.parametrize("name", ["cls", "fc"])
def test_the_rates_follow_the_head_that_was_found(name):
    parts = {"body": trunk(), name: nn.Linear(8, 3)}
    network = Numbered(lambda self, x: getattr(self, name)(self.body(x)), **parts)
    backbone, head = synreal.parameter_groups(synreal.attach(network, "none"), lr=1.0)
    assert (backbone["lr"], head["lr"]) == (0.1, 1.0)
    assert head["params"] == list(getattr(network, name).parameters())


def test_oracle_trains_a_head_of_any_name():
    network = around(nn.Linear(8, 3))
    synreal.attach(network, "oracle")
    assert [name for name, value in network.named_parameters() if value.requires_grad] == ["cls.weight", "cls.bias"]
    with pytest.raises(StageError, match=r"no head was found.*entry="):
        synreal.attach(nn.Sequential(halve(3, 8), halve(8, 8)), "oracle")

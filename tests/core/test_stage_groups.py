import pytest
import timm
from torch import nn

from synreal.core.parts import find_head
from synreal.core.stage_groups import stage_groups
from synreal.core.stages import find_stages


@pytest.mark.parametrize(
    ("name", "some"),
    [
        ("test_efficientnet", {"0": "conv_stem.weight", "4": "blocks.4.0.bn3.bias", "after 4": "conv_head.weight"}),
        ("resnet18", {"0": "conv1.weight", "1": "layer1.0.conv1.weight", "4": "layer4.1.bn2.bias"}),
        ("test_vit", {"1": "pos_embed", "4": "blocks.5.mlp.fc2.bias", "after 4": "norm.weight"}),
    ],
)
def test_every_parameter_of_the_backbone_has_one_stage(name, some):
    network = timm.create_model(name, num_classes=3)
    backbone = dict(network.named_parameters()).keys() - find_head(network)
    groups = stage_groups(network, find_stages(network).values(), backbone)
    whole = groups.pop("backbone")
    assert set(whole) == backbone
    assert sorted(one for group in groups.values() for one in group) == sorted(backbone)
    assert list(groups) == sorted(groups)
    for stage, parameter in some.items():
        assert parameter in groups[stage]


def test_without_stages_there_is_the_whole_alone():
    assert stage_groups(nn.Linear(2, 2), [], {"weight"}) == {"backbone": ["weight"]}

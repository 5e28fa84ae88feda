import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn
from torch.nn import functional as F

from synreal.core.parts import find_entry
from synreal.core.stages import Stage, as_map, find_stages, probe, probe_input, resolve
from synreal.core.taps import FeatureTap
from synreal.core.trial import fitting_shape
from synreal.errors import StageError
from tests.core.networks import NETWORKS, Numbered, halve, same, snapshot, swin


@pytest.mark.parametrize("name", NETWORKS)
def test_stage_tables(name):
    build, entry, layout, table, paths = NETWORKS[name]
    model = build().train()
    next(m for m in model.modules() if isinstance(m, (nn.modules.batchnorm._NormBase, nn.LayerNorm))).eval()
    before = snapshot(model)
    assert find_entry(model) == entry
    stages = find_stages(model)
    assert all(map(same, before, snapshot(model)))
    assert {key: (stage.channels, stage.stride) for key, stage in stages.items()} == table
    assert {stage.layout for stage in stages.values()} == {layout}
    assert {key: stages[key].path for key in paths} == paths
    size = fitting_shape(model.get_submodule(entry))[-1]
    tap = FeatureTap(model, list(stages.values()), entry=entry)
    model.eval()
    with torch.no_grad(), tap.record() as maps:
        model.get_submodule(entry)(torch.rand(2, 3, size, size))
    assert {key: tuple(value.shape) for key, value in maps.items()} == {
        key: (2, channels, size // stride, size // stride) for key, (channels, stride) in table.items()
    }
    assert set(resolve(model, [3, "4"])) == {"3", "4"}


def test_maps_of_other_image_sizes():
    model = timm.create_model("test_resnet").eval()
    tap = FeatureTap(model, list(find_stages(model).values()))
    with torch.no_grad(), tap.record() as maps:
        model(torch.rand(1, 3, 96, 160))
    assert maps["4"].shape == (1, 96, 3, 5)


def test_token_maps_put_patches_where_they_are_in_the_image():
    stage = Stage("4", "blocks.5", 3, 4, "tokens", prefix_tokens=2)
    tokens = torch.arange(2 * (2 + 6) * 3.0).reshape(2, 8, 3)
    result = as_map(tokens, stage, (8, 12))
    assert result.shape == (2, 3, 2, 3)
    for sample in range(2):
        for row in range(2):
            for column in range(3):
                assert torch.equal(result[sample, :, row, column], tokens[sample, 2 + row * 3 + column])


def test_channels_last_maps_put_channels_second():
    output = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    result = as_map(output, Stage("1", "x", 5, 4, "nhwc"), (12, 16))
    assert result.shape == (2, 5, 3, 4)
    assert torch.equal(result[1, 4, 2, 3], output[1, 2, 3, 4])
    output[1, 2, 3, 4] = -1
    assert result[1, 4, 2, 3] == -1  # a view


@pytest.mark.parametrize(
    ("stage", "shape"),
    [
        (Stage("4", "layer4", 8, 4, "nchw"), (1, 7, 4, 4)),
        (Stage("4", "layer4", 8, 4, "nchw"), (1, 8, 16)),
        (Stage("4", "layer4", 8, 4, "nhwc"), (1, 8, 4, 4)),
        (Stage("4", "layer4", 8, 4, "tokens", 1), (1, 16, 8)),
        (Stage("4", "layer4", 8, 4, "tokens"), (1, 8, 4, 4)),
        (Stage("4", "layer4", 8, 4, "tokens"), (1, 16, 7)),
    ],
)
def test_a_map_of_another_layout_is_refused(stage, shape):
    with pytest.raises(StageError, match=r"Stage 4 \(layer4\) gave \(1, "):
        as_map(torch.zeros(shape), stage, (16, 16))


@pytest.mark.parametrize("name", ["test_vit", "swin", "test_mambaout", "test_convnext"])
def test_maps_are_those_that_timm_itself_gives(name):
    model = NETWORKS[name][0]().eval()
    stages = find_stages(model)
    size = fitting_shape(model)[-1]
    images = torch.rand(2, 3, size, size)
    tap = FeatureTap(model, list(stages.values()))
    with torch.no_grad(), tap.record() as maps:
        model(images)
    paths = [entry["module"] for entry in model.feature_info]
    indices = [paths.index(stage.path) for stage in stages.values()]
    with torch.no_grad():
        theirs = model.forward_intermediates(images, indices=indices, intermediates_only=True, output_fmt="NCHW")
    for stage_map, their_map in zip(maps.values(), theirs, strict=True):
        assert torch.equal(stage_map, their_map)


def test_channels_last_is_recognised_when_the_map_is_as_large_as_it_is_deep():
    # swin_tiny at 384 pixels has this at stage 1: 96 x 96 positions, 96 channels.
    stages = find_stages(swin(embed_dim=16))
    assert {name: stage.layout for name, stage in stages.items()} == dict.fromkeys("1234", "nhwc")


def test_stages_are_found_by_stride_without_declarations():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1),
        nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 1)),
        nn.AdaptiveAvgPool2d(1),
    )
    stages = find_stages(model)
    assert {name: (stage.path, stage.channels) for name, stage in stages.items()} == {"0": ("0", 4), "1": ("1", 8)}


def test_a_network_without_maps_is_refused():
    with pytest.raises(StageError, match="No stage with a map of stride 4 to 32 was found in Sequential"):
        find_stages(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)))


def test_a_module_that_runs_twice_is_no_stage():
    def forward(self, x):
        return self.act(self.third(self.act(self.second(self.first(x)))))

    parts = {"first": halve(3, 4), "second": halve(4, 4), "third": nn.Conv2d(4, 4, 1), "act": nn.ReLU()}
    model = Numbered(forward, **parts)
    assert {name: stage.path for name, stage in find_stages(model).items()} == {"0": "first", "1": "third"}
    with pytest.raises(StageError, match=r"Stage act \(act\) runs several times in one forward pass"):
        resolve(model, ["act"])


def test_depth_tells_dilated_stages_apart():
    convs = [halve(3, 4), halve(4, 4), halve(4, 4)]
    convs += [halve(4, 4, stride=1, padding=d, dilation=d) for d in (1, 2, 2, 4)]
    stages = find_stages(nn.Sequential(*convs))
    assert {name: (stage.path, stage.stride) for name, stage in stages.items()} == {
        "0": ("0", 2),
        "1": ("1", 4),
        "2": ("3", 8),
        "3": ("5", 8),
        "4": ("6", 8),
    }


def test_dilation_before_the_last_resolution_moves_no_stage():
    convs = [halve(3, 4), halve(4, 4), halve(4, 4, stride=1, padding=4, dilation=4), halve(4, 4)]
    stages = find_stages(nn.Sequential(*convs))
    assert {name: (stage.path, stage.stride) for name, stage in stages.items()} == {
        "0": ("0", 2),
        "1": ("2", 4),
        "2": ("3", 8),
    }


def test_what_an_encoder_returns_are_its_stages():
    def forward(self, x):
        first = self.first(x)
        second = self.second(first).relu()
        third = self.third(second)
        return [x, first, second, third.clone(), self.fourth(third)]

    parts = {"first": halve(3, 4, bias=False), "second": halve(4, 4, bias=False), "third": halve(4, 4)}
    stages = find_stages(Numbered(forward, **parts, fourth=nn.Sequential(nn.Identity(), nn.Conv2d(4, 4, 1))))
    # The second map is no module's output; fourth.0 passes the third on; the last has the stride of the third.
    assert {name: (stage.path, stage.stride) for name, stage in stages.items()} == {
        "0": ("first", 2),
        "2": ("third", 8),
        "3": ("fourth", 8),
    }


def test_channels_last_is_recognised_without_a_declaration():
    class ChannelsLast(nn.Module):
        def forward(self, x):
            return x.permute(0, 2, 3, 1)

    # As many channels as the map has rows on a square image of either side.
    for channels in (32, 40):
        stages = find_stages(nn.Sequential(nn.Conv2d(3, channels, 4, 4), ChannelsLast(), nn.LayerNorm(channels)))
        assert list(stages.values()) == [Stage("1", "2", channels, 4, "nhwc")]


@pytest.mark.parametrize("registers", [0, 2])
def test_a_plain_transformer_that_declares_nothing_is_read_by_its_depth(registers):
    def forward(self, x):
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        return self.blocks(F.pad(tokens, (0, 0, 1 + registers, 0)))

    def block():
        return nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))

    model = Numbered(forward, embed=nn.Conv2d(3, 8, 16, 16), blocks=nn.Sequential(*(block() for _ in range(8))))
    if registers:
        model.num_register_tokens = registers  # as DINOv2 of torch.hub does
    stages = find_stages(model)
    assert [s.path for s in stages.values()] == ["blocks.1", "blocks.3", "blocks.5", "blocks.7"]
    assert {(s.layout, s.stride, s.prefix_tokens, s.channels) for s in stages.values()} == {
        ("tokens", 16, 1 + registers, 8)
    }


def test_a_class_token_alone_is_no_map():
    def forward(self, x):
        return self.token(self.embed(x).flatten(2).transpose(1, 2).mean(1, keepdim=True))

    model = Numbered(forward, embed=nn.Conv2d(3, 8, 16, 16), token=nn.Linear(8, 8))
    model.image_size = 64
    with pytest.raises(StageError, match=r"No 2-D map at stage token \(token\): the module gave \(1, 1, 8\)"):
        probe(model, {"token": "token"})


def test_a_network_of_one_image_size_is_found_out():
    def forward(self, x):
        if x.shape[-2:] != (224, 224):
            raise ValueError("wrong size")
        return self.net(x)

    model = Numbered(forward, net=nn.Sequential(halve(3, 4), halve(4, 4)))
    assert {name: stage.stride for name, stage in find_stages(model).items()} == {"0": 2, "1": 4}


def test_a_network_that_folds_pixels_into_channels_gets_images():
    model = Numbered(lambda self, x: self.net(F.pixel_unshuffle(x, 4)), net=nn.Conv2d(48, 8, 3, padding=1))
    assert {name: (s.path, s.stride) for name, s in find_stages(model).items()} == {"1": ("net", 4)}


def test_a_network_that_takes_no_image_says_why():
    def forward(self, x):
        raise RuntimeError("a list, please")

    model = Numbered(forward, net=nn.Conv2d(3, 4, 1)).train()
    before = snapshot(model)
    with pytest.raises(
        StageError, match=r"failed on an image \(1, 3, 128, 160\), .*RuntimeError: a list, please\. Give entry="
    ):
        find_stages(model)
    assert all(map(same, before, snapshot(model)))


def test_declared_stages_that_are_no_modules_are_no_reason_to_guess():
    model = nn.Sequential(halve(3, 4), halve(4, 4))
    model.feature_info = [{"module": "block.0", "reduction": 4}, {"module": "block.1", "reduction": 8}]
    with pytest.raises(StageError, match="What Sequential declares in feature_info does not tell its stages 0 to 4"):
        find_stages(model)


def test_declared_stages_beyond_stride_32_leave_the_others_their_names():
    model = nn.Sequential(halve(3, 4, stride=8), nn.Conv2d(4, 4, 1), halve(4, 4), halve(4, 4), halve(4, 4))
    model.feature_info = [{"module": str(i), "reduction": stride} for i, stride in enumerate((8, 8, 16, 32, 64))]
    assert {name: stage.path for name, stage in find_stages(model).items()} == {"2": "1", "3": "2", "4": "3"}


def test_a_declared_map_that_an_activation_finishes_in_place_is_read_there():
    parts = {"conv": halve(3, 4), "norm": nn.BatchNorm2d(4), "act": nn.ReLU(inplace=True)}
    model = Numbered(lambda self, x: self.act(self.norm(self.conv(x))), **parts)
    model.feature_info = [{"module": "norm", "reduction": 2}]
    assert find_stages(model)["0"].path == "act"


def test_finding_stages_and_resolving_them_is_one_forward_pass():
    model = timm.create_model("test_resnet")
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    resolve(model, [3, 4])
    assert len(calls) == 1


def test_the_users_names_go_first():
    model = timm.create_model("test_resnet")
    stages = resolve(model, [4, "mine"], known={"4": "layer3", "mine": "layer2.0"})
    assert [(s.name, s.path, s.stride) for s in stages.values()] == [("4", "layer3", 16), ("mine", "layer2.0", 8)]


def test_module_paths_are_stages_too():
    stages = resolve(timm.create_model("test_resnet"), ["layer3.0", 4])
    assert {s.key: s.channels for s in stages.values()} == {"stage_layer3_0": 192, "stage_4": 96}


def test_no_stage_wanted_is_no_stage_found():
    assert resolve(timm.create_model("test_resnet"), []) == {}


def test_a_stage_that_is_not_there_lists_those_that_are():
    with pytest.raises(StageError, match=r"no stage 0\. It has: 1 \(stages\.0, stride 4\), .*4 \(stages\.3, stride 32"):
        resolve(timm.create_model("test_convnext"), [0])


@pytest.mark.parametrize("known", [None, {"4": "layr4"}])
def test_a_wrong_path_suggests_the_nearest(known):
    with pytest.raises(StageError, match=r"no module 'layr4'\. Nearest: layer4"):
        resolve(timm.create_model("test_resnet"), [4] if known else ["layr4"], known=known)


def test_a_wrong_entry_suggests_the_nearest():
    with pytest.raises(StageError, match=r"no module 'encodr'\. Nearest: encoder"):
        resolve(smp.Unet("resnet18", encoder_weights=None), [4], entry="encodr")


@pytest.mark.parametrize("path", ["fc", "global_pool.flatten"])
def test_a_module_without_a_2d_map_is_refused(path):
    with pytest.raises(StageError, match=rf"No 2-D map at stage {path} \({path}\): the module gave \(1, "):
        resolve(timm.create_model("test_resnet"), [path])


def test_a_module_that_never_runs_is_refused():
    model = timm.create_model("test_resnet")
    model.unused = nn.Conv2d(3, 3, 1)
    before = snapshot(model)
    with pytest.raises(StageError, match=r"No hook fired at stage unused \(unused\)"):
        resolve(model, ["unused"])
    assert all(map(same, before, snapshot(model)))


def test_checkpointing_around_the_stages_is_refused():
    model = timm.create_model("test_resnet")
    model.set_grad_checkpointing(True)
    with pytest.raises(StageError, match=r"No hook fired at stage .*set_grad_checkpointing"):
        find_stages(model)


def test_a_probe_that_fails_leaves_no_hook():
    class Fails(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            self.first(x)
            raise ArithmeticError

    model = Fails().train()
    before = snapshot(model)
    with pytest.raises(ArithmeticError):
        probe(model, {"4": "first"})
    with pytest.raises(ArithmeticError):
        find_stages(model)
    assert all(map(same, before, snapshot(model)))


def test_the_probe_takes_the_networks_dtype_and_channels():
    model = timm.create_model("test_resnet", in_chans=5).double()
    assert fitting_shape(model)[1] == 5
    assert find_stages(model)["4"].channels == 96


@pytest.mark.parametrize(
    ("name", "path", "channels"), [("timm resnet18", "fc", 512), ("torchvision efficientnet", "classifier", 1280)]
)
def test_the_input_of_a_classifier(name, path, channels):
    model = NETWORKS[name][0]().train()
    before = snapshot(model)
    assert probe_input(model, "mine", path) == Stage("mine", path, channels, 0, "input")
    assert all(map(same, before, snapshot(model)))


def test_the_input_of_a_module_that_does_not_run_is_refused():
    model = timm.create_model("test_resnet")
    model.unused = nn.Linear(3, 3)
    with pytest.raises(StageError, match=r"The mine \(unused\) of ResNet is not given a batch of features"):
        probe_input(model, "mine", "unused")

"""Models of transformers, which say in a configuration what they are, as students."""

import pytest
import timm
import torch
import transformers
from torch import nn
from torch.nn import functional as F

import synreal
from synreal.core.declarations import token_strides_of, tokens_of
from synreal.core.norm_stats import frozen
from synreal.core.stages import find_stages
from synreal.errors import TrainingError
from tests.core.networks import Numbered, same, snapshot
from tests.regularizers.contract import tiny

VIT = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "num_labels": 3}
WIDTHS = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "num_labels": 3}
SEGFORMER = {**WIDTHS, "num_attention_heads": [1, 1, 2, 2], "decoder_hidden_size": 16}
SWIN = {"embed_dim": 8, "depths": [1, 1, 2, 1], "num_heads": [1, 1, 2, 2], "window_size": 2, "num_labels": 3}
# name: (kind of model, its settings, size of images, path of stage 3, layout, class and register tokens, strides)
MODELS = {
    "registers": (
        "Dinov2WithRegisters",
        {**VIT, "image_size": 56, "patch_size": 14},
        56,
        "dinov2_with_registers.encoder.layer.2",
        "tokens",
        5,
        (14, 14),
    ),
    "dinov2": (
        "Dinov2",
        {**VIT, "image_size": 56, "patch_size": 14},
        56,
        "dinov2.encoder.layer.2",
        "tokens",
        1,
        (14, 14),
    ),
    "vit": ("ViT", {**VIT, "image_size": 48, "patch_size": 16}, 48, "vit.layers.2", "tokens", 1, (16, 16)),
    "convnext": ("ConvNext", WIDTHS, 64, "convnext.encoder.stages.2", "nchw", 0, (16, 32)),
    "swin": ("Swin", {**SWIN, "image_size": 64}, 64, "swin.encoder.layers.2.blocks.1", "tokens", 0, (16, 32)),
    "segformer": ("Segformer", SEGFORMER, 64, "segformer.stages.2", "nchw", 0, (16, 32)),
    "segmenter": ("Segformer", SEGFORMER, 64, "segformer.stages.2", "nchw", 0, (16, 32)),
}


def build(name):
    kind, settings, *_ = MODELS[name]
    torch.manual_seed(0)
    task = "SemanticSegmentation" if name == "segmenter" else "ImageClassification"
    return getattr(transformers, f"{kind}For{task}")(getattr(transformers, f"{kind}Config")(**settings)).train()


def images(name, rows=2):
    size = MODELS[name][2]
    return torch.rand(2, rows, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", MODELS)
def test_stages_are_found(name):
    _, _, _, path, layout, prefix, strides = MODELS[name]
    network = build(name)
    before = snapshot(network)
    stages = find_stages(network)
    assert all(same(old, new) for old, new in zip(before, snapshot(network), strict=True))
    assert (stages["3"].path, stages["3"].layout, stages["3"].prefix_tokens) == (path, layout, prefix)
    assert (stages["3"].stride, stages["4"].stride) == strides
    assert synreal.core.stages.probe(network, {"3": path})["3"] == stages["3"]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("regularizers", [["guidance", "weight_l2"], ["gcisg"], ["oracle"]], ids=lambda r: r[0])
def test_they_train(name, regularizers):
    network = build(name)
    prefix = network.base_model_prefix
    model = synreal.attach(network, [tiny(one) for one in regularizers])
    assert model.anatomy.head == {key for key, _ in network.named_parameters() if not key.startswith(f"{prefix}.")}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.bind(optimizer)
    output = model(*images(name))
    logits = output["output"].logits
    (F.cross_entropy(logits, torch.ones(2, *logits.shape[2:], dtype=torch.long)) + output["penalty"]).backward()
    path = f"{prefix}." if regularizers != ["oracle"] else tuple(model.anatomy.head)
    assert any(
        p.grad is not None and bool(p.grad.any()) for key, p in network.named_parameters() if key.startswith(path)
    )
    optimizer.step()
    assert not any(frozen(module) for key, module in network.named_modules() if not key.startswith(prefix))
    assert type(model.detach().eval()(images(name)[0]).logits) is torch.Tensor


@pytest.mark.parametrize("name", ["registers", "swin", "vit"])
def test_a_map_is_the_patches_in_rows(name):
    network = build(name).eval()
    _, _, size, path, _, prefix, (stride, _) = MODELS[name]
    seen = []
    model = synreal.attach(network, "guidance(stages=3)").train()
    network.get_submodule(path).register_forward_hook(lambda _module, _args, output: seen.append(tokens_of(output)))
    network.eval()  # no dropped paths
    maps = []
    model.terms["guidance"].register_forward_pre_hook(lambda _, args: maps.extend(args[0].maps.values()))
    model(*images(name))
    side = size // stride
    assert maps[0]["3"].shape[2:] == (side, side)
    for row, column in ((0, 0), (0, 1), (1, 0)):
        assert torch.equal(maps[0]["3"][:, :, row, column], seen[0][:, prefix + row * side + column])


def test_one_inside_of_a_module_of_the_users_own():
    body = build("registers").dinov2_with_registers
    network = Numbered(lambda self, x: self.top(self.body(x).pooler_output), body=body, top=nn.Linear(16, 3))
    model = synreal.attach(network, "guidance")
    assert model.anatomy.head == {"top.weight", "top.bias"}
    assert model.anatomy.stages["4"].prefix_tokens == 5
    model = synreal.attach(model.detach(), "guidance", entry="body")
    assert model.anatomy.stages["4"].path == "body.encoder.layer.3"
    assert "penalty" in model.train()(*images("registers"))


def test_the_entry_may_be_given_its_images_by_name():
    body = build("convnext").convnext
    run = lambda self, x: self.top(self.body(pixel_values=x).pooler_output)  # noqa: E731
    model = synreal.attach(Numbered(run, body=body, top=nn.Linear(32, 3)), "guidance", entry="body").train()
    assert "penalty" in model(*images("convnext"))


@pytest.mark.parametrize("text", ["kl", "weight_l2(importance=fisher)"])
@pytest.mark.parametrize("name", ["vit", "convnext"])
def test_their_own_classifier_teaches(name, text):
    model = synreal.attach(build(name), text, reference=build(name)).train()
    model.calibrate([images(name)[0]])
    assert bool(model(*images(name))["penalty"].isfinite())


def test_images_are_given_by_position():
    model = synreal.attach(build("vit"), "none")
    for mode in (True, False):
        with pytest.raises(TrainingError, match=r"No image was given.*by position"):
            model.train(mode)(pixel_values=images("vit")[0])


def test_others_say_nothing_of_tokens():
    assert token_strides_of(timm.create_model("test_vit")) == []
    assert token_strides_of(build("registers")) == [14, 28, 56, 112]
    assert tokens_of(pair := (torch.ones(1, 2), 3)) is pair

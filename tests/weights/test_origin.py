import pytest
import timm
from torch import nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from synreal.errors import ConfigError, WeightsError
from synreal.weights import create_backbone, imagenet_classes, normalization
from tests.weights.networks import SMALL


def test_unknown_backbones_get_the_nearest_name():
    with pytest.raises(ConfigError, match=r"Unknown backbone 'resnet51'\. Did you mean 'resnet51q'") as caught:
        create_backbone("resnet51", num_classes=2, weights="none")
    assert len(str(caught.value)) < 500
    with pytest.raises(ConfigError, match="Unknown backbone ''"):
        create_backbone("", num_classes=2, weights="none")
    with pytest.raises(ConfigError, match=r"Unknown pretrained tag of resnet50 'a1_in2k'\. Did you mean 'a1_in1k'"):
        create_backbone("resnet50.a1_in2k", num_classes=2, weights="none")


@pytest.mark.parametrize("path", ["missing.safetensors", "missing.pth", "."])
def test_paths_that_are_no_file(tmp_path, path):
    with pytest.raises(WeightsError, match=r"does not exist|neither one of"):
        create_backbone(SMALL, num_classes=7, weights=str(tmp_path / path))


@pytest.mark.parametrize("word", ["imagenet", "", "None"])
def test_words_that_are_no_mode(word):
    with pytest.raises(WeightsError, match="neither one of auto, timm, packaged, none"):
        create_backbone(SMALL, num_classes=7, weights=word)


def test_normalization():
    assert normalization(nn.Linear(1, 1)) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    model = timm.create_model(SMALL, pretrained_cfg_overlay={"mean": (0.1, 0.2, 0.3), "std": [1, 2, 3]})
    assert normalization(model) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    wrapped = nn.ModuleDict({"first": nn.Linear(1, 1), "second": model})
    assert normalization(wrapped) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    wrapped.transform = GeneralizedRCNNTransform(64, 128, [0.7, 0.8, 0.9], [4, 5, 6])
    assert normalization(wrapped) == ((0.7, 0.8, 0.9), (4.0, 5.0, 6.0))
    model.pretrained_cfg["mean"] = (0.5,)
    assert normalization(model)[0] == (0.485, 0.456, 0.406)


def test_imagenet_classes():
    names = imagenet_classes()
    assert len(names) == 1000
    assert (names[0], names[281], names[967]) == ("tench, Tinca tinca", "tabby, tabby cat", "espresso")

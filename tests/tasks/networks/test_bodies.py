import pytest
import safetensors.torch
import timm
import torch

from synreal.core.parts import find_head
from synreal.errors import ConfigError, WeightsError
from synreal.tasks.networks import bodies, check_detector, create_detector, create_segmenter
from tests.tasks.networks.builds import detector, same, segmenter


@pytest.mark.parametrize("build", [segmenter, detector], ids=["segmenter", "detector"])
def test_what_is_fresh_depends_on_the_seed_alone(tmp_path, build):
    torch.manual_seed(1)
    state = timm.create_model("test_resnet", num_classes=5).state_dict()
    file = tmp_path / "mine.safetensors"
    safetensors.torch.save_file(state, file)
    architecture = "fpn" if build is segmenter else "retinanet"
    random, loaded = (build(architecture, "test_resnet", weights=way) for way in ("none", str(file)))
    head = find_head(random)
    a, b = random.state_dict(), loaded.state_dict()
    assert head
    assert all(torch.equal(a[key], b[key]) for key in head)
    entry = "encoder.model." if build is segmenter else "backbone.body."
    pretrained = {key.removeprefix(entry): tensor for key, tensor in b.items() if key.startswith(entry)}
    assert same(pretrained, {key: state[key] for key in state if not key.startswith("fc.")})
    create = create_segmenter if build is segmenter else create_detector
    size = {} if build is segmenter else {"image_size": 64}
    origin = create(architecture, "test_resnet", num_classes=3, weights=str(file), **size)[1]
    assert (origin.source, origin.detail) == ("file", "mine.safetensors")
    del state["layer2.0.conv1.weight"]
    safetensors.torch.save_file(state, file)
    with pytest.raises(WeightsError, match=r"1 missing: layer2\.0\.conv1\.weight"):
        build(architecture, "test_resnet", weights=str(file))


@pytest.mark.parametrize("num_classes", [0, -1, True, 2.0])
def test_classes_are_counted_in_whole_numbers(num_classes):
    with pytest.raises(ConfigError, match="num_classes is"):
        segmenter("unet", num_classes=num_classes)
    with pytest.raises(ConfigError, match="num_classes is"):
        detector("fcos", num_classes=num_classes)


def test_a_network_that_gives_no_features(monkeypatch):
    def refuse(name, **settings):
        raise RuntimeError("features_only not implemented for it")

    bodies.maps_of.cache_clear()
    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(ConfigError, match="timm's 'test_resnet' gives no maps: RuntimeError: features_only"):
        check_detector("fcos", "test_resnet", weights="none")

"""What attach knows of a network."""

import copy
import pickle

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision

from synreal.core.anatomy import Anatomy
from synreal.core.stages import CLASSIFIER_INPUT
from synreal.errors import StageError, TrainingError
from tests.regularizers.contract import Toy


def detector(**settings):
    build = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn
    return build(weights=None, weights_backbone=None, **settings)


def test_a_classifier():
    network = timm.create_model("test_resnet", num_classes=3)
    anatomy = Anatomy.of(network, (CLASSIFIER_INPUT, 4, "4"))
    assert (anatomy.kind, anatomy.entry, anatomy.classifier) == ("ResNet", "", "fc")
    assert {name: stage.path for name, stage in anatomy.stages.items()} == {"4": "layer4", CLASSIFIER_INPUT: "fc"}
    assert anatomy.head == {"fc.weight", "fc.bias"}
    assert anatomy.head | anatomy.backbone == {name for name, _ in network.named_parameters()}
    assert anatomy.last_layers == ("fc",)
    assert anatomy.classes == (3, 1000)
    assert anatomy.statistics is not None
    assert not anatomy.resizes


def test_a_segmenter():
    anatomy = Anatomy.of(smp.Unet("resnet18", encoder_weights=None), [CLASSIFIER_INPUT])
    assert (anatomy.entry, anatomy.classifier, anatomy.classifiers) == ("encoder", "", ())
    # It has no classifier, so its last map stands for the input of one.
    assert {name: stage.path for name, stage in anatomy.stages.items()} == {"4": "encoder.layer4"}
    assert [stage.path for stage in anatomy.inner_stages()] == ["layer4"]
    assert not any(name.startswith("encoder") for name in anatomy.head)
    assert all(name.startswith("encoder") for name in anatomy.backbone)


def test_a_detector():
    anatomy = Anatomy.of(detector(), [3])
    assert (anatomy.entry, anatomy.resizes, anatomy.classifier) == ("backbone.body", True, "")
    assert anatomy.stages["3"].path == "backbone.body.12"
    assert anatomy.statistics == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_what_the_user_names_overrides_what_is_found():
    network = timm.create_model("test_resnet")
    assert Anatomy.of(network, [4], known={"4": "layer3"}).stages["4"].path == "layer3"
    body = Anatomy.of(smp.Unet("resnet18", encoder_weights=None), entry="decoder")
    assert body.entry == "decoder"
    with pytest.raises(StageError, match="no module 'encodr'"):
        Anatomy.of(network, [4], entry="encodr")


def test_it_holds_facts_and_no_module():
    network = Toy()
    anatomy = Anatomy.of(network, [3, 4])
    assert copy.deepcopy(anatomy) == pickle.loads(pickle.dumps(anatomy)) == anatomy == Anatomy.of(network, [3, 4])
    assert not any(isinstance(value, torch.nn.Module) for value in vars(anatomy).values())


def test_images_are_renormalised_where_both_say_what_they_were_made_for():
    network = timm.create_model("test_resnet")
    other = timm.create_model("test_resnet")
    other.pretrained_cfg = {**other.pretrained_cfg, "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.25, 0.2)}
    own, theirs = Anatomy.of(network), Anatomy.of(other)
    pixels = torch.rand(5, 3)
    scale, shift = own.renormalization(theirs)

    def normalised(anatomy):
        mean, std = map(torch.tensor, anatomy.statistics)
        return (pixels - mean) / std

    torch.testing.assert_close(normalised(own) * scale + shift, normalised(theirs))
    assert own.renormalization(own) is None
    assert own.renormalization(Anatomy.of(Toy())) is None


def test_view_0_is_what_the_entry_saw():
    seen = torch.rand(2, 3, 4, 4)
    anatomy = Anatomy.of(Toy())
    assert anatomy.batch(Toy(), 0, [torch.rand(2, 3, 8, 8)], seen, None) is seen
    second = torch.rand(2, 3, 4, 4)
    assert anatomy.batch(Toy(), 1, [seen, second], seen, None) is second
    with pytest.raises(TrainingError, match=r"View 1 reaches the network as \(2, 3, 4, 5\), view 0 as \(2, 3, 4, 4\)"):
        anatomy.batch(Toy(), 1, [seen, torch.rand(2, 3, 4, 5)], seen, None)


def test_a_list_is_resized_with_the_random_numbers_of_view_0():
    network = detector(min_size=(64, 96, 128, 160), max_size=256).train()
    anatomy = Anatomy.of(network)
    images = [torch.rand(3, 64, 80), torch.rand(3, 72, 80)]
    sizes = set()
    for seed in range(6):
        torch.manual_seed(seed)
        drawn = anatomy.drawn([images, images])
        seen = network.transform(images)[0].tensors
        after = torch.get_rng_state()
        again = anatomy.batch(network, 1, [images, [image.clone() for image in images]], seen, drawn)
        assert torch.equal(again, seen)
        assert torch.equal(torch.get_rng_state(), after)
        sizes.add(tuple(seen.shape[-2:]))
    assert len(sizes) > 1


def test_nothing_is_drawn_again_where_views_are_tensors():
    assert Anatomy.of(Toy()).drawn([torch.rand(1), torch.rand(1)]) is None


def test_views_that_do_not_fit_are_refused():
    anatomy = Anatomy.of(Toy())
    image = torch.rand(2, 3, 8, 8)
    anatomy.check_views([image, image])
    with pytest.raises(TrainingError, match="View 1 is a list; Toy takes a tensor"):
        anatomy.check_views([image, [image[0]]])
    with pytest.raises(TrainingError, match=r"View 2 has shape \(2, 3, 8, 4\), view 0 \(2, 3, 8, 8\)"):
        anatomy.check_views([image, image, image[..., :4]])
    Anatomy.of(detector()).check_views([[image[0]], [image[1]]])

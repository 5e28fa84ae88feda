"""Networks as they were pretrained, and what they know of classes."""

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer

import synreal
from synreal.config import make_config
from synreal.engine.subjects import imagenet_classifier
from synreal.errors import ConfigError
from synreal.tasks.classification import Classification
from synreal.weights import create_teacher

SHAPE = {"img_size": 56, "patch_size": 14, "embed_dim": 48, "depth": 4, "num_heads": 2, "dynamic_img_size": True}
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("test_vit.r160_in1k", 1000),
        ("vit_tiny_patch16_224.augreg_in21k", 21843),
        ("vit_small_patch14_dinov2.lvd142m", 0),
        ("resnet50_clip.openai", 0),
    ],
)
def test_a_teacher_has_the_classifier_of_its_weights_or_none(name, classes):
    with torch.device("meta"):
        network, _ = create_teacher(name, weights="none")
    assert network.num_classes == classes
    if classes not in (0, 1000):
        with pytest.raises(ConfigError, match="was pretrained with 21843 classes in place of ImageNet's 1,000"):
            imagenet_classifier(name, "none")


def test_a_transformer_made_for_one_size_teaches_at_others():
    network, _ = create_teacher("vit_tiny_patch16_224", weights="none")
    with torch.no_grad():
        assert network.eval()(torch.zeros(1, 3, 64, 96)).shape == (1, 1000)


def tower(kind):
    """An image tower as DINOv2's with registers, or as CLIP's, small."""
    if kind == "dinov2":
        return VisionTransformer(**SHAPE, num_classes=0, init_values=1e-5, reg_tokens=4, no_embed_class=True)
    network = VisionTransformer(**SHAPE, num_classes=0, pre_norm=True)
    network.pretrained_cfg = {"mean": CLIP[0], "std": CLIP[1]}
    return network


@pytest.mark.parametrize("text", ["guidance(adapter=true)", "gcisg(adapter=true, queue_size=8)"])
@pytest.mark.parametrize("kind", ["dinov2", "clip"])
@pytest.mark.filterwarnings("ignore:norm='frozen':UserWarning")
def test_towers_of_dinov2_and_clip_anchor_a_cnn(kind, text):
    torch.manual_seed(0)
    teacher = tower(kind)
    seen = []
    teacher.patch_embed.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    student = timm.create_model("test_efficientnet", num_classes=3)
    student.pretrained_cfg = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    model = synreal.attach(student, text, reference=teacher)
    view = torch.randn(4, 3, 56, 84)
    seen.clear()
    for _ in range(2):  # the second step has keys to compare with
        out = model(view, view.flip(3))
    out["penalty"].backward()
    assert out["penalty"].isfinite()
    assert out["penalty"] > 0
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in student.parameters())
    assert all(parameter.grad is None for parameter in model.reference.network.parameters())
    if kind == "clip":  # its images have another mean and standard deviation
        pixels = view[0] * torch.tensor((0.229, 0.224, 0.225))[:, None, None]
        pixels = pixels + torch.tensor((0.485, 0.456, 0.406))[:, None, None]
        mean, std = (torch.tensor(values)[:, None, None] for values in CLIP)
        torch.testing.assert_close(seen[0][0], (pixels - mean) / std)


def test_a_backbone_that_takes_no_images_of_a_size_is_refused():
    config = make_config({"backbone": "vit_tiny_patch16_224", "weights": "none", "image_size": 64})
    task = object.__new__(Classification)
    task.spec, task.setup, task.classes = config.task, config.setup, ("a", "b")
    with pytest.raises(ConfigError, match=r"image_size: vit_tiny_patch16_224 takes no images of 64 x 64 .* for 224"):
        task.build_student()

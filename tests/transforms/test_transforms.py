"""Transforms by name, and a model whose student was transformed while its teacher was not."""

import copy
from typing import ClassVar

import pydantic
import pytest
import torch
import torchvision
from torch import nn

import synreal
from synreal.core.anatomy import Anatomy
from synreal.errors import ConfigError
from synreal.registry import registry_of
from synreal.transforms import TRANSFORMS, Transform, available, get, register
from tests.regularizers.contract import bits, network, optimizer_of, same_bits, tiny, train

pytestmark = pytest.mark.usefixtures("own_registry")


class Whitened(nn.Module):
    """Stands for a layer that a transform puts in place of BatchNorm."""

    def __init__(self, before):
        super().__init__()
        self.before = before
        self.norm = nn.InstanceNorm2d(before.num_features, affine=True)

    def forward(self, features):
        return self.norm(self.before(features))


class Shifted(nn.BatchNorm2d):
    """Stands for a layer whose class alone was changed."""

    def forward(self, features):
        return super().forward(features) + 0.5


@pytest.fixture
def toy():
    @register
    class Toy(Transform):
        """Changes the normalisation of the first stages."""

        name: ClassVar[str] = "toy"
        summary: ClassVar[str] = "normalises samples too"

        stages: tuple[str, ...] = ("layer1",)
        swap: bool = True

        def apply(self, network: nn.Module) -> None:
            found = {
                path: layer
                for path, layer in network.named_modules()
                if path.startswith(self.stages) and isinstance(layer, nn.BatchNorm2d)
            }
            if not found:
                raise ConfigError(f"toy finds no BatchNorm in {', '.join(self.stages)} of {type(network).__name__}.")
            for path, layer in found.items():
                if self.swap:
                    network.set_submodule(path, Whitened(layer))
                else:
                    layer.__class__ = Shifted

    return Toy


def test_a_transform_is_known_by_name_and_written_as_text(toy):
    assert get("toy") is toy
    assert "toy" in available()
    assert registry_of("transforms") is TRANSFORMS
    assert TRANSFORMS.get("toy").summary == "normalises samples too"
    spec = TRANSFORMS.spec("toy(stages=('layer1', 'layer2'), swap=false)")
    assert spec == toy(stages=("layer1", "layer2"), swap=False)
    assert spec.model_dump() == {"name": "toy", "stages": ("layer1", "layer2"), "swap": False}
    assert TRANSFORMS.spec(spec.model_dump()) == spec
    with pytest.raises(ConfigError, match=r"Unknown setting of toy 'stage'\. Did you mean 'stages'"):
        TRANSFORMS.spec("toy(stage=3)")
    with pytest.raises(ConfigError, match=r"A transform is a name.*such as ibn\("):
        TRANSFORMS.spec(3)
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        spec.swap = True


def test_an_unknown_transform_suggests_the_nearest(toy):
    with pytest.raises(ConfigError, match="toy"):
        get("tou")


def test_a_clash_is_refused(toy):
    with pytest.raises(ConfigError, match=r"Transform name 'toy' is taken by .*Toy; .*Other needs another"):

        @register
        class Other(Transform):
            """Another of the same name."""

            name: ClassVar[str] = "toy"
            summary: ClassVar[str] = "clashes"

            def apply(self, network: nn.Module) -> None:
                """Change nothing."""


def test_what_is_not_a_transform_is_refused():
    with pytest.raises(ConfigError, match="must be put on a subclass of Transform"):
        register(synreal.CSG)
    with pytest.raises(TypeError, match="abstract"):
        Transform()


def test_a_transform_changes_the_network_in_place(toy):
    student = network()
    before = bits(student)
    assert toy().apply(student) is None
    assert isinstance(student.layer1[0].bn1, Whitened)
    assert same_bits(before["layer1.0.bn1.weight"], student.layer1[0].bn1.before.weight)
    with pytest.raises(ConfigError, match="toy finds no BatchNorm in layer9 of ResNet"):
        toy(stages=("layer9",)).apply(student)


@pytest.mark.parametrize("swap", [True, False])
@pytest.mark.parametrize(
    "build", [network, lambda: torchvision.models.resnet18(weights=None, num_classes=3)], ids=["timm", "torchvision"]
)
def test_stages_are_found_by_name_on_both_sides(toy, build, swap):
    pretrained = build()
    student = copy.deepcopy(pretrained)
    toy(swap=swap).apply(student)
    changed, plain = Anatomy.of(student, (1, 3, 4)), Anatomy.of(pretrained, (1, 3, 4))
    assert changed.stages == plain.stages
    assert changed.classifiers == plain.classifiers == ("fc",)
    assert changed.head == plain.head


@pytest.mark.parametrize("name", ["csg", "feature_l2", "gcisg", "guidance", "kl"])
@pytest.mark.parametrize("swap", [True, False])
@pytest.mark.filterwarnings("ignore:.* reads the reference's own classifier, but that has 3 classes")
def test_a_transformed_student_trains_beside_its_pretrained_self(toy, name, swap):
    pretrained = network()
    student = copy.deepcopy(pretrained)
    toy(swap=swap).apply(student)
    before = bits(pretrained)
    model = synreal.attach(student, tiny(name), reference=pretrained).train()
    assert not any(isinstance(layer, (Whitened, Shifted)) for layer in model.reference.network.modules())
    output = train(model, optimizer_of(model), 3)
    assert output["penalty"].isfinite()
    assert float(output[f"penalty/{name}"]) > 0
    assert same_bits(bits(model.reference.network), before)
    assert student is model.detach()
    assert isinstance(student.layer1[0].bn1, Whitened if swap else Shifted)


def test_distances_tell_a_transformed_student_from_its_teacher(toy):
    pretrained = network()
    student = copy.deepcopy(pretrained)
    toy(stages=("bn1",)).apply(student)
    images = torch.rand(2, 3, 64, 64)
    shares = []
    for network_ in (copy.deepcopy(pretrained), student):
        model = synreal.attach(network_, tiny("feature_l2"), reference=pretrained).train()
        shares.append(float(model(images)["penalty"].detach()))
    assert shares[0] == 0
    assert shares[1] > 0

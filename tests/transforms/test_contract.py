"""What every registered transform has to fulfil, on networks of all three libraries."""

import copy
import pickle

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torch._dynamo
import torchvision
from torch import nn

import synreal
from synreal.core.anatomy import Anatomy
from synreal.core.noise import noise_of
from synreal.core.norm_stats import norm_layers
from synreal.errors import ConfigError
from synreal.transforms import TRANSFORMS, noise_state, remove_noise
from tests.regularizers.contract import Toy, batch, bits, hooks, network, optimizer_of, same_bits, tiny, train

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")

NAMES = [name for name, cls in TRANSFORMS.registered().items() if cls.__module__.startswith("synreal.")]
# Settings with which a transform runs other code than with its defaults.
VARIANTS = ["ibn(variant=b)", "np(plus=true, p=1)"]
# All that happens by chance does.
ALL = [*(f"{name}(p=1)" if "p" in TRANSFORMS.get(name).model_fields else name for name in NAMES), *VARIANTS]
NOISE = [text for text in ALL if not TRANSFORMS.spec(text).changes_state]
LAYERS = [text for text in ALL if text not in NOISE]
NETWORKS = {
    "timm resnet": lambda: timm.create_model("resnet18", num_classes=3),
    "timm efficientnet": lambda: timm.create_model("efficientnet_lite0", num_classes=3),
    "torchvision": lambda: torchvision.models.resnet18(weights=None, num_classes=3),
    "smp": lambda: smp.Unet("resnet18", encoder_weights=None, decoder_channels=(16, 8, 8, 4, 4), classes=2),
}


IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def lively(model):
    """Give each BatchNorm a scale, where a last one of a block is made with 0 and would hide what the others do."""
    with torch.no_grad():
        for layer in norm_layers(model):
            layer.weight.add_(0.1)
    return model.eval()


def spec(text):
    return TRANSFORMS.spec(text)


@pytest.fixture(scope="module")
def pretrained():
    return network()


@pytest.fixture(scope="module")
def built():
    """Networks of the libraries, their anatomy, and what they make of images; a test takes copies."""
    found = {}
    for name, build in NETWORKS.items():
        model = lively(build())
        with torch.no_grad():
            found[name] = model, Anatomy.of(model, (1, 3, 4)), model(IMAGES)
    return found


def transformed(pretrained, text):
    student = copy.deepcopy(pretrained)
    torch.manual_seed(11)
    spec(text).apply(student)
    return student


def test_synreals_own_say_where_they_are_from():
    assert {"dsu", "efdmix", "ibn", "instance_whitening", "mixstyle", "np"} <= set(NAMES)
    assert all(TRANSFORMS.get(name).paper for name in NAMES)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (kind, text)
        for kind in NETWORKS
        for text in ALL
        if text in LAYERS or kind == "timm resnet" or text.startswith("dsu")  # noise is put on places, and dsu on all
    ],
)
def test_it_fits_the_networks_of_all_libraries(built, kind, text):
    plain, before, want = built[kind]
    student = copy.deepcopy(plain)
    assert spec(text).apply(student) is None
    assert not any(module.training for module in student.modules())
    after = Anatomy.of(student, (1, 3, 4))
    assert (after.stages, after.head, after.classifiers) == (before.stages, before.head, before.classifiers)
    with torch.no_grad():
        same = torch.equal(student(IMAGES), want)
    assert same == (list(student.state_dict()) == list(plain.state_dict())) == (text in NOISE)
    output = student.train()(IMAGES)
    output.sum().backward()
    assert output.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in student.parameters())


def test_they_fit_a_detector():
    detector = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=64
    ).train()
    spec("ibn(variant=b)").apply(detector)
    spec("dsu(p=1)").apply(detector)
    assert len(noise_of(detector)) == 6
    assert sorted(key for key in detector.state_dict() if "IN.weight" in key) == [
        "backbone.body.3.IN.weight", "backbone.body.6.IN.weight",
    ]  # fmt: skip
    targets = [{"boxes": torch.tensor([[4.0, 4, 40, 40]]), "labels": torch.tensor([1])}] * 2
    losses = detector(list(IMAGES), targets)
    sum(losses.values()).backward()
    assert all(value.isfinite() for value in losses.values())
    assert next(detector.backbone.body.parameters()).grad.isfinite().all()
    assert all(path.startswith("backbone.body.") for path, _, _ in noise_of(detector))
    assert all(int(state[1]) == 1 for state in noise_state(detector).values())


@pytest.mark.parametrize("text", ALL)
def test_copies_pickles_and_state_dicts_go_on_alike(pretrained, text):
    student = transformed(pretrained, text).train()
    images = batch(0)[0]
    student(images)
    rebuilt = transformed(network(seed=1), text).train()
    rebuilt.load_state_dict(student.state_dict(), strict=True)
    synreal.transforms.load_noise_state(rebuilt, noise_state(student))
    twins = [pickle.loads(pickle.dumps(student)), copy.deepcopy(student), rebuilt]
    want = student(images)
    state = noise_state(student)
    for twin in twins:
        assert torch.equal(twin(images), want)
        assert same_bits(noise_state(twin), state)
    student(images)
    assert all(same_bits(noise_state(twin), state) for twin in twins)  # each has its own


@pytest.mark.parametrize("text", ["ibn(variant=b)"])  # tracing takes seconds
def test_a_compiled_network_is_the_same(pretrained, text):
    student = transformed(pretrained, text).train()
    compiled = copy.deepcopy(student)
    torch._dynamo.reset()
    compiled.compile(backend="eager", fullgraph=True)
    images = batch(0)[0]
    for _ in range(2):
        torch.testing.assert_close(compiled(images), student(images), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(compiled.eval()(images), student.eval()(images), rtol=1e-4, atol=1e-5)
    torch._dynamo.reset()


def test_a_compiled_model_takes_the_same_step():
    ended = []
    student = transformed(Toy(), "mixstyle(p=1)")
    for compiled in (False, True):
        torch.manual_seed(1)
        model = synreal.attach(copy.deepcopy(student), tiny("csg")).train()
        optimizer = optimizer_of(model)
        torch._dynamo.reset()
        if compiled:
            model.compile(backend="eager", fullgraph=True)
        train(model, optimizer, 2)
        ended.append(bits(model))
    torch._dynamo.reset()
    assert list(ended[0]) == list(ended[1])
    assert ended[0]["noise._extra_state"][:, 1].tolist() == [2, 2]  # not the further pass of the student
    for key, value in ended[0].items():
        torch.testing.assert_close(ended[1][key], value, rtol=1e-4, atol=1e-5, msg=key)


@pytest.mark.parametrize("text", ALL)
def test_channels_last_and_bfloat16(pretrained, text):
    student = transformed(pretrained, text).to(memory_format=torch.channels_last).train()
    seen = {}
    for path in ("layer1", "layer2"):
        student.get_submodule(path).register_forward_hook(lambda _m, _a, out, path=path: seen.update({path: out}))
    images = batch(0)[0].to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        output = student(images)
    output.float().sum().backward()
    assert all(value.dtype == torch.bfloat16 for value in seen.values())
    assert all(value.is_contiguous(memory_format=torch.channels_last) for value in seen.values())
    assert all(p.grad.isfinite().all() for p in student.parameters())
    other = transformed(pretrained, text).train()
    for layer in norm_layers(other):
        layer.eval()
    wide = copy.deepcopy(other).to(memory_format=torch.channels_last)
    torch.testing.assert_close(wide(images), other(batch(0)[0]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("text", "given"), [*((text, True) for text in ALL), (NOISE[0], False)])
def test_the_teacher_is_not_transformed(pretrained, text, given):
    student, before = transformed(pretrained, text), bits(pretrained)
    model = synreal.attach(student, tiny("feature_l2"), reference=pretrained if given else None).train()
    teacher = model.reference.network
    assert noise_of(teacher) == []
    assert [type(module) for module in teacher.modules()] == [type(module) for module in pretrained.modules()]
    assert dict(teacher.named_buffers()).keys() == dict(pretrained.named_buffers()).keys()
    images = batch(0)[0]
    teacher_maps = model.reference(images)
    plain = synreal.attach(copy.deepcopy(pretrained), tiny("feature_l2")).reference(images)
    assert same_bits(dict(teacher_maps), dict(plain))
    train(model, optimizer_of(model), 1)
    assert same_bits(bits(pretrained), before)
    assert same_bits(bits(teacher), before)


@pytest.mark.parametrize("text", ALL)
def test_detach_gives_the_student_back_as_it_was_handed_over(pretrained, text):
    student = transformed(pretrained, text)
    count, paths = hooks(student), [path for path, _, _ in noise_of(student)]
    model = synreal.attach(student, "none").train()
    model(IMAGES)
    assert model.detach() is student
    assert hooks(student) == count
    assert [path for path, _, _ in noise_of(student)] == paths
    assert remove_noise(student) == paths
    assert noise_of(student) == []
    if text in NOISE:
        assert hooks(student) == 0
        assert dict(student.named_buffers()).keys() == dict(pretrained.named_buffers()).keys()
        spec(text).apply(student)  # and again
    synreal.attach(student, "none").detach()


@pytest.mark.parametrize("text", ALL)
def test_what_is_attached_compiled_or_has_nothing_to_change_is_refused(pretrained, text):
    student = copy.deepcopy(pretrained)
    model = synreal.attach(student, "none")
    with pytest.raises(ConfigError, match=rf"attached to this network already: apply {spec(text).name} first"):
        spec(text).apply(student)
    model.detach()
    with pytest.raises(ConfigError, match="compiled or wrapped already"):
        spec(text).apply(torch.compile(student, backend="eager"))
    with pytest.raises(synreal.errors.SynrealError):
        spec(text).apply(nn.Sequential(nn.Flatten(), nn.LazyLinear(3)))

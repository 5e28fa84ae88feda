import copy

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn
from torch.nn import functional as F

import synreal
from synreal.core.norm_stats import hold_norm_stats, norm_layers
from synreal.core.stages import CLASSIFIER_INPUT
from synreal.errors import ConfigError, StageError, TrainingError
from tests.core.networks import detector as plain_detector
from tests.regularizers.contract import Toy, batch, bits, hooks, network, optimizer_of, same_bits, tiny, train


def modes(model):
    return {name: module.training for name, module in model.named_modules()}


@pytest.mark.parametrize("training", [True, False])
def test_attaching_keeps_each_modules_mode(training):
    student = network().train(training)
    student.bn1.train(not training)
    before = modes(student)
    model = synreal.attach(student, [tiny("csg"), tiny("feature_l2")], norm="train")
    assert modes(student) == before
    assert model.training == training


def test_attaching_changes_no_weight():
    student = network()
    before = bits(student)
    model = synreal.attach(student, tiny("csg"))
    assert same_bits(bits(model.student), before)
    assert hooks(student) == 3


def test_one_or_several_in_any_form():
    for given in ("none", ["none"], synreal.NoRegularizer(), [synreal.NoRegularizer()], "none(weight=2)"):
        assert list(synreal.attach(Toy(), given).terms) == ["none"]
    assert list(synreal.attach(Toy(), ["feature_l2(stages=3)", tiny("csg"), "none"]).terms) == [
        "feature_l2",
        "csg",
        "none",
    ]


def test_attaching_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"No regularizer given\. Use 'none'"):
        synreal.attach(Toy(), [])


@pytest.mark.parametrize("first", ["oracle", "feature_l2"])
def test_attaching_twice_is_refused_until_detached(first):
    student = Toy()
    model = synreal.attach(student, first)
    for again in (student, model):
        with pytest.raises(ConfigError, match="attached to this network already"):
            synreal.attach(again, "feature_l2")
    synreal.attach(model.detach(), "feature_l2")


@pytest.mark.parametrize("wrap", [lambda m: torch.compile(m, backend="eager"), nn.parallel.DistributedDataParallel])
def test_attaching_to_a_wrapped_network_is_refused(wrap, monkeypatch):
    monkeypatch.setattr(nn.parallel.DistributedDataParallel, "__init__", lambda self, module: nn.Module.__init__(self))
    with pytest.raises(ConfigError, match="attach first, then compile, then wrap in DDP"):
        synreal.attach(wrap(Toy()), "none")


@pytest.mark.parametrize("specs", [["oracle", "feature_l2"], ["csg", "csg(stages=layr)"]])
def test_an_attach_that_fails_leaves_no_trace(specs):
    student, other = Toy(), Toy(widths=(4, 8, 8, 12, 6))
    before, grads = modes(student), [p.requires_grad for p in student.parameters()]
    with pytest.raises(StageError):
        synreal.attach(student, specs, reference=other)
    assert hooks(student) == 0
    assert modes(student) == before
    assert [p.requires_grad for p in student.parameters()] == grads


def test_the_reference_may_be_another_network():
    torch.manual_seed(0)
    student, other = Toy(), Toy(num_classes=7)
    model = synreal.attach(student, tiny("feature_l2"), reference=other).train()
    view0 = batch(0)[0]
    want = (student.blocks(view0) - other.blocks(view0)).square().sum(1).mean()
    torch.testing.assert_close(model(view0)["penalty"], want)
    assert hooks(other) == 0
    assert all(p.requires_grad for p in other.parameters())
    assert model.reference.network is not other


def test_the_users_stage_names_hold_for_the_reference_too():
    torch.manual_seed(0)
    student, other = Toy(), Toy()
    model = synreal.attach(student, tiny("feature_l2"), reference=other, stages={4: "blocks.2"}).train()
    view0 = batch(0)[0]
    want = (student.blocks[:3](view0) - other.blocks[:3](view0)).square().sum(1).mean()
    torch.testing.assert_close(model(view0)["penalty"], want)


def test_a_reference_of_other_widths_is_refused():
    other = Toy(widths=(4, 8, 8, 12, 6))
    with pytest.raises(StageError, match=r"stage 4 .*has 16 channels there and the reference 6"):
        synreal.attach(Toy(), "feature_l2", reference=other)


def test_a_reference_without_the_classifier_that_a_term_looks_at_is_refused():
    class Penultimate(synreal.FeatureL2):
        """Compares what the classifiers are given."""

        @property
        def wanted_stages(self):
            return (CLASSIFIER_INPUT,)

    other = network()
    other.reset_classifier(0)
    with pytest.raises(StageError, match=r"input of the classifier, which ResNet, the reference, does not have"):
        synreal.attach(network(), Penultimate(), reference=other)


def test_a_reference_that_nothing_needs_is_refused():
    with pytest.raises(ConfigError, match=r"no regularizer looks at it \(none\)\. Leave it out"):
        synreal.attach(Toy(), "none", reference=Toy())


def test_views_of_different_shapes_are_refused():
    model = synreal.attach(Toy(), tiny("csg")).train()
    view0, view1, _ = batch(0)
    with pytest.raises(TrainingError, match=r"View 1 has shape \(4, 3, 64, 32\), view 0 \(4, 3, 64, 64\)"):
        model(view0, view1[..., :32])


def test_the_terms_see_the_maps_of_their_views():
    torch.manual_seed(0)
    student = Toy()
    model = synreal.attach(student, [tiny("csg"), tiny("feature_l2")]).train()
    assert model.views == 2
    seen = []
    for term in model.terms.values():
        term.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    with torch.no_grad():
        student.fc.weight.zero_()
        student.blocks[0][0].weight.mul_(2)
    view0, view1, _ = batch(0)
    model(view0, view1)
    assert seen[0] is seen[1]
    maps = {(p.net, p.view): value for p, value in seen[0].maps.items()}
    assert set(maps) == {("student", 0), ("student", 1), ("reference", 0), ("reference", 1)}
    for (net, view), value in maps.items():
        source = student if net == "student" else model.reference.network
        assert torch.equal(value["4"], source.blocks((view0, view1)[view]))
        assert value["4"].requires_grad == ((net, view) == ("student", 0))


def test_keyword_arguments_reach_the_student():
    class Scaled(Toy):
        def forward(self, images, factor=1.0):
            return super().forward(images) * factor

    model = synreal.attach(Scaled(), tiny("feature_l2")).train()
    view0 = batch(0)[0]
    assert torch.equal(model(view0, factor=3.0)["output"], model(view0)["output"] * 3.0)
    assert torch.equal(model.eval()(view0, factor=3.0)["output"], model(view0)["output"] * 3.0)


def test_binding_again_replaces_the_first_optimizer(monkeypatch):
    model = synreal.attach(Toy(), tiny("csg")).train()
    steps = []
    monkeypatch.setattr(model, "after_step", lambda: steps.append(1))
    first, second = optimizer_of(model), optimizer_of(model)
    train(model, first, 1)
    assert steps == []
    train(model, second, 1)
    assert steps == [1]


def test_binding_something_else_is_refused():
    with pytest.raises(ConfigError, match="takes an optimizer, got int"):
        synreal.attach(Toy(), "none").bind(3)


def test_accumulated_batches_all_enter_the_queue():
    model = synreal.attach(Toy(), tiny("csg", stages=(4,))).train()
    optimizer = optimizer_of(model)
    train(model, optimizer, 2, rows=2)
    for step in range(2):
        view0, view1, _ = batch(step, rows=3)
        output = model(view0, view1)
        (output["output"].sum() + output["penalty"]).backward()
    queue = model.get_submodule("terms.csg.contrasts.stage_4.queue")
    head = model.get_submodule("terms.csg.contrasts.stage_4")
    assert int(queue.count) == 4
    before = copy.deepcopy(head.key_head.average.state_dict())
    optimizer.step()
    assert int(queue.count) == 10
    assert float(queue.keys().norm(dim=1).sub(1).abs().max()) < 1e-5
    for key, value in head.key_head.average.state_dict().items():  # one move for one step
        torch.testing.assert_close(value, 0.9 * before[key] + 0.1 * head.head.state_dict()[key])
        assert not torch.equal(value, before[key])


def test_csg_is_its_equation():
    torch.manual_seed(0)
    model = synreal.attach(Toy(), "csg(stages=(3, 4), dim=8, queue_size=6, weight=0.5, temperature=0.2)").train()
    train(model, optimizer_of(model), 3)
    view0, view1, _ = batch(3)
    student, teacher = copy.deepcopy(model.student), model.reference.network
    want = 0.0
    for stage, depth in ((3, 4), (4, 5)):
        part = model.get_submodule(f"terms.csg.contrasts.stage_{stage}")

        def attend(source, pooled):
            scores = (source * source.mean((2, 3), keepdim=True)).sum(1, keepdim=True)
            return (pooled * scores / scores.sum((2, 3), keepdim=True)).sum((2, 3))

        anchors, keys = student.blocks[:depth](view0), student.blocks[:depth](view1)
        z = F.normalize(part.head.layers(attend(anchors, anchors)), dim=1)
        positive = F.normalize(part.key_head.average.layers(attend(keys, teacher.blocks[:depth](view1))), dim=1)
        logits = torch.cat([(z * positive).sum(1, keepdim=True), z @ part.queue.bank.T], dim=1) / 0.2
        want = want + 0.5 * F.cross_entropy(logits, torch.zeros(len(z), dtype=torch.long))
    torch.testing.assert_close(model(view0, view1)["penalty"], want, rtol=1e-5, atol=1e-6)


def test_gap_pooling_spares_a_pass():
    assert len(tiny("csg").passes) == 3
    assert len(tiny("csg", pooling="gap").passes) == 2
    model = synreal.attach(Toy(), tiny("csg", pooling="gap")).train()
    train(model, optimizer_of(model), 2)


def test_an_smp_model_shares_its_encoder_alone():
    student = smp.Unet("resnet18", encoder_weights=None, decoder_channels=(16, 8, 8, 4, 4)).train()
    with torch.no_grad():
        student(torch.rand(2, 3, 64, 64))
    model = synreal.attach(student, [tiny("csg"), tiny("feature_l2")], norm="train")
    assert model.entry == "encoder"
    assert not any(name.startswith(("decoder", "segmentation")) for name in model.reference.network.state_dict())
    view0, view1, _ = batch(0, rows=2)
    output = model(view0, view1)
    assert output["output"].shape == (2, 1, 64, 64)
    output["penalty"].backward()
    assert student.encoder.conv1.weight.grad.any()


def test_the_oracle_trains_the_head_alone():
    student = network()
    model = synreal.attach(student, "oracle").train()
    before = bits(student)
    train(model, optimizer_of(model), 3)
    changed = {name for name, value in student.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"fc.weight", "fc.bias"}
    assert {name for name, p in student.named_parameters() if p.requires_grad} == {"fc.weight", "fc.bias"}
    model.detach()
    assert all(p.requires_grad for p in student.parameters())
    student.train()(batch(0)[0])
    assert not torch.equal(student.bn1.running_mean, before["bn1.running_mean"])


def test_the_oracle_gives_back_only_what_it_took():
    student = network()
    student.conv1[0].weight.requires_grad_(False)
    synreal.attach(student, "oracle").detach()
    assert [name for name, p in student.named_parameters() if not p.requires_grad] == ["conv1.0.weight"]


def test_the_oracle_holds_statistics_of_a_backbone_that_was_frozen_before():
    student = network()
    for name, parameter in student.named_parameters():
        parameter.requires_grad_(name.startswith("fc."))
    before = bits(student)
    model = synreal.attach(student, "oracle").train()
    train(model, optimizer_of(model), 1)
    assert torch.equal(student.bn1.running_mean, before["bn1.running_mean"])


def test_the_oracle_lets_the_heads_own_statistics_move():
    student = smp.Unet("resnet18", encoder_weights=None, decoder_channels=(16, 8, 8, 4, 4)).train()
    before = bits(student)
    synreal.attach(student, "oracle").train()(batch(0, rows=2)[0])
    moved = {name.split(".")[0] for name, value in student.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"decoder"}


def test_the_oracle_needs_a_head():
    class Headless(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Conv2d(3, 2, 1)

        def forward(self, images):
            return self.body(images)

    student = Headless()
    with pytest.raises(StageError, match="no head was found"):
        synreal.attach(student, "oracle")
    assert student.body.weight.requires_grad


def test_regularizers_work_beside_the_oracle():
    model = synreal.attach(network(), ["oracle", tiny("csg"), tiny("feature_l2")]).train()
    output = train(model, optimizer_of(model), 2)
    assert output["penalty"].isfinite()


def test_held_statistics_stand_still_and_change_no_output():
    model, images = network(), batch(0)[0]
    other = copy.deepcopy(model)
    before = bits(model)
    with hold_norm_stats(model):
        held = model(images)
    assert same_bits(bits(model), before)
    assert torch.equal(held, other(images))
    assert not same_bits(bits(other), before)
    with pytest.raises(ArithmeticError), hold_norm_stats(model):
        raise ArithmeticError
    assert all(layer.track_running_stats for layer in norm_layers(model))
    model(images)
    assert same_bits(bits(model), bits(other))


# --- segmenters and detectors: views at the entry ---


class Body(Toy):
    def forward(self, images):
        return self.blocks(images)


class Pyramid(nn.Module):
    """A detector's backbone as synreal finds it: a body with stages, and what makes a level of its maps."""

    out_channels = 8

    def __init__(self):
        super().__init__()
        self.body = Body()
        self.level = nn.Conv2d(16, 8, 1)

    def forward(self, images):
        return {"0": self.level(self.body(images))}


def detector(min_size):
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.rpn import AnchorGenerator
    from torchvision.ops import MultiScaleRoIAlign

    return FasterRCNN(
        Pyramid(),
        num_classes=3,
        min_size=min_size,
        max_size=256,
        rpn_anchor_generator=AnchorGenerator(((32,),), ((1.0,),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], 2, 2),
        box_batch_size_per_image=8,
    )


def shots(count=2):
    images = [torch.rand(3, 64 + 8 * index, 80) for index in range(count)]
    targets = [{"boxes": torch.tensor([[8.0, 8, 40, 40]]), "labels": torch.tensor([1])} for _ in images]
    return images, targets


@pytest.mark.parametrize("min_size", [96, (64, 96, 128, 160)])
def test_a_list_as_view_1_is_resized_as_the_detector_resized_view_0(min_size):
    student = detector(min_size)
    model = synreal.attach(student, tiny("csg(patches=2)"))
    model.bind(optimizer_of(model))
    shapes, entered = set(), []
    student.backbone.body.register_forward_pre_hook(lambda _, args: entered.append(args[0]))
    reference = model.reference.network
    reference.register_forward_pre_hook(lambda _, args: entered.append(args[0]))
    for seed in range(6):
        torch.manual_seed(seed)
        images, targets = shots()
        entered.clear()
        model(images, [image.clone() for image in images], targets=targets)
        # Same pixels in both views: whatever reached the student reached the teacher, to the bit.
        assert len(entered) >= 2
        assert all(torch.equal(one, entered[0]) for one in entered)
        shapes.add(tuple(entered[0].shape[-2:]))
    assert (len(shapes) > 1) == isinstance(min_size, tuple)


def test_view_1_draws_no_random_number_of_its_own():
    student = detector((64, 96, 128))
    images, targets = shots()

    def state_after(*views):
        model = synreal.attach(copy.deepcopy(student), tiny("csg"))
        torch.manual_seed(3)
        model.train()(*views, targets=targets)
        return torch.get_rng_state()

    first = state_after(images, images)
    assert torch.equal(first, state_after(images, [image.flip(-1) for image in images]))


@pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")
@pytest.mark.parametrize("size", [(96, 96), (64, 64)])
def test_a_view_of_another_shape_than_the_entry_saw_is_refused(size):
    segmenter = smp.Unet("resnet18", encoder_weights=None, classes=2)
    model = synreal.attach(segmenter, tiny("csg"))
    with pytest.raises(TrainingError, match=r"View 1 reaches encoder as \(2, 3, .*one shape and geometry"):
        model(torch.rand(2, 3, 64, 96), torch.rand(2, 3, *size))
    images, targets = shots()
    found = synreal.attach(detector(96), tiny("csg"))
    with pytest.raises(TrainingError, match=r"View 1 reaches backbone\.body"):
        found(images, [image[:, :40] for image in images], targets=targets)


def test_lists_are_for_detectors():
    with pytest.raises(TrainingError, match="View 1 is a list; Toy takes a tensor"):
        synreal.attach(Toy(), tiny("csg"))(torch.rand(2, 3, 64, 64), [torch.rand(3, 64, 64)] * 2)


@pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")
@pytest.mark.parametrize("kind", ["segmenter", "detector"])
def test_a_reference_with_other_statistics_sees_images_that_fit_it(kind):
    reference = timm.create_model("test_resnet", num_classes=4)
    reference.pretrained_cfg = {**reference.pretrained_cfg, "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.25, 0.2)}
    if kind == "segmenter":
        student = smp.create_model("fpn", encoder_name="tu-test_resnet", encoder_weights=None, classes=2)
        mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        for module in student.encoder.modules():
            if isinstance(getattr(module, "pretrained_cfg", None), dict):
                mean, std = module.pretrained_cfg["mean"], module.pretrained_cfg["std"]
    else:
        student = detector(64)
        mean, std = student.transform.image_mean, student.transform.image_std
    model = synreal.attach(student, synreal.Guidance(stages=(4,), adapter=True), reference=reference)
    pixels = torch.rand(2, 3, 64, 64)
    normalised = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    expected = (pixels - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([0.5, 0.25, 0.2]).view(3, 1, 1)
    torch.testing.assert_close(model.reference.adapt(normalised), expected, rtol=1e-5, atol=1e-5)


def on_meta():
    with torch.device("meta"):
        return Toy()


def partly_on_meta():
    student = network()
    student.layer4.to("meta")
    return student


@pytest.mark.parametrize(
    "build", [on_meta, partly_on_meta, lambda: nn.Sequential(nn.LazyConv2d(3, 1), nn.LazyLinear(2))]
)
def test_a_network_without_values_is_refused(build):
    for call in (lambda: synreal.attach(build(), "none"), lambda: synreal.zero_head(build())):
        with pytest.raises(ConfigError, match=r"has no values for \d+ of its \d+ parameters and buffers, e\.g\."):
            call()
    with pytest.raises(ConfigError, match=r"The reference, \w+, has no values"):
        synreal.attach(network(), tiny("guidance"), reference=build())


@pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")
@pytest.mark.parametrize("name", ["guidance", "kl(adapter=true)"])
def test_a_reference_that_takes_other_images_is_refused(name):
    build = {count: timm.create_model("test_resnet", num_classes=3, in_chans=count) for count in (1, 3)}
    with pytest.raises(StageError, match=r"images of 1 channel\(s\), the reference of 3.*in_chans=1"):
        synreal.attach(build[1], tiny(name), reference=build[3])
    with pytest.raises(StageError, match=r"images of 3 channel\(s\), the reference of 1"):
        synreal.attach(build[3], tiny(name), reference=build[1])
    other = timm.create_model("test_resnet", num_classes=1000, in_chans=1)
    synreal.attach(build[1], tiny(name), reference=other)


@pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")
@pytest.mark.parametrize(
    "build", [lambda: smp.Unet("resnet18", encoder_weights=None), plain_detector], ids=["seg", "det"]
)
def test_a_classifier_teaches_a_network_without_one(build):
    student = build()
    model = synreal.attach(student, "kl(adapter=true)", reference=timm.create_model("resnet18"))
    assert list(model.anatomy.stages) == ["4"]

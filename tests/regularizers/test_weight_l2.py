import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

import synreal
from synreal.errors import ConfigError, DataError, TrainingError
from synreal.functional import weight_l2
from tests.functional.test_pooling import PROPERTY, same_as_reference
from tests.reference import maths
from tests.regularizers.contract import Toy, batch, bits, optimizer_of, tiny, train

SIZES = st.lists(st.lists(st.integers(1, 3), min_size=0, max_size=3), min_size=1, max_size=3)


def weights(shapes, seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


@pytest.mark.parametrize("weighted", [False, True])
@PROPERTY
@given(shapes=SIZES, spread=st.sampled_from([1.0, 100.0]), seed=st.integers(0, 1 << 16))
def test_value_and_gradient_agree_with_the_equation(weighted, shapes, spread, seed):
    anchors = weights(shapes, seed + 1)
    importance = [value.abs() * spread for value in weights(shapes, seed + 2)] if weighted else None
    wide = [[value.double() for value in values] for values in (anchors, importance or [])]
    same_as_reference(
        lambda *w: weight_l2(w, anchors, importance),
        lambda *w: maths.weight_l2(w, wide[0], wide[1] or None),
        weights(shapes, seed),
        1e-6,
        1e-5,
    )


def test_gradient_passes_gradcheck():
    values = [value.requires_grad_() for value in weights([(2, 3), (4,)], 1, torch.float64)]
    anchors, importance = (weights([(2, 3), (4,)], seed, torch.float64) for seed in (2, 3))
    assert torch.autograd.gradcheck(lambda *w: weight_l2(w, anchors, importance), values)


def test_importance_is_one_by_default_and_zero_frees_a_weight():
    values, anchors = (weights([(3,)], seed) for seed in (1, 2))
    assert torch.equal(weight_l2(values, anchors), weight_l2(values, anchors, [torch.ones(3)]))
    assert float(weight_l2(values, anchors, [torch.zeros(3)])) == 0
    far = [values[0] + torch.tensor([0.0, 100.0, 0.0])]
    omega = [torch.tensor([1.0, 0.0, 1.0])]
    assert torch.equal(weight_l2(far, anchors, omega), weight_l2(values, anchors, omega))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    values, anchors = [torch.full((500,), 300.0, dtype=dtype)], [torch.full((500,), -300.0, dtype=dtype)]
    distance = weight_l2(values, anchors)
    assert distance.dtype == torch.float32
    assert float(distance) == 500 * 600.0**2


def test_weights_at_their_anchors_cost_nothing():
    values = [value.requires_grad_() for value in weights([(2, 3)], 1)]
    distance = weight_l2(values, [value.detach() for value in values])
    distance.backward()
    assert float(distance.detach()) == 0
    assert not values[0].grad.any()


def test_as_many_anchors_as_weights():
    with pytest.raises(ValueError, match="zip"):
        weight_l2(weights([(2,), (3,)], 1), weights([(2,)], 1))


def test_the_heads_weights_are_free():
    model = synreal.attach(Toy(), tiny("weight_l2")).train()
    with torch.no_grad():
        model.student.fc.weight.add_(1)
        model.student.fc.bias.add_(1)
    assert float(model(batch(0)[0])["penalty"].detach()) == 0
    with torch.no_grad():
        model.student.blocks[4][1].bias.add_(0.5)
    assert float(model(batch(0)[0])["penalty"].detach()) == pytest.approx(16 * 0.25)


def test_a_backbone_that_does_not_learn_has_nothing_to_hold():
    student = Toy()
    student.blocks.requires_grad_(False)
    with pytest.raises(ConfigError, match="no parameters that learn"):
        synreal.attach(student, tiny("weight_l2"))


def test_the_penalty_is_that_of_the_weights_that_learn_now():
    student = Toy()
    student.blocks[:4].requires_grad_(False)
    model = synreal.attach(student, tiny("weight_l2")).train()
    with torch.no_grad():
        for parameter in student.blocks.parameters():
            parameter += 0.5
    for learning in (range(4, 5), range(5), range(0), range(1)):
        for index, block in enumerate(student.blocks):
            block.requires_grad_(index in learning)
        count = sum(parameter.numel() for index in learning for parameter in student.blocks[index].parameters())
        assert float(model(batch(0)[0])["penalty"].detach()) == pytest.approx(0.25 * count)


def fisher_of(network, images):
    """Mean over images of the squared gradient of the log-likelihood of the predicted class, by parameter name."""
    sums = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in network.named_parameters()}
    for image in images:
        network.zero_grad()
        scores = network(image[None].double())[0]
        scores.log_softmax(0)[int(scores.argmax())].backward()
        for name, value in network.named_parameters():
            sums[name] += value.grad**2
    return {name: value / len(images) for name, value in sums.items()}


@pytest.mark.parametrize(("samples", "used"), [(5, 5), (50, 8)])
def test_the_fisher_information_agrees_with_the_definition(samples, used):
    student, reference = Toy(), Toy(num_classes=5)
    reference.load_state_dict({k: v for k, v in student.state_dict().items() if "fc" not in k}, strict=False)
    naive = copy.deepcopy(reference).double()
    spec = tiny("weight_l2", importance="fisher", fisher_samples=samples)
    model = synreal.attach(student, spec, reference=reference).train()
    batches = [batch(step)[0] for step in range(2)]
    with pytest.raises(TrainingError, match=r"weight_l2 must see images.*model\.calibrate"):
        model(batches[0])
    assert model.calibrate(batches) is model
    want = fisher_of(naive, torch.cat(batches)[:used])
    held = model.state_dict()
    for name, value in want.items():
        if "fc" not in name:
            key = f"terms.weight_l2.fisher.{name.replace('.', '/')}"
            torch.testing.assert_close(held[key].double(), value, rtol=1e-4, atol=1e-9)
    assert not any("fc" in key for key in held if "fisher" in key)
    assert all(parameter.grad is None for parameter in model.parameters())
    anchors = {name: value.detach().double() for name, value in student.named_parameters()}
    train(model, optimizer_of(model), 2)
    names = [name for name in anchors if "fc" not in name]
    current = dict(student.named_parameters())
    expected = sum(float((want[n] * (current[n].detach().double() - anchors[n]) ** 2).sum()) for n in names)
    assert expected > 0
    assert float(model(batches[0])["penalty"].detach()) == pytest.approx(expected, rel=1e-5)


def test_the_fisher_information_is_of_images_as_the_reference_knows_them():
    student, reference = Toy(), Toy()
    student.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    reference.pretrained_cfg = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.5)}
    model = synreal.attach(student, tiny("weight_l2", importance="fisher"), reference=reference).train()
    images = batch(0)[0]
    model.calibrate([images])
    mean, std = (torch.tensor(reference.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    want = fisher_of(copy.deepcopy(reference).double(), (images * 0.5 + 0.5 - mean) / std)
    held = model.state_dict()["terms.weight_l2.fisher.blocks/4/0/weight"].double()
    torch.testing.assert_close(held, want["blocks.4.0.weight"], rtol=1e-3, atol=1e-9)


def test_fisher_needs_an_image_and_is_saved():
    model = synreal.attach(Toy(), tiny("weight_l2", importance="fisher")).train()
    with pytest.raises(DataError, match="no image"):
        model.calibrate([])
    model.calibrate([batch(0)[0]])
    again = synreal.attach(copy.deepcopy(model).detach(), tiny("weight_l2", importance="fisher")).train()
    assert again.terms["weight_l2"].wants_images
    again.load_state_dict(bits(model))
    assert not again.terms["weight_l2"].wants_images
    output = again(batch(0)[0])
    (F.cross_entropy(output["output"], batch(0)[2]) + output["penalty"]).backward()

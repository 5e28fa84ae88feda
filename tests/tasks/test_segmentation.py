import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from synreal.config import RunConfig
from synreal.data.sets import ArrayMasks
from synreal.functional.losses import pixel_cross_entropy
from synreal.tasks.segmentation import Segmentation, window_starts
from synreal.weights import Student, WeightsOrigin


def naive(logits, masks, weights=None, hardest=None):
    """Cross-entropy pixel by pixel, in Python's own floats."""
    found = []
    for image, mask in zip(logits.double(), masks, strict=True):
        for row in range(mask.shape[0]):
            for column in range(mask.shape[1]):
                label = int(mask[row, column])
                if label == 255:
                    continue
                scores = image[:, row, column].tolist()
                top = max(scores)
                log_sum = top + math.log(sum(math.exp(score - top) for score in scores))
                weight = 1.0 if weights is None else weights[label]
                found.append((weight * (log_sum - scores[label]), weight))
    if hardest is not None:
        found = sorted(found, reverse=True)[: math.ceil(round(hardest * len(found), 6))]
    total = sum(weight for _, weight in found)
    return sum(loss for loss, _ in found) / total if total else 0.0


def batch(seed, ignored=0.3, shape=(2, 4, 5, 6)):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=generator)
    masks = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=generator)
    masks[torch.rand(masks.shape, generator=generator) < ignored] = 255
    return logits, masks.to(torch.uint8)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    ignored=st.sampled_from([0.0, 0.3, 0.9]),
    weights=st.sampled_from([None, (1.0, 0.5, 2.0, 0.0)]),
    hardest=st.sampled_from([None, 0.1, 0.5, 1.0]),
)
def test_the_loss_is_that_of_a_loop_over_pixels(seed, ignored, weights, hardest):
    logits, masks = batch(seed, ignored)
    found = pixel_cross_entropy(
        logits, masks, class_weights=None if weights is None else torch.tensor(weights), hardest=hardest
    )
    assert float(found) == pytest.approx(naive(logits, masks, weights, hardest), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("hardest", [None, 0.25])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_batch_without_a_class_gives_zero_and_no_gradient(hardest, weighted):
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = pixel_cross_entropy(
        logits,
        torch.full((2, 4, 4), 255, dtype=torch.uint8),
        class_weights=torch.ones(3) if weighted else None,
        hardest=hardest,
    )
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_ignored_pixels_get_no_gradient_and_the_hardest_alone_get_one():
    logits, masks = batch(3)
    logits.requires_grad_()
    pixel_cross_entropy(logits, masks).backward()
    touched = logits.grad.abs().sum(1) > 0
    assert torch.equal(touched, masks != 255)
    logits.grad = None
    pixel_cross_entropy(logits, masks, hardest=0.2).backward()
    few = logits.grad.abs().sum(1) > 0
    assert few.sum() == math.ceil(0.2 * int((masks != 255).sum()))
    losses = torch.nn.functional.cross_entropy(logits, masks.long(), ignore_index=255, reduction="none").detach()
    assert losses[few].min() >= losses[~few & (masks != 255)].max()


@settings(deadline=None)
@given(length=st.integers(1, 400), window=st.integers(1, 200))
def test_windows_cover_a_side_and_overlap_by_a_third(length, window):
    starts = window_starts(length, window)
    if window >= length:
        assert starts == [0]
        return
    assert starts[0] == 0
    assert starts[-1] == length - window
    steps = [after - before for before, after in itertools.pairwise(starts)]
    assert all(0 < step <= max(1, math.floor(window * 2 / 3)) for step in steps)


class Colours(nn.Module):
    """Knows a pixel's class by its colour and position alone, and refuses sides that an encoder would."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0))
        self.seen = []

    def forward(self, images):
        assert images.shape[-1] % 32 == images.shape[-2] % 32 == 0
        self.seen.append(tuple(images.shape))
        red, green, blue = images.unbind(1)
        return self.scale * torch.stack([red, green, blue], 1)


def task(images, masks, **changes):
    data = ArrayMasks("toy", "test", images, masks, ("red", "green", "blue"))
    settings = {"task": "seg", "image_size": 32, "device": "cpu", **changes}
    config = RunConfig(**settings)
    return Segmentation(config.task, config.setup, data, {"source": data})


def student(network):
    origin = WeightsOrigin("none", "random initialisation", None)
    return Student(network.eval(), origin, ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))


@pytest.mark.parametrize("changes", [{}, {"test_flip": True}, {"window": 32}, {"window": 48, "test_flip": True}])
def test_predictions_have_the_image_s_own_size_whatever_it_is(changes):
    images = torch.randint(0, 256, (3, 3, 45, 70), dtype=torch.uint8)
    known = images.argmax(1)
    network = Colours()
    found = task(images, known.to(torch.uint8), **changes).predict(student(network), list(images), torch.device("cpu"))
    assert [one.shape for one in found] == [(45, 70)] * 3
    assert torch.equal(torch.stack(found).long(), known)
    window = changes.get("window", 99)
    passes = len(window_starts(45, window)) * len(window_starts(70, window)) * (1 + changes.get("test_flip", False))
    assert len(network.seen) == passes
    if "window" not in changes:
        assert {shape[-2:] for shape in network.seen} == {(64, 96)}
    if window == 32:
        assert {shape[-2:] for shape in network.seen} == {(32, 32)}


def test_images_of_several_sizes_make_one_batch():
    sizes = [(33, 40), (64, 64), (20, 90)]
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes]
    data = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    found = task(data, data[:, 0]).predict(student(Colours()), images, torch.device("cpu"))
    assert [tuple(one.shape) for one in found] == sizes
    for image, one in zip(images, found, strict=True):
        assert torch.equal(one.long(), image.argmax(0))


def test_a_mirror_that_disagrees_changes_the_prediction():
    """The network believes its left half more; averaged with the mirror, both halves count alike."""

    class Lopsided(Colours):
        def forward(self, images):
            ramp = torch.linspace(4, 0, images.shape[-1])
            left = torch.zeros(len(images), 3, *images.shape[-2:])
            left[:, 1] = ramp
            left[:, 0] = 2
            return left

    images = torch.zeros(1, 3, 32, 64, dtype=torch.uint8)
    plain = task(images, images[:, 0]).predict(student(Lopsided()), list(images), torch.device("cpu"))[0]
    assert set(plain[0, :31].tolist()) == {1}
    assert set(plain[0, 33:].tolist()) == {0}
    even = task(images, images[:, 0], test_flip=True).predict(student(Lopsided()), list(images), torch.device("cpu"))[0]
    assert torch.equal(even, even.flip(-1))


@pytest.mark.parametrize("changes", [{}, {"test_flip": True}, {"window": 32}, {"window": 48, "test_flip": True}])
@pytest.mark.parametrize("sizes", [[(45, 70)] * 3, [(33, 40), (64, 64)]], ids=["one size", "several"])
def test_how_sure_a_student_is_of_each_pixel_is_the_softmax_of_its_class(sizes, changes):
    """The network sees each pixel alone: neither windows nor mirrors change what it says."""
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes]
    network, data = Colours(), torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    built = task(data, data[:, 0], **changes)
    classes, sure = built.predict_sure(student(network), images, torch.device("cpu"))
    for one, other in zip(classes, built.predict(student(network), images, torch.device("cpu")), strict=True):
        assert torch.equal(one, other)
    for image, one in zip(images, sure, strict=True):
        logits = 3 * (image.double() / 255 - 0.5) / 0.5
        assert one.dtype == torch.float32
        torch.testing.assert_close(one.double(), logits.softmax(0).amax(0), atol=1e-5, rtol=0)


def test_training_items_are_a_function_of_seed_epoch_and_index():
    images = torch.randint(0, 256, (4, 3, 40, 40), dtype=torch.uint8)
    masks = torch.randint(0, 3, (4, 40, 40), dtype=torch.uint8)
    data = task(images, masks, seed=5).training_data(2)
    (first, second), mask = data[1, 2]
    again, mask_again = data[1, 2]
    assert first.shape == second.shape == (3, 32, 32)
    assert mask.shape == (32, 32)
    assert type(mask) is torch.Tensor
    assert torch.equal(first, again[0])
    assert torch.equal(second, again[1])
    assert torch.equal(mask, mask_again)
    assert not torch.equal(first, data[2, 2][0][0])
    assert not torch.equal(first, task(images, masks, seed=6).training_data(2)[1, 2][0][0])

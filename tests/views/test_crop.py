import pytest
import torch

from synreal.errors import ConfigError
from synreal.views import classification_transform, seeded
from tests.views.images import noise


@pytest.mark.parametrize("shape", [(3, 28, 28), (3, 90, 40), (3, 40, 90), (3, 64, 64), (3, 1, 7), (3, 203, 65)])
@pytest.mark.parametrize("train", [True, False])
def test_classification_transform_gives_squares_of_bytes(shape, train):
    transform = classification_transform(64, train=train, num_ops=2)
    for seed in range(4):
        with seeded(seed):
            result = transform(noise(*shape))
        assert (tuple(result.shape), result.dtype) == ((3, 64, 64), torch.uint8)


def test_test_time_is_deterministic_and_central():
    image = torch.zeros(3, 30, 90, dtype=torch.uint8)
    image[:, :, 30:60] = 255
    transform = classification_transform(30, train=False)
    state = torch.get_rng_state()
    assert (transform(image) == 255).all()
    assert torch.equal(torch.get_rng_state(), state)


def test_training_crops_anywhere():
    image = torch.arange(90, dtype=torch.uint8).expand(3, 30, 90).contiguous()
    transform = classification_transform(30, train=True, num_ops=0)
    firsts = set()
    for seed in range(150):
        with seeded(seed):
            crop = transform(image)
        firsts.add(int(crop[0, 0, 0]))
        assert (crop[0, 0].diff() == 1).all()
    assert min(firsts) < 6
    assert max(firsts) > 54


def test_training_augments_before_it_resizes():
    steps = list(classification_transform(32, train=True, num_ops=2, magnitude=9).transforms)
    assert [type(step).__name__ for step in steps] == ["RandAugment", "Resize", "RandomCrop"]
    assert (steps[0].num_ops, steps[0].magnitude) == (2, 9)
    assert steps[1].antialias


def test_training_may_crop_the_centre():
    image = torch.arange(90, dtype=torch.uint8).expand(3, 30, 90).contiguous()
    transform = classification_transform(30, train=True, num_ops=0, crop="center")
    state = torch.get_rng_state()
    assert transform(image)[0, 0].tolist() == list(range(30, 60))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("size", [0, -3, 2.0, True, "64"])
def test_wrong_sizes(size):
    with pytest.raises(ConfigError, match="Image size"):
        classification_transform(size, train=True)

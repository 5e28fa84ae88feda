import pickle

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torchvision.transforms.v2 import functional as F

from synreal.errors import ConfigError, DataError
from synreal.views import MultiView, classification_transform, evaluation_view, seeded, to_float, training_views
from synreal.weights import normalization
from tests.views.images import noise


def test_to_float():
    batch = noise(2, 3, 4, 5)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    result = to_float(batch, mean, std)
    expected = (batch.numpy() / 255.0 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)
    assert torch.equal(to_float(batch[1], mean, std), result[1])
    half = to_float(torch.tensor([0, 255], dtype=torch.uint8).expand(3, 1, 2), (0.5,) * 3, (0.5,) * 3)
    assert half.flatten().tolist() == [-1, 1] * 3
    assert batch.dtype == torch.uint8


@pytest.mark.parametrize(
    ("batch", "mean", "std", "error"),
    [
        (noise(3, 2, 2), (0.5,), (0.5,) * 3, ConfigError),
        (noise(3, 2, 2), (0.5,) * 3, (0.5, 0.5, 0), ConfigError),
        (noise(3, 2, 2), (0.5, 0.5, float("nan")), (0.5,) * 3, ConfigError),
        (noise(3, 2, 2).float(), (0.5,) * 3, (0.5,) * 3, DataError),
        (noise(2, 1, 2, 2), (0.5,) * 3, (0.5,) * 3, DataError),
        (noise(2, 2), (0.5,) * 3, (0.5,) * 3, DataError),
    ],
)
def test_to_float_refuses(batch, mean, std, error):
    with pytest.raises(error):
        to_float(batch, mean, std)


@pytest.mark.parametrize("source", ["tensor", "pil", "grey"])
def test_training_views_are_the_commands(source):
    network, image = timm.create_model("test_vit"), noise()
    mean, std = normalization(network)
    assert (mean, std) != (timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD)
    given = image if source == "tensor" else F.to_pil_image(image)
    if source == "grey":
        given = given.convert("L")
        image = F.pil_to_tensor(given).expand(3, -1, -1)
    make = pickle.loads(pickle.dumps(training_views(network, 32, views=3, num_ops=2, magnitude=9, crop="center")))
    with seeded(5):
        found = make(given)
    with seeded(5):
        transform = classification_transform(32, train=True, num_ops=2, magnitude=9, crop="center")
        want = [to_float(view, mean, std) for view in MultiView(transform, 3)(image.contiguous())]
    assert len(found) == 3
    assert all(torch.equal(view, other) for view, other in zip(found, want, strict=True))
    assert not torch.equal(found[0], found[1])


def test_the_evaluation_view_is_the_commands():
    network, image = nn.Conv2d(3, 4, 1), noise()  # it says nothing of the images it was pretrained on
    found = evaluation_view(network, 32)(F.to_pil_image(image).convert("RGBA"))
    want = classification_transform(32, train=False)(image)
    assert torch.equal(found, to_float(want, timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD))
    assert "CenterCrop" in repr(evaluation_view(network, 32))


def test_views_of_a_loop_refuse_what_the_transform_refuses():
    with pytest.raises(ConfigError, match="Image size is 0"):
        evaluation_view(nn.Identity(), 0)
    with pytest.raises(ConfigError, match="views is 0"):
        training_views(nn.Identity(), 32, views=0)

import numpy as np
import pytest
import torch

from synreal.config import RunConfig
from synreal.errors import ConfigError
from synreal.views import VIEWS, ViewPipeline, seeded
from tests.views.images import noise


def changed(text, image, seed=3):
    with seeded(seed):
        return VIEWS.spec(text).build(None)(image)


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 1, 9), (3, 31, 50), (3, 2, 2)])
def test_any_size_keeps_its_size(shape):
    got = changed("pasta", noise(*shape))
    assert (got.shape, got.dtype) == (shape, torch.uint8)


@pytest.mark.parametrize("shape", [(3, 31, 50), (3, 224, 224)])
def test_no_strength_is_the_image(shape):
    image = noise(*shape)
    assert torch.equal(changed("pasta(alpha=0, beta=0)", image), image)


@pytest.mark.parametrize("size", [(24, 30), (25, 30), (24, 31)])
def test_the_equation(size):
    """The published one with draws for half of the spectrum, by NumPy's full transforms in float64."""
    height, width = size
    image = noise(3, *size)
    got = changed("pasta(alpha=1, k=2, beta=0.3)", image, seed=5)
    with seeded(5):
        half = torch.randn(3, height, width // 2 + 1).double().numpy()
    rows, columns = (np.fft.fftfreq(size, 1 / size) for size in size)
    radius = np.sqrt(rows[:, None] ** 2 + columns[None] ** 2)
    sigma = (radius / radius.max()) ** 2 + 0.3
    change = np.zeros((3, height, width))
    for u in range(height):
        for v in range(width):
            if v in (0, width / 2):
                change[:, u, v] = sigma[u, v] * (half[:, u, v] + half[:, -u % height, v]) / 2
            else:
                drawn = half[:, u, v] if v < half.shape[-1] else half[:, -u % height, width - v]
                change[:, u, v] = sigma[u, v] * drawn / np.sqrt(2)
    spectrum = np.fft.fft2(image.double().numpy() / 255)
    wanted = np.fft.ifft2(np.abs(spectrum) * (1 + change) * np.exp(1j * np.angle(spectrum))).real
    wanted = 255 * wanted.clip(0, 1)
    assert (got != image).any()
    assert np.abs(got.double().numpy() - wanted).max() <= 0.501


def test_channels_are_drawn_apart():
    image = noise(1, 16, 16).expand(3, -1, -1)
    got = changed("pasta", image)
    assert not torch.equal(got[0], got[1])


@pytest.mark.parametrize(
    ("task", "wanted"),
    [("cls", (10, 1, 0.5)), ("seg", (3, 2, 0.25)), ("det", (3, 2, 0.25))],
)
def test_defaults_are_the_papers_for_each_task(task, wanted):
    config = RunConfig(task=task, views=["pasta"])
    (view,) = config.views
    assert (view.alpha, view.k, view.beta) == wanted
    assert RunConfig(**config.model_dump(mode="json")).views == config.views
    (view,) = RunConfig(task=task, views=["pasta(alpha=5)"], k=4).views
    assert (view.alpha, view.k, view.beta) == (5, 4, wanted[2])
    (view,) = config.updated(epochs=3, alpha=1).views
    assert (view.alpha, view.k, view.beta) == (1, *wanted[1:])


def test_the_first_view_can_stay():
    image = noise()
    (first, second), _ = ViewPipeline("pasta(further=True)", 2, None)(image, 0)
    assert torch.equal(first, image)
    assert not torch.equal(second, image)


@pytest.mark.parametrize("text", ["pasta(alpha=-1)", "pasta(k=0)", "pasta(beta=-0.1)"])
def test_settings_that_are_none(text):
    with pytest.raises(ConfigError, match="greater than"):
        VIEWS.spec(text)

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from synreal.config import RunConfig, make_config
from synreal.data.labels import LABELS
from synreal.errors import ConfigError
from synreal.views import VIEWS, ViewPipeline, seeded
from synreal.views.augmix import COLOURS, MOVEMENTS, operated
from tests.views.images import noise


def changed(text, image, seed=3):
    with seeded(seed):
        return VIEWS.spec(text).build(None)(image)


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 1, 9), (3, 31, 50), (3, 2, 2)])
def test_any_size_keeps_its_size(shape):
    for seed in range(6):
        got = changed("augmix(severity=10)", noise(*shape), seed)
        assert (got.shape, got.dtype) == (shape, torch.uint8)


def of_pil(image, name, level, sign):
    """The operation as the paper's authors describe it for Pillow, on whole images."""
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    width, height = picture.size
    bilinear = Image.Resampling.BILINEAR
    if name == "autocontrast":
        picture = ImageOps.autocontrast(picture)
    elif name == "equalize":
        picture = ImageOps.equalize(picture)
    elif name == "posterize":
        picture = ImageOps.posterize(picture, 4 - int(level * 4 / 10))
    elif name == "solarize":
        picture = ImageOps.solarize(picture, 256 - int(level * 256 / 10))
    elif name == "rotate":
        picture = picture.rotate(-sign * int(level * 30 / 10), resample=bilinear)  # which turns the other way round
    else:
        slope = sign * level * 0.3 / 10
        pixels = sign * int(level * (width if name[-1] == "x" else height) / 3 / 10)
        matrix = {
            "shear_x": (1, slope, 0, 0, 1, 0),
            "shear_y": (1, 0, 0, slope, 1, 0),
            "translate_x": (1, 0, -pixels, 0, 1, 0),
            "translate_y": (1, 0, 0, 0, 1, -pixels),
        }[name]
        picture = picture.transform((width, height), Image.Transform.AFFINE, matrix, resample=bilinear)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def smooth(height=48, width=64):
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([40 + 3 * rows, 30 + 3 * columns, 100 + rows + columns]).to(torch.uint8)


@pytest.mark.parametrize("name", [*COLOURS, *MOVEMENTS])
@pytest.mark.parametrize(("level", "sign"), [(0.1, 1), (0.9, -1), (2.7, 1), (2.7, -1), (7.3, 1), (7.3, -1)])
def test_operations_are_those_of_the_paper(name, level, sign):
    image = smooth()
    got, wanted = operated(image, name, level, sign), of_pil(image, name, level, sign)
    difference = (got.int() - wanted.int()).abs().amax(0)
    # Bilinear neighbours of the border are black in torchvision, and left out in Pillow.
    inner = difference <= 3
    assert float(inner.double().mean()) >= (1 if name in COLOURS else 0.9)
    assert torch.equal(image, smooth())


@pytest.mark.parametrize("geometric", [True, False])
def test_the_mixture(geometric):
    image = noise(3, 20, 24)
    got = changed(f"augmix(severity=3, width=4, depth=(2, 3), alpha=0.7, geometric={geometric})", image, seed=9)
    names = (*COLOURS, *MOVEMENTS) if geometric else COLOURS
    with seeded(9):
        weights = torch.distributions.Dirichlet(torch.full((4,), 0.7)).sample().double().numpy()
        share = float(torch.distributions.Beta(0.7, 0.7).sample())
        mixed = (1 - share) * image.double().numpy()
        for weight in weights:
            chain = image
            for _ in range(int(torch.randint(2, 4, ()))):
                name = names[int(torch.randint(len(names), ()))]
                level = float(0.1 + 2.9 * torch.rand(()))
                chain = operated(chain, name, level, 1 if torch.rand(()) < 0.5 else -1)
            mixed += share * weight * chain.double().numpy()
    assert abs(weights.sum() - 1) < 1e-6
    assert np.abs(got.double().numpy() - mixed).max() <= 0.501


def test_weights_and_shares_are_spread_as_they_should_be():
    """An image on which each operation gives black shows the share of the image in the mixture."""
    change = VIEWS.spec("augmix(alpha=2)").build(None)
    white = torch.full((3, 2, 2), 200, dtype=torch.uint8)
    object.__setattr__(change, "operations", ("nothing",))
    with pytest.MonkeyPatch.context() as patch, seeded(1):
        patch.setattr("synreal.views.augmix.operated", lambda image, *_: torch.zeros_like(image))
        left = np.array([1 - int(change(white)[0, 0, 0]) / 200 for _ in range(1000)])
    assert left.mean() == pytest.approx(0.5, abs=0.03)
    assert left.std() == pytest.approx(math.sqrt(1 / 20), abs=0.02)  # of Beta(2, 2)


# --- where labels say where something is ---


@pytest.mark.parametrize("task", ["seg", "det"])
def test_dense_tasks_get_the_operations_that_leave_pixels_in_their_place(task):
    config = RunConfig(task=task, views=["geometry", "augmix"])
    assert not config.views[1].geometric
    pipeline = ViewPipeline(config.views, 2, 32, LABELS.get(config.task.label)())
    assert pipeline.aligned
    wild = RunConfig(task=task, regularizers="none", views=["geometry", "augmix(geometric=True)"])
    with pytest.raises(ConfigError, match="The view augmix moves the pixels of each view"):
        ViewPipeline(wild.views, 2, 32, LABELS.get(config.task.label)())
    further = "augmix(geometric=True, further=True)"  # the label fits the first view, which the task sees
    assert not ViewPipeline(["geometry", further], 2, 32, LABELS.get(config.task.label)()).aligned
    with pytest.raises(ConfigError, match=r"csg compares patches by position, but augmix moves"):
        make_config({"task": task, "views": ["geometry", further]})


def test_classification_gets_all_operations():
    (view,) = RunConfig(views=["augmix"]).views
    assert view.geometric
    assert not ViewPipeline(view, 2, 32).aligned
    assert ViewPipeline("augmix(geometric=False)", 2, 32).aligned


def test_as_a_style_that_was_not_trained_on():
    assert RunConfig(shifts="augmix(geometric=False)").testing.shifts[0].name == "augmix"
    with pytest.raises(ConfigError, match=r"augmix moves pixels.*Known: blur"):
        make_config({"shifts": "augmix"})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("augmix(severity=11)", "less than or equal to 10"),
        ("augmix(severity=0)", "greater than or equal to 0.1"),
        ("augmix(depth=(3, 1))", "1 <= least <= greatest"),
        ("augmix(width=0)", "greater than or equal to 1"),
        ("augmix(alpha=0)", "greater than 0"),
    ],
)
def test_settings_that_are_none(text, complaint):
    with pytest.raises(ConfigError, match=complaint):
        VIEWS.spec(text)

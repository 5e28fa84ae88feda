"""Predictions shown one by one."""

import numpy as np
import pytest
import torch
from PIL import Image

from synreal.figures import FIGURES, Panels, heat_panel, panels_of
from synreal.figures.gradcam import heat_scale
from synreal.figures.panels import shrunk
from synreal.measures.mistakes import KEPT, Kind
from synreal.tasks import TASKS
from tests.figures.test_registry import outcome


@pytest.mark.parametrize("task", TASKS.available())
def test_every_task_of_synreal_shows_its_mistakes(task):
    spec = TASKS.get(task)
    figure = panels_of(spec.figures, spec.label)
    assert isinstance(figure, Panels)
    assert figure.mistakes.label == spec.label
    assert 0 < figure.examples <= KEPT


def test_figures_that_cannot_are_none():
    assert panels_of(["confusion"], "classes") is None


@pytest.mark.parametrize("name", [name for name, kind in FIGURES.classes().items() if issubclass(kind, Panels)])
def test_every_such_figure_shows_one_image(name):
    (label,) = FIGURES.get(name).labels
    figure, made = panels_of([name], label), outcome(label)
    kind = Kind(0, 1)
    for target, image, prediction in zip(made.targets, made.images, made.predictions, strict=True):
        panels = figure.panels(image, target, prediction, made.classes, kind)
        assert len({panel.name for panel in panels}) == len(panels)
        for panel in panels:
            assert panel.pixels.dtype == np.uint8
            assert panel.pixels.shape[2] == 3
            assert max(panel.pixels.shape) <= 500
            assert panel.says
        assert len(figure.panels(image, target, prediction, made.classes)) <= len(panels)


def test_a_mask_says_what_is_in_it_and_where_the_mistake_is():
    figure = panels_of(["mask_panels"], "masks")
    truth = torch.zeros(10, 10, dtype=torch.uint8)
    truth[0] = 255
    found = truth.clone()
    found[found == 255] = 0
    found[5:, :2] = 1
    image = torch.full((3, 10, 10), 128, dtype=torch.uint8)
    panels = {panel.name: panel for panel in figure.panels(image, truth, found, ("a", "b"), Kind(0, 1))}
    assert list(panels) == ["image", "ground truth", "prediction", "the mistake"]
    assert panels["ground truth"].says == "a (100.0 %)"
    assert panels["prediction"].says == "a (90.0 %), b (10.0 %)"
    assert panels["prediction"].legend == (("a", "#2b3036"), ("b", "#1f77b4"))
    assert panels["prediction"].exact
    assert panels["the mistake"].says == "10 pixels, in yellow"
    light = np.asarray(Image.fromarray(panels["the mistake"].pixels).convert("L"))
    assert light[5:, :2].min() > 2 * light[:5].max()  # told apart in greys


def test_pictures_get_no_larger_than_they_are_seen():
    wide = np.zeros((300, 1000, 3), np.uint8)
    assert shrunk(wide).shape == (96, 320, 3)
    assert shrunk(wide[:9, :9]).shape == (9, 9, 3)
    colours = np.random.default_rng(0).choice(np.array([[0, 0, 0], [9, 200, 7]], np.uint8), (900, 900))
    assert len(np.unique(shrunk(colours, exact=True).reshape(-1, 3), axis=0)) == 2
    assert len(np.unique(shrunk(colours).reshape(-1, 3), axis=0)) > 2


def test_heat_lies_over_the_picture_and_its_scale_goes_from_dark_to_light():
    image = torch.full((3, 40, 80), 200, dtype=torch.uint8)
    heat = torch.zeros(4, 8)
    heat[:, :4] = 1
    pixels = heat_panel(image, heat).mean(2)
    assert pixels.shape[1] > 1.8 * pixels.shape[0]
    middle = pixels.shape[1] // 2
    assert pixels[:, : middle - 20].mean() > 2 * pixels[:, middle + 20 :].mean()
    shades, meaning = heat_scale()
    light = np.asarray(Image.fromarray(shades).convert("L")).astype(int)[0]
    assert (np.diff(light) >= 0).all()
    assert "largest heat" in meaning

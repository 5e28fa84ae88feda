"""Figures of what looking into networks gave: the data behind what is drawn."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb

from synreal.errors import ConfigError, DataError
from synreal.figures import attention_panels, circle, feature_circle, gradcam_panels, study_of
from synreal.figures.base import first_of
from synreal.figures.heat import SHADES
from synreal.figures.page import RIGHT, WRONG
from synreal.functional import angle_density, plane_angles, principal_plane
from tests.figures.looked import CLASSES, looked


def texts(axes):
    return [text.get_text() for text in axes.texts]


def whole_text(figure):
    return " ".join(texts(figure.axes[0]))


def points(axes):
    """What scatters show, by their labels: offsets, (N, 2)."""
    return {
        one.get_label(): np.asarray(one.get_offsets()) for one in axes.collections if isinstance(one, PathCollection)
    }


def picture(axes, index):
    """Pixels and corners of what was drawn as an image, by its place among these; the bar of colours is the last."""
    return np.asarray(axes.images[index].get_array()), axes.images[index].get_extent()


# --- circle ---


def test_points_lie_at_their_angles_and_each_class_on_its_ring():
    one, other = looked("oracle"), looked("csg", seed=1)
    figure = feature_circle({"oracle": one.features, "csg": other.features}, labels=one.labels, classes=CLASSES)
    plane = principal_plane(one.features)  # the first network's, for both
    for axes, look in zip(figure.axes[1:], (one, other), strict=True):
        angles = plane_angles(look.features, *plane)
        drawn = points(axes)
        assert list(drawn) == list(CLASSES)
        radii = []
        for label, name in enumerate(CLASSES):
            expected = angles[one.labels == label]
            np.testing.assert_allclose(np.arctan2(drawn[name][:, 1], drawn[name][:, 0]), expected, atol=1e-9)
            (radius,) = {round(float(r), 9) for r in np.hypot(*drawn[name].T)}
            radii.append(radius)
        assert radii[0] == 1
        assert radii == sorted(set(radii), reverse=True)
    assert [axes.get_title() for axes in figure.axes[1:]] == ["oracle", "csg"]
    assert "the first two principal components of oracle" in whole_text(figure)


def test_the_density_stands_out_of_the_circle_on_one_scale_for_all_panels():
    one = looked("oracle")
    tight = torch.randn(30, 6) * 0.01 + torch.tensor([3.0, 1, 0, 0, 0, 0])
    figure = feature_circle({"oracle": one.features, "tight": tight})
    plane = principal_plane(one.features)
    at = torch.linspace(-math.pi, math.pi, 361, dtype=torch.float64)
    densities = [angle_density(plane_angles(f, *plane), at).numpy() for f in (one.features, tight)]
    for axes, density in zip(figure.axes[1:], densities, strict=True):
        (line,) = (line for line in axes.lines if line.get_label() == "density")
        height = np.hypot(*line.get_data()) - 1.06
        np.testing.assert_allclose(height, 0.45 * density / max(map(np.max, densities)), atol=1e-9)
    assert f"the highest is {max(map(np.max, densities)):.2f} per radian" in whole_text(figure)
    assert "of features spread evenly it would be 0.16." in whole_text(figure)


def test_each_panel_says_how_much_of_the_variance_it_shows():
    flat = torch.zeros(20, 5)
    flat[:, :2] = torch.randn(20, 2)
    figure = feature_circle({"flat": flat, "other": torch.randn(20, 5)})
    shares = [texts(axes)[0] for axes in figure.axes[1:]]
    assert shares[0] == "the plane holds 100% of its variance"
    assert 0 < int(shares[1].split("holds ")[1].split("%")[0]) < 90


def test_networks_of_different_widths_have_planes_of_their_own():
    one, wide = looked(width=6), looked(width=9)
    figure = feature_circle({"a": one.features, "b": wide.features})
    assert "of each network by itself: their widths differ" in whole_text(figure)
    angles = plane_angles(wide.features, *principal_plane(wide.features))
    (drawn,) = points(figure.axes[2]).values()
    np.testing.assert_allclose(np.arctan2(drawn[:, 1], drawn[:, 0]), angles, atol=1e-9)


def test_classes_differ_by_more_than_colour_and_very_many_are_not_told_apart():
    one = looked()
    panel = feature_circle({"a": one.features}, labels=one.labels, classes=CLASSES).axes[1]
    scatters = [each for each in panel.collections if isinstance(each, PathCollection)]
    assert len({each.get_facecolor()[0, :3].tobytes() for each in scatters}) == 3
    assert len({each.get_paths()[0].vertices.tobytes() for each in scatters}) == 3
    many = feature_circle({"a": one.features}, labels=torch.arange(30) % 13, classes=[str(i) for i in range(13)])
    assert len(points(many.axes[1])) == 1


def test_long_sets_are_thinned_and_their_density_is_of_all(monkeypatch):
    monkeypatch.setattr(circle, "_MOST_POINTS", 10)
    one = looked()
    axes = feature_circle({"a": one.features}, labels=one.labels, classes=CLASSES).axes[1]
    assert sum(map(len, points(axes).values())) == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": {"a": torch.randn(2, 5)}}, "at least 3 images"),
        ({"features": {"a": torch.ones(5, 5)}}, "same direction"),
        ({"features": {"a": torch.full((5, 5), math.nan)}}, "Features of a hold a value that is not finite"),
        (
            {"features": {"a": torch.randn(5, 4), "b": torch.randn(6, 4)}},
            r"Features of b of shape \(6, 4\), expected \(5",
        ),
        ({"labels": torch.tensor([0, 1, 2, 3, 0])}, r"Labels span 0\.\.3, expected 0\.\.2"),
        ({"labels": torch.tensor([0, 1])}, "expected 5 integers"),
    ],
)
def test_what_has_no_circle_is_refused(change, message):
    given = {"features": {"a": torch.randn(5, 4)}, "classes": CLASSES, **change}
    with pytest.raises(DataError, match=message):
        feature_circle(given.pop("features"), **given)


# --- Grad-CAM ---


def heat_panels(**change):
    one = looked(images=2)
    given = {
        "heat": {"none": one.heat, "csg": one.heat},
        "labels": [0, 1],
        "predictions": {"none": [0, 2], "csg": [0, 1]},
        "classes": CLASSES,
        **change,
    }
    return gradcam_panels(one.images, given.pop("heat"), **given)


def test_a_row_is_an_image_and_a_column_a_network():
    page = heat_panels().axes[0]
    lefts = [round(picture(page, index)[1][0], 6) for index in range(6)]
    tops = [round(picture(page, index)[1][3], 6) for index in range(6)]
    assert lefts == sorted(lefts)
    assert len(set(lefts)) == 3
    assert tops[:2] == tops[2:4] == tops[4:]
    assert tops[0] < tops[1]
    assert [text for text in texts(page) if text in ("image", "none", "csg")] == ["image", "none", "csg"]


def test_heat_brightens_the_image_and_its_absence_darkens_it():
    image = torch.full((3, 20, 20), 128, dtype=torch.uint8)
    heat = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    page = gradcam_panels([image], {"csg": [heat]}).axes[0]
    greys = picture(page, 1)[0].astype(float) @ (0.299, 0.587, 0.114)
    assert greys[:, 0].min() > 170
    assert greys[:, -1].max() < 40
    assert (picture(page, 0)[0] == 128).all()
    (line,) = page.collections  # where the heat is half
    extent = picture(page, 1)[1]
    assert line.get_paths()[0].vertices[:, 0] == pytest.approx((extent[0] + extent[1]) / 2, abs=0.03)


def test_the_bar_of_heat_has_the_colours_that_heat_has_over_dark_and_over_bright():
    dark, bright = (torch.full((3, 4, 4), value, dtype=torch.uint8) for value in (0, 255))
    for share in (0.0, 1.0):
        page = gradcam_panels([dark, bright], {"csg": [torch.full((1, 1), share)] * 2}).axes[0]
        bar, (left, right, *_) = picture(page, -1)
        over_dark, over_bright = bar[:, round(share * (bar.shape[1] - 1))]
        assert (picture(page, 2)[0] == over_dark).all()
        assert (picture(page, 3)[0] == over_bright).all()
        assert over_bright.sum() > over_dark.sum()
        marks = sorted(line.get_xdata()[0] for line in page.lines if line.get_label() == "_mark")
        assert (marks[0], marks[-1]) == (left, right)
    assert "above over dark parts of the image, below over bright ones" in whole_text(page.figure)


def test_wrong_predictions_are_marked_by_more_than_colour():
    page = heat_panels().axes[0]
    assert [text for text in texts(page) if text[0] in "✓✗"] == ["✓ cat", "✗ owl", "✓ cat", "✓ dog"]
    frames = [(tuple(one.get_edgecolor()[:3]), one.get_linestyle()) for one in page.patches]
    assert frames == [
        (to_rgb(colour), style) for colour, style in ((RIGHT, "solid"), (WRONG, "dashed"), *[(RIGHT, "solid")] * 2)
    ]
    assert texts(page).count("cat") == texts(page).count("dog") == 1


def test_images_without_a_class_have_no_caption():
    page = heat_panels(labels=None, predictions=None).axes[0]
    assert not page.patches
    assert "cat" not in texts(page)


def test_heat_without_anything_in_it_is_drawn():
    one = looked(images=1)
    assert not gradcam_panels(one.images, {"a": [torch.zeros(3, 3)]}).axes[0].collections


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"heat": {}}, ConfigError, "needs an image and a network at least; got 2 and 0"),
        ({"heat": {"csg": [torch.zeros(2, 2)]}}, ConfigError, "csg has 1 maps of Grad-CAM for 2 images"),
        (
            {"heat": {"csg": [torch.full((2, 2), 1.5)] * 2}},
            DataError,
            r"of csg, image 0, spans 1.5..1.5, expected 0..1",
        ),
        ({"heat": {"csg": [torch.full((2, 2), math.nan)] * 2}}, DataError, "expected finite"),
        ({"labels": [0, 7]}, DataError, r"Labels: class 7 of image 1, expected 0\.\.2"),
        ({"labels": [0]}, ConfigError, "Labels: 1 for 2 images"),
        ({"predictions": {"csg": [0, 0]}}, ConfigError, "There are predictions, but none of none"),
        ({"predictions": {"none": [0, 0], "csg": [0, -1]}}, DataError, "Predictions of csg: class -1"),
    ],
)
def test_panels_that_do_not_fit_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        heat_panels(**change)


# --- attention ---


def test_weights_share_one_scale_whose_marks_are_true():
    images = [torch.zeros(3, 8, 8, dtype=torch.uint8)] * 2
    maps = {"a": [torch.tensor([[0.5, 1.5]]), torch.tensor([[1.0, 1.0]])], "b": [torch.tensor([[-0.5, 2.5]])] * 2}
    page = attention_panels(images, maps).axes[0]
    drawn = [picture(page, index)[0] for index in range(2, 6)]  # two images come first
    for pixels, values in zip(drawn, [one for ones in maps.values() for one in ones], strict=True):
        expected = np.rint(np.array(SHADES((values.numpy().astype(float) + 0.5) / 3))[..., :3] * 255)
        assert (pixels == expected).all()
    marks = {round(float(line.get_xdata()[0]), 6) for line in page.lines if line.get_label() == "_mark"}
    left, right = picture(page, -1)[1][:2]
    assert marks == {round(left + (mark + 0.5) / 3 * (right - left), 6) for mark in (-0.5, 0, 0.5, 1, 1.5, 2, 2.5)}
    assert texts(page).count("-0.50") == 2  # cells
    assert texts(page).count("-0.5") == 1  # a mark
    assert "1 as in average pooling, 2 twice as much say, 0 none, below 0 it subtracts." in whole_text(page.figure)


def test_a_ratio_has_as_many_decimals_as_its_cell_has_room_for():
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    near = 0.004  # no minus before a zero
    page = attention_panels([image], {"a": [torch.tensor([[2 + near, -near]])]}).axes[0]
    assert [text for text in texts(page) if text in ("2.00", "0.00", "-0.00")] == ["2.00", "0.00"]
    page = attention_panels([image], {"a": [torch.ones(5, 5)]}).axes[0]
    assert texts(page).count("1.0") == 25


def test_greys_grow_with_the_weights():
    greys = np.array(SHADES(np.linspace(0, 1, 50)))[:, :3] @ (0.299, 0.587, 0.114)
    assert (np.diff(greys) > 0).all()


def test_weights_that_are_no_ratios_are_refused():
    with pytest.raises(DataError, match=r"has mean 0.25, expected 1: ratios to uniform"):
        attention_panels(looked(images=1).images, {"a": [torch.full((2, 2), 0.25)]})


# --- studies ---


@pytest.mark.parametrize("name", ["circle", "gradcam", "attention"])
def test_a_study_draws_several_networks_whatever_the_labels(name, tmp_path):
    study = study_of(name, "masks")
    without = {"labels": None, "targets": [{}], "predictions": [{}]}
    drawn = [
        study.draw([looked("none", images=1, **change), looked("csg", images=1, seed=1, **change)], tmp_path / file)
        for change, file in (({}, "new/a.svg"), ({}, "b.svg"), (without, "c.png"))
    ]
    assert drawn[0].read_bytes() == drawn[1].read_bytes()
    assert drawn[2].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("looks", "message"),
    [
        ([], "nothing to draw"),
        ([looked("a"), looked("a")], "Two of the networks are called 'a'"),
        (
            [looked("a"), looked("b", labels=torch.zeros(30, dtype=torch.long))],
            "'a' and 'b' were not looked at with the same",
        ),
        ([looked("a"), looked("b", labels=None)], "do not compare"),
        ([looked("a"), looked("b", images=3)], "do not compare"),
        ([looked("a"), replace(looked("b"), images=[torch.zeros(3, 24, 24)] * 4)], "do not compare"),
        ([looked("a"), looked("b", classes=("cat", "dog", "ape"))], "do not compare"),
    ],
)
def test_looks_that_do_not_compare_are_refused(looks, message):
    with pytest.raises(ConfigError, match=message):
        first_of(looks)

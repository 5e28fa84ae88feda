import pytest
import torch

from synreal.errors import ConfigError
from synreal.views import AlignedViews, seeded
from tests.views.images import boxes, scene


@pytest.mark.parametrize("seed", range(12))
def test_a_view_shows_what_its_mask_says_in_every_geometry(seed):
    image, mask = scene()
    with seeded(seed):
        views, moved = AlignedViews(1, size=32, flip=0.5, scale=(0.5, 1.5))(image, mask)
    assert views[0].shape == (3, 32, 32)
    assert moved.shape == (32, 32)
    shown = views[0].float() / 4
    expected = (shown[0] / 8).floor() * 8 + (shown[1] / 8).floor()
    inside = moved != 255
    assert inside.any()
    assert torch.equal(views[0][:, ~inside], torch.zeros_like(views[0][:, ~inside]))
    # Only along the edges of the mask's cells may a blended pixel fall on the other side.
    edge = sum(((shown[axis] % 8 < 1) | (shown[axis] % 8 > 7)) for axis in (0, 1)) > 0
    border = torch.zeros_like(inside)
    border[:2] = border[-2:] = border[:, :2] = border[:, -2:] = True
    compared = inside & ~edge & ~border
    assert compared.sum() > 100
    assert (expected[compared] == moved[compared]).all()


@pytest.mark.parametrize("seed", range(6))
def test_further_views_have_the_same_geometry_and_other_colours(seed):
    image, mask = scene()
    with seeded(seed):
        (clean, first, second), _ = AlignedViews(3, size=32, flip=0.5, jitter=0.4)(image, mask)
    with seeded(seed):
        (alone,), _ = AlignedViews(1, size=32, flip=0.5, jitter=0.4)(image, mask)
    assert torch.equal(clean, alone)
    assert not torch.equal(first, clean)
    assert not torch.equal(first, second)
    # A jitter maps equal colours to equal colours, wherever they are.
    colours, places = torch.unique(clean.flatten(1), dim=1, return_inverse=True)
    for view in (first, second):
        for colour in range(0, colours.shape[1], 37):
            here = view.flatten(1)[:, places == colour]
            assert torch.equal(here, here[:, :1].expand_as(here))


def test_without_jitter_the_views_are_equal():
    image, mask = scene()
    (first, second), _ = AlignedViews(2, size=32, jitter=0)(image, mask)
    assert torch.equal(first, second)


def test_boxes_follow_the_mirror_and_the_crop():
    image, _ = scene()
    box = boxes([[8.0, 4.0, 24.0, 20.0]])
    with seeded(0):
        (view,), moved = AlignedViews(1, flip=1, scale=(1, 1), jitter=0)(image, box)
    assert torch.equal(view, image.flip(-1))
    assert moved.tolist() == [[32.0, 4.0, 48.0, 20.0]]


@pytest.mark.parametrize("seed", range(8))
def test_boxes_stay_around_what_they_hold(seed):
    image = torch.zeros(3, 40, 56, dtype=torch.uint8)
    image[:, 10:22, 20:40] = 255
    with seeded(seed):
        (view,), moved = AlignedViews(1, flip=0.5, scale=(0.6, 1.6), jitter=0)(image, boxes([[20.0, 10.0, 40.0, 22.0]]))
    assert view.shape == image.shape  # the crop is as large as the image was
    rows, columns = torch.nonzero(view[0] > 127, as_tuple=True)
    found = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
    assert (moved[0].as_subclass(torch.Tensor) - found).abs().max() <= 1


def test_an_image_without_boxes_is_no_trouble():
    image, _ = scene()
    _, moved = AlignedViews(2, scale=(0.7, 1.3))(image, boxes(torch.zeros(0, 4)))
    assert moved.shape == (0, 4)


def test_geometry_is_spread_over_what_is_allowed():
    """Mirrored about as often as asked; padded and cropped both occur; positions vary."""
    image, mask = scene(32, 32)
    image = torch.arange(32).expand(3, 32, 32).to(torch.uint8)
    mirrored, padded, whole = 0, 0, 0
    for seed in range(200):
        with seeded(seed):
            (view,), moved = AlignedViews(1, size=32, flip=0.3, scale=(0.75, 1.25), jitter=0)(image, mask)
        inside = moved != 255
        padded += bool((~inside).any())
        whole += bool(inside.all())
        row = view[0, 16][inside[16]].float()
        mirrored += bool(row[0] > row[-1])
    assert 35 <= mirrored <= 85
    assert padded > 60
    assert whole > 60


@pytest.mark.parametrize(
    "wrong", [{"views": 0}, {"flip": 1.5}, {"jitter": -0.1}, {"scale": (1.2, 0.8)}, {"scale": (0, 1)}]
)
def test_arguments_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        AlignedViews(**wrong)

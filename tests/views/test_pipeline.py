import pickle

import pytest
import torch
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import Image, Mask

from synreal.data.labels import LABELS
from synreal.data.labels.boxes import Boxes
from synreal.errors import ConfigError
from synreal.plugins import load_plugin
from synreal.views import (
    VIEWS,
    AlignedViews,
    FurtherView,
    MultiView,
    RandAugment,
    View,
    ViewPipeline,
    classification_transform,
    register,
    seeded,
)
from tests.reference import views as reference
from tests.views.images import boxes, noise, scene, spec_of


class Moving:
    """A kind of label that torchvision moves by itself."""

    geometric = True

    def transform(self, label, geometry):
        return geometry(label)


class Still:
    """A kind of label that says nothing of places."""

    geometric = False

    def transform(self, label, geometry):
        return label


def same(views, others):
    return len(views) == len(others) and all(torch.equal(a, b) for a, b in zip(views, others, strict=True))


# --- the same draws as ever ---


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("place", ["random", "center"])
@pytest.mark.parametrize(("ops", "magnitude", "number"), [(1, 6, 2), (0, 6, 1), (3, 17.5, 3)])
def test_classifications_views_to_the_bit(seed, place, ops, magnitude, number):
    image = noise(3, 40, 56, seed=seed)
    transform = classification_transform(32, train=True, num_ops=ops, magnitude=magnitude, crop=place)
    pipeline = ViewPipeline(
        [f"randaugment(ops={ops}, magnitude={magnitude})", f"crop(place={place})"], number, 32, Still()
    )
    with seeded(seed):
        want = reference.classified(RandAugment(ops, magnitude), image, number, 32, place)
        state = torch.get_rng_state()
    with seeded(seed):
        assert same(MultiView(transform, number)(image), want)
        assert torch.equal(torch.get_rng_state(), state)
    with seeded(seed):
        found, label = pipeline(image, 7)
        assert torch.equal(torch.get_rng_state(), state)
    assert same(found, want)
    assert label == 7


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", ["mask", "boxes"])
@pytest.mark.parametrize(
    ("settings", "number"),
    [
        ({"size": 32, "flip": 0.5, "scale": (0.5, 1.5), "jitter": 0.4}, 3),
        ({"size": None, "flip": 0.5, "scale": (0.75, 1.25), "jitter": 0.8}, 2),
        ({"size": 48, "flip": 0, "scale": (1, 1), "jitter": 0}, 2),
    ],
)
def test_aligned_views_to_the_bit(seed, kind, settings, number):
    image, mask = scene()
    image = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)  # in memory as decoded images are
    label = mask if kind == "mask" else boxes([[8.0, 4.0, 24.0, 20.0], [0.0, 0.0, 56.0, 40.0]])
    with seeded(seed):
        want, moved = reference.aligned(image, label, number, **settings)
        state = torch.get_rng_state()
    geometry = VIEWS.build("geometry", {"flip": settings["flip"], "scale": settings["scale"]})
    steps = [VIEWS.build("jitter", {"strength": settings["jitter"]}), geometry]  # what is shared comes first anyway
    pipeline = ViewPipeline(steps, number, settings["size"], Moving())
    for make in (AlignedViews(number, **settings), pipeline, pickle.loads(pickle.dumps(pipeline))):
        with seeded(seed):
            found, label_there = make(image, label)
            assert torch.equal(torch.get_rng_state(), state)
        assert same(found, want)
        assert type(label_there) is type(label)
        assert torch.equal(label_there, moved)
        assert all(view.is_contiguous() for view in found)


# --- what a pipeline makes of its steps ---


def test_a_geometry_says_the_sizes_and_moves_images_masks_and_boxes_alike():
    image, mask = scene()
    geometry = VIEWS.spec("geometry(flip=1, scale=(1.25, 1.25))").build(44).draw(40, 56)
    assert (geometry.before, geometry.after) == ((40, 56), (44, 44))
    moved = geometry(Image(image))
    assert type(moved) is Image
    assert torch.equal(moved.as_subclass(torch.Tensor), geometry(image))
    assert type(geometry(mask)) is Mask
    assert geometry(mask).shape == moved.shape[-2:] == (44, 44)
    assert geometry(boxes([[8.0, 4.0, 24.0, 20.0]])).canvas_size == (44, 44)


def test_a_label_without_places_stays():
    image, _ = scene()
    pipeline = ViewPipeline(["geometry(flip=1)", "jitter"], 2, 32, Still())
    assert pipeline(image, 3)[1] == 3
    assert ViewPipeline("geometry", 1, None)(image, "label")[1] == "label"


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (["geometry", "jitter"], True),
        (["jitter"], True),
        ([], True),
        (["randaugment", "crop"], False),
        (["geometry", "randaugment"], False),
    ],
)
def test_whether_views_are_aligned(steps, expected):
    assert ViewPipeline(steps, 2, 32).aligned is expected


def test_no_step_gives_the_image():
    image = noise()
    found, label = ViewPipeline([], 2, None)(image, 1)
    assert same(found, [image, image])
    assert label == 1


@pytest.mark.parametrize("steps", [["randaugment"], ["geometry", "crop(place=center)"]])
def test_steps_that_move_each_view_are_refused_where_labels_have_places(steps):
    with pytest.raises(ConfigError, match=rf"The view {steps[-1].partition('(')[0]} moves the pixels.*Use geometry"):
        ViewPipeline(steps, 2, 32, Moving())
    ViewPipeline(steps, 2, 32, Still())


@pytest.mark.parametrize(
    ("steps", "number", "size", "complaint"),
    [
        (["crop"], 0, 32, "number of views is 0"),
        (["crop"], True, 32, "number of views is True"),
        (["crop"], 2, None, "Image size is None"),
        (["cropp"], 2, 32, r"Unknown view 'cropp'\. Did you mean 'crop'"),
        (["crop(place=left)"], 2, 32, "View crop: place"),
        (["randaugment(magnitude=31)"], 2, 32, "View randaugment: magnitude.*got 31"),
        (["randaugment(ops=-1)"], 2, 32, "View randaugment: ops"),
        (["geometry(scale=(1.5, 0.5))"], 2, 32, "View geometry: scale: expected 0 < least <= greatest"),
        (["geometry(flip=1.1)"], 2, 32, "View geometry: flip"),
        (["jitter(strength=2)"], 2, 32, "View jitter: strength"),
        (["jitter(hue=2)"], 2, 32, "Unknown setting of jitter 'hue'"),
    ],
)
def test_what_cannot_be_made(steps, number, size, complaint):
    with pytest.raises(ConfigError, match=complaint):
        ViewPipeline(steps, number, size)


# --- views by name ---


@pytest.mark.parametrize("name", VIEWS.available())
def test_every_view(name, tmp_path):
    """Each view of synreal's own does what it says of itself."""
    spec = spec_of(name, tmp_path / "images")
    assert VIEWS.spec(spec.model_dump()) == spec
    image = noise(3, 40, 56)
    before = image.clone()
    assert ViewPipeline(spec, 3, 32).aligned is (not spec.moves or spec.draws == "once")
    runs = []
    for _ in range(2):
        with seeded(8):
            runs.append(pickle.loads(pickle.dumps(ViewPipeline(spec, 6, 32)))(image, 0)[0])
    assert torch.equal(image, before)
    assert same(*runs)
    first, *further = runs[0]
    assert all(view.dtype == torch.uint8 and view.ndim == 3 and len(view) == 3 for view in runs[0])
    assert all(same([view], [first]) for view in further) is (spec.draws == "once")
    if spec.draws == "further":
        assert torch.equal(first, image)


@pytest.mark.parametrize("name", [name for name, cls in VIEWS.classes().items() if issubclass(cls, FurtherView)])
def test_views_that_can_leave_the_first_one(name, tmp_path):
    spec = spec_of(name, tmp_path / "images").with_defaults(further=True)
    assert (spec.draws, spec.drawn) == ("each", "further")
    image = noise(3, 40, 56)
    with seeded(4):
        (first, *further), _ = ViewPipeline(spec, 7, 32)(image, 0)
    assert torch.equal(first, image)
    assert not all(torch.equal(view, image) for view in further)


@pytest.mark.parametrize("kind", ["classes", "masks", "boxes"])
@pytest.mark.parametrize("name", VIEWS.available())
def test_labels_of_every_kind(name, kind, tmp_path):
    """What leaves pixels in their place leaves labels; what moves those of each view is refused where they matter."""
    label_kind = LABELS.get(kind)()
    spec = spec_of(name, tmp_path / "images")
    spec = spec.dense() if label_kind.geometric else spec
    if spec.moving and spec.drawn == "each" and label_kind.geometric:
        with pytest.raises(ConfigError, match="moves the pixels of each view"):
            ViewPipeline(spec, 2, 32, label_kind)
        return
    image, mask = scene()
    objects = Boxes(torch.tensor([[8.0, 4, 24, 20]]), torch.tensor([1]), torch.tensor([False]), torch.tensor([256.0]))
    label = {"classes": 3, "masks": mask.as_subclass(torch.Tensor), "boxes": objects}[kind]
    with seeded(2):
        views, moved = ViewPipeline(spec, 3, 32, label_kind)(image, label)
    assert len(views) == 3
    if not spec.moving:
        assert moved is label
        assert all(view.shape == image.shape for view in views)


MIRROR = """\
import torch
from torchvision.transforms.v2 import functional as F

from synreal.views import View, register


@register
class Mirror(View):
    name = "mirror"
    summary = "mirrors each view by chance"
    draws = "each"
    moves = True
    often: float = 0.5

    def build(self, size):
        return Change(self.often)


class Change:
    def __init__(self, often):
        self.often = often

    def __call__(self, image):
        return F.horizontal_flip(image) if torch.rand(()) < self.often else image
"""


@pytest.mark.usefixtures("own_registry")
def test_a_view_of_a_plugin_file(tmp_path):
    file = tmp_path / "mirror.py"
    file.write_text(MIRROR, "utf-8")
    load_plugin(file)
    assert VIEWS.get("mirror").summary == "mirrors each view by chance"
    image = noise()
    (view, other), label = ViewPipeline(["mirror(often=1.0)", "jitter(strength=0)"], 2, None)(image, 4)
    assert torch.equal(view, F.horizontal_flip(image))
    assert torch.equal(other, view)
    assert label == 4
    seen = {
        bool((view == image).all()) for view in pickle.loads(pickle.dumps(ViewPipeline("mirror", 40, 32)))(image, 0)[0]
    }
    assert seen == {True, False}
    with pytest.raises(ConfigError, match="The view mirror moves the pixels of each view"):
        ViewPipeline("mirror", 2, None, Moving())


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize(
    "said",
    [
        {"draws": "each"},
        {"moves": False},
        {"draws": "sometimes", "moves": False},
        {"draws": "each", "moves": "no"},
    ],
)
def test_a_view_says_when_it_is_drawn_and_whether_it_moves_pixels(said):
    with pytest.raises(ConfigError, match=r"Odd: a view says in its body draws = 'each' or 'once' or"):
        type("Odd", (View,), {"__module__": __name__, "name": "odd", "summary": "odd", **said})


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize(("draws", "complaint"), [("once", "an object with draw"), ("each", "something to call")])
def test_a_view_builds_what_it_says(draws, complaint):
    said = {"name": "odd", "summary": "odd", "draws": draws, "moves": False, "build": lambda self, size: "nothing"}
    register(type("Odd", (View,), {"__module__": __name__, **said}))
    with pytest.raises(ConfigError, match=complaint):
        ViewPipeline("odd", 1, None)


# --- several draws of any transform ---


def test_views_are_independent_draws_and_repeatable():
    image = noise(3, 60, 90)
    two = MultiView(classification_transform(32, train=True))
    with seeded(3):
        first = two(image)
    with seeded(3):
        again = two(image)
    with seeded(4):
        other = two(image)
    assert isinstance(first, tuple)
    assert len(first) == 2
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])
    with seeded(3):
        assert torch.equal(MultiView(two.transform, views=1)(image)[0], first[0])


def test_number_of_views():
    calls = []
    transform = lambda image: calls.append(image) or image  # noqa: E731
    for views_wanted in (1, 2, 5):
        calls.clear()
        result = MultiView(transform, views_wanted)("image")
        assert result == ("image",) * views_wanted == tuple(calls)
    assert "views=5" in repr(MultiView(transform, 5))


@pytest.mark.parametrize(("transform", "count"), [(len, 0), (len, 1.0), (len, True), (None, 2)])
def test_multi_view_refuses(transform, count):
    with pytest.raises(ConfigError, match="MultiView"):
        MultiView(transform, count)

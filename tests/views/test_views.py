import hashlib
import inspect
import math
import pickle
import random

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.transforms.v2 import functional as F

from synreal import views
from synreal.errors import ConfigError, DataError
from synreal.views import (
    OPERATIONS,
    MultiView,
    RandAugment,
    classification_transform,
    derive_seed,
    evaluation_view,
    seeded,
    to_float,
    training_views,
)
from synreal.weights import normalization

GEOMETRIC = ["rotate", "shear_x", "shear_y", "translate_x", "translate_y"]
SIGNED = [*GEOMETRIC, "color", "contrast", "brightness", "sharpness"]


def noise(*size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, size or (3, 32, 48), dtype=torch.uint8, generator=generator)


def grey(image):
    red, green, blue = image.astype(np.float64)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def blend(image, other, factor):
    return np.clip(factor * image.astype(np.float64) + (1 - factor) * other, 0, 255)


def smooth(image):
    """A 3x3 mean whose centre counts five times; the border stays."""
    image = image.astype(np.float64)
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    result = image.copy()
    height, width = image.shape[1:]
    result[:, 1:-1, 1:-1] = sum(
        kernel[i, j] * image[:, i : height - 2 + i, j : width - 2 + j] for i in range(3) for j in range(3)
    )
    return result


# --- the operations, against an independent computation ---


def test_the_published_operations_and_only_these():
    assert len(OPERATIONS) == len(set(OPERATIONS)) == 14
    assert set(OPERATIONS) == {
        "identity", "autocontrast", "equalize", "posterize", "solarize",
        *SIGNED,
    }  # fmt: skip


@pytest.mark.parametrize(("magnitude", "bits"), [(0, 8), (6, 7), (7.5, 7), (8, 6), (15, 6), (30, 4)])
def test_posterize_keeps_the_highest_bits(magnitude, bits):
    image = noise()
    result = RandAugment(magnitude=magnitude).apply_operation(image, "posterize").numpy()
    step = 2 ** (8 - bits)
    np.testing.assert_array_equal(result, image.numpy() // step * step)


@pytest.mark.parametrize(
    ("magnitude", "first_inverted"), [(0, 256), (0.1, 256), (0.12, 255), (6, 205), (15, 128), (30, 0)]
)
def test_solarize_inverts_from_the_threshold_on(magnitude, first_inverted):
    image = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16).repeat(3, 1, 1)
    result = RandAugment(magnitude=magnitude).apply_operation(image, "solarize").numpy()
    expected = [255 - value if value >= first_inverted else value for value in range(256)]
    np.testing.assert_array_equal(result[1].ravel(), expected)


@pytest.mark.parametrize("magnitude", [6, 17])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("name", "against", "slack"),
    [
        ("brightness", lambda image: np.zeros_like(image), 0),
        ("color", lambda image: grey(image)[None], 1),
        ("contrast", lambda image: np.floor(np.floor(grey(image)).mean()), 1),
        ("sharpness", smooth, 1),
    ],
)
def test_factors_are_one_plus_or_minus_the_published_share(name, against, slack, sign, magnitude):
    image = noise()
    factor = 1 + sign * {6: 0.18, 17: 0.51}[magnitude]
    result = RandAugment(magnitude=magnitude).apply_operation(image, name, sign)
    assert result.dtype == torch.uint8
    expected = blend(image.numpy(), against(image.numpy()), factor)
    # Results are cut off to whole grey levels, and so are some intermediate values.
    assert np.abs(result.numpy() - expected).max() <= 1 + slack
    assert np.abs(result.numpy().astype(float) - image.numpy()).mean() > 1


def test_autocontrast_and_equalize():
    image = noise() // 4 + 50
    low = image.amin(dim=(1, 2), keepdim=True).double()
    high = image.amax(dim=(1, 2), keepdim=True).double()
    result = RandAugment().apply_operation(image, "autocontrast")
    assert ((image - low) * 255 / (high - low) - result).abs().max() <= 1
    image = noise() // 8
    result = RandAugment().apply_operation(image, "equalize").numpy()
    for before, after in zip(image.numpy(), result, strict=True):
        # Each level goes to the share of darker pixels, where the brightest level counts for nothing.
        counts = np.bincount(before.ravel(), minlength=256)
        step = (before.size - counts[before.max()]) // 255
        darker = np.cumsum(counts) - counts
        np.testing.assert_array_equal(after, np.minimum((darker + step // 2) // step, 255)[before])


def moved(name, sign, where=(40, 60), size=(101, 201), **kwargs):
    image = torch.zeros(3, *size, dtype=torch.uint8)
    image[:, where[0], where[1]] = 255
    result = RandAugment(**kwargs).apply_operation(image, name, sign)
    places = {tuple(place) for place in result[0].nonzero().tolist()}
    assert torch.equal(result[0], result[1])
    return places


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("magnitude", [6, 12])
def test_geometry_moves_a_marked_pixel_where_it_should(sign, magnitude):
    m = sign * magnitude / 30
    y, x = 40, 60
    angle = math.radians(30 * m)
    dy, dx = y - 50, x - 100
    expected = {
        "rotate": (50 + dx * math.sin(angle) + dy * math.cos(angle), 100 + dx * math.cos(angle) - dy * math.sin(angle)),
        "shear_x": (y, x + 0.3 * m * (y + 0.5)),
        "shear_y": (y + 0.3 * m * (x + 0.5), x),
        "translate_x": (y, x + 100 / 384 * 201 * m),
        "translate_y": (y + 100 / 384 * 201 * m, x),
    }
    for name, (row, column) in expected.items():
        places = moved(name, sign, magnitude=magnitude)
        for place in places:
            assert abs(place[0] - row) <= 0.75, name
            assert abs(place[1] - column) <= 0.75, name
        assert len(places) == 1 or name == "rotate"


def test_translation_at_the_published_width_is_twenty_pixels():
    assert moved("translate_x", 1, size=(80, 384)) == {(40, 80)}
    assert moved("translate_x", -1, size=(80, 384)) == {(40, 40)}
    assert moved("translate_y", 1, size=(80, 384)) == {(60, 60)}
    assert moved("translate_y", -1, size=(80, 384)) == {(20, 60)}


def test_translation_follows_the_width_or_the_argument():
    assert moved("translate_x", 1, where=(5, 5), size=(28, 64)) == {(5, 8)}  # 20 px at 384 are 3.3 at 64
    assert moved("translate_y", 1, where=(5, 5), size=(28, 64)) == {(8, 5)}
    assert moved("translate_x", 1, where=(5, 5), size=(28, 64), translate_px=100) == {(5, 25)}
    assert moved("translate_x", 1, where=(5, 5), size=(28, 64), translate_px=0) == {(5, 5)}


@pytest.mark.parametrize("name", GEOMETRIC)
@pytest.mark.parametrize("sign", [1, -1])
def test_what_moves_in_is_black(name, sign):
    result = RandAugment(magnitude=30).apply_operation(torch.full((3, 64, 64), 200, dtype=torch.uint8), name, sign)
    assert set(result.unique().tolist()) == {0, 200}


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in ("autocontrast", "equalize")])
def test_magnitude_zero_changes_nothing(name):
    image = noise()
    for sign in (1, -1):
        assert torch.equal(RandAugment(magnitude=0).apply_operation(image, name, sign), image)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(OPERATIONS),
    st.sampled_from([1, -1]),
    st.floats(0, 30),
    st.integers(1, 40),
    st.integers(1, 40),
    st.one_of(st.none(), st.floats(0, 500)),
)
def test_every_operation_keeps_form_and_type_and_its_input(name, sign, magnitude, height, width, translate_px):
    image = noise(3, height, width)
    before = image.clone()
    result = RandAugment(1, magnitude, translate_px).apply_operation(image, name, sign)
    assert (result.shape, result.dtype) == (image.shape, torch.uint8)
    assert torch.equal(image, before)


def test_unknown_operation():
    with pytest.raises(ConfigError, match="'sheer'"):
        RandAugment().apply_operation(noise(), "sheer")


# --- the draw ---


@pytest.fixture
def drawn(monkeypatch):
    """Record what RandAugment draws instead of doing it."""
    calls = []

    def record(self, image, name, sign=1):
        calls.append((name, sign))
        return image

    monkeypatch.setattr(RandAugment, "apply_operation", record)
    return calls


def test_draws_are_uniform_with_both_signs_and_rare_autocontrast(drawn):
    rounds = 14 * 400
    with seeded(1):
        RandAugment(num_ops=rounds)(noise(3, 2, 2))
    for name in OPERATIONS:
        count = sum(drawn_name == name for drawn_name, _ in drawn)
        probability = (0.2 if name in ("autocontrast", "equalize") else 1.0) / 14
        deviation = math.sqrt(rounds * probability * (1 - probability))
        assert abs(count - rounds * probability) < 4 * deviation, name
    for name in SIGNED:
        signs = [sign for drawn_name, sign in drawn if drawn_name == name]
        assert set(signs) == {1, -1}
        assert abs(sum(signs)) < 4 * math.sqrt(len(signs)), name


@pytest.mark.parametrize("num_ops", [0, 1, 3])
def test_number_of_operations(drawn, num_ops):
    counts = set()
    for seed in range(60):
        drawn.clear()
        with seeded(seed):
            RandAugment(num_ops)(noise(3, 2, 2))
        counts.add(len(drawn))
    # The rare ones may be drawn and not take place.
    assert max(counts) == num_ops


def test_operations_are_drawn_with_replacement(drawn):
    with seeded(0):
        RandAugment(num_ops=15)(noise(3, 2, 2))
    names = [name for name, _ in drawn]
    assert len(names) > len(set(names))


def test_defaults_are_the_published_ones():
    defaults = {name: p.default for name, p in inspect.signature(RandAugment).parameters.items()}
    assert defaults == {"num_ops": 1, "magnitude": 6, "translate_px": None}
    assert repr(RandAugment()) == "RandAugment(num_ops=1, magnitude=6, translate_px=None)"


@pytest.mark.parametrize(
    ("kwargs", "complaint"),
    [
        ({"num_ops": -1}, "num_ops is -1"),
        ({"num_ops": 1.5}, "num_ops is 1.5"),
        ({"num_ops": True}, "num_ops is True"),
        ({"magnitude": -0.1}, "magnitude is -0.1"),
        ({"magnitude": 31}, "magnitude is 31"),
        ({"magnitude": float("nan")}, "magnitude is nan"),
        ({"magnitude": "6"}, "magnitude is '6'"),
        ({"translate_px": -1.0}, "translate_px is -1.0"),
        ({"translate_px": float("inf")}, "translate_px is inf"),
    ],
)
def test_wrong_arguments(kwargs, complaint):
    with pytest.raises(ConfigError, match=complaint):
        RandAugment(**kwargs)


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        (noise(3, 4, 4).float(), "float32 and shape"),
        (noise(1, 4, 4), r"\(1, 4, 4\)"),
        (noise(2, 3, 4, 4), r"\(2, 3, 4, 4\)"),
        (np.zeros((3, 4, 4), np.uint8), "a ndarray"),
    ],
)
def test_wrong_images(image, complaint):
    with pytest.raises(DataError, match=complaint):
        RandAugment()(image)


# --- transforms ---


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


@pytest.mark.parametrize("magnitude", [0, 6, 17, 30])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("shape", [(33, 50), (3, 3), (2, 9), (9, 1)])
def test_sharpness_is_torchvision_s_to_the_bit(magnitude, sign, shape):
    augment = RandAugment(magnitude=magnitude)
    for image in (noise(3, *shape), noise(3, *shape) // 128 * 255, noise(3, *shape[::-1]).permute(0, 2, 1)):
        before = image.clone()
        expected = F.adjust_sharpness(image, 1 + 0.9 * sign * magnitude / 30)
        assert torch.equal(augment.apply_operation(image, "sharpness", sign), expected)
        assert torch.equal(image, before)


@pytest.mark.parametrize("size", [0, -3, 2.0, True, "64"])
def test_wrong_sizes(size):
    with pytest.raises(ConfigError, match="Image size"):
        classification_transform(size, train=True)


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


# --- views and seeds ---


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


def test_derive_seed_is_the_same_on_every_machine():
    # The first 63 bits of the SHA-256 of the parts, each with its length: a run can be repeated years later.
    stream = b"".join(len(part).to_bytes(8, "big") + part for part in (b"i0", b"i1", b"sview"))
    assert derive_seed(0, 1, "view") == int(hashlib.sha256(stream).hexdigest()[:16], 16) // 2
    assert derive_seed(0, 1, "view") == 116599350927882797


part = st.one_of(st.integers(), st.text(max_size=5))


@settings(max_examples=100, deadline=None)
@given(st.lists(part, max_size=4), st.lists(part, max_size=4))
def test_derive_seed_tells_parts_apart(a, b):
    assert 0 <= derive_seed(*a) < 2**63
    tagged = [[(type(value), value) for value in parts] for parts in (a, b)]
    assert (derive_seed(*a) == derive_seed(*b)) == (tagged[0] == tagged[1])


def test_derive_seed_takes_numpy_integers_and_nothing_odd():
    assert derive_seed(np.int64(7)) == derive_seed(7) != derive_seed("7")
    for odd in (1.0, None, b"x"):
        with pytest.raises(ConfigError, match="derived"):
            derive_seed(odd)


def draws():
    return torch.rand(3).tolist(), random.random(), np.random.rand(3).tolist()


def test_seeded_fixes_all_three_generators():
    results = []
    for seed in (5, 5, 6, 5 + 2**40, 2**63 - 1):
        with seeded(seed):
            results.append(draws())
    assert results[0] == results[1]
    for kind in range(3):
        assert len({str(result[kind]) for result in results}) == 4  # the high bits of the seed count too
    torch_state = torch.get_rng_state()
    expected = torch.manual_seed(5) and torch.rand(3).tolist()
    torch.set_rng_state(torch_state)
    assert results[0][0] == expected


@pytest.mark.parametrize("raises", [False, True])
def test_seeded_restores_all_three_generators(raises):
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    random.gauss(0, 1), np.random.normal()  # both keep a second draw back
    states = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    try:
        with seeded(9):
            draws(), random.gauss(0, 1), np.random.normal()
            if raises:
                raise KeyError("boom")
    except KeyError:
        assert raises
    else:
        assert not raises
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), str(np.random.get_state())) == states[1:]


def test_seeded_can_be_nested():
    with seeded(1):
        first = draws()
        second = draws()
    with seeded(1):
        assert draws() == first
        with seeded(2):
            draws()
        assert draws() == second


@pytest.mark.parametrize("seed", [-1, 2**63, 1.0, True, "1"])
def test_seeded_refuses(seed):
    with pytest.raises(ConfigError, match="Seed"), seeded(seed):
        pytest.fail("the block ran")


def test_views_does_not_touch_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("CUDA was seeded"))
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: pytest.fail("CUDA was started"))
    with seeded(1):
        MultiView(views.RandAugment())(noise())


# --- what a loop of one's own calls ---


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

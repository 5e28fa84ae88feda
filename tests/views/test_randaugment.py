import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as F

from synreal.errors import ConfigError, DataError
from synreal.views import OPERATIONS, RandAugment, seeded
from tests.views.images import noise

GEOMETRIC = ["rotate", "shear_x", "shear_y", "translate_x", "translate_y"]
SIGNED = [*GEOMETRIC, "color", "contrast", "brightness", "sharpness"]


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

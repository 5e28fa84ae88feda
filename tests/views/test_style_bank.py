import math
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

from synreal.config import RunConfig, make_config
from synreal.data.files.decoding import read_image
from synreal.errors import ConfigError, DataError
from synreal.functional import lab_to_rgb, rgb_to_lab
from synreal.views import VIEWS, ViewPipeline, seeded, style_bank
from tests.views.images import noise

HOWS = ("amplitude", "fda", "reinhard", "adain")


def write(folder, count=3, size=(40, 56)):
    """Pictures of distinct colours, in a folder and one below it."""
    (folder / "more").mkdir(parents=True)
    for index in range(count):
        pixels = (60 + 40 * index + noise(3, *size, seed=index) // (3 + index)).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / ("more" if index % 2 else ".") / f"{index}.png")
    return folder


@pytest.fixture
def bank(tmp_path):
    return write(tmp_path / "bank")


@pytest.fixture
def single(tmp_path):
    return write(tmp_path / "single", 1)


def view(folder, **settings):
    return VIEWS.build("style_bank", {"folder": folder, **settings})


def changed(spec, image, seed=3, size=None):
    with seeded(seed):
        return spec.build(size)(image)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 1, 9), (3, 31, 50), (3, 2, 2)])
def test_any_size_keeps_its_size(how, shape, bank):
    got = changed(view(bank, how=how), noise(*shape))
    assert (got.shape, got.dtype) == (shape, torch.uint8)


@pytest.mark.parametrize("how", HOWS)
def test_no_share_is_the_image(how, bank):
    image = noise(3, 65, 48)
    spec = view(bank, how=how, mix=(0.0, 0.0))
    assert torch.equal(changed(spec, image), image)
    assert not torch.equal(changed(view(bank, how=how, mix=(1.0, 1.0)), image), image)


@pytest.mark.parametrize("beta", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("how", ["amplitude", "fda"])
def test_spectra_against_full_transforms(how, beta, single):
    image = noise(3, 30, 42)
    share = 0.6
    settings = {"beta": beta} if how == "fda" else {}
    got = changed(view(single, how=how, mix=(share, share), **settings), image)
    style = F.resize(read_image(single / "0.png").double() / 255, [30, 42], antialias=True).numpy()
    x = image.double().numpy() / 255
    spectrum, other = np.fft.fft2(x), np.fft.fft2(style)
    rows, columns = (abs(np.fft.fftfreq(size, 1 / size)) for size in (30, 42))
    low = np.maximum(rows[:, None], columns[None]) <= (math.floor(beta * 30) if how == "fda" else 99)
    amplitude = np.where(low, (1 - share) * abs(spectrum) + share * abs(other), abs(spectrum))
    wanted = np.fft.ifft2(amplitude * np.exp(1j * np.angle(spectrum)))
    assert abs(wanted.imag).max() < 1e-12
    assert np.abs(got.double().numpy() - 255 * wanted.real.clip(0, 1)).max() <= 0.501


def lab(image):
    return rgb_to_lab(image.double() / 255)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_reinhard_has_the_styles_moments_in_lab(share, single):
    image = 90 + noise(3, 64, 64) // 6  # so that hardly a pixel is clipped
    got, style = (
        lab(changed(view(single, how="reinhard", mix=(share, share)), image)),
        lab(read_image(single / "0.png")),
    )
    own = lab(image)
    one, other = (each.flatten(1).numpy() for each in (own, style))
    moved = (one - one.mean(1, keepdims=True)) / one.std(1, keepdims=True) * other.std(1, keepdims=True)
    wanted = (1 - share) * one + share * (moved + other.mean(1, keepdims=True))
    np.testing.assert_allclose(got.flatten(1).mean(1), wanted.mean(1), atol=0.2)
    np.testing.assert_allclose(got.flatten(1).std(1, correction=0), wanted.std(1), rtol=0.03)
    pixels = lab_to_rgb(torch.from_numpy(wanted).view(3, 64, 64)).clamp(0, 1) * 255
    exact = changed(view(single, how="reinhard", mix=(share, share)), image).double()
    assert (exact - pixels).abs().max() <= 0.51


def test_adain_has_the_styles_moments_in_rgb(single):
    image = 90 + noise(3, 64, 64) // 6
    got = changed(view(single, how="adain", mix=(1.0, 1.0)), image).double()
    style = read_image(single / "0.png").double()
    torch.testing.assert_close(got.mean((1, 2)), style.mean((1, 2)), atol=0.5, rtol=0)  # of whole numbers
    torch.testing.assert_close(got.std((1, 2), correction=0), style.std((1, 2), correction=0), atol=0, rtol=0.01)


def test_published_ranges_of_shares_are_the_defaults(single, monkeypatch):
    seen = []
    monkeypatch.setattr(style_bank, "uniform", lambda bounds: seen.append(bounds) or torch.tensor(1.0))
    for how in HOWS:
        changed(view(single, how=how), noise())
    assert seen == [(0, 1), (1, 1), (0, 1), (0, 1)]


def test_every_image_of_the_folder_is_drawn(bank):
    change = view(bank, how="adain", mix=(1.0, 1.0)).build(None)
    image = 90 + noise() // 6
    with seeded(0):
        found = {round(float(change(image).double().mean())) for _ in range(60)}
    assert found == {round(float(read_image(file).double().mean())) for file in bank.rglob("*.png")}


def test_a_large_folder_is_used_in_part_by_the_names_of_its_images(tmp_path):
    folder = write(tmp_path / "many", 12, (4, 4))
    some = view(folder, most=5)
    assert len(some.files()) == 5
    assert some.files() == view(folder, most=5).files()
    assert set(view(folder, most=4).files()) < set(some.files())
    assert len(view(folder).files()) == 12
    assert len(some.real_images()) == 5
    moved = folder.rename(tmp_path / "elsewhere")
    assert view(moved, most=5).real_images().fingerprint != view(moved, most=6).real_images().fingerprint


def test_the_fingerprint_is_of_the_images_and_not_of_the_place(tmp_path):
    one, other = (view(write(tmp_path / name)) for name in ("a", "b"))
    assert one.real_images().fingerprint == other.real_images().fingerprint
    Image.new("RGB", (5, 5)).save(other.folder / "0.png")
    assert one.real_images().fingerprint != other.real_images().fingerprint


# --- memory and processes ---


def test_styles_are_read_when_they_are_asked_for_and_few_are_kept(tmp_path, monkeypatch):
    folder = write(tmp_path / "bank", 4, (30, 90))
    read = []
    monkeypatch.setattr(style_bank, "read_image", lambda path: read.append(path.name) or read_image(path))
    monkeypatch.setattr(style_bank, "_KEPT", 2 * 3 * 20**2)
    styles = view(folder).build(20).styles
    assert read == []
    for index in (0, 1, 0, 2, 0, 1):
        assert styles[index].shape == (3, 12, 35)  # reduced to the pixels of a square of 20
    assert read == ["0.png", "2.png", "1.png", "2.png"]  # the one that was asked for last goes last
    assert len(styles._kept) == 2
    again = pickle.loads(pickle.dumps(styles))
    assert len(again._kept) == 0
    assert torch.equal(again[1], styles[1])


def test_what_is_kept_does_not_change_what_is_drawn(bank):
    pipeline = ViewPipeline(view(bank), 2, 32)
    image = noise()

    def drawn(pipeline, seed):
        with seeded(seed):
            return torch.stack(pipeline(image, 0)[0])

    first = [drawn(pipeline, seed) for seed in range(6)]
    fresh = pickle.loads(pickle.dumps(pipeline))  # as a worker gets it
    assert all(torch.equal(first[seed], drawn(fresh, seed)) for seed in (4, 1, 5, 0))


# --- what is refused ---


def test_folders_that_are_none(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("none")
    (tmp_path / "file").write_text("none")
    for name, complaint in (
        ("missing", "missing does not exist, expected a folder of real images"),
        ("file", "file is a file, expected a folder"),
        ("empty", "empty holds no image. Expected files that end in .png"),
    ):
        for call in (lambda spec: spec.build(None), lambda spec: spec.real_images()):
            with pytest.raises(ConfigError, match=f"The view style_bank: .*{complaint}"):
                call(view(tmp_path / name))


def test_a_damaged_image_is_named(bank):
    (bank / "more" / "broken.jpg").write_bytes((bank / "0.png").read_bytes()[:200])
    with pytest.raises(DataError, match=r"The view style_bank: .*broken\.jpg.*take it out of the folder"):
        view(bank).real_images()


def test_settings_that_do_not_fit(bank, monkeypatch):
    for settings, complaint in (
        ({"beta": 0.1}, "beta is a setting of how=fda: amplitude has no use for it"),
        ({"how": "fda", "beta": 0.6}, "less than or equal to 0.5"),
        ({"how": "lab"}, "how"),
        ({"mix": (0.5, 1.5)}, "low <= high <= 1"),
        ({"most": 0}, "greater than or equal to 1"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            view(bank, **settings)
    with pytest.raises(ConfigError, match="folder: Field required"):
        VIEWS.spec("style_bank")
    monkeypatch.delenv("SYNREAL_DATA", raising=False)
    with pytest.raises(ConfigError, match=r"begins with \$SYNREAL_DATA, which is not set"):
        view("$SYNREAL_DATA/bank")


def test_in_a_configuration(bank):
    text = f"style_bank(folder={str(bank)!r}, how=fda, beta=0.01)"
    config = RunConfig(views=[text, "crop"])
    assert config.views[0].folder == bank
    assert RunConfig(**config.model_dump(mode="json")).views == config.views
    with pytest.raises(ConfigError, match=r"shifts: style_bank uses real images.*Known: blur, .*stylise"):
        make_config({"shifts": [text]})

"""What looking into a network gives to measures, made up: each against the equation, and in any batches."""

import math

import numpy as np
import pytest
import torch

from synreal.errors import ConfigError, DataError
from synreal.measures import MEASURES, Collection, Glance, ImageConfusion, Looker, Measure, check_measures, fits
from synreal.measures.match_rate import PhotometricView
from synreal.views import seeded

CPU = torch.device("cpu")
LOOKED = [name for name, measure in MEASURES.classes().items() if measure.needs != "predictions"]


class Images:
    name, split, fingerprint, classes = "photo", "test", "f", ("a", "b")

    def __init__(self, number):
        self.number = number

    def __len__(self):
        return self.number


def features(number, seed, width=6):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(number, width, generator=generator) + 3 for name in ("1", "4")}


def collected(names, number=40, batch=7, own=None, frozen=None):
    own, frozen = own or features(number, 1), frozen or features(number, 2)
    collection = Collection(names, Images(number), looking=True)
    for one in collection.lookers:
        one.begin({name: value.shape[1] for name, value in own.items()})
    for start in range(0, number, batch):
        part = slice(start, start + batch)
        indices = torch.arange(number)[part]
        sides = ({name: value[part] for name, value in side.items()} for side in (own, frozen))
        for one in collection.lookers:
            one.see(Glance(indices, indices % 2, *sides))
        collection.seen.add(len(indices))
    collection.gather(CPU)
    return collection


def naive_energy(values, power):
    rows = values.double().numpy()
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    apart = [np.linalg.norm(a - b) for i, a in enumerate(rows) for b in rows[i + 1 :]]
    return float(np.mean([math.log(1 / d) if power == 0 else d**-power for d in apart]))


def naive_cka(x, y):
    x, y = (side.double().numpy() for side in (x, y))
    x, y = x - x.mean(0), y - y.mean(0)
    norm = np.linalg.norm
    return float(norm(y.T @ x) ** 2 / (norm(x.T @ x) * norm(y.T @ y)))


@pytest.mark.parametrize("batch", [1, 7, 40])
def test_energies_are_those_of_all_pairs_of_the_last_stage(batch):
    found = collected(["energy_0", "energy_1", "energy_2"], batch=batch).measured()
    for power in (0, 1, 2):
        one = found[f"energy_{power}"]
        assert one.value == pytest.approx(naive_energy(features(40, 1)["4"], power), rel=1e-12)
        assert (one.unit, one.higher_is_better, one.note) == ("", False, None)


@pytest.mark.parametrize(("number", "batch"), [(40, 7), (2100, 300)])
def test_cka_is_that_of_each_stage(number, batch):
    one = collected(["cka"], number, batch).measured()["cka"]
    expected = {name: naive_cka(features(number, 1)[name], features(number, 2)[name]) for name in ("1", "4")}
    assert one.stages == pytest.approx(expected, rel=1e-10)
    assert one.value == one.stages["4"]


def test_a_copy_of_an_image_is_left_out_of_energies_and_said():
    own = features(40, 1)
    own["4"][3] = own["4"][2]
    one = collected(["energy_1"], own=own).measured()["energy_1"]
    assert one.note == "1 of 780 pairs of features coincide and were left out"
    assert one.value < 10
    alike = {name: torch.ones(40, 6) for name in own}
    assert collected(["energy_1"], own=alike).measured()["energy_1"].value is None  # infinite: JSON has no such number


def test_drift_is_relative_and_by_group():
    collection = Collection(["drift"], Images(1), looking=True)
    (looker,) = collection.lookers
    now, then = {"a": torch.tensor([3.0, 4.0]), "b": torch.ones(1)}, {"a": torch.tensor([0.0, 4.0]), "b": torch.ones(1)}
    looker.weigh(now, then, {"backbone": ["a", "b"], "1": ["a"], "after 4": ["b"]})
    collection.seen.add(1)
    one = collection.measured()["drift"]
    assert one.value == pytest.approx(3 / math.sqrt(17))
    assert one.stages == {"1": 0.75, "after 4": 0.0}
    with pytest.raises(DataError, match="not among the origin"):
        looker.weigh(now, {"b": torch.ones(1)}, {"backbone": ["a", "b"]})


def test_match_rate_counts_images_and_valid_pixels():
    collection = Collection(["match_rate"], Images(3), looking=True)
    (looker,) = collection.lookers
    scores, changed = torch.eye(3), torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 0, 1]])
    looker.see_changed(scores, changed, torch.tensor([0, 255, 2]))  # 255 is a class of images like any other
    assert looker.counts.value.tolist() == [2, 3]
    mask = torch.tensor([[0, 255], [1, 1]], dtype=torch.uint8)
    before, after = torch.tensor([[0, 1], [2, 1]]), torch.tensor([[0, 2], [1, 1]])
    looker.see_changed([before], [after], [mask])
    assert looker.counts.value.tolist() == [4, 6]
    collection.seen.add(3)
    assert collection.measured()["match_rate"].value == pytest.approx(4 / 6)


def test_the_photometric_change_blurs_and_recolours_and_moves_nothing():
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    image[:, :, 32:] = torch.tensor([200, 60, 20], dtype=torch.uint8)[:, None, None]
    change = PhotometricView().build(None)
    with seeded(1):
        once = change(image)
    with seeded(1):
        assert torch.equal(change(image), once)
    assert once.shape == image.shape
    assert once.dtype == torch.uint8
    assert not torch.equal(once[:, 0, -1], image[:, 0, -1])  # another colour
    assert len(once[0, 30].unique()) > 2  # a soft edge
    assert torch.equal(once[:, 0, 0], once[:, 63, 0])


def test_accuracy_on_imagenet_counts_the_highest_scores():
    collection = Collection(["acc_in"], Images(4), looking=True)
    collection.update(torch.eye(4)[:, :4], torch.tensor([0, 1, 2, 0]))
    assert collection.measured()["acc_in"].value == 0.75


@pytest.mark.parametrize("name", LOOKED)
def test_a_test_refuses_what_it_cannot_give_and_names_the_command(name):
    measure = MEASURES.get(name)
    label = "classes"
    with pytest.raises(ConfigError, match=f"{name!r} needs {measure.needs}, .* synreal inspect RUN --measure {name}"):
        check_measures([name], label)
    check_measures([name], label, looking=True)
    assert issubclass(measure.collector, Looker)
    assert fits(measure, "classes")
    assert fits(measure, "boxes") == (name != "match_rate")


def test_what_needs_more_than_predictions_has_a_looker(own_registry):
    body = {"name": "mine", "summary": "s", "heading": "h", "collector": ImageConfusion, "needs": "features"}
    MEASURES.register(type("Mine", (Measure,), {**body, "compute": lambda self, collected: 0.0}))
    with pytest.raises(ConfigError, match="needs features: its collector must be a Looker"):
        check_measures(["mine"], "classes", looking=True)

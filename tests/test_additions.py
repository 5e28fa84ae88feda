"""What it takes to add something: one file, given by ``--plugin``, and it runs from the command line.

Each kind of thing has a file here that adds one. The table in CONTRIBUTING.md is held to this list.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from synreal import data
from synreal.registry import ROOMS, registry_of
from tests.cli.test_cli import tiny_images
from tests.data.labels.test_own_kind import PLUGIN as DEPTH_MAPS

ROOT = Path(__file__).parents[1]
SMALL = [
    *("--backbone", "test_efficientnet", "--weights", "none", "--image-size", 32, "--batch-size", 10),
    *("--max-steps", 3, "--workers", 0, "--device", "cpu", "--log-every", 1, "--eval-every", 0),
]

FILES = {
    "regularizers": """
from synreal.core.terms import Term
from synreal.regularizers import Regularizer, register


@register
class Shrink(Regularizer):
    name = "shrink"
    summary = "the classifier stays small"
    paper = "nobody"

    def build(self, site):
        return ShrinkTerm(site.student.get_classifier().weight)


class ShrinkTerm(Term):
    def __init__(self, weight):
        super().__init__()
        self._weight = (weight,)

    def forward(self, step):
        return self._weight[0].square().sum() + 1
""",
    "transforms": """
from synreal.transforms import Transform, register


@register
class DarkStem(Transform):
    name = "dark_stem"
    summary = "the first convolution gives nothing"

    def apply(self, network):
        network.conv_stem.weight.data.zero_()
        network.conv_stem.weight.requires_grad_(False)
""",
    "views": """
from synreal.views import View, register


@register
class Invert(View):
    name = "invert"
    summary = "colours inverted"
    draws = "each"
    moves = False

    def build(self, size):
        return inverted


def inverted(image):
    return 255 - image
""",
    "measures": """
from synreal.functional.confusion import share_right
from synreal.measures import ImageConfusion, Measure, register


@register
class Wrong(Measure):
    name = "wrong"
    summary = "share of images whose class was not recognised"
    heading = "wrong"
    collector = ImageConfusion
    higher_is_better = False

    def compute(self, collected):
        return 1 - float(share_right(collected.confusion))
""",
    "figures": """
import numpy as np
from PIL import Image
from synreal.figures import Figure, register


@register
class Grey(Figure):
    name = "grey"
    summary = "the headline as grey"

    def draw(self, outcome, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), int(255 * outcome.score.headline), np.uint8)).save(path)
        return path
""",
    "data": """
from typing import ClassVar

import torch
from synreal.data import DataSet, register
from synreal.data.sets import ArrayImages


@register
class Stripes(DataSet):
    kind: ClassVar[str] = "stripes"
    domains: ClassVar[tuple[str, ...]] = ("source", "target")
    label_kinds: ClassVar[tuple[str, ...]] = ("classes",)
    summary: ClassVar[str] = "Stripes, upright or lying."
    needs: ClassVar[str] = "nothing"

    def class_names(self, label):
        return ("upright", "lying")

    def read(self, split, *, label, seed, cache, policy):
        upright = torch.tensor([0, 255], dtype=torch.uint8).repeat(16).expand(3, 32, 32)
        images = torch.stack([upright, upright.mT] * 10) if split == "train" else torch.stack([upright.mT, upright])
        labels = torch.tensor([0, 1] * 10 if split == "train" else [1, 0])
        return ArrayImages("stripes", split, images + (split == "heldout"), labels, self.class_names(label))
""",
    "labels": DEPTH_MAPS,
    "tasks": """
from typing import ClassVar

import torch
from synreal.tasks import Recipe, register
from synreal.tasks.classification import Classification, ClassificationSpec
from torch.nn import functional as F


@register
class BrierSpec(ClassificationSpec):
    name: ClassVar[str] = "brier"
    short: ClassVar[str] = "bri"
    summary: ClassVar[str] = "one class per image, trained by squares"
    recipe: ClassVar[Recipe] = Recipe("brier", "as classification", ClassificationSpec.recipe.settings)

    factor: float = 1.0

    @classmethod
    def runtime(cls):
        return Brier


class Brier(Classification):
    def loss(self, output, targets):
        wanted = F.one_hot(targets, len(self.classes)).float()
        return self.spec.factor * (output.float().softmax(1) - wanted).square().sum(1).mean()
""",
    "averages": """
from synreal.averages import Average, Averaging, register


@register
class Last(Average):
    name = "last"
    summary = "the last weights, halved"
    paper = "nobody"

    half: bool = True

    def begin(self, start, course):
        return Halved()


class Halved(Averaging):
    def see(self, network):
        pass

    def weights(self, last):
        return {name: value / 2 if value.is_floating_point() else value for name, value in last.items()}

    def describe(self):
        return f"the weights after {self.step} steps, halved"
""",
    "phases": """
from typing import ClassVar

import torch
from synreal.engine.phases import register
from synreal.engine.phases.train import Train


@register
class HeadAlone(Train):
    name: ClassVar[str] = "head_alone"
    summary: ClassVar[str] = "the classifier alone, for a few steps"

    steps: int = 2

    def make_plan(self, job):
        return job.plan(epochs=1, most=self.steps)

    def make_optimizer(self, job):
        return torch.optim.SGD(job.model.student.get_classifier().parameters(), lr=0.1)
""",
}

pytestmark = [
    pytest.mark.usefixtures("own_registry"),
    pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning"),
]


@pytest.fixture
def command(tmp_path, call, monkeypatch):
    """Run ``synreal`` with the file of a kind on tiny data; gives what it printed."""
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("SYNREAL_CACHE", str(tmp_path / "cache"))
    load = data.load

    def tiny(value, split, label="classes", **more):
        kind = data.find(value).kind
        return (tiny_images if kind in ("digits", "mnist", "uci") else load)(value, split, label, **more)

    monkeypatch.setattr(data, "load", tiny)

    def run(kind, *arguments):
        file = tmp_path / f"my_{kind}.py"
        file.write_text(FILES[kind], encoding="utf-8")
        code, out, err = call(*arguments, "--plugin", file)
        assert code in (0, None), err
        return out

    return run


def trained(command, kind, folder, *arguments):
    """Make a run with the file of a kind; gives its result and the rows of its metrics."""
    command(kind, "run", *SMALL, "-r", "none", *arguments, "--output", folder)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return json.loads((folder / "result.json").read_text()), rows


def test_a_regularizer(command, tmp_path):
    _, rows = trained(command, "regularizers", tmp_path / "run", "-r", "shrink(weight=0.5)")
    assert rows[0]["penalty/shrink"] == 0.5  # the classifier starts at zero


def test_a_transform(command, tmp_path):
    result, _ = trained(command, "transforms", tmp_path / "run", "--transform", "dark_stem")
    assert not load_file(tmp_path / "run" / "model.safetensors")["conv_stem.weight"].any()
    assert result["config"]["student"]["transforms"] == [{"name": "dark_stem"}]
    scores = json.loads(command("transforms", "evaluate", tmp_path / "run", "--device", "cpu", "--json"))
    assert scores["mnist"]["measures"] == result["targets"]["mnist"]["measures"]


def test_a_view(command, tmp_path):
    result, _ = trained(command, "views", tmp_path / "run", "--view", "crop", "--view", "invert")
    trained(command, "views", tmp_path / "plain", "--view", "crop")
    assert [view["name"] for view in result["config"]["views"]] == ["crop", "invert"]
    ours, plain = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "plain"))
    assert (ours["classifier.weight"] != plain["classifier.weight"]).any()


def test_a_measure(command, tmp_path):
    result, _ = trained(command, "measures", tmp_path / "run", "--measure", "wrong")
    score = result["targets"]["mnist"]
    assert score["measures"]["wrong"] == pytest.approx(1 - score["measures"]["accuracy"])
    assert (score["headings"]["wrong"], score["higher_is_better"]["wrong"]) == ("wrong", False)


def test_a_figure(command, tmp_path):
    result, _ = trained(command, "figures", tmp_path / "run", "--figure", "grey")
    with Image.open(tmp_path / "run" / "figures" / "grey-mnist.png") as image:
        assert image.getpixel((0, 0)) == int(255 * result["targets"]["mnist"]["measures"]["mean_class_accuracy"])


def test_a_data_kind(command, tmp_path):
    result, _ = trained(command, "data", tmp_path / "run", "--source", "stripes", "--target", "stripes")
    assert result["protocol"]["source_images"] == 20
    assert list(result["targets"]["stripes"]["per_class"]) == ["upright", "lying"]


def test_a_label_kind(command, tmp_path):
    folder = tmp_path / "lidar"
    folder.mkdir()
    for number in range(6):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(
            folder / f"{number}.png"
        )
        np.save(folder / f"{number}.npy", np.full((20, 30), number, np.float32))
    report = json.loads(command("labels", "data", "check", f"lidar:{folder}", "--json"))
    assert {part["unit"] for part in report["parts"]} == {"pixels"}
    assert {part["part"]: part["images"] for part in report["parts"]} == {"train": 5, "heldout": 1, "test": 6}


def test_a_task(command, tmp_path):
    result, rows = trained(command, "tasks", tmp_path / "run", "--task", "bri(factor=2)")
    assert rows[0]["loss"] == pytest.approx(2 * 0.9)  # every class alike: (1 - 1/10)^2 + 9 (1/10)^2
    assert result["protocol"]["task"] == "brier"
    assert result["config"]["task"] == {"name": "brier", "head_width": None, "test_flip": False, "factor": 2.0}


def test_a_phase(command, tmp_path):
    result, rows = trained(command, "phases", tmp_path / "run", "--phase", "head_alone", "--phase", "train")
    assert [row["phase"] for row in rows if "loss" in row] == ["head_alone"] * 2 + ["train"] * 3
    assert result["protocol"]["phases"] == ["head_alone", "train"]


def test_an_average(command, tmp_path):
    result, _ = trained(command, "averages", tmp_path / "run", "--average", "last")
    assert list(result["averaged"]) == ["last"]
    last = load_file(tmp_path / "run" / "model.safetensors")["classifier.weight"]
    assert (load_file(tmp_path / "run" / "average-last.safetensors")["classifier.weight"] == last / 2).all()
    scores = json.loads(
        command("averages", "evaluate", tmp_path / "run", "--average", "last", "--device", "cpu", "--json")
    )
    assert scores["mnist"] == result["averaged"]["last"]["mnist"]


@pytest.mark.parametrize("kind", FILES)
def test_what_a_file_adds_is_listed(kind, command):
    rows = json.loads(command(kind, "list", kind, "--json"))
    (mine,) = (row for row in rows if row.get("plugin") == f"plugin my_{kind}.py")
    assert mine["summary"] == registry_of(kind).get(mine["name"]).summary


def test_every_kind_of_thing_can_be_added_and_the_table_says_how():
    assert set(FILES) == set(ROOMS)
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("## What it takes to add")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| [^|]+ \| `(synreal/[^`]+)` \| 1 \|", table, re.MULTILINE)
    assert sorted(rows) == sorted(path.replace(".", "/") + "/" for path in ROOMS.values())

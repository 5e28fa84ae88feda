"""Figures by name: the contract of each, and one from a plugin file."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from synreal.data.labels.boxes import Boxes
from synreal.data.sets import ArrayBoxes, ArrayImages, ArrayMasks
from synreal.errors import ConfigError
from synreal.figures import FIGURES, Chart, Figure, Outcome, Sheet, Study, chart_of, figures_of, sheet_of, study_of
from synreal.measures import Collection
from synreal.plugins import load_plugin
from synreal.records import History, SetHistory
from synreal.records.leaderboard import Found, build
from synreal.tasks import TASKS
from tests.figures.looked import looked
from tests.records.made import made

PLUGIN = """
import numpy as np
from PIL import Image
from synreal.figures import Figure, register


@register
class Bars(Figure):
    name = "bars"
    summary = "the headline as grey"

    def draw(self, outcome, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), 255 * outcome.score.headline, np.uint8)).save(path)
        return path
"""
LABELS = {spec.label: name for name, spec in TASKS.classes().items()}


def data(label):
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    if label == "classes":
        return ArrayImages("toy", "test", images, torch.tensor([0, 1, 0, 1]), ("a", "b"))
    if label == "masks":
        return ArrayMasks("toy", "test", images, torch.randint(0, 2, (4, 16, 16), dtype=torch.uint8), ("a", "b"))
    box = Boxes(torch.tensor([[2.0, 3.0, 12.0, 14.0]]), torch.tensor([1]), torch.tensor([False]), torch.ones(1))
    return ArrayBoxes("toy", "test", images, [box] * 4, ("a", "b"))


def outcome(label):
    """What a network that knows everything leaves behind."""
    tests = data(label)
    images, targets = zip(*(tests[index] for index in range(4)), strict=True)
    predictions = list(targets)
    if label == "classes":
        predictions = list(torch.eye(2)[list(targets)])
    if label == "boxes":
        predictions = [{"boxes": t.boxes, "labels": t.labels, "scores": torch.ones(1)} for t in targets]
        targets = tuple(enumerate(targets))
    collection = Collection(TASKS.get(LABELS[label]).measures, tests)
    batch = (torch.stack(predictions), torch.tensor(targets)) if label == "classes" else (predictions, targets)
    collection.update(*batch)
    return Outcome("mnist", "t", tests.classes, collection.compute(), images, targets, predictions)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        (name, label)
        for name, kind in FIGURES.classes().items()
        if not issubclass(kind, Chart)
        for label in kind.labels or LABELS
    ],
)
def test_every_figure_draws_what_it_says_it_can(name, label, tmp_path):
    kind = FIGURES.get(name)
    path = tmp_path / "new" / f"{name}.png"
    if issubclass(kind, Sheet):
        assert sheet_of(name, label).draw({"real": data(label)}, path) == path
    elif issubclass(kind, Study):
        assert study_of(name, label).draw([looked(images=1)], path) == path
    else:
        (figure,) = figures_of([name], label)
        assert figure.path(tmp_path, "mnist").name == f"{kind.stem or name}-mnist.png"
        assert figure.draw(outcome(label), path) == path
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert min(image.size) > 200


DATA_OF = {  # tests of what each figure draws: the data behind the artists
    "attention": "test_studies.py::test_weights_share_one_scale_whose_marks_are_true",
    "box_panels": "test_figures.py::test_box_panels_put_boxes_where_the_objects_are",
    "box_sheet": "test_figures.py::test_box_sheet_shows_boxes_and_names",
    "circle": "test_studies.py::test_points_lie_at_their_angles_and_each_class_on_its_ring",
    "class_panels": "test_figures.py::test_class_panels_tell_right_from_wrong",
    "class_sheet": "test_figures.py::test_contact_sheet_names_each_image_beneath_it",
    "confusion": "test_figures.py::test_a_cell_of_the_confusion_matrix_is_a_share_of_its_true_class",
    "curves": "test_charts.py::test_a_line_is_the_mean_over_seeds_and_its_band_their_range",
    "gain": "test_charts.py::test_a_point_is_a_pair_and_each_method_has_a_panel",
    "gradcam": "test_studies.py::test_heat_brightens_the_image_and_its_absence_darkens_it",
    "mask_panels": "test_figures.py::test_mask_panels_put_colours_where_the_classes_are",
    "mask_sheet": "test_figures.py::test_mask_sheet_shows_every_mask_in_its_colour",
    "weights": "test_charts.py::test_scores_stand_over_multiples_of_the_default_weight",
}


@pytest.mark.parametrize("name", [n for n, cls in FIGURES.classes().items() if cls.__module__.startswith("synreal.")])
def test_every_figure_has_a_test_of_what_it_draws(name):
    file, test = DATA_OF[name].split("::")
    assert f"\ndef {test}(" in (Path(__file__).parent / file).read_text("utf-8")


def histories():
    tested = SetHistory("accuracy", "overall", "%", (10, 20), (0.5, 0.6))
    return [History("none", 0, {"source": tested, "photo": tested}, "runs/none", {})]


def board():
    methods = [("none", None), ("oracle", None), ("csg", 0.1), ("csg", 1.0)]
    return build([Found(made(method, 0, 0.5, weight=weight), method) for method, weight in methods])


@pytest.mark.parametrize("name", [name for name, kind in FIGURES.classes().items() if issubclass(kind, Chart)])
def test_every_chart_draws_the_numbers_that_it_asks_for(name, tmp_path):
    kind = FIGURES.get(name)
    numbers = {"histories": histories, "board": board}[kind.needs]()
    path = chart_of(name, kind.needs).draw(numbers, tmp_path / "new" / "a.png")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert min(image.size) > 200


@pytest.mark.parametrize("task", TASKS.available())
def test_every_task_names_figures_and_a_sheet_for_its_labels(task):
    cls = TASKS.get(task)
    assert len(figures_of(cls.figures, cls.label)) == len(cls.figures) > 0
    assert isinstance(sheet_of(cls.sheet, cls.label), Sheet)


@pytest.mark.usefixtures("own_registry")
def test_a_figure_from_a_plugin_file_draws_any_kind_of_label(tmp_path):
    file = tmp_path / "bars.py"
    file.write_text(PLUGIN)
    load_plugin(file)
    for label in LABELS:
        (figure,) = figures_of(["bars"], label)
        path = figure.draw(outcome(label), figure.path(tmp_path / "figures", label))
        assert path.name == f"bars-{label}.png"
        with Image.open(path) as image:
            assert image.getpixel((0, 0)) == 255


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize(
    ("names", "label", "message"),
    [
        (["confusoin"], "classes", "Did you mean 'confusion'"),
        (["confusion", "mask_panels"], "classes", "'mask_panels' draws masks, not classes"),
        (["confusion"], "boxes", "'confusion' draws classes or masks, not boxes"),
        (["class_sheet"], "classes", "'class_sheet' draws data sets; expected one that draws what a test gave"),
        (["class_panels", "again"], "classes", r"write predictions-\*\.png, predictions-\*\.png: each needs files"),
        (["nothing"], "classes", "Nothing needs a method draw"),
    ],
)
def test_figures_that_cannot_be_drawn_are_refused(names, label, message):
    body = {"name": "again", "summary": "s", "stem": "predictions", "draw": lambda self, outcome, path: path}
    FIGURES.register(type("Again", (Figure,), body))
    FIGURES.register(type("Nothing", (Figure,), {"name": "nothing", "summary": "s"}))
    with pytest.raises(ConfigError, match=message):
        figures_of(names, label)


def test_sheets_that_cannot_be_drawn_are_refused():
    with pytest.raises(ConfigError, match="'class_sheet' draws classes, not masks"):
        sheet_of("class_sheet", "masks")
    with pytest.raises(ConfigError, match="'confusion' draws what a test gave; expected one that draws data sets"):
        sheet_of("confusion", "masks")


def test_a_confusion_matrix_needs_a_measure_that_counts_one(tmp_path):
    one = outcome("classes")
    without = one.score.model_copy(update={"confusion": None, "counted": None})
    with pytest.raises(ConfigError, match="which none of mean_class_accuracy, accuracy counts"):
        figures_of(["confusion"], "classes")[0].draw(
            Outcome("mnist", "t", one.classes, without, one.images, one.targets, one.predictions), tmp_path / "a.png"
        )

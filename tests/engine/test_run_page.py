"""Pages of networks: each task, from whatever a network comes, and that they say what records and looks say."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from synreal import data
from synreal.engine import Plain, look_closely, look_page
from synreal.errors import ConfigError
from synreal.measures import MEASURES
from synreal.records import read_look, read_record
from synreal.records.numbers import value_text
from synreal.records.run_page.cells import digits_of
from synreal.tasks.classification import Classification
from synreal.tasks.segmentation import SegmentationSpec
from tests.engine import tiny
from tests.records.run_page.test_page import Tables

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")

QUICK = {
    "cls": {"regularizers": "none", "wise_ft": [0.5], "shifts": ["blur"]},
    "seg": {"architecture": "fpn", "epochs": 1, "max_steps": 2, "regularizers": "none"},
    "det": {"architecture": "fcos", "epochs": 1, "max_steps": 2, "regularizers": "none"},
}
HERE = {"device": "cpu", "show_progress": False}


def page_of(*arguments, **settings):
    """A page that is not kept in the run folder, and its parts."""
    made = look_page(*arguments, **{"keep": False, **HERE, **settings})
    return made, Tables(made.html)


@pytest.fixture(scope="module")
def page(whole):
    """The page of a run of each task, made once: its folder, what was found, and its parts."""
    made = {}

    def get(task):
        if task not in made:
            path = whole(task=task, **QUICK[task])
            made[task] = (path, *page_of(path, None if task == "cls" else ["energy_1", "cka", "drift"]))
        return made[task]

    return get


def numbers(value, unit, digits=None):
    return value_text(value, unit, digits=digits).replace("-", "−") if value is not None else "none"


def scores_of(outline):
    """What the table of scores says, by the heading of a group and the measure."""
    found, group = {}, None
    for row in outline.tables["Scores"][1:]:
        if len(row) == 1:
            group = row[0]
        else:
            found[group, row[0]] = row[1:]
    return found


@pytest.mark.parametrize("task", QUICK)
def test_the_page_of_each_task_says_what_record_and_look_say(task, page):
    path, made, outline = page(task)
    record, (insight,) = read_record(path), made.insights
    shown = scores_of(outline)
    kinds = [("synthetic, held out", record.source_heldout), *(("real", one) for one in record.targets.values())]
    for name, score in kinds:
        for measure, value in score.measures.items():
            row = score.headings[measure] + f" {score.units[measure]}" + score.parts.get(measure, "")
            (cell,) = shown[f"{score.data}{name}, {score.images:,} images", row]
            assert cell == numbers(value, score.units[measure])
    for name, score in record.targets.items():
        (rows,) = (rows for caption, rows in outline.tables.items() if caption.endswith(f"of each class on {name}"))
        assert {row[0]: row[2] for row in rows[1:]} == {
            label: "no image" if value is None else numbers(value, "%") for label, value in score.per_class.items()
        }
        known = [row[2] for row in rows[1:] if row[2] != "no image"]
        assert known == sorted(known, key=float)
    shown = [row[1] for row in outline.tables["Measures"][1:] if len(row) == 2]
    looks = insight.look.sets.values()
    measured = [*(found for one in looks for found in one.measures.values()), *insight.look.measures.values()]
    assert sorted(shown) == sorted(numbers(one.value, one.unit, digits_of([one.value], one.unit)) for one in measured)
    drift = insight.look.measures["drift"]
    assert [row[2] for row in outline.tables["drift % of each stage"][1:]] == [
        numbers(value, "%", digits_of(drift.stages.values(), "%")) for value in drift.stages.values()
    ]
    text = " ".join("".join(outline.texts).split())
    for name in insight.look.sets["mnist"].measures:
        assert MEASURES.get(name).summary[1:] in text
    for name, why in insight.look.left_out.items():
        assert f"{name}: {why}." in text
    assert "another fingerprint" not in text
    images = outline.all("img")
    assert all(one["alt"] for one in images)
    assert sum(one["alt"].startswith("Grad-CAM over image") for one in images) >= 4
    assert images[0]["src"].startswith("data:image/svg+xml")


def test_colours_of_classes_are_named_in_the_order_of_the_classes(page):
    _, made, _ = page("seg")
    (swatches,) = re.findall('class="swatches".*?</ul>', made.html)
    named = re.findall(r"<span>(.*?)</span>", swatches)
    classes = made.insights[0].examined["mnist"].shown.classes
    assert named == [name for name in classes if name in named]
    assert len(named) > 1


@pytest.mark.parametrize("task", ["cls", "seg"])
def test_mistakes_are_those_of_the_confusion_matrix(task, page):
    path, made, _ = page(task)
    score = read_record(path).targets["mnist"]
    confusion = torch.tensor(score.confusion)
    examined = made.insights[0].examined["mnist"]
    for one in examined.mistakes:
        assert one.count == confusion[one.kind.true, one.kind.found]
        assert one.total == confusion[one.kind.true].sum()
    off = (confusion - confusion.diag().diag()).flatten().sort(descending=True).values.tolist()
    assert [one.count for one in examined.mistakes] == [count for count in off[:6] if count]
    assert examined.score == score


def test_pictures_are_of_the_images_in_which_mistakes_are_made(page):
    _, made, outline = page("cls")
    examined = made.insights[0].examined["mnist"]
    labels = [index % 10 for index in range(11)]
    for kind, indices in examined.shown.examples.items():
        assert [labels[index] for index in indices] == [kind.true] * len(indices)
        for index in indices:
            assert examined.sights[index].words == examined.shown.classes[kind.found]
            assert any(one["alt"].startswith(f"image {index}: ") for one in outline.all("img"))
    assert set(examined.shown.groups) <= {"Wrong predictions", "Right predictions"}
    for title, indices in examined.shown.groups.items():
        assert {examined.sights[index].wrong for index in indices} == {1.0 if title.startswith("Wrong") else 0.0}


def test_two_runs_stand_beside_each_other_on_the_same_images(whole):
    one, other = whole(task="cls", **QUICK["cls"]), whole(regularizers="oracle")
    made, outline = page_of(one, ["drift"], against=other)
    first, second = (insight.examined["mnist"] for insight in made.insights)
    assert second.shown == first.shown
    assert second.sights.keys() == first.sights.keys()
    assert all(not sight.panels for sight in second.sights.values())
    record, theirs = read_record(one), read_record(other)
    found = scores_of(outline)["mnistreal, 11 images", "mean-class %"]
    values = [run.targets["mnist"].headline for run in (record, theirs)]
    assert found[:2] == [numbers(value, "%") for value in values]
    assert numbers(abs(values[0] - values[1]), "%") in found[2]
    titles = [insight.look.title for insight in made.insights]
    assert titles == ["none, seed 0", "oracle, seed 0"]
    confusion, classes = theirs.targets["mnist"].confusion, first.shown.classes
    text = " ".join("".join(outline.texts).split())
    for mistake in first.mistakes:
        true, count = mistake.kind.true, confusion[mistake.kind.true][mistake.kind.found]
        assert f"oracle, seed 0: {count} of {sum(confusion[true])} images of {classes[true]}" in text
    (chart,) = [image for image in outline.all("img") if image["alt"].startswith("Curves")]
    assert "none and oracle" in chart["alt"]
    for group in first.shown.groups.values():
        for index in group:
            alts = [image["alt"] for image in outline.all("img")]
            assert alts.count(f"Grad-CAM over image {index}") >= 2


def test_a_run_beside_itself_is_told_apart_by_its_place(whole, tmp_path):
    path = whole(task="cls", **QUICK["cls"])
    copy = shutil.copytree(path, tmp_path / "copy")
    made, outline = page_of(path, ["drift"], against=copy)
    titles = [insight.look.title for insight in made.insights]
    assert titles == [f"none, seed 0 ({path})", f"none, seed 0 ({copy})"]
    assert scores_of(outline)["mnistreal, 11 images", "mean-class %"][2] == "0.0"
    assert "nothing but the regularizers and the seed differs" in made.html


def test_scores_of_images_that_have_changed_are_taken_anew(finished):
    result = json.loads((finished / "result.json").read_text())
    right = numbers(result["targets"]["mnist"]["measures"]["accuracy"], "%")
    result["targets"]["mnist"]["fingerprint"] = "f" * 64
    result["targets"]["mnist"]["measures"]["accuracy"] = 0.123
    (finished / "result.json").write_text(json.dumps(result))
    made, outline = page_of(finished, ["drift"])
    assert scores_of(outline)["mnistreal, 11 images", "overall %"] == [right]
    assert "on mnist in its result</b>: the images have another fingerprint by now" in made.html


def test_other_images_do_not_stand_beside_each_other(whole, monkeypatch):
    path, load, loaded = whole(task="cls", **QUICK["cls"]), data.load, []

    def changing(value, split, *arguments, **settings):
        images = load(value, split, *arguments, **settings)
        loaded.append(images.name)
        if loaded.count(images.name) > 1:
            images.fingerprint = f"another {images.name}"
        return images

    monkeypatch.setattr(data, "load", changing)
    made, outline = page_of(path, ["energy_1"], against=path)
    titles = [insight.look.title for insight in made.insights]
    assert titles == [f"none, seed 0 ({path})", f"none, seed 0 ({path}, again)"]
    assert f"{titles[1]} in the pictures of mnist</b>: it was looked at with other images or classes." in made.html
    assert scores_of(outline)["mnistreal, 11 images", "overall %"][2] == "–"
    assert all(not insight.sights for insight in made.insights[1].examined.values())
    assert all(row[3] == "–" for row in outline.tables["Measures"] if row[0] == "mnist")


def test_the_same_page_comes_again_and_is_kept_where_it_is_written(page, tmp_path):
    path, first, _ = page("seg")
    again, _ = page_of(path, ["energy_1", "cka", "drift"])
    assert first.html == again.html
    file = first.write(tmp_path / "new" / "page.html")
    assert file.read_text(encoding="utf-8") == first.html
    with pytest.raises(ConfigError, match="Cannot write"):
        first.write(file / "page.html")


def test_a_checkpoint_has_scores_of_its_own(whole):
    path = whole(task="cls", **QUICK["cls"])
    name = tiny.steps_saved(path)[0]
    made, outline = page_of(path, ["drift"], checkpoint=name)
    shown = scores_of(outline)
    assert {group for group, _ in shown} == {"mnistreal, 11 images", "ucireal, 7 images"}
    assert f"the run has them of its end, and this is {name}." in made.html
    rows = tiny.rows(path)
    step = int(name.removeprefix("step-"))
    (row,) = (row for row in rows if row["step"] == step and "eval/mnist/accuracy" in row)
    assert shown["mnistreal, 11 images", "overall %"] == [numbers(row["eval/mnist/accuracy"], "%")]


def test_a_run_that_has_not_finished_is_shown_by_a_checkpoint(finished):
    (finished / "result.json").unlink()
    _, outline = page_of(finished, ["drift"], checkpoint=tiny.steps_saved(finished)[-1])
    text = " ".join("".join(outline.texts).split())
    assert "the result of csg(" in text
    assert "the run has not finished, or this is not a run folder." in text
    assert ("mnistreal, 11 images", "overall %") in scores_of(outline)
    assert any(image["alt"].startswith("Curves") for image in outline.all("img"))


def test_another_target_than_those_of_the_run_is_scored_anew(whole):
    path = whole(targets="mnist", epochs=1, regularizers="none")
    made, outline = page_of(path, ["drift"], targets=["uci"])
    assert ("ucireal, 7 images", "overall %") in scores_of(outline)
    assert list(made.insights[0].examined) == ["uci"]


def test_the_page_of_a_plain_file(whole):
    path = whole(task="cls", **QUICK["cls"])
    plain = Plain("mnist", backbone="test_efficientnet", weights="none", image_size=32, batch_size=4, workers=0)
    _, outline = page_of(path / "model.safetensors", ["energy_1"], plain=plain, against=path)
    record = read_record(path)
    value = numbers(record.targets["mnist"].headline, "%")
    assert scores_of(outline)["mnistreal, 11 images", "mean-class %"] == [value, value, "0.0"]
    assert "how model was trained: it is a network alone" in " ".join("".join(outline.texts).split())


def test_a_classifier_of_other_classes_shows_where_it_looks_and_no_mistakes(tmp_path):
    import timm

    torch.manual_seed(0)
    file = tmp_path / "other.pt"
    torch.save(timm.create_model("test_efficientnet", num_classes=7).state_dict(), file)
    plain = Plain("mnist", backbone="test_efficientnet", weights="none", image_size=32, workers=0)
    made, outline = page_of(file, ["energy_1"], plain=plain)
    assert "Scores" not in outline.tables
    assert "its predictions cannot be compared with the labels" in made.html
    assert sum(one["alt"].startswith("Grad-CAM") for one in outline.all("img")) == 4


def test_what_a_task_cannot_show_is_left_out_with_the_reason(whole, monkeypatch):
    path = whole(task="seg", **QUICK["seg"])
    monkeypatch.setattr(SegmentationSpec, "figures", ("confusion",))
    made, outline = page_of(path, ["drift"])
    assert "no figure of the task shows them; one that is a synreal.figures.Panels would" in made.html
    assert any(caption.endswith("of each class on mnist") for caption in outline.tables)


def test_a_run_of_other_data_or_of_another_task_does_not_stand_beside(whole, monkeypatch):
    path, other = whole(task="cls", **QUICK["cls"]), whole(task="seg", **QUICK["seg"])
    monkeypatch.setattr(Classification, "load_tests", None)  # before any data
    with pytest.raises(ConfigError, match=r"was trained for segmentation, and .* for classification"):
        look_page(path, against=other, **HERE)
    with pytest.raises(ConfigError, match="Cannot look into nowhere"):
        look_page(path, against=Path("nowhere"), **HERE)


def test_what_the_page_needs_changes_nothing_of_the_look(finished):
    made = look_page(finished, ["cka", "ece"], **HERE)
    plain = look_closely(finished, ["cka", "ece"], keep=False, **HERE)
    assert made.insights[0].look == plain.look == read_look(finished)
    assert plain.examined == {}

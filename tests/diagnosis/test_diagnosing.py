"""A diagnosis from its runs to its page: numbers are those of the runs, and what it says comes from them."""

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from synreal_cli.app import main

from synreal.bench import cells_of, read_grid
from synreal.config import make_config, read_yaml
from synreal.diagnosis import diagnose
from synreal.diagnosis.tries import tries_of
from synreal.engine.neighbours import nearest_renders
from synreal.engine.photos import find_images
from synreal.engine.sureness import PHOTOS, STYLES, read_sureness, sureness
from synreal.errors import ConfigError, DataError, TrainingError
from synreal.functional import thresholded_confidence
from synreal.measures.confidence import PIXELS
from synreal.records import read_record
from tests.diagnosis.conftest import REGULARIZERS, STEPS, make
from tests.engine import tiny

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")
ASKED = {"regularizers": REGULARIZERS, "steps": STEPS, "show": False}


@pytest.fixture(scope="module", autouse=True)
def _small(tmp_path_factory):
    """A cache of its own; the runs leave no figures, of which a diagnosis reads none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNREAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        tiny.draw_nothing(patch.setattr)
        tiny.narrow(patch.setattr)
        yield


@pytest.fixture(scope="module")
def found(asked, images, tmp_path_factory):
    """A diagnosis of a classifier."""
    output = make(asked(), tmp_path_factory.mktemp("diagnosis") / "here")
    return diagnose(asked(), output, photos=[images / "found"], **ASKED)


def test_each_way_is_tried_on_the_same_data_with_the_same_recipe(asked, tmp_path):
    config = asked(lr=0.05, warmup_steps=100, shifts=["blur"], max_test_images=7)
    tries = tries_of(config, tmp_path, steps=9)
    assert [(one.name, one.way) for one in tries] == [
        ("frozen", "frozen"),
        ("fine-tuned", "tuned"),
        ("head first", "head_first"),
        ("csg", "regularizer"),
        ("feature_l2", "regularizer"),
    ]
    for one in tries:
        training, testing = one.cell.config.training, one.cell.config.testing
        assert (training.lr, training.max_steps, training.warmup_steps, training.seed) == (0.05, 9, 3, 0)
        assert ([view.name for view in testing.shifts], testing.max_test_images) == (["blur"], 7)
        assert one.cell.config.data == config.data
        assert one.cell.folder == tmp_path / one.cell.name
    assert [phase.name for phase in tries[2].cell.config.phases] == ["head_first", "train"]
    assert {one.name: one.cell.config.testing.wise_ft for one in tries if one.cell.config.testing.wise_ft} == {
        "fine-tuned": (0.5,)
    }


@pytest.mark.parametrize(("steps", "warmup"), [(None, 50), (600, 200), (40, 20)])
def test_a_detector_keeps_the_warmup_that_it_needs(steps, warmup, tmp_path):
    config = make_config({"task": "det", "warmup_steps": 300})
    for one in tries_of(config, tmp_path, steps=steps):
        assert one.cell.config.training.max_steps == (steps or 100)
        assert one.cell.config.training.warmup_steps == warmup


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({"phases": ["head_first", "train"]}, {}, "diagnose trains in phases of its own"),
        ({"weights": "none"}, {}, "weights: none leaves no knowledge to lose"),
        ({}, {"regularizers": ["none"]}, "none is tried anyway"),
        ({}, {"regularizers": ["oracle"]}, "oracle is tried anyway"),
        ({}, {"regularizers": ["csg", "csg"]}, "The regularizer csg is there twice"),
        ({}, {"regularizers": ["csgg"]}, "csg"),
        ({}, {"photos": ["nowhere"]}, "nowhere does not exist"),
    ],
)
def test_what_cannot_be_diagnosed_is_refused_before_data_are_read(changes, settings, message, asked, tmp_path):
    config = asked(**{"source": f"imagefolder:{tmp_path / 'nothing'}", **changes})
    with pytest.raises(ConfigError, match=re.escape(message)):
        diagnose(config, tmp_path / "out", show=False, **settings)
    assert not (tmp_path / "out").exists()


def test_numbers_are_those_of_the_runs(found):
    assert [one.name for one in found.outcomes] == ["frozen", "fine-tuned", "head first", *REGULARIZERS]
    for one in found.outcomes:
        record = read_record(one.folder)
        assert one.scores["source"] == record.source_heldout.headline
        assert one.scores["photo"] == record.targets["photo"].headline
        assert one.scores["styles"] == pytest.approx(sum(s.headline for s in record.shifted.values()) / 4)
        assert set(one.half_way) == ({"source", "photo"} if one.way == "tuned" else set())
    assert found.steps == STEPS
    assert found.seconds > 0


def test_estimates_are_those_of_the_networks(found):
    for one in found.outcomes:
        record = read_record(one.folder)
        again = read_sureness(Path(one.folder), record)
        assert again["photo"].accuracy == pytest.approx(record.targets["photo"].measures["accuracy"])
        styles = again[STYLES]
        assert len(styles.confidences) == sum(score.images for score in record.shifted.values())
        shifted = [score.measures["accuracy"] for score in record.shifted.values()]
        assert styles.accuracy == pytest.approx(sum(shifted) / len(shifted))
        wanted = thresholded_confidence(styles.confidences, styles.right, again["photo"].confidences)
        assert one.estimates["photo"].accuracy == wanted
        assert one.estimates["photo"].truth == again["photo"].accuracy
    assert found.outcomes[1].estimates["photo"].agreement == 1


def test_photos_without_labels_are_seen_as_those_with(found, images):
    """The four photos are the first of the target, without their labels."""
    folder = Path(found.outcomes[1].folder)
    labelled = read_sureness(folder, read_record(folder))["photo"]
    seen = sureness(folder, find_images([images / "found"]), show_progress=False)
    torch.testing.assert_close(seen.confidences, labelled.confidences[:4])
    assert seen.predicted.tolist() == labelled.predicted[:4].tolist()
    told = found.outcomes[1].estimates[PHOTOS].confidence
    assert told == pytest.approx(float(seen.confidences.double().mean()), abs=1e-6)
    assert found.outcomes[1].estimates[PHOTOS].truth is None


def test_everything_is_left_behind_and_can_be_gone_on_with(found):
    folder = found.folder
    plain = json.loads((folder / "diagnosis.json").read_text())
    assert plain == json.loads(json.dumps(found.as_plain()))
    page = (folder / "diagnosis.html").read_text()
    for text in ("Verdict", "What was tried", "Without labels", "The data", "nearest", "The network"):
        assert text in page
    assert not re.search(r'(src|href)="(?!#|data:)', page)
    again = make_config(read_yaml(folder / "config.yaml"))
    assert again.training.epochs == 2
    assert again.output.folder is None
    cells = cells_of(read_grid(folder / "weights.yaml"))
    assert [cell.label for cell in cells] == ["none", *REGULARIZERS]
    for command in found.commands:
        name, *words = shlex.split(command)
        assert name == "synreal"
        if words[0] == "run":
            with pytest.raises(SystemExit) as stop:
                main([*words, "--dry-run"])
            assert not stop.value.code


def test_the_same_command_makes_no_run_again(found, asked, images, monkeypatch):
    def made(*_, **__):
        raise AssertionError("a run was made again")

    monkeypatch.setattr("synreal.bench.running.Worker", made)
    again = diagnose(asked(), found.folder, photos=[images / "found"], **ASKED)
    assert again.outcomes == found.outcomes
    assert again.verdict == found.verdict
    with pytest.raises(ConfigError, match="holds a run with another configuration"):
        diagnose(asked(lr=0.5), found.folder, **ASKED)


def test_a_run_that_failed_is_named_with_its_log(asked, tmp_path, monkeypatch):
    monkeypatch.setattr("synreal.diagnosis.diagnosing.carry_out", lambda *_, **__: None)
    with pytest.raises(TrainingError, match=r"The run 'frozen' of the diagnosis has no result"):
        diagnose(asked(), tmp_path / "out", **ASKED)


def test_data_that_can_teach_nothing_are_refused_before_a_run(asked, images, tmp_path):
    (tmp_path / "one" / "only").mkdir(parents=True)
    for file in sorted((images / "drawn").rglob("*.png"))[:6]:
        (tmp_path / "one" / "only" / f"{file.parent.name}-{file.name}").write_bytes(file.read_bytes())
    with pytest.raises(DataError, match=r"Training would fail: .* synreal data check tells"):
        diagnose(asked(source=f"imagefolder:{tmp_path / 'one'}", targets="none"), tmp_path / "out", **ASKED)
    assert not (tmp_path / "out").exists()


def test_without_a_target_the_verdict_is_of_photos_or_open(asked, images, tmp_path):
    config = asked(targets="none")
    make(config, tmp_path / "out")
    with_photos = diagnose(config, tmp_path / "out", photos=[images / "found"], **ASKED)
    assert set(with_photos.outcomes[0].estimates) == {PHOTOS}
    assert with_photos.guess is None
    assert "an estimated" in " ".join(with_photos.verdict.reasons)
    alone = diagnose(config, tmp_path / "out", **ASKED)
    assert alone.verdict.advice == "unclear"
    assert ("how sure networks are of real images", "no real image was given") in alone.left_out
    assert alone.commands[0].endswith("--photos FOLDER")


@pytest.mark.parametrize("task", ["seg", "det"])
def test_dense_tasks_are_diagnosed_too(task, asked, tmp_path):
    config = asked(task)
    make(config, tmp_path / "out", regularizers=["feature_l2"], steps=2)
    found = diagnose(config, tmp_path / "out", regularizers=["feature_l2"], steps=2, show=False)
    assert bool(found.outcomes[0].estimates) == (task == "seg")
    if task == "seg":
        folder = Path(found.outcomes[0].folder)
        sure = read_sureness(folder, read_record(folder))["photo"]
        assert len(sure.confidences) <= PIXELS * 12
        assert found.outcomes[0].estimates["photo"].truth == sure.accuracy
    else:
        assert any("detection" in why for _, why in found.left_out)
    assert (tmp_path / "out" / "diagnosis.html").is_file()


def test_the_nearest_render_of_a_render_is_itself(found):
    run = found.outcomes[0].folder
    near = nearest_renders(run, {"source": [2, 0], "photo": []}, show_progress=False)
    assert near["photo"] == {}
    assert {index: some[0].index for index, some in near["source"].items()} == {2: 2, 0: 0}
    for some in near["source"].values():
        assert some[0].similarity == pytest.approx(1, abs=1e-5)
        assert some[0].similarity >= some[1].similarity
        assert some[0].pixels.dtype.name == "uint8"
    assert nearest_renders(run, {"photo": []}) == {"photo": {}}


def test_the_command_prints_what_it_found(found, asked, images, capsys, monkeypatch, tmp_path):
    (tmp_path / "asked.yaml").write_text(asked().to_yaml())
    words = ["diagnose", "--config", tmp_path / "asked.yaml", "--output", found.folder, "--steps", STEPS]
    words += [word for one in REGULARIZERS for word in ("--regularizer", one)]
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, [*words, "--json"])))
    assert not stop.value.code
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"]["advice"] == found.verdict.advice
    with pytest.raises(SystemExit):
        main(list(map(str, words)))
    out = capsys.readouterr().out
    for text in (*found.verdict.reasons, *found.commands, "diagnosis.html"):
        assert " ".join(text.split()) in " ".join(out.split())

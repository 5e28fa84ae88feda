"""``synreal predict`` prints tables and JSON, and says what is wrong with what it is given."""

import csv
import io
import json
import shutil

import pytest
from PIL import Image

from tests.engine import tiny

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run with an average, and a photo."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        tiny.install(patch.setattr)
        settings = {"epochs": 1, "max_steps": 2, "eval_every": 0, "targets": "mnist", "averages": ["wise_ft"]}
        tiny.run(folder / "run", regularizers="none", **settings)
    Image.new("RGB", (50, 40), "orange").save(folder / "photo.jpg")
    return folder


@pytest.fixture
def here(trained, tmp_path, monkeypatch):
    """A copy of both as the working directory."""
    shutil.copytree(trained, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_a_table_or_json_is_printed(here, call):
    code, out, err = call("predict", "run", "photo.jpg", "--device", "cpu")
    assert code == 0, err
    (row,) = csv.DictReader(io.StringIO(out))
    assert row["file"] == "photo.jpg"
    code, out, err = call("predict", "run", "photo.jpg", "--device", "cpu", "--json")
    assert code == 0, err
    (one,) = json.loads(out)["images"]
    assert (one["class"], str(one["probability"])) == (row["class"], row["probability"])
    code, out, err = call("predict", "run", "photo.jpg", "--device", "cpu", "--json", "--average", "wise_ft(alpha=0.5)")
    assert code == 0, err
    assert json.loads(out)["images"][0]["probabilities"] != one["probabilities"]


def test_a_folder_is_written(here, call):
    code, out, err = call("predict", "run", "photo.jpg", "--device", "cpu", "--output", "new/found")
    assert (code, out) == (0, "new/found: 1 images, 2 files\n"), err
    assert sorted(path.name for path in (here / "new" / "found").iterdir()) == ["predictions.csv", "predictions.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "photo.jpg"], "Cannot predict with nowhere: it holds no run.json"),
        (["run", "nothing.jpg"], "nothing.jpg does not exist."),
        (["run", "photo.jpg", "--threshold", "-1"], "threshold is -1.0; expected a score from 0 to 1."),
        (["run", "photo.jpg", "--average", "ema"], "Unknown checkpoint or average of run 'ema'"),
        (["run", "photo.jpg", "--output", "run"], "run is not empty: predictions go into a new folder"),
    ],
)
def test_what_cannot_be_predicted_is_told(arguments, message, here, call):
    code, out, err = call("predict", *arguments, "--device", "cpu")
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert "Traceback" not in err

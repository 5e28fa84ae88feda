"""The JSON schema of a configuration file says of every setting what the fields say."""

import contextlib
import json
from pathlib import Path

import yaml
from synreal_cli.options import settings

from synreal.config import RunConfig
from synreal.config.resolution import home
from synreal.config.schema import schema
from synreal.errors import ConfigError
from synreal.tasks import TASKS
from synreal.views import VIEWS
from tests.views.images import spec_of

ROOT = Path(__file__).parents[2]


def described(whole, setting):
    """What the schema says of a setting."""
    if setting.place == "task":
        options = [part for part in whole["properties"]["task"]["anyOf"] if setting.key in part.get("properties", {})]
        return [option["properties"][setting.key] for option in options]
    if not setting.place:
        return [whole["properties"][setting.key]]
    section = whole["properties"][setting.place]
    reference = section.get("$ref") or section["anyOf"][0]["$ref"]
    return [whole["$defs"][reference.rpartition("/")[2]]["properties"][setting.key]]


def test_every_setting_is_described():
    whole = schema()
    for setting in settings():
        found = described(whole, setting)
        assert len(found) == max(1, len(setting.tasks)), setting.path
        for one in found:
            assert one["description"] in setting.description, setting.path


def test_bare_keys_are_those_that_a_configuration_takes(tmp_path):
    bare = set(schema()["properties"]) - set(RunConfig.model_fields)
    assert {"lr", "ohem", "image_size", "log_every", "flip", "strength"} <= bare
    views = [spec_of(name, tmp_path / "images") for name in VIEWS.available()]
    for key in bare:
        places = set()
        for task in TASKS.available():
            for view in views:
                with contextlib.suppress(ConfigError):
                    places.add(home(key, TASKS.get(task), [view]))
        assert places, key


def test_nothing_is_required_and_nothing_else_is_known():
    whole = schema()
    assert "required" not in whole
    assert whole["additionalProperties"] is False
    for name in ("DataSection", "TrainingSection", "OutputSection"):
        assert "required" not in whole["$defs"][name]
        assert whole["$defs"][name]["additionalProperties"] is False


def test_the_committed_schema_is_that_of_the_fields():
    text = (ROOT / "docs" / "config.schema.json").read_text(encoding="utf-8")
    assert json.loads(text) == json.loads(json.dumps(schema())), "run python benchmarks/tables.py"
    assert yaml.safe_load(text) == json.loads(text)

"""The JSON schema of a configuration file, made from the fields, for editors that complete and check YAML."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

from synreal.config.run_config import RunConfig
from synreal.config.sections import SECTIONS
from synreal.specs import spec_registry
from synreal.tasks import TASKS


def schema() -> dict[str, Any]:
    """Return the schema: sections, the settings of each task and view, and bare keys of fields that are unique.

    Nothing is required: what a file leaves out comes from a recipe.
    """
    whole = RunConfig.model_json_schema()
    definitions, top = whole["$defs"], whole["properties"]
    bare: dict[str, Any] = {}
    seen: Counter[str] = Counter(name for section in SECTIONS.values() for name in section.model_fields)
    seen.update(list(top))
    for name, section in SECTIONS.items():
        described = definitions[section.__name__]
        described.pop("required", None)
        bare |= {key: copy.deepcopy(value) for key, value in described["properties"].items() if seen[key] == 1}
        top[name] = {"$ref": f"#/$defs/{section.__name__}"}
    top["output"] = {"anyOf": [top["output"], {"type": "string"}]}
    tasks = []
    for task in TASKS.classes().values():
        described = task.model_json_schema()
        described["properties"] = {"name": {"enum": [task.name, task.short]}, **described.get("properties", {})}
        tasks.append({**described, "required": ["name"], "additionalProperties": False})
        bare |= {key: value for key, value in described["properties"].items() if key != "name" and not seen[key]}
    of_views: dict[str, list[Any]] = {}
    for view in spec_registry("views").classes().values():
        for key, value in view.model_json_schema().get("properties", {}).items():
            forms = of_views.setdefault(key, [])
            forms += [] if value in forms else [value]
    bare |= {
        key: forms[0] if len(forms) == 1 else {"anyOf": forms}  # views of one run have it in one form
        for key, forms in of_views.items()
        if key not in bare and not seen[key]
    }
    top["task"] = {"description": top["task"]["description"], "anyOf": [{"type": "string"}, *tasks]}
    for key in ("regularizers", "views", "phases"):
        several = top[key]
        top[key] = {"description": several.get("description", ""), "anyOf": [several["items"], several]}
    definitions.pop("TaskSpec", None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of synreal run",
        "type": "object",
        "$defs": definitions,
        "properties": {**top, **bare},
        "additionalProperties": False,
    }

"""Write the generated parts of README.md and docs/ from the registry and from ``benchmarks/results``.

python benchmarks/tables.py          # write
python benchmarks/tables.py --check  # exit 1 if something is out of date
"""

from __future__ import annotations

import functools
import inspect
import io
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from synreal_cli.options import metavar
from synreal_cli.options import settings as run_settings
from synreal_cli.report import print_result

from synreal import data
from synreal.bench import read_grid
from synreal.config.recipes import PRESETS
from synreal.config.resolution import with_recipe
from synreal.config.schema import schema
from synreal.records import RunRecord, with_unit
from synreal.records.leaderboard import Section, build, find
from synreal.records.leaderboard.texts import difference_text, markdown_curve, markdown_table, mean_text, protocol_line
from synreal.registry import loaded, registry_of
from synreal.regularizers import REGULARIZERS, STUDENT, Regularizer, available, get
from synreal.specs import Spec
from synreal.tasks.base import TASKS
from synreal.tasks.setup import Recipe
from synreal.transforms import TRANSFORMS

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # a script finds its own folder alone

from benchmarks.reported import ablation_table, comparison_table, measures_table, numbers  # noqa: E402

OWN_LOOPS = ("main", "examples", "without", "segmentation", "detection")
RESULTS = ROOT / "benchmarks" / "results"
BESIDE = ("cartoon-short", "cartoon-more")  # they look closer at a pair of another grid
BOARDS = {
    "cartoon": ("cartoon", "cartoon-weights"),
    "sketch": ("sketch", "sketch-weights"),
    **{name: (name,) for name in ("cartoon-short", "cartoon-more", "art", "hands", "streets")},
    **{name: (name,) for name in ("digits-classification", "digits-segmentation", "digits-detection")},
    "stamps-classification": ("stamps-classification",),
}
GRIDS = [name for names in BOARDS.values() for name in names if name not in BESIDE]
LEVEL = 0.02  # of held-out accuracy: a doubling that brings less is not worth it
SEEDS = 3  # a pair is shown beside others once it has as many
ACROSS = ("csg", "gcisg", "feature_l2")
SCHEMA = "docs/config.schema.json"
CARDS = ROOT / "docs" / "methods"
FILES = (
    "README.md",
    "docs/averages.md",
    "docs/data.md",
    "docs/diagnose.md",
    "docs/guide.md",
    "docs/insight.md",
    "docs/library.md",
    "docs/reproduce.md",
    "docs/results.md",
    "docs/settings.md",
    "docs/tasks.md",
    "docs/transforms.md",
    "docs/views.md",
    *sorted(str(path.relative_to(ROOT)) for path in CARDS.glob("*.md")),
)


def records(name: str) -> list[RunRecord]:
    """Read the committed records of a table."""
    return [RunRecord.model_validate(value) for value in json.loads((RESULTS / f"{name}.json").read_text("utf-8"))]


def own() -> list[str]:
    """Names of synreal's own regularizers, without those of plugins."""
    foreign = {name for plugin in loaded() for name in plugin.names.get("regularizers", ())}
    return [name for name in available() if name not in foreign]


def regularizers() -> str:
    """Table of synreal's own regularizers, from the registry."""
    lines = ["| name | what it does | from | views |", "|---|---|---|---|"]
    for name in own():
        spec = get(name)
        lines.append(f"| `{name}` | {spec.summary} | {spec.paper} | {spec().views} |")
    return "\n".join(lines)


def card(name: str) -> str:
    """File of a regularizer's method card, in ``docs/methods``."""
    return f"{name}.md" if (CARDS / f"{name}.md").exists() else "baselines.md"


def methods() -> str:
    """Table of synreal's own regularizers with what each costs at its defaults, from the registry."""
    lines = [
        "| name | what it does | from | views | extra passes with gradient | extra passes without | reads |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in own():
        spec = get(name)()
        lines.append(
            f"| [`{name}`]({card(name)}) | {spec.summary} | {spec.paper} | {spec.views} "
            f"| {passes(spec, grad=True)} | {passes(spec, grad=False)} | {reads(spec)} |"
        )
    return "\n".join(lines)


def passes(spec: Regularizer, *, grad: bool) -> str:
    """The passes that a regularizer adds to the task's own, counted by network."""
    nets = [needed.net for needed in spec.passes - {STUDENT} if needed.grad == grad]
    return ", ".join(f"{nets.count(net)} {net}" for net in sorted(set(nets))) or "0"


def reads(spec: Regularizer) -> str:
    """What a regularizer needs of the frozen reference, and whether it needs targets."""
    teacher = "reference and its classifier" if spec.needs_classifier else "reference" if spec.needs_reference else ""
    return ", ".join(filter(None, [teacher, "targets" if spec.needs_targets else ""]))


def settings(name: str) -> str:
    """Table of a regularizer's settings, from its fields and its docstring."""
    return settings_of(get(name))


def settings_of(spec: type[Spec]) -> str:
    """Table of a spec's settings, from its fields and its docstring."""
    schema = spec.model_json_schema()["properties"]
    lines = ["| setting | default | takes | what it is |", "|---|---|---|---|"]
    for key, field in spec.model_fields.items():
        default = f'"{field.default}"' if isinstance(field.default, str) else repr(field.default)
        lines.append(f"| `{key}` | `{default}` | {takes(schema[key])} | {described(spec, key)} |")
    return "\n".join(lines)


def transforms() -> str:
    """Table of synreal's own network transforms, from the registry."""
    lines = ["| name | what it does | from |", "|---|---|---|"]
    for name, spec in sorted(TRANSFORMS.registered().items()):
        if spec.__module__.startswith("synreal."):
            lines.append(f"| [`{name}`](#{name}) | {spec.summary} | {spec.paper} |")
    return "\n".join(lines)


def takes(schema: dict[str, Any]) -> str:
    """Say in words what values a field's JSON schema allows."""
    if "anyOf" in schema:
        kinds = [part for part in schema["anyOf"] if part["type"] != "null"]
        words = "a stage" if len(kinds) > 1 else takes(kinds[0])
        return words + ", or `None`" * (len(kinds) < len(schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f'`"{value}"`' for value in schema["enum"])
    if schema["type"] == "boolean":
        return "`True`, `False`"
    if schema["type"] == "array":
        items = schema["items"]
        if "type" in items:
            return f"numbers {_bounds(items)}"
        return "numbers or names" if any("minimum" in kind for kind in items["anyOf"]) else "stages"
    return " ".join(filter(None, [{"integer": "integer"}.get(schema["type"], "number"), _bounds(schema)]))


def _bounds(schema: dict[str, Any]) -> str:
    if {"minimum", "maximum"} <= schema.keys():
        return f"from {schema['minimum']} to {schema['maximum']}"
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    return " and ".join(f"{word} {schema[key]}" for key, word in words.items() if key in schema)


def described(spec: type[Spec], key: str) -> str:
    """What the docstrings of a spec and its bases say of a setting, the nearest first."""
    for base in spec.__mro__:
        _, _, attributes = inspect.cleandoc(vars(base).get("__doc__") or "").partition("\nAttributes:\n")
        if found := re.search(rf"^    {key}: (.*?)(?=^    \w|\Z)", attributes, re.MULTILINE | re.DOTALL):
            return " ".join(found[1].split()).replace("``", "`").replace("|", "\\|")
    raise LookupError(f"{spec.__name__} has no docstring for {key}.")


def presets() -> str:
    """Table of the papers' recipes."""
    lines = ["| preset | what it is | what it sets |", "|---|---|---|"]
    for name, recipe in PRESETS.items():
        lines.append(f"| `{name}` | {recipe.summary} | {written(recipe)} |")
    return "\n".join(lines)


def task_recipes() -> str:
    """Table of each task's recipe on the embedded data."""
    lines = ["| task | what it sets |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {written(spec.recipe)} |" for name, spec in TASKS.classes().items())])


def written(recipe: Recipe) -> str:
    """The settings of a recipe, and its regularizer with the settings that it gets."""
    parts = []
    for section, values in recipe.settings.items():
        if section == "views":
            parts.append("views " + ", ".join(f"`{text}`" for text in values))
        else:
            parts += [f"{key} {value}" for key, value in values.items() if value is not None]
    (spec,) = with_recipe(recipe.regularizers, recipe)
    given = ", ".join(f"{key}={getattr(spec, key)}" for key in type(spec).model_fields if key in spec.model_fields_set)
    return ", ".join([*parts, f"`{spec.name}({given})`" if given else f"`{spec.name}`"])


def settings_of_a_run() -> str:
    """Table of every setting of a run, from the fields of the configuration."""
    lines = ["| key | option | takes | default | what it is |", "|---|---|---|---|---|"]
    for one in run_settings():
        takes = metavar(one).replace("|", "\\|")
        what = one.description.replace("|", "\\|")
        lines.append(f"| `{one.path}` | `--{one.option}` | {takes} | {one.default} | {what} |")
    return "\n".join(lines)


def averages() -> str:
    """Table of synreal's own averages of weights, from the registry."""
    lines = ["| name | what it is | from | settings |", "|---|---|---|---|"]
    for name, cls in sorted(registry_of("averages").registered().items()):
        if cls.__module__.startswith("synreal."):
            fields = sorted(cls.model_fields.items(), key=lambda one: one[0] == "recompute")
            shown = ", ".join(f"`{key}={field.default!r}`" for key, field in fields)
            lines.append(f"| `{name}` | {cls.summary} | {cls.paper} | {shown} |")
    return "\n".join(lines)


def things() -> str:
    """Table of what there is of each kind that has no page of its own, from the registries."""
    lines = ["| kind | name | what it is |", "|---|---|---|"]
    for plural in ("tasks", "views", "phases", "measures", "figures", "labels"):
        registry = registry_of(plural)
        for name, cls in sorted(registry.registered().items()):
            if cls.__module__.startswith("synreal."):
                lines.append(f"| {registry.kind} | `{name}` | {cls.summary} |")
    return "\n".join(lines)


def view_settings() -> str:
    """Table of the settings of all views, from their fields and docstrings."""
    lines = ["| view | setting | default | what it is |", "|---|---|---|---|"]
    for name, view in registry_of("views").classes().items():
        for key, field in view.model_fields.items():
            default = "must be given" if field.is_required() else f"`{field.default!r}`".replace("'", '"')
            lines.append(f"| `{name}` | `{key}` | {default} | {described(view, key)} |")
    return "\n".join(lines)


def data_sets() -> str:
    """Table of the kinds of data sets, from the registry."""
    lines = ["| kind | serves as | labels | what | needs |", "|---|---|---|---|---|"]
    for name, kind in data.DATA.classes().items():
        lines.append(
            f"| `{name}` | {', '.join(kind.domains)} | {', '.join(kind.label_kinds)} | {kind.summary} | {kind.needs} |"
        )
    return "\n".join(lines)


@functools.cache
def sections(*names: str) -> list[Section]:
    """The leaderboard of some files of committed records; files that are not there yet are left out."""
    paths = [path for name in names if (path := RESULTS / f"{name}.json").is_file()]
    return build(find(paths)).sections if paths else []


def results(*names: str) -> str:
    """Tables of some files of committed records: for each pair its protocol, the methods, and their weights."""
    parts = []
    for section in sections(*names):
        parts.append(f"**{section.pair}.** {protocol_line(section)}")
        parts.append(markdown_table(section.shown(), section))
        parts += [markdown_curve(curve) for curve in section.curves]
    return "\n\n".join(parts) or "No run has ended yet."


def pairs() -> str:
    """Table of all pairs, those first where the frozen backbone is ahead of the fine-tuned one by most."""
    shown = {"`none`, averaged": ("none", "averaged"), **{f"`{name}`": (name, "run") for name in ACROSS}}
    lines = [
        f"| pair | measure | frozen | fine-tuned | frozen − fine-tuned | {' | '.join(shown)} |",
        "|---|---|---|---|---|" + "---|" * len(shown),
    ]
    found = []
    for section in sections(*GRIDS):
        rows = {(row.method, row.kind): row for row in section.ranked}
        frozen, tuned = rows.get(("oracle", "run")), rows.get(("none", "run"))
        if frozen is None or tuned is None or frozen.difference is None or len(frozen.differences) < SEEDS:
            continue
        cells = [section.pair.replace("->", "→"), with_unit(tuned.measure, tuned.unit), mean_text(frozen)]
        cells += [mean_text(tuned), difference_text(frozen)]
        cells += [difference_text(rows[key]) if key in rows else "" for key in shown.values()]
        found.append((frozen.difference, f"| {' | '.join(cells)} |"))
    return "\n".join([*lines, *(line for _, line in sorted(found, key=lambda one: -one[0]))])


def pair_commands() -> str:
    """Table of the files in ``benchmarks/pairs``: the grids that run each, and the results of the first."""
    shown = {"frozen": "oracle", "fine-tuned": "none", "`csg`": "csg", "`gcisg`": "gcisg"}
    lines = [f"| pair | command | other grids | tested on | {' | '.join(shown)} |", "|---" * (len(shown) + 4) + "|"]
    places = sorted((ROOT / "benchmarks").glob("*.yaml"))
    grids = {path.stem: {pair.stem for pair in read_grid(path).pairs} for path in places}
    order = [name for names in BOARDS.values() for name in names]
    for path in sorted((ROOT / "benchmarks" / "pairs").glob("*.yaml")):
        named = [name for name, pairs in grids.items() if path.stem in pairs]
        first, *others = sorted(named, key=lambda name: order.index(name) if name in order else len(order))
        task = yaml.safe_load(path.read_text("utf-8"))["task"]
        boards = [section for section in sections(first) if section.rows[0].task == task]
        start = [f"`{path.stem}`", f"`synreal bench benchmarks/{first}.yaml`", ", ".join(f"`{one}`" for one in others)]
        for section in boards:
            rows = {(row.method, row.kind): row for row in section.ranked}
            found = [rows.get((method, "run")) for method in shown.values()]
            first_row = section.rows[0]
            target = f"{section.pair.rpartition(' -> ')[2]}, {with_unit(first_row.measure, first_row.unit)}"
            cells = ["" if row is None else f"{mean_text(row)} ({len(row.seeds)})" for row in found]
            lines.append(f"| {' | '.join([*start, target, *cells])} |")
            start = ["", "", ""]
        if not boards:
            lines.append(f"| {' | '.join([*start, 'no run has ended yet', *['' for _ in shown]])} |")
    return "\n".join(lines)


def lengths() -> str:
    """Table of trainings of `none` by their length, the one that is long enough for each pair in bold."""
    runs: dict[str, dict[int, RunRecord]] = {}
    for record in records("lengths"):
        (target,) = record.targets
        runs.setdefault(f"{record.protocol.source} → {target}", {})[record.protocol.epochs] = record
    passes = sorted({epochs for found in runs.values() for epochs in found})
    lines = [f"| pair | tested on | {' | '.join(f'{n} passes' if n > 1 else '1 pass' for n in passes)} |"]
    lines.append("|---|---|" + "---|" * len(passes))
    for pair, found in runs.items():
        enough = long_enough({epochs: record.source_heldout.headline for epochs, record in found.items()})
        scores = {
            n: {"held-out": run.source_heldout, "real": next(iter(run.targets.values()))} for n, run in found.items()
        }
        for what in ("held-out", "real"):
            cells = [f"{100 * scores[n][what].headline:.1f}" if n in scores else "" for n in passes]
            cells = [f"**{cell}**" if n == enough else cell for n, cell in zip(passes, cells, strict=True)]
            lines.append(f"| {pair if what == 'held-out' else ''} | {what} | {' | '.join(cells)} |")
    return "\n".join(lines)


def long_enough(heldout: Mapping[int, float]) -> int | None:
    """The shortest length that another doubling improves by less than ``LEVEL``; None if there is none.

    Args:
        heldout: Held-out accuracy by length.
    """
    return next((n for n in sorted(heldout) if 2 * n in heldout and heldout[2 * n] - heldout[n] < LEVEL), None)


def output(name: str, method: str, seed: int) -> str:
    """What the run prints at its end, from its committed record."""
    record = next(r for r in records(name) if r.method == method and r.protocol.seed == seed)
    console = Console(file=io.StringIO(), width=80, highlight=False, markup=False, emoji=False)
    print_result(record, None, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "```text\n" + "\n".join(line.rstrip() for line in text.splitlines()) + "\n```"


def measured(name: str) -> str:
    """What a script of ``benchmarks`` wrote, without its title."""
    return (RESULTS / f"{name}.md").read_text(encoding="utf-8").partition("\n")[2].strip()


def section(name: str, title: str) -> str:
    """One section of what a script of ``benchmarks`` wrote."""
    text = (RESULTS / f"{name}.md").read_text(encoding="utf-8")
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0].strip()


PARTS: dict[str, Callable[[], str]] = {
    "regularizers": regularizers,
    "methods": methods,
    **{f"settings-{name}": functools.partial(settings, name) for name in REGULARIZERS.registered()},
    "transforms": transforms,
    **{f"settings-{name}": functools.partial(settings_of, spec) for name, spec in TRANSFORMS.registered().items()},
    "pairs": pairs,
    **{f"board-{name}": functools.partial(results, *names) for name, names in BOARDS.items()},
    "pair-commands": pair_commands,
    **{f"ablation-{one.name}": functools.partial(ablation_table, one.name) for one in numbers().ablations},
    **{f"measures-{one.pair}": functools.partial(measures_table, one.pair) for one in numbers().measures},
    **{f"reported-{source}": functools.partial(comparison_table, source) for source in ("visda17", "gta5", "sim10k")},
    "costs": lambda: measured("costs"),
    "diagnoses": lambda: measured("diagnoses"),
    "lengths": lengths,
    "presets": presets,
    "task-recipes": task_recipes,
    "data-sets": data_sets,
    "things": things,
    "averages": averages,
    "view-settings": view_settings,
    "settings": settings_of_a_run,
    "queue-loss": lambda: measured("queue_loss"),
    "data-pipeline": lambda: measured("data"),
    "fingerprints": lambda: measured("fingerprints"),
    "insight": lambda: measured("insight"),
    "looks-cartoon": lambda: section("looks-cartoon", "pacs-cartoon: measures"),
    "ranks-cartoon": lambda: section("looks-cartoon", "pacs-cartoon: ranks"),
    **{f"own-loop-{title}": functools.partial(section, "own-loop", title) for title in OWN_LOOPS},
    "make-run": lambda: output("digits-classification", "csg", 0),
}


def filled(text: str) -> str:
    """Replace what stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``."""
    for name, make in PARTS.items():
        pattern = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        if pattern.search(text):
            content = make()
            text = pattern.sub(lambda found, content=content: f"{found[1]}{content}\n{found[2]}", text)
    return text


def main() -> None:
    stale = []
    for name in (*FILES, SCHEMA):
        path = ROOT / name
        before = path.read_text(encoding="utf-8")
        after = json.dumps(schema(), indent=1) + "\n" if name == SCHEMA else filled(before)
        if after != before:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(after, encoding="utf-8")
    if stale and "--check" in sys.argv:
        sys.exit(f"Out of date: {', '.join(stale)}. Run python benchmarks/tables.py.")


if __name__ == "__main__":
    main()

"""Run several seeds of several regularizers with one recipe and write what comes out, whichever way it falls.

    python benchmarks/seeds.py digits-classification none csg --seeds 0 1 2

leaves one run folder a seed under ``runs/benchmarks/``, all records in ``benchmarks/results/NAME.json`` and the table
in ``benchmarks/results/NAME.md``. A run whose folder or record is there already is not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from synreal.config import RunConfig, apply_settings, make_config, read_yaml
from synreal.engine import run
from synreal.errors import SynrealError
from synreal.records import RunRecord, aggregate, read_record, render_markdown

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="name of the table")
    parser.add_argument("regularizers", nargs="+", help='names or "name(key=value)"')
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--config", type=Path, help="recipe; the library's default when left out")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings for every run")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks"), help="where run folders go")
    arguments = parser.parse_args()
    values = read_yaml(arguments.config) if arguments.config else {}
    stored = stored_records(arguments.name)
    records = []
    for seed in arguments.seeds:
        for number, text in enumerate(arguments.regularizers):
            output = arguments.runs / arguments.name / f"{number}-{text.partition('(')[0]}-seed{seed}"
            settings = {**values, "regularizers": text, "seed": seed, "output": output}
            config = make_config(apply_settings(settings, arguments.set))
            if key(config) not in stored:
                run(config, resume=(output / "run.json").is_file())
                stored[key(config)] = read_record(output)
            records.append(stored[key(config)])
            write(arguments.name, records)
    print((RESULTS / f"{arguments.name}.md").read_text(encoding="utf-8"))


def key(config: RunConfig) -> str:
    """Return what two runs must share to be one and the same."""
    free = {"output": True, "training": {"device"}, "data": {"workers"}}
    return json.dumps(config.model_dump(mode="json", exclude=free), sort_keys=True)


def stored_records(name: str) -> dict[str, RunRecord]:
    """Read the records of a table; settings that have been added since they were made get their defaults."""
    path = RESULTS / f"{name}.json"
    found = {}
    for row in json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []:
        config = make_config(row["config"])
        plain = config.model_dump(mode="json")
        found[key(config)] = RunRecord.model_validate(
            {**row, "config": plain, "regularizers": plain["regularizers"]}
        )  # fmt: skip
    return found


def write(name: str, records: list[RunRecord]) -> None:
    """Write records and table."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    rows = aggregate(records)
    body = [record.model_dump(mode="json") for record in records]
    for row in body:
        row["config"]["output"]["folder"] = None  # where a machine keeps its runs is nobody's business
    (RESULTS / f"{name}.json").write_text(json.dumps(body, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    protocol = records[0].protocol
    notes = [
        f"Percent, mean ± standard deviation over seeds {', '.join(map(str, rows[0].seeds))}; last epoch.",
        f"{records[0].network}, weights {records[0].weights['detail']}, {protocol.image_size} pixels, "
        f"{protocol.epochs} epochs ({protocol.steps} steps of {protocol.batch_size}).",
        f"Source {protocol.source} ({protocol.source_images} images, {protocol.source_fingerprint[:12]}), targets "
        + ", ".join(f"{n} ({s.images} images, {s.fingerprint[:12]})" for n, s in records[0].targets.items())
        + f"; {protocol.evaluation}, {'with' if protocol.test_time_flips else 'no'} flips.",
        "Versions: " + ", ".join(f"{key} {value}" for key, value in protocol.versions.items()) + ".",
    ]
    table = render_markdown(rows, chance=protocol.chance)
    (RESULTS / f"{name}.md").write_text("\n".join([f"# {name}", "", table, "", *notes]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except SynrealError as error:
        sys.exit(f"Error: {error}")

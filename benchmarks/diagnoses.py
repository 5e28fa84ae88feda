"""Diagnose pairs, and score the verdicts against the tables of many runs.

    python -m benchmarks.diagnoses runs/diagnoses pacs-cartoon hands

A verdict is right where the rule of a diagnosis says the same of the committed records of that pair: of means over
seeds, of runs of the pair's whole length. Writes ``benchmarks/results/diagnoses.json`` and ``.md``; without names, the
table alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.tables import GRIDS, RESULTS, ROOT, records
from synreal.config import RunConfig, make_config, read_yaml
from synreal.diagnosis import Tried, Verdict, diagnose, judge
from synreal.diagnosis.tries import METHODS
from synreal.diagnosis.verdict import Way
from synreal.errors import SynrealError
from synreal.records import RunRecord, write_json

PAIRS = ROOT / "benchmarks" / "pairs"
FILE = RESULTS / "diagnoses.json"
WAYS: dict[str, Way] = {"none": "tuned", "oracle": "frozen", **dict.fromkeys(METHODS, "regularizer")}
WORDS = {"keep": "keep", "free": "fine-tune", "unclear": "not clear"}
FEWEST = 2  # seeds of which a table says something


def pair_config(name: str) -> RunConfig:
    """Read the run of a pair."""
    return make_config(read_yaml(PAIRS / f"{name}.yaml"))


def of_pair(config: RunConfig) -> list[RunRecord]:
    """Return the committed records of a pair: regularizers as they are by default, over its whole length."""
    targets = [target.label for target in config.data.targets]
    found = [record for name in GRIDS if (RESULTS / f"{name}.json").is_file() for record in records(name)]
    return [
        record
        for record in found
        if record.label in WAYS
        and (record.protocol.task, record.protocol.source) == (config.task.name, config.data.source.label)
        and list(record.targets) == targets
        and record.protocol.phases == ["train"]
        and record.config["training"]["epochs"] == config.training.epochs
    ]


def truth(found: Sequence[RunRecord]) -> Verdict | None:
    """Judge by means over the seeds that all methods have; None where seeds or methods are too few."""
    by_label: dict[str, dict[int, float]] = {}
    for record in found:
        score = next(iter(record.targets.values()))
        by_label.setdefault(record.label, {})[record.protocol.seed] = score.headline
    if not {"none", "oracle"} < by_label.keys():
        return None
    seeds = sorted(set.intersection(*(set(one) for one in by_label.values())))
    if len(seeds) < FEWEST:
        return None
    tried = []
    for label in by_label:
        scores = [by_label[label][seed] for seed in seeds]
        gains = [by_label[label][seed] - by_label["none"][seed] for seed in seeds]
        tried.append(
            Tried(label, WAYS[label], statistics.fmean(scores), noise=2 * statistics.stdev(gains) / len(gains) ** 0.5)
        )
    return judge(tried)


def gain(found: Sequence[RunRecord], label: str) -> float:
    """Return the mean over seeds of a method's score minus that of ``none``."""
    score = {(record.label, record.protocol.seed): next(iter(record.targets.values())).headline for record in found}
    seeds = sorted(seed for name, seed in score if name == label and ("none", seed) in score)
    return statistics.fmean(score[label, seed] - score["none", seed] for seed in seeds)


def table(diagnosed: dict[str, Any]) -> str:
    """Write the table of verdicts beside what many runs say."""
    head = "pair | steps | frozen | best tried | verdict | without labels | tables: frozen | tables: best | tables say"
    lines = [f"| {head} |", "|" + "---|" * len(head.split("|"))]
    right = {"verdict": 0, "guess": 0}
    judged = {"verdict": 0, "guess": 0}
    for name, one in diagnosed.items():
        found = of_pair(pair_config(name))
        sure = truth(found)
        target = one["targets"][0]
        scores = {outcome["name"]: outcome["scores"][target] for outcome in one["outcomes"]}
        methods = {outcome["name"] for outcome in one["outcomes"] if outcome["way"] == "regularizer"}
        best = max(methods, key=scores.__getitem__)
        tuned = scores["fine-tuned"]
        cells = [
            name,
            one["steps"],
            f"{100 * (scores['frozen'] - tuned):+.1f}",
            f"{best} {100 * (scores[best] - tuned):+.1f}",
        ]
        said = {key: None if one[key] is None else WORDS[one[key]["advice"]] for key in right}
        cells += [said["verdict"], said["guess"] or "-"]
        if sure is None:
            cells += ["-"] * 3
        else:
            known = sorted({record.label for record in found}.intersection(METHODS))
            first = max(known, key=lambda label: gain(found, label))
            cells += [
                f"{100 * gain(found, 'oracle'):+.1f}",
                f"{first} {100 * gain(found, first):+.1f}",
                WORDS[sure.advice],
            ]
            for key in right:
                if one[key] is not None:
                    judged[key] += 1
                    right[key] += (one[key]["advice"] == "keep") == (sure.advice == "keep")
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    told = (
        f"Whether to keep what is known: the verdict agrees with the tables on {right['verdict']} of "
        f"{judged['verdict']} pairs, and the one by estimates without labels on {right['guess']} of {judged['guess']}."
    )
    return "\n".join(["# Diagnoses", "", *lines, "", told, ""])


def plain(found: dict[str, Any]) -> dict[str, Any]:
    """Return a diagnosis without what is one machine's."""
    outcomes = [{key: value for key, value in one.items() if key != "folder"} for one in found["outcomes"]]
    return {**{key: value for key, value in found.items() if key not in ("folder", "commands")}, "outcomes": outcomes}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Diagnose pairs, and score the verdicts.")
    parser.add_argument("output", type=Path, nargs="?", default=Path("runs/diagnoses"), help="folder of the runs")
    parser.add_argument("pairs", nargs="*", help="names of files in benchmarks/pairs")
    given = parser.parse_args(arguments)
    diagnosed = json.loads(FILE.read_text("utf-8")) if FILE.is_file() else {}
    for name in given.pairs:
        try:
            found = diagnose(pair_config(name), (given.output / name).absolute())
        except SynrealError as error:
            parser.exit(1, f"{name}: {error}\n")
        diagnosed[name] = plain(json.loads(json.dumps(found.as_plain())))
        write_json(FILE, dict(sorted(diagnosed.items())))
    text = table(dict(sorted(diagnosed.items())))
    FILE.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

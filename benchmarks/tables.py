"""Write the generated parts of README.md and docs/ from the registry and from ``benchmarks/results``.

python benchmarks/tables.py          # write
python benchmarks/tables.py --check  # exit 1 if something is out of date
"""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

from rich.console import Console
from synreal_cli.report import print_result

from synreal.records import RunRecord, aggregate, render_markdown
from synreal.regularizers import available, get

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
FILES = ("README.md", "docs/results.md")


def records(name: str) -> list[RunRecord]:
    """Read the committed records of a table."""
    return [RunRecord.model_validate(value) for value in json.loads((RESULTS / f"{name}.json").read_text("utf-8"))]


def regularizers() -> str:
    """Table of all regularizers, from the registry."""
    lines = ["| name | what it does | from | views |", "|---|---|---|---|"]
    for name in available():
        spec = get(name)
        lines.append(f"| `{name}` | {spec.summary} | {spec.source} | {spec().views} |")
    return "\n".join(lines)


def results(name: str) -> str:
    """Table of several seeds, from the committed records."""
    found = records(name)
    return render_markdown(aggregate(found), chance=found[0].protocol.chance)


def output(name: str, method: str, seed: int) -> str:
    """What the run prints at its end, from its committed record."""
    record = next(r for r in records(name) if r.method == method and r.protocol.seed == seed)
    console = Console(file=io.StringIO(), width=80, highlight=False, markup=False, emoji=False)
    print_result(record, None, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "```text\n" + "\n".join(line.rstrip() for line in text.splitlines()) + "\n```"


PARTS = {
    "regularizers": regularizers,
    "digits-classification": lambda: results("digits-classification"),
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
    for name in FILES:
        path = ROOT / name
        before = path.read_text(encoding="utf-8")
        after = filled(before)
        if after != before:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(after, encoding="utf-8")
    if stale and "--check" in sys.argv:
        sys.exit(f"Out of date: {', '.join(stale)}. Run python benchmarks/tables.py.")


if __name__ == "__main__":
    main()

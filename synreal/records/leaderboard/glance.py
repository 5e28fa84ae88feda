"""Methods by pairs: which one helps where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from synreal.records.html import Markup, h, number
from synreal.records.leaderboard.board import Board, Section
from synreal.records.leaderboard.rows import Row
from synreal.records.leaderboard.texts import mean_text
from synreal.records.numbers import with_unit

_SIGNS: Final = {"better": "▲", "worse": "▼", "mixed": "◇"}
_WORDS: Final = {
    "better": "better with every seed",
    "worse": "worse with every seed",
    "mixed": "seeds disagree, or there is one only",
}


class _Line(NamedTuple):
    """What a line of the table is of: a method, or the baseline's early stop or average."""

    method: str
    kind: str
    detail: str | None


def glance(board: Board) -> Markup | None:
    """Make the table of methods by pairs: differences to the baseline, each pair under its first zero-shot protocol."""
    sections = [s for pair in board.pairs.values() if (s := _first(pair)) is not None]
    lines: dict[_Line, list[Row | None]] = {}
    for place, section in enumerate(sections):
        for row, _ in section.shown():
            if row.kind != "selected weight":
                line = _Line(row.method, row.kind, row.detail)
                lines.setdefault(line, [None] * len(sections))[place] = row
    if not lines:
        return None
    ordered = sorted(lines.items(), key=lambda item: _order(item[0], item[1], board.baseline))
    best = [_best([rows[place] for rows in lines.values()]) for place in range(len(sections))]
    heads = [
        h("th", h("a", *_broken(one.pair), href=f"#{_anchor(one, board)}"), h("small", _measure(one)), scope="col")
        for one in sections
    ]
    body = []
    for line, rows in ordered:
        about = {"early stop": "early stop", "averaged": f"averaged, {line.detail}"}.get(line.kind)
        name = h("th", h("code", line.method), h("small", about) if about else None, scope="row")
        is_baseline = line.method == board.baseline and line.kind == "run"
        cells = [_cell(row, is_best=row is not None and row is best[place]) for place, row in enumerate(rows)]
        body.append(h("tr", name, *cells, class_="baseline" if is_baseline else None))
    return h(
        "section",
        h("h2", "At a glance"),
        h(
            "div",
            h(
                "table",
                h("caption", "Difference to ", h("code", board.baseline), " by method and pair"),
                h("thead", h("tr", h("th", "method", scope="col"), *heads)),
                h("tbody", *body),
                class_="matrix",
            ),
            class_="scroll",
            tabindex=0,
            role="region",
            aria_label="Methods by pairs",
        ),
        _legend(board.baseline),
        id="glance",
    )


def _first(sections: Sequence[Section]) -> Section | None:
    """Return the first protocol that saw nothing of the target; one without real images, if there is one."""
    blind = [section for section in sections if section.rows[0].seen_of_target == "nothing"]
    return next((section for section in blind if not section.rows[0].real_images), blind[0] if blind else None)


def _broken(pair: str) -> tuple[Markup | str, ...]:
    source, arrow, target = pair.partition(" -> ")
    return (source, h("br"), f"→ {target}") if arrow else (pair,)


def _anchor(section: Section, board: Board) -> str:
    return f"pair-{list(board.pairs).index((section.pair, section.task))}"


def _measure(section: Section) -> str:
    return with_unit(section.rows[0].measure, section.rows[0].unit)


def _order(line: _Line, rows: Sequence[Row | None], baseline: str) -> tuple[int, int, str]:
    """The baseline and its variants first; then what helps most often, and hurts least often."""
    verdicts = [row.verdict for row in rows if row is not None]
    if line.method == baseline:
        return (0, ("run", "early stop", "averaged").index(line.kind), line.detail or "")
    return (1, verdicts.count("worse") - verdicts.count("better"), line.method)


def _best(rows: Sequence[Row | None]) -> Row | None:
    known = [row for row in rows if row is not None and row.mean is not None]
    return max(known, key=lambda row: (row.mean or 0.0) * (1 if row.higher_is_better else -1), default=None)


def _cell(row: Row | None, *, is_best: bool) -> Markup:
    if row is None:
        return h("td", h("span", "–", role="img", aria_label="not run", title="not run", class_="absent"))
    best = h("span", " best mean", class_="unseen") if is_best else None
    look = "best" if is_best else None
    if row.difference is None:
        return h("td", h("b", mean_text(row), best, class_=look))
    words = _WORDS[row.verdict or "mixed"]
    return h(
        "td",
        h("span", _SIGNS[row.verdict or "mixed"], role="img", aria_label=words, title=words, class_="sign"),
        h("b", number(row.difference, row.unit, signed=True), best, class_=look),
        h("small", number(row.mean, row.unit)),
        class_=row.verdict or "mixed",
    )


def _legend(baseline: str) -> Markup:
    return h(
        "p",
        h("span", "▲", class_="sign better"),
        " better than ",
        h("code", baseline),
        " with every seed, ",
        h("span", "▼", class_="sign worse"),
        " worse with every seed, ",
        h("span", "◇", class_="sign mixed"),
        " seeds disagree, or there is one only. Large is the mean difference, small the mean itself, ",
        h("b", "framed", class_="best"),
        " the best mean of a pair. Last epoch, default settings, each pair under its first protocol.",
        class_="legend",
    )

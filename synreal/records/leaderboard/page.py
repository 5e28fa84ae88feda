"""A leaderboard as one HTML page that needs nothing else, and no script but for sorting and filters."""

from __future__ import annotations

from collections.abc import Sequence

from synreal.records.html import Markup, document, h, resource
from synreal.records.leaderboard import tables
from synreal.records.leaderboard.board import Board, Section
from synreal.records.leaderboard.glance import glance
from synreal.records.leaderboard.wording import opening, reading, verdict


def as_html(board: Board) -> str:
    """Write a leaderboard as a page."""
    return document(
        "synreal leaderboard",
        h("header", h("h1", "Leaderboard"), h("p", opening(board), class_="lead")),
        h(
            "main",
            glance(board),
            reading(board),
            _filters(board),
            *(_pair(place, board) for place in range(len(board.pairs))),
            h("p", "Nothing fits these filters.", id="nothing", hidden=True),
        ),
        style=resource(__package__, "page.css"),
        script=resource(__package__, "page.js"),
    )


def _filters(board: Board) -> Markup:
    protocols = list(dict.fromkeys(section.protocol for section in board.sections))
    return h(
        "form",
        h("label", h("span", "Method"), h("input", id="text", type="search", placeholder="csg, early stop, ...")),
        _choice("pair", "Pair", list(dict.fromkeys(section.pair for section in board.sections))),
        _choice("protocol", "Protocol", protocols),
        h(
            "label",
            h("input", id="variants", type="checkbox"),
            h("span", "all early stops and averages"),
            class_="check",
        ),
        h("output", id="count", aria_live="polite"),
        id="filters",
        role="search",
        aria_label="Filters",
    )


def _choice(name: str, title: str, values: Sequence[str]) -> Markup:
    options = [h("option", "all", value=""), *(h("option", value, value=value) for value in values)]
    return h("label", h("span", title), h("select", *options, id=name))


def _pair(place: int, board: Board) -> Markup:
    (pair, task), sections = list(board.pairs.items())[place]
    source, _, target = pair.partition(" -> ")
    papers = board.papers.get((pair, task))
    return h(
        "section",
        h("h2", source, h("span", " → ", class_="arrow"), target, h("small", task)),
        *(_section(section) for section in sections),
        tables.published(papers) if papers else None,
        class_="pair",
        id=f"pair-{place}",
        data_pair=pair,
    )


def _section(section: Section) -> Markup:
    recipe, _, digest = section.protocol.rpartition(", ")
    row = section.rows[0]
    usual = {id(one.row) for one in section.shown()}
    every = section.shown(variants=True)
    saw = f"saw {row.saw}: not zero-shot"
    differs = f" It differs from the pair's first protocol in: {', '.join(section.differs)}."
    return h(
        "article",
        h(
            "h3",
            recipe,
            h("code", digest),
            None if row.seen_of_target == "nothing" else h("span", saw, class_="tag"),
            h("span", "uses real images", class_="tag") if row.real_images else None,
        ),
        h("p", verdict(section), class_="verdict"),
        tables.ranking(
            every, section, caption="Ranked", variants=[one.row for one in every if id(one.row) not in usual]
        ),
        tables.peeking(section),
        *(tables.by_weight(curve, section) for curve in section.curves),
        h(
            "details",
            h("summary", "Protocol"),
            h("p", f"{row.consists_of}.", differs if section.differs else None),
            tables.facts(section),
        ),
        data_protocol=section.protocol,
    )

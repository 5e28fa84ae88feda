"""A network as one HTML page that needs nothing else, and no script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from synreal.records.html import Markup, document, h, resource
from synreal.records.run_page.contents import Contents, SetContents
from synreal.records.run_page.facts import facts, numbers_of, opening
from synreal.records.run_page.measures import measures
from synreal.records.run_page.pictures import heat, image, mistakes
from synreal.records.run_page.scores import by_class, scores


class Part(NamedTuple):
    """A part of a page that is made elsewhere.

    Attributes:
        name: Its anchor.
        title: Its heading.
        body: What it shows.
    """

    name: str
    title: str
    body: Markup


def as_html(
    contents: Contents,
    *,
    title: str | None = None,
    lead: str = "",
    parts: Sequence[Part] = (),
    left_out: Sequence[tuple[str, str]] = (),
) -> str:
    """Write what is known of a network as a page.

    Args:
        contents: What is known.
        title: What the page is called; by default the network's name.
        lead: What else is said at its top.
        parts: What comes before.
        left_out: What else is not shown, and why.
    """
    title = title or contents.sides[0].title
    sets = [_set(place, one, contents) for place, one in enumerate(contents.sets)]
    return document(
        f"{title} · synreal",
        h(
            "header",
            h("h1", title),
            h("p", lead, class_="lead") if lead else None,
            opening(contents),
            _ways(contents, parts),
        ),
        h(
            "main",
            *(h("section", h("h2", part.title), part.body, id=part.name) for part in parts),
            scores(contents),
            _curves(contents),
            *sets,
            measures(contents),
            facts(contents),
            _left_out([*left_out, *contents.left_out]),
        ),
        style=resource(__package__, "page.css"),
        pictures=True,
    )


def _ways(contents: Contents, parts: Sequence[Part]) -> Markup:
    """Name what the page has, each with the way there."""
    ways = {part.name: part.title for part in parts} | {"scores": "Scores", "curves": "Over training"}
    ways |= {f"set-{place}": f"On {one.name}" for place, one in enumerate(contents.sets)}
    ways |= {"network": "The network", "facts": "How it came about", "left-out": "What is not here"}
    links = [h("li", h("a", title, href=f"#{name}")) for name, title in ways.items()]
    return h("nav", h("ul", *links), aria_label="On this page")


def _curves(contents: Contents) -> Markup:
    charts = [h("figure", image(one, "chart")) for one in contents.charts]
    return h(
        "section",
        h("h2", "Over training"),
        h("div", *charts, class_="charts") if charts else h("p", "No curve: see what is not here."),
        numbers_of(contents.histories),
        id="curves",
    )


def _set(place: int, one: SetContents, contents: Contents) -> Markup:
    parts = [by_class(one, contents.sides), mistakes(one, contents.sides), heat(one, contents)]
    nothing = h("p", "Nothing of it can be shown: see what is not here.") if not any(parts) else None
    return h("section", h("h2", f"On {one.name}"), *parts, nothing, id=f"set-{place}", class_="set")


def _left_out(left_out: Sequence[tuple[str, str]]) -> Markup:
    rows = [h("li", h("b", what), f": {why}") for what, why in left_out]
    return h(
        "section",
        h("h2", "What is not here"),
        h("ul", *rows) if rows else h("p", "Nothing was left out."),
        id="left-out",
    )

"""The pictures of a page: the worst mistakes, and where the network looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from synreal.records.html import Markup, h, joined
from synreal.records.numbers import percent
from synreal.records.run_page.contents import Contents, Example, Glimpse, MistakeKind, Picture, SetContents, Shot, Side

_TINY = 64  # pixels, of pictures that are enlarged without being blurred


def image(picture: Picture, look: str | None = None) -> Markup:
    """Put a picture into the page."""
    tiny = "tiny" if max(picture.width, picture.height) <= _TINY else None
    return h(
        "img",
        src=picture.uri,
        width=picture.width,
        height=picture.height,
        alt=picture.alt,
        class_=" ".join(filter(None, (look, tiny))) or None,
    )


# --- mistakes ---


def mistakes(one: SetContents, sides: Sequence[Side]) -> Markup | None:
    """Show the mistakes that are made most often; None where they are not known."""
    if one.counted is None:
        return None
    if not one.mistakes:
        return joined(h("h3", "Mistakes"), h("p", f"{sides[0].title} makes none here."))
    return joined(
        h("h3", "The most frequent mistakes"),
        _swatches(one.legend),
        *(_mistake(kind, one.counted, sides) for kind in one.mistakes),
    )


def _swatches(legend: Mapping[str, str]) -> Markup | None:
    if not legend:
        return None
    entries = [
        h(
            "li",
            h("svg", h("rect", width=14, height=14, fill=colour), width=14, height=14, aria_hidden="true"),
            h("span", name),
        )
        for name, colour in legend.items()
    ]
    return h("ul", *entries, class_="swatches", aria_label="Colours of classes")


def _mistake(kind: MistakeKind, counted: str, sides: Sequence[Side]) -> Markup:
    single = all(len(example.shots) == 1 for example in kind.examples)
    said = [
        h("li", h("b", side.title), ": ", _count(count, kind, counted))
        for side, count in zip(sides, kind.counts, strict=True)
    ]
    examples = [_single(one, sides) if single else _several(one, sides) for one in kind.examples]
    return h(
        "article",
        h("h4", *_named(kind)),
        h("ul", *said, class_="said"),
        h("div", *examples, class_="shots" if single else "examples"),
        class_="mistake",
    )


def _named(kind: MistakeKind) -> tuple[Markup | str, ...]:
    if kind.true is None:
        return h("b", kind.found or ""), " where there is none"
    if kind.found is None:
        return h("b", kind.true), " missed"
    return h("b", kind.true), " taken for ", h("b", kind.found)


def _count(count: tuple[int, int | None] | None, kind: MistakeKind, counted: str) -> str:
    if count is None:
        return "not known"
    times, total = count
    if total is None:
        return "once" if times == 1 else f"{times:,} times"
    share = f" ({percent([times / total])} %)" if total else ""
    return f"{times:,} of {total:,} {counted} of {kind.true}{share}"


def _single(example: Example, sides: Sequence[Side]) -> Markup:
    (shot,) = example.shots
    caption = h("figcaption", h("b", f"{shot.name} {example.index}"), f": {shot.says}", _glimpses(example, sides))
    return h("figure", image(shot.picture), caption)


def _several(example: Example, sides: Sequence[Side]) -> Markup:
    return h(
        "div",
        h("p", h("b", f"image {example.index}")),
        h("div", *map(_shot, example.shots), class_="shots"),
        _glimpses(example, sides),
        class_="example",
    )


def _shot(shot: Shot) -> Markup:
    return h("figure", image(shot.picture), h("figcaption", h("b", shot.name), f": {shot.says}" if shot.says else None))


def _glimpses(example: Example, sides: Sequence[Side]) -> Markup | None:
    said = [
        h("li", f"{side.title}: ", _mark(one), one.words)
        for side, one in zip(sides, example.glimpses, strict=True)
        if one is not None and one.words is not None
    ]
    return h("ul", *said, class_="said") if said else None


def _mark(glimpse: Glimpse) -> Markup | None:
    """Mark what is wholly right or wholly wrong."""
    if glimpse.wrong not in (0, 1):
        return None
    sign, words = ("✓", "right") if glimpse.wrong == 0 else ("✗", "wrong")
    # On a phone a space would let the line break here, and the word would stand without its mark.
    return h("span", sign, "\N{NO-BREAK SPACE}", role="img", aria_label=words, title=words)


# --- heat ---


def heat(one: SetContents, contents: Contents) -> Markup | None:
    """Show where the networks look; None where no picture shows it."""
    if not any(g is not None and g.heat for some in one.groups.values() for e in some for g in e.glimpses):
        return None
    scale = contents.heat_scale
    groups = []
    for title, examples in one.groups.items():
        rows = [_row(example, contents.sides) for example in examples]
        groups += [h("h4", title), h("div", *rows, class_="rows")]
    return joined(
        h("h3", "Where it looks" if len(contents.sides) == 1 else "Where they look"),
        h(
            "p",
            "Grad-CAM of the last stage: light is what speaks for what a network predicts. Each image has a scale of "
            "its own, so it says where a network looks, not how sure it is.",
        ),
        None if scale is None else h("p", "0 ", image(scale.picture, "scale"), " 1 ", scale.says, class_="legend"),
        *groups,
    )


def _row(example: Example, sides: Sequence[Side]) -> Markup:
    shot = example.shots[0]
    figures = [
        h(
            "figure",
            image(shot.picture),
            h("figcaption", h("b", f"image {example.index}"), f": {shot.says}" if shot.says else None),
        )
    ]
    for side, one in zip(sides, example.glimpses, strict=True):
        if one is not None and one.heat is not None:
            words = h("figcaption", h("b", side.title), ": ", _mark(one), one.words)
            figures.append(h("figure", image(one.heat), words))
    return h("div", *figures, class_=f"row by-{1 + len(sides)}")

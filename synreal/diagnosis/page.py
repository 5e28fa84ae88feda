"""A diagnosis as one HTML page: the verdict and what it stands on, and then the network that was fine-tuned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from synreal.diagnosis.found import Diagnosis, Outcome
from synreal.records.html import Markup, h, joined, number, scrolling
from synreal.records.run_page import Contents, Example, Part, Picture, picture
from synreal.records.run_page import as_html as page

Neighbours: TypeAlias = Mapping[str, Sequence[tuple[Example, Sequence[tuple[Picture, float]]]]]
"""By target: images in which fine-tuning is wrong, each with the renders that are nearest to it and their cosines."""

HEADLINES = {
    "keep": "Keep what the network knows",
    "free": "Fine-tune without a regularizer",
    "unclear": "Not clear yet",
}
"""The verdict in a few words, by its advice."""


def as_html(found: Diagnosis, contents: Contents, near: Neighbours) -> str:
    """Write the page."""
    parts = [
        Part("verdict", "Verdict", _verdict(found)),
        Part("tried", "What was tried", _tried(found)),
        Part("unlabelled", "Without labels", _unlabelled(found)),
        Part("data", "The data", _listed(found.data, "Nothing in the data stood out.")),
        Part("near", "Renders nearest to failures", _near(near)),
    ]
    return page(
        contents,
        title=f"Diagnosis of {found.source}",
        lead=f"{found.network}, {found.task}: {len(found.outcomes)} runs of {found.steps} steps each. Short runs tell "
        "a direction, not a result.",
        parts=parts,
        left_out=found.left_out,
    )


def _verdict(found: Diagnosis) -> Markup:
    first, *others = found.verdict.reasons
    return joined(
        h("p", h("strong", HEADLINES[found.verdict.advice]), ". ", first),
        h("ul", *(h("li", one) for one in others)) if others else None,
        h("p", "Run next:"),
        *(h("pre", h("code", command)) for command in found.commands),
        h("p", h("small", _peeks(found))),
    )


def _peeks(found: Diagnosis) -> str:
    if found.targets:
        return (
            f"This verdict looked at the labels of {found.targets[0]}: what is chosen by it has seen the target, and "
            "its score on the same images is no zero-shot result."
        )
    return "No label of a real image was looked at."


def _tried(found: Diagnosis) -> Markup:
    sets = list(dict.fromkeys(name for one in found.outcomes for name in one.scores))
    names = {"source": "synthetic, held out", "styles": "held out, other styles"}
    heads = [h("th", "trained", scope="col")]
    heads += [h("th", names.get(name, f"real, {name}"), scope="col", class_="number") for name in sets]
    rows = []
    for one in found.outcomes:
        rows.append(_row(_title(one), one.scores, sets))
        if one.half_way:
            rows.append(_row(f"{one.name}, weights half-way", one.half_way, sets))
    caption = f"{found.measure}, %"
    made = h("table", h("caption", caption), h("thead", h("tr", *heads)), h("tbody", *rows), class_="compared")
    return joined(scrolling(made, caption), h("p", f"{found.measure}, in percent; one seed.", class_="legend"))


def _title(one: Outcome) -> str:
    return {"frozen": "head alone, backbone frozen", "tuned": "plain fine-tuning", "head_first": "head first"}.get(
        one.way, one.name
    )


def _row(title: str, scores: Mapping[str, float | None], sets: Sequence[str]) -> Markup:
    values = [h("td", number(scores.get(name), "%") or "–", class_="number") for name in sets]
    return h("tr", h("th", title, scope="row"), *values)


def _unlabelled(found: Diagnosis) -> Markup:
    sets = list(dict.fromkeys(name for one in found.outcomes for name in one.estimates))
    if not sets:
        return h("p", "Nothing: see what is not here.")
    heads = ("trained", "estimated right %", "really right %", "mean confidence %", "agrees with fine-tuning %")
    tables = []
    for name in sets:
        rows = []
        for one in found.outcomes:
            if (guess := one.estimates.get(name)) is not None:
                values = (guess.accuracy, guess.truth, guess.confidence, guess.agreement)
                cells = [h("td", number(value, "%") or "not known", class_="number") for value in values]
                rows.append(h("tr", h("th", _title(one), scope="row"), *cells))
        caption = f"On {name}"
        row = h(
            "tr", *(h("th", text, scope="col", class_="number" if place else None) for place, text in enumerate(heads))
        )
        made = h("table", h("caption", caption), h("thead", row), h("tbody", *rows), class_="compared")
        tables += [h("h3", caption), scrolling(made, caption)]
    said = None
    if found.guess is not None:
        said = h("p", f"Estimates alone would say: {HEADLINES[found.guess.advice]}.")
    return joined(
        h(
            "p",
            "Average thresholded confidence (Garg et al., ICLR 2022) estimates how many predictions are right from how "
            "sure a network is; its threshold is that of held-out source in other styles. It fails where a network is "
            "sure of what it has never seen, which fine-tuning on renders makes it. Agreement bounds what two networks "
            "can both have right: where they differ, one of them is wrong.",
        ),
        *tables,
        said,
    )


def _listed(lines: Sequence[str], nothing: str) -> Markup:
    return h("ul", *(h("li", line) for line in lines)) if lines else h("p", nothing)


def _near(near: Neighbours) -> Markup:
    rows = []
    for name, examples in near.items():
        for example, renders in examples:
            said = example.glimpses[0]
            words = h("figcaption", h("b", f"{name} {example.index}"), None if said is None else f": {said.words}")
            figures = [h("figure", picture(example.shots[0].picture), words)]
            figures += [
                h("figure", picture(one), h("figcaption", f"cosine {similarity:.2f}")) for one, similarity in renders
            ]
            rows.append(h("div", *figures, class_="shots"))
    if not rows:
        return h("p", "No failure with a label was found.")
    return joined(
        h(
            "p",
            "On the left a real image in which fine-tuning is wrong; beside it the held-out renders that look most "
            "like it to the frozen network. Where none is like it, renders of that kind are missing.",
        ),
        *rows,
    )

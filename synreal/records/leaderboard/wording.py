"""What a leaderboard says in sentences."""

from __future__ import annotations

from synreal.records.html import Markup, h, joined, number
from synreal.records.leaderboard.board import Board, Section, Shown
from synreal.records.leaderboard.rows import Row
from synreal.records.leaderboard.texts import CHANGED, CHANGED_WORDS, kind_text, mean_text
from synreal.records.numbers import with_unit


def opening(board: Board) -> Markup:
    """Say what is on the board."""
    methods = {row.method for section in board.sections for row in section.rows if row.kind == "run"}
    runs = sum(len(row.seeds) for section in board.sections for row in section.rows if row.kind in ("run", "weight"))
    pairs = {section.pair for section in board.sections}
    return joined(
        "Trained on synthetic images, tested on real ones: "
        f"{_count(runs, 'run')} of {_count(len(methods), 'method')} on {_count(len(pairs), 'pair')} of data, "
        "each compared with ",
        h("code", board.baseline),
        " under its own protocol.",
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def verdict(section: Section) -> Markup:
    """Say which row has the best mean, by how much, how sure that is, and which are not told apart from it."""
    shown = [one for one in section.shown() if one.row.mean is not None]
    if not shown:
        return joined("No score is defined.")
    top = shown[0]
    row = top.row
    said: list[str] = ["Best mean: ", _named(top), f", {with_unit(mean_text(row), row.unit)}"]
    if row.method == section.baseline and row.kind == "run":
        said.append(", the baseline itself: nothing here improves on it.")
    elif row.difference is None:
        said.append(".")
    else:
        points = " points" if row.unit == "%" else ""
        said.append(f", {number(row.difference, row.unit, signed=True)}{points} over ")
        said.append(h("code", section.baseline or ""))
        said.append(f" and better with {row.better} of {_count(len(row.differences), 'seed')}.")
    close = [one for one in shown[1:] if not _ahead(row, one.row)]
    if close:
        said.append(" The seeds do not separate it from ")
        for place, one in enumerate(close[:_MOST]):
            said += [", " if place else "", _named(one)]
        said.append(f" and {len(close) - _MOST} more." if len(close) > _MOST else ".")
    elif len(shown) > 1 and len(row.seeds) > 1:
        said.append(" It is ahead of every other row with every seed.")
    return joined(*said)


_MOST = 4


def _named(one: Shown) -> Markup:
    about = kind_text(one.row, one.chosen_by)
    return joined(h("code", one.row.method), f" ({about})" if about else None)


def _ahead(row: Row, other: Row) -> bool:
    """Return whether a row is better than another with each seed that both have, of two at least."""
    theirs = dict(zip(other.seeds, other.values, strict=True))
    pairs = [
        (value, theirs[seed]) for seed, value in zip(row.seeds, row.values, strict=True) if theirs.get(seed) is not None
    ]
    return len(pairs) > 1 and all(
        a is not None and b is not None and (a > b if row.higher_is_better else a < b) for a, b in pairs
    )


def reading(board: Board) -> Markup:
    """Explain the page: what a row is, what the interval is and is not, and what peeks."""
    baseline = h("code", board.baseline)
    terms = {
        "The number": joined(
            "The score on the real images after the last epoch: mean ± sample standard deviation over seeds. A seed "
            "sets the order of the images, their augmentation and the fresh layers."
        ),
        "Seeds": joined(
            "How many were trained, of how many that other rows have. ",
            h("b", CHANGED),
            f" marks some. {CHANGED_WORDS}",
        ),
        "The difference": joined(
            "The score minus that of ",
            baseline,
            " trained with the same seed, and the mean of this over seeds. In the drawing each tick is one seed, the "
            "dot their mean and the bar the interval; the dashed line is zero. The dot is full where all seeds agree "
            "on the direction, hollow where they do not.",
        ),
        "The interval": joined(
            "A 95 % percentile bootstrap interval of the mean difference, over seeds: all ways to draw n of n seeds "
            "with replacement up to six seeds, 10,000 seeded draws beyond. ",
            h("strong", "With three seeds it is the whole range of the three differences"),
            ", and no more certain than that: the median over all possible seeds lies outside such a range one time in "
            "four. It tells how much chance in training moves the result, not what other test images, data or machines "
            "would.",
        ),
        "Better in": joined(
            "In how many of the shared seeds the method beats ",
            baseline,
            ". Three of three happens by chance alone one time in eight; a single seed says next to nothing.",
        ),
        "Held-out, shifted": joined(
            "The same score on synthetic images that were not trained on, and on these in styles that were not trained "
            "on either, such as blur, noise or other colours. It is all that can be looked at before there are real "
            "labels."
        ),
        "Selected weight": joined(
            "Of several weights, the largest whose mean on held-out (or shifted held-out) images is within one "
            "standard error of the best one's. It sees nothing of the target."
        ),
        "Early stop, averaged": joined(
            "The tested epoch that is best on held-out synthetic images; and averages of weights, such as those "
            "half-way between start and end for wise_ft(0.5). Neither takes more training, so ",
            baseline,
            " is always shown with them.",
        ),
        "Peeks": joined(
            "Something was chosen by the target's labels, which are not there when it matters. Such rows stand apart "
            "and are never ranked; nor is what papers report."
        ),
        "Time, memory": joined(
            "Median time of a training step (on a processor its own time, whatever else the machine does), and peak "
            "memory, relative to ",
            baseline,
            " under the same protocol.",
        ),
        "Best of many": joined(
            "Whichever of many rows is best is so by luck, too, and was found by looking at the target: expect a "
            "little less of it next time."
        ),
    }
    return h(
        "section",
        h("h2", "How to read this"),
        h(
            "p",
            "Each table holds one pair of data under one protocol: the same images, network, steps and settings for "
            "all, so that its rows compare; rows of different tables do not. A row is a method, trained once per seed "
            "and tested on real images that training never saw. Whether it helps is its difference to ",
            baseline,
            " with the same seeds; where the ticks of seeds lie on both sides of zero, nobody knows yet. Rows that "
            "chose anything by the target's labels are marked ",
            h("em", "peeks"),
            " and stand apart.",
        ),
        h(
            "details",
            h("summary", "What each number is, and what it is not"),
            h("dl", *(h("div", h("dt", term), h("dd", text)) for term, text in terms.items())),
        ),
        id="reading",
    )

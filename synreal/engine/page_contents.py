"""What goes onto the page of a network: numbers of its record and of the look, and pictures as files."""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from PIL import Image

from synreal.engine.examining import Examined, Sight
from synreal.engine.inspecting import Insight
from synreal.engine.trained import LAST
from synreal.errors import ConfigError
from synreal.figures import Panel, chart_of
from synreal.figures.gradcam import heat_scale
from synreal.figures.page import Pixels
from synreal.measures import MEASURES
from synreal.measures.mistakes import Kind, Mistake
from synreal.records import History, Score, read_history, read_record
from synreal.records.history import check_histories
from synreal.records.run_page import Contents, Example, Glimpse, MistakeKind, Picture, SetContents, Shot, Side

_SMALL: Final = 64  # pixels, up to which a picture takes no more room without loss
_QUALITY: Final = 88  # of JPEG


def contents_of(found: Sequence[Insight], folders: Sequence[Path | None]) -> Contents:
    """Gather what a page shows.

    Args:
        found: What looking into the network found, and into the one that it stands beside, if there is one.
        folders: The run folder of each; None for a network without one.
    """
    return _Gathering(found, folders).contents()


class _Gathering:
    """Gathers what a page shows, and what it does not."""

    def __init__(self, found: Sequence[Insight], folders: Sequence[Path | None]) -> None:
        self.found = found
        self.folders = folders
        self.left_out: list[tuple[str, str]] = []
        for name in dict.fromkeys(name for one in found for name in one.look.left_out):
            whys = {one.look.title: why for one in found if (why := one.look.left_out.get(name)) is not None}
            if len(whys) == len(found) and len(set(whys.values())) == 1:
                self.leave_out(name, next(iter(whys.values())))
            else:
                for title, why in whys.items():
                    self.leave_out(f"{name} of {title}", why)
        self.sides = [self._side(one, folder) for one, folder in zip(found, folders, strict=True)]

    def leave_out(self, what: str, why: str) -> None:
        """Say what is not shown, and why."""
        self.left_out.append((what, f"{why.rstrip('.')}."))

    def contents(self) -> Contents:
        """Return all of it."""
        sets = [self._set(name) for name in self.found[0].examined]
        histories = self._histories()
        shades, meaning = heat_scale()
        names = dict.fromkeys(
            name
            for one in self.found
            for some in (*(s.measures for s in one.look.sets.values()), one.look.measures)
            for name in some
        )
        return Contents(
            sides=self.sides,
            sets=sets,
            charts=self._charts(histories),
            histories=histories,
            meanings={name: MEASURES.get(name).summary for name in names},
            heat_scale=Shot(picture_of(shades, "from dark to light", exact=True), "heat", meaning),
            left_out=self.left_out,
        )

    def _side(self, insight: Insight, folder: Path | None) -> Side:
        look = insight.look
        if folder is None:
            self.leave_out(f"how {look.title} was trained", "it is a network alone, without the run that would say so")
            return Side(look, None, False)
        try:
            record = read_record(folder)
        except ConfigError as error:
            self.leave_out(f"the result of {look.title}", str(error))
            return Side(look, None, False)
        is_end = look.checkpoint == LAST
        if not is_end:
            self.leave_out(
                f"scores of {look.title} on held-out source, in other styles and of averaged weights",
                f"the run has them of its end, and this is {look.checkpoint}",
            )
        return Side(look, record, is_end)

    # --- over training ---

    def _histories(self) -> dict[str, History]:
        found = {}
        for side, folder in zip(self.sides, self.folders, strict=True):
            if folder is not None:
                try:
                    found[side.title] = read_history(folder)
                except ConfigError as error:
                    self.leave_out(f"curves of {side.title}", str(error))
        return found

    def _charts(self, histories: Mapping[str, History]) -> list[Picture]:
        """Draw the curves of both networks into one chart, unless they do not compare."""
        labels = [one.label for one in histories.values()]
        named = [
            one if len(set(labels)) == len(labels) else replace(one, label=title) for title, one in histories.items()
        ]
        together = [named] if named else []
        try:
            check_histories(named)
        except ConfigError as error:
            self.leave_out("curves in one chart", str(error))
            together = [[one] for one in named]
        return [_chart(some) for some in together]

    # --- sets of images ---

    def _set(self, name: str) -> SetContents:
        each = [one.examined.get(name) for one in self.found]
        first = each[0]
        assert first is not None
        if len(each) > 1 and each[1] is None:
            self.leave_out(f"{self.sides[1].title} on {name}", "it was not looked at with these images")
        elif len(each) > 1 and not _comparable(first, each[1]):
            self.leave_out(
                f"{self.sides[1].title} in the pictures of {name}", "it was looked at with other images or classes"
            )
        if first.judge is None:
            why = (
                "its predictions cannot be compared with the labels"
                if first.score is None
                else ("no figure of the task shows them; one that is a synreal.figures.Panels would")
            )
            self.leave_out(f"mistakes on {name}", why)
        if first.sights and not any(sight.heat is not None for sight in first.sights.values()):
            self.leave_out(f"heat on {name}", "the task does not say which score Grad-CAM explains")
        scores = [
            None if one is None else self._score(name, side, one) for side, one in zip(self.sides, each, strict=True)
        ]
        panels = [panel for sight in first.sights.values() for some in sight.panels.values() for panel in some]
        colours = dict(entry for panel in panels for entry in panel.legend)
        return SetContents(
            name=name,
            scores=scores,
            counted=None if first.judge is None else first.judge.counted,
            mistakes=[_mistake(one, each) for one in first.mistakes],
            legend={label: colours[label] for label in first.shown.classes if label in colours},
            groups={
                title: [_example(index, None, each) for index in indices]
                for title, indices in first.shown.groups.items()
            },
        )

    def _score(self, name: str, side: Side, examined: Examined) -> Score | None:
        """Return the score of the record, if it is of this network and these images, else the look's own."""
        known = None if side.scored is None else side.scored.targets.get(name)
        if known is None:
            return examined.score
        if known.fingerprint != examined.shown.fingerprint:
            self.leave_out(
                f"the score of {side.title} on {name} in its result",
                "the images have another fingerprint by now; the page has a new one",
            )
            return examined.score
        return known


def _comparable(first: Examined, other: Examined | None) -> bool:
    """Return whether two networks were shown the same images, and know the same classes."""
    return other is not None and (first.shown.fingerprint, first.shown.classes) == (
        other.shown.fingerprint,
        other.shown.classes,
    )


def _mistake(mistake: Mistake, each: Sequence[Examined | None]) -> MistakeKind:
    first = each[0]
    assert first is not None
    classes, kind = first.shown.classes, mistake.kind
    counts: list[tuple[int, int | None] | None] = []
    for one in each:
        judged = None if one is None or one.judge is None or not _comparable(first, one) else one.judge.found(kind)
        counts.append(None if judged is None else (judged.count, judged.total))
    return MistakeKind(
        true=None if kind.true is None else classes[kind.true],
        found=None if kind.found is None else classes[kind.found],
        counts=counts,
        examples=[_example(index, kind, each) for index in first.shown.examples[kind]],
    )


def _example(index: int, kind: Kind | None, each: Sequence[Examined | None]) -> Example:
    sights = [None if one is None else one.sights.get(index) for one in each]
    first = sights[0]
    assert first is not None
    return Example(
        index=index,
        shots=[_shot(panel, index) for panel in first.panels[kind]],
        glimpses=[_glimpse(sight, index, heat=kind is None) for sight in sights],
    )


def _glimpse(sight: Sight | None, index: int, *, heat: bool) -> Glimpse | None:
    if sight is None:
        return None
    shown = None
    if heat and sight.heat is not None:
        shown = picture_of(sight.heat, f"Grad-CAM over image {index}")
    return Glimpse(sight.words, sight.wrong, shown)


# --- pictures as files ---


def _shot(panel: Panel, index: int) -> Shot:
    of = f"image {index}" if panel.name == "image" else f"{panel.name} of image {index}"
    alt = ": ".join(filter(None, (of, panel.says)))
    return Shot(picture_of(panel.pixels, alt, exact=panel.exact), panel.name, panel.says)


def picture_of(pixels: Pixels, alt: str, *, exact: bool = False) -> Picture:
    """Make a file of a picture: without loss where it is small, or colours stand for something."""
    height, width = pixels.shape[:2]
    file, image = io.BytesIO(), Image.fromarray(pixels)
    if exact or max(height, width) <= _SMALL:
        image.save(file, format="PNG", optimize=True)
        return Picture(file.getvalue(), "image/png", width, height, alt)
    image.save(file, format="JPEG", quality=_QUALITY, optimize=True)
    return Picture(file.getvalue(), "image/jpeg", width, height, alt)


def _chart(histories: Sequence[History]) -> Picture:
    labels = " and ".join(one.label for one in histories)
    with tempfile.TemporaryDirectory() as folder:
        data = chart_of("curves", "histories").draw(histories, Path(folder) / "curves.svg").read_bytes()
    width, height = _points(data)
    return Picture(
        data,
        "image/svg+xml",
        width,
        height,
        f"Curves of the scores of {labels} over the steps of training; the table that follows holds the numbers",
    )


def _points(svg: bytes) -> Iterable[int]:
    """Return width and height of a drawing in CSS pixels: it says them in points."""
    for name in (b"width", b"height"):
        found = re.search(rb'<svg[^>]* %s="([\d.]+)pt"' % name, svg)
        assert found is not None
        yield round(float(found[1]) * 96 / 72)

"""The page of a network: what it says, to whom, and that nothing in a name becomes a part of it."""

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from synreal.records.run_page import as_html
from tests.browser import Outline
from tests.records.leaderboard.boards import ATTACK
from tests.records.run_page import contents as made

PAGES = {"one": made.contents, "two": made.compared, "hostile": made.hostile}


class Tables(Outline):
    """The rows of each table by its caption, and all headings with their levels."""

    def __init__(self, page):
        self.tables, self.headings, self.rows, self.text = {}, [], None, None
        super().__init__(page)

    def handle_starttag(self, tag, attributes):
        super().handle_starttag(tag, attributes)
        if tag == "table":
            self.rows = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th", "caption", "h1", "h2", "h3", "h4"):
            self.text = ""

    def handle_data(self, data):
        super().handle_data(data)
        if self.text is not None:
            self.text += data

    def handle_endtag(self, tag):
        super().handle_endtag(tag)
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append(self.text)
        elif tag == "caption":
            self.tables[self.text] = self.rows
        elif tag in ("h1", "h2", "h3", "h4"):
            self.headings.append((int(tag[1]), self.text))
        else:
            return
        self.text = None


def said(page):
    return " ".join("".join(Outline(as_html(page)).texts).split())


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_whole_and_asks_for_nothing(name):
    page = as_html(PAGES[name]())
    outline = Outline(page)
    assert {tag for tag, _ in outline.elements}.isdisjoint({"link", "script", "iframe", "object"})
    assert len(outline.all("style")) == 1
    assert all("style" not in attributes for _, attributes in outline.elements)
    assert all(attributes["src"].startswith("data:image/") for attributes in outline.all("img"))
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert [attributes["href"][1:] for attributes in outline.all("a")] == ids
    assert not re.search(r"https?:|url\(|@import", page)
    assert page == as_html(PAGES[name]())


@pytest.mark.parametrize("name", PAGES)
def test_it_can_be_read_by_those_who_do_not_see_it(name):
    outline = Tables(as_html(PAGES[name]()))
    tags = [tag for tag, _ in outline.elements]
    assert tags.count("table") == tags.count("caption")
    assert all("scope" in attributes for attributes in outline.all("th"))
    assert all(attributes["alt"] for attributes in outline.all("img"))
    assert all(attributes.get("aria-hidden") for attributes in outline.all("svg"))
    levels = [level for level, _ in outline.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for rows in outline.tables.values():
        assert rows


def test_scores_stand_beside_those_of_the_other_run_with_their_direction():
    outline = Tables(as_html(made.compared()))
    rows = outline.tables["Scores"]
    assert rows[0] == ["tested on", "csg, seed 0", "none, seed 0", "difference"]
    table = {}
    for row in rows[1:]:
        if len(row) == 1:
            group = row[0]
        else:
            table[group, row[0]] = row[1:]
    assert table["photoreal, 10 images", "mean-class %"] == ["50.0", "60.0", "▼ −10.0"]
    assert table["cartoonsynthetic, held out, 10 images", "mean-class %"] == ["90.0", "90.0", "0.0"]
    styles = "cartoon in other stylesheld out; not trained on"
    assert table[styles, "blurmean-class %"] == ["70.0", "70.0", "0.0"]
    averaged = "averaged weights, wise_ft(0.5)of one run"
    assert table[averaged, "photo, realmean-class %"] == ["60.0", "60.0", "0.0"]
    assert len(Tables(as_html(made.contents())).tables["Scores"][0]) == 2


def test_classes_are_sorted_from_the_worst_on():
    rows = Tables(as_html(made.compared())).tables["Recall % of each class on photo"]
    assert rows[0] == ["class, Recall %", "bar", "csg, seed 0", "none, seed 0", "difference"]
    assert [[row[0], *row[2:]] for row in rows[1:]] == [
        ["dog", "40.0", "40.0", "0.0"],
        ["fox", "60.0", "70.0", "▼ −10.0"],
        ["cat", "90.0", "80.0", "▲ +10.0"],
        ["emu", "no image", "no image", "–"],
    ]


def test_bars_are_as_long_as_their_values_and_told_apart_without_colours():
    page = as_html(made.compared())
    own, other = (
        [float(width) for width in re.findall(rf'<rect class="{look}"[^>]* width="([\d.]+)"', page)]
        for look in ("own", "other")
    )
    assert own[:3] == [40, 60, 90]
    assert other[:3] == [40, 70, 80]
    assert "Bars: full csg, seed 0, hollow none, seed 0." in said(made.compared())


def test_scores_of_other_images_are_not_compared():
    page = made.compared()
    (one,) = page.sets
    scores = [one.scores[0], one.scores[1].model_copy(update={"fingerprint": "other"})]
    page = replace(page, sets=[replace(one, scores=scores)])
    rows = Tables(as_html(page)).tables["Recall % of each class on photo"]
    assert [row[-1] for row in rows[1:]] == ["–"] * 4
    assert "These were other images: they do not compare." in said(page)


def test_mistakes_are_named_counted_and_shown():
    text = said(made.compared())
    assert "dog taken for catcsg, seed 0: 12 of 20 images of dog (60.0 %)none, seed 0: 3 of 20 images" in text
    assert "fox missedcsg, seed 0: 2 of 9 images of fox (22.2 %)none, seed 0: not known" in text
    assert "cat where there is nonecsg, seed 0: oncenone, seed 0: 0 times" in text
    assert "csg, seed 0: ✓ word 0none, seed 0: ✗ word 1" in text
    assert "✗\N{NO-BREAK SPACE}</span>word 1" in as_html(made.compared())  # on one line, however narrow
    alts = [attributes["alt"] for attributes in Outline(as_html(made.contents())).all("img")]
    assert alts[0] == "Curves"
    assert alts[1:5] == [f"image of image {index}" for index in (5, 7, 3, 1)]
    assert alts.count("Grad-CAM over image 5") == 1
    assert [one["alt"] for one in Outline(as_html(made.compared())).all("img")].count("Grad-CAM over image 5") == 2


def test_measures_say_what_they_are_and_which_way_is_better():
    outline = Tables(as_html(made.compared()))
    rows = outline.tables["Measures"]
    assert ["CKAHow alike; 1 is the same. Higher is better."] in rows
    assert ["ECE %How far. Lower is better."] in rows
    assert ["photo", "0.750", "0.700", "+0.050"] in rows
    assert ["weightsa note", "2.0", "7.0", "−5.0"] in rows
    assert [[row[0], *row[2:]] for row in outline.tables["CKA of each stage, photo"][1:]] == [
        ["1", "0.990", "0.990", "0.000"],
        ["4", "0.750", "0.700", "+0.050"],
    ]
    assert "drift % of each stage" in outline.tables


def test_small_shares_have_digits_enough_to_be_told_apart():
    one = made.side()
    drift = one.look.measures["drift"].model_copy(update={"value": 0.00246, "stages": {"1": 0.0012, "4": None}})
    one = replace(one, look=one.look.model_copy(update={"measures": {"drift": drift}}))
    tables = Tables(as_html(made.contents(one))).tables
    assert ["weightsa note", "0.246"] in tables["Measures"]
    assert [row[2] for row in tables["drift % of each stage"][1:]] == ["0.120", "none"]


def test_it_says_how_the_network_came_about_and_whether_two_compare():
    rows = {row[0]: row[1:] for row in Tables(as_html(made.compared())).tables["How it came about"]}
    assert rows["regularizers"] == ["csg", "none"]
    assert rows["trained on"] == ["cartoon, 100 images"]  # one cell for both
    assert rows["seed"] == ["0"]
    assert rows["protocol"][0].startswith("tf_efficientnet_lite0 with weights from lite0 0.1, 112 pixels, 195 steps")
    assert "They share their protocol: nothing but the regularizers and the seed differs." in said(made.compared())
    other = made.side("none, seed 0", made.record("none", protocol={"steps": 520}))
    text = said(made.contents(made.side(), other))
    assert "They do not share their protocol: they differ in steps." in text
    assert "acc_in of csg: it needs a folder." in text


def test_a_network_without_a_run_is_a_page():
    page = made.contents(replace(made.side(), record=None, is_end=False))
    (one,) = page.sets
    bare = replace(one, scores=[None], counted=None, mistakes=[], groups={})
    page = replace(page, sets=[bare], charts=[], histories={}, left_out=[])
    text = said(page)
    assert "No prediction could be compared with a label." in text
    assert "Nothing was left out." in text
    Tables(as_html(page))


def test_names_stay_texts():
    outline = Outline(as_html(made.hostile()))
    assert not outline.all("script")
    assert all(not name.startswith("on") for _, attributes in outline.elements for name in attributes)
    assert all(attributes["src"].startswith("data:image/png;base64,") for attributes in outline.all("img"))
    assert sum(ATTACK in text for text in outline.texts) > 30


# --- in a browser ---


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_any_screen(name, width, chromium, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(as_html(PAGES[name]()), encoding="utf-8")
    chromium.resize(width, 800, phone=width < 500)
    chromium.open(file)
    assert chromium.run("document.documentElement.scrollWidth") <= width
    assert chromium.run("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
    assert chromium.run("document.images.length") >= 5
    inside = "[...document.images].every(one => one.getBoundingClientRect().right <= innerWidth)"
    assert chromium.run(inside)
    if name != "hostile":  # whose names are longer than those of anybody
        scrolled = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).length"
        assert chromium.run(scrolled) == 0
    chromium.screenshot(tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as image:
        assert image.width == width
        assert np.asarray(image.convert("L")).std() > 5
    assert chromium.complaints() == []


def contrast(page, selector):
    """Contrast of a text with what is behind it, by WCAG's formula."""
    return page.run(
        """(selector => {
          const element = document.querySelector(selector);
          const light = text => {
            const parts = text.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255);
            const [r, g, b] = parts.map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          let behind = element;
          const clear = one => getComputedStyle(one).backgroundColor === "rgba(0, 0, 0, 0)";
          while (behind.parentElement && clear(behind)) behind = behind.parentElement;
          const both = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor].map(light);
          return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
        })"""
        + f"({selector!r})"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out(scheme, chromium, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(as_html(made.compared()), encoding="utf-8")
    chromium.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    try:
        chromium.open(file)
        for selector in ("p", ".lead", "figcaption", ".said", "thead th", "tr.group small", ".legend", "td.worse b"):
            assert contrast(chromium, selector) >= 4.5, selector
    finally:
        chromium.call("Emulation.setEmulatedMedia", features=[])


def test_a_script_that_gets_into_the_page_is_not_run(chromium, tmp_path):
    file = tmp_path / "page.html"
    page = as_html(made.contents()).replace("</main>", "<script>document.title='owned'</script></main>")
    file.write_text(page, encoding="utf-8")
    chromium.open(file)
    assert chromium.run("document.title") == "csg, seed 0 · synreal"
    assert "Content Security Policy" in " ".join(chromium.complaints())

import re

import numpy as np
import pytest
from PIL import Image

from synreal.records.leaderboard import as_html, build
from synreal.records.leaderboard.glance import _first
from tests.browser import Outline
from tests.records.leaderboard import boards
from tests.records.made import made

# --- without a browser ---


def test_the_page_is_whole_and_asks_for_nothing():
    page = as_html(boards.usual())
    outline = Outline(page)
    assert {tag for tag, _ in outline.elements}.isdisjoint({"img", "link", "iframe", "object"})
    assert len(outline.all("script")) == len(outline.all("style")) == 1
    assert all("src" not in attributes and "style" not in attributes for _, attributes in outline.elements)
    assert all(attributes["href"].startswith("#pair-") for attributes in outline.all("a"))
    assert not re.search(r"https?:|url\(|@import", page)


def test_tables_are_tables_to_those_who_do_not_see_them():
    outline = Outline(as_html(boards.usual()))
    tags = [tag for tag, _ in outline.elements]
    assert tags.count("table") == tags.count("caption")
    assert all("scope" in attributes for attributes in outline.all("th"))
    assert all(attributes.get("aria-label") for attributes in outline.all("svg") if "aria-hidden" not in attributes)
    sorts = [attributes["aria-sort"] for attributes in outline.all("th") if "aria-sort" in attributes]
    assert set(sorts) == {"none", "descending"}


def test_the_page_says_what_a_sceptic_asks():
    text = " ".join("".join(Outline(as_html(boards.usual())).texts).split())
    assert "With three seeds it is the whole range of the three differences" in text
    assert "lies outside such a range one time in four" in text
    assert "Peeks at the targetnot ranked" in text
    assert "Best mean: csg(weight=1.0) (weight 10 x default, selected by shifted held-out source), 79.0 ± 0.0 %" in text
    assert "+8.0 points over none and better with 3 of 3 seeds" in text
    assert "It differs from the pair's first protocol in: steps." in text


def test_a_baseline_that_nothing_improves_on_is_said_to_be_so():
    page = as_html(build(boards.found(made("none", 0, 0.9), made("csg", 0, 0.8))))
    assert "the baseline itself: nothing here improves on it." in page


def test_runs_that_used_real_images_are_marked_and_others_are_the_ones_at_a_glance():
    used = {"real_images": {"style_bank": "f"}}
    runs = [made(name, 0, value) for name, value in (("none", 0.5), ("csg", 0.6))]
    runs += [made(name, 0, value, protocol=used) for name, value in (("none", 0.5), ("csg", 0.9))]
    board = build(boards.found(*runs))
    assert as_html(board).count('<span class="tag">uses real images</span>') == 1
    for sections in (board.sections, board.sections[::-1]):
        assert not _first(sections).rows[0].real_images
    (alone,) = build(boards.found(*runs[2:])).sections
    assert _first([alone]) is alone


def test_an_empty_board_is_a_page():
    Outline(as_html(build([])))


def test_names_stay_texts():
    page = as_html(boards.hostile())
    outline = Outline(page)
    assert len(outline.all("script")) == 1
    assert not outline.all("img")
    assert all(not name.startswith("on") for _, attributes in outline.elements for name in attributes)
    assert any(boards.ATTACK in text for text in outline.texts)


# --- in a browser ---


@pytest.fixture
def page(chromium, tmp_path):
    """The usual board, opened at the size of a desktop; afterwards nothing must have been complained about."""
    file = tmp_path / "board.html"
    file.write_text(as_html(boards.usual()), encoding="utf-8")
    chromium.resize(1280, 900)
    chromium.open(file)
    yield chromium
    assert chromium.complaints() == []


FIRST = "section.pair article table"


def column(page, place, table=FIRST):
    """What the visible rows of a table show in a column."""
    return page.run(
        f"[...document.querySelector('{table}').tBodies[0].rows].filter(r => !r.hidden)"
        f".map(r => r.cells[{place}].innerText.split('\\n')[0])"
    )


def heads(page):
    """What the headings of the first table say, and how it is sorted by each."""
    cells = f"[...document.querySelector('{FIRST}').tHead.rows[0].cells]"
    return page.run(f"{cells}.map(cell => [cell.innerText.split('\\n')[0].trim(), cell.ariaSort])")


def test_a_click_on_a_heading_sorts(page):
    means = ["79.0 ± 0.0", "78.5 ± 0.5", "76.0 ± 0.0", "71.0 ± 1.0", "71.0 ± 1.0", "70.5 ± 0.7"]
    assert column(page, 1) == means
    assert heads(page)[1] == ["mean-class %", "descending"]
    page.click(f"{FIRST} thead th:nth-child(2) button")
    assert column(page, 1) == sorted(means)
    assert [sort for _, sort in heads(page)] == ["none", "ascending", *["none"] * (len(heads(page)) - 2)]
    page.click(f"{FIRST} thead th:nth-child(1) button")
    assert column(page, 0) == sorted(column(page, 0))
    assert heads(page)[0] == ["method", "ascending"]


def test_what_is_not_known_stays_last_in_either_order(page):
    place = [name for name, _ in heads(page)].index("difference to none")
    for order in ("descending", "ascending"):
        page.click(f"{FIRST} thead th:nth-child({place + 1}) button")
        assert heads(page)[place][1] == order
        shown = column(page, place)
        assert shown[-1] == ""
        numbers = [float(text.replace("−", "-")) for text in shown[:-1]]
        assert numbers == sorted(numbers, reverse=order == "descending")


def test_a_heading_is_sorted_by_keys_too(page):
    page.run(f"document.querySelector('{FIRST} thead th button').focus()")
    page.press("Enter")
    assert heads(page)[0][1] == "ascending"


def visible(page, selector):
    return page.run(f"[...document.querySelectorAll('{selector}')].filter(e => e.checkVisibility()).length")


def test_filters_leave_what_fits(page):
    assert (visible(page, "section.pair"), visible(page, "article")) == (2, 3)
    page.type("#text", "oracle")
    assert column(page, 0) == ["oracle"]
    assert visible(page, "article") == 2  # the protocol of 520 steps has no oracle
    page.type("#text", "no such method")
    assert visible(page, "section.pair") == 0
    assert page.run("document.getElementById('nothing').checkVisibility()")
    assert page.run("document.getElementById('count').textContent") == "0 rows"


@pytest.mark.parametrize(("field", "option", "articles"), [("pair", 2, 1), ("protocol", 2, 1), ("pair", 1, 2)])
def test_a_pair_or_a_protocol_can_be_chosen(page, field, option, articles):
    page.run(f"document.getElementById('{field}').focus()")
    for _ in range(option):
        page.press("ArrowDown")
    assert visible(page, "article") == articles
    wanted = page.run(f"document.getElementById('{field}').value")
    key = "closest('section').dataset.pair" if field == "pair" else "dataset.protocol"
    shown = page.run(f"[...document.querySelectorAll('article')].filter(e => e.checkVisibility()).map(e => e.{key})")
    assert set(shown) == {wanted}


def test_variants_of_other_methods_appear_when_asked_for(page):
    before = column(page, 0)
    page.click("#variants")
    assert len(column(page, 0)) > len(before)
    page.click("#variants")
    assert column(page, 0) == before


def test_what_peeks_is_folded_away_until_opened(page):
    assert visible(page, ".peeks table") == 0
    page.click(".peeks summary")
    assert visible(page, ".peeks table") == 1
    assert {"csg", "none", "oracle"} <= set(column(page, 0, ".peeks table"))


@pytest.mark.parametrize("width", [360, 390, 768, 1280, 1920])
def test_the_page_fits_any_screen(page, width, tmp_path):
    page.resize(width, 800, phone=width < 500)
    assert page.run("document.documentElement.scrollWidth") <= width
    page.screenshot(tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as image:
        assert image.width == width
        assert np.asarray(image.convert("L")).std() > 5


def test_directions_are_told_apart_without_colours(page):
    assert set(page.run("[...document.querySelectorAll('.matrix .sign')].map(e => e.innerText)")) == {"▲", "▼", "◇"}
    filled = page.run("['better', 'mixed'].map(v => getComputedStyle(document.querySelector(`.${v} .dot`)).fill)")
    strokes = page.run("['better', 'mixed'].map(v => getComputedStyle(document.querySelector(`.${v} .dot`)).stroke)")
    assert filled[0] == strokes[0]
    assert filled[1] != strokes[1]


def test_bars_lie_where_their_numbers_say(page):
    table = f"document.querySelector('{FIRST}')"
    dots = page.run(f"[...{table}.querySelectorAll('tr:not([hidden]) .dot')].map(e => +e.getAttribute('cx'))")
    assert dots == sorted(dots, reverse=True)
    assert all(0 < x < 150 for x in dots)
    inside = page.run(f"document.querySelector('{FIRST} .interval').children.length")
    assert inside == 1 + 1 + 3 + 1  # zero, bar, three seeds, mean: none of them within another


def test_hostile_names_run_nothing(chromium, tmp_path):
    file = tmp_path / "board.html"
    file.write_text(as_html(boards.hostile()), encoding="utf-8")
    chromium.open(file)
    chromium.type("#text", boards.ATTACK)
    chromium.click(f"{FIRST} thead th button")
    assert chromium.complaints() == []
    assert chromium.run("document.title") == "synreal leaderboard"
    assert chromium.run("document.images.length") == 0
    assert boards.ATTACK in chromium.run("document.querySelector('section.pair h2').textContent")


def test_a_script_that_gets_into_the_page_is_not_run(chromium, tmp_path):
    file = tmp_path / "board.html"
    page = as_html(boards.usual()).replace("</main>", "<script>document.title='owned'</script></main>")
    file.write_text(page, encoding="utf-8")
    chromium.open(file)
    assert chromium.run("document.title") == "synreal leaderboard"
    assert "Content Security Policy" in " ".join(chromium.complaints())

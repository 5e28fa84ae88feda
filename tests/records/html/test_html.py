"""What pages are made of."""

import base64
import hashlib
import re

import pytest

from synreal.records.html import document, h, joined, number, scrolling
from tests.browser import Outline
from tests.records.leaderboard.boards import ATTACK


def test_texts_and_values_of_attributes_are_escaped():
    made = h("p", ATTACK, h("b", "<i>"), title=ATTACK)
    outline = Outline(made)
    assert [tag for tag, _ in outline.elements] == ["p", "b"]
    assert outline.texts[0] == ATTACK
    assert outline.all("p") == [{"title": ATTACK}]
    assert "&lt;i&gt;" in joined("<i>", None)


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"class_": "a", "aria_label": "b"}, '<p class="a" aria-label="b"></p>'),
        ({"hidden": True}, "<p hidden></p>"),
        ({"hidden": False, "title": None}, "<p></p>"),
        ({"x": 0.1234567891, "y": 3}, '<p x="0.123457" y="3"></p>'),
    ],
)
def test_attributes(attributes, text):
    assert h("p", **attributes) == text


def test_elements_without_content_are_not_closed():
    assert h("img", src="data:", alt="") == '<img src="data:" alt="">'


def test_numbers_have_a_true_minus_and_nothing_where_they_are_not_known():
    assert number(-0.125, "%", signed=True) == "−12.5"
    assert number(0.00246, "%", digits=3) == "0.246"
    assert number(None, "%") == ""


def test_a_table_that_scrolls_is_named_and_reached_by_keys():
    (around,) = Outline(scrolling(h("table"), "Scores")).all("div")
    assert (around["tabindex"], around["role"], around["aria-label"]) == ("0", "region", "Scores")


@pytest.mark.parametrize(("script", "pictures"), [(None, False), ("let a = 1;", False), (None, True)])
def test_a_page_allows_what_it_holds_and_nothing_else(script, pictures):
    page = document("a < b", h("main"), style="p { margin: 0; }", script=script, pictures=pictures)
    assert page.startswith("<!DOCTYPE html>\n<html lang=")
    assert "<title>a &lt; b</title>" in page
    outline = Outline(page.removeprefix("<!DOCTYPE html>"))
    (policy,) = (one["content"] for one in outline.all("meta") if "http-equiv" in one)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    style = re.search("<style>(.*)</style>", page, re.DOTALL)[1]
    assert style.endswith("p { margin: 0; }")
    for name, text in {"style-src": style, "script-src": script}.items():
        digest = text and base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules.pop(name, None) == (text and f"'sha256-{digest}'")
    expected = {"default-src": "'none'", "form-action": "'none'"} | ({"img-src": "data:"} if pictures else {})
    assert rules == expected

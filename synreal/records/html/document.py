"""A whole page, which needs nothing else: its style, its script and its pictures are in it."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from synreal.records.html.elements import Markup, h


def document(title: str, *body: Markup, style: str = "", script: str | None = None, pictures: bool = False) -> str:
    """Write a page.

    Args:
        title: What a browser calls it.
        body: What it shows.
        style: CSS beside that of all pages.
        script: JavaScript; None for a page without any.
        pictures: Whether it shows pictures, as data URIs.
    """
    style = resource(__package__, "base.css") + style
    # Nothing but the page's own script and style can run or load, whatever a name in it holds.
    allowed = {
        "default-src": "'none'",
        "style-src": _hash(style),
        "script-src": None if script is None else _hash(script),
        "img-src": "data:" if pictures else None,
        "form-action": "'none'",
    }
    policy = "; ".join(f"{name} {source}" for name, source in allowed.items() if source is not None)
    head = h(
        "head",
        h("meta", charset="utf-8"),
        h("meta", http_equiv="Content-Security-Policy", content=policy),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("title", title),
        h("style", Markup(style)),
    )
    end = None if script is None else h("script", Markup(script))
    return f"<!DOCTYPE html>\n{h('html', head, h('body', *body, end), lang='en')}\n"


def resource(package: str, name: str) -> str:
    """Read a text file that lies beside the modules of a package."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

"""Pages of HTML: elements made in Python, and what all pages share. Nothing here knows what a page is of."""

from synreal.records.html.document import document, resource
from synreal.records.html.elements import Markup, h, joined, number, scrolling

__all__ = ["Markup", "document", "h", "joined", "number", "resource", "scrolling"]

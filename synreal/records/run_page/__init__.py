"""One network as a page: its scores, its mistakes, where it looks, and what training did to it.

What it shows is made elsewhere and handed over as numbers, words and pictures: nothing here knows a task or a measure,
and nothing imports torch.
"""

from synreal.records.run_page.contents import (
    Contents,
    Example,
    Glimpse,
    MistakeKind,
    Picture,
    SetContents,
    Shot,
    Side,
)
from synreal.records.run_page.page import Part, as_html
from synreal.records.run_page.pictures import image as picture

__all__ = [
    "Contents",
    "Example",
    "Glimpse",
    "MistakeKind",
    "Part",
    "Picture",
    "SetContents",
    "Shot",
    "Side",
    "as_html",
    "picture",
]

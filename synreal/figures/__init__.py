"""Figures as PNG files: one file per figure, and one line here that makes it known.

What several figures draw with is in ``page``, ``colours``, ``layout``, ``marks`` and ``masks``. Numbers are computed in
``synreal.functional``, never here.
"""

from synreal.figures import (
    box_panels,  # noqa: F401
    box_sheet,  # noqa: F401
    class_panels,  # noqa: F401
    class_sheet,  # noqa: F401
    confusion,  # noqa: F401
    mask_panels,  # noqa: F401
    mask_sheet,  # noqa: F401
)
from synreal.figures.base import FIGURES, Drawing, Figure, Outcome, Sheet, figures_of, sheet_of

__all__ = ["FIGURES", "Drawing", "Figure", "Outcome", "Sheet", "figures_of", "register", "sheet_of"]

register = FIGURES.register

"""Figures as files: one file per figure, and one line here that makes it known.

What several figures draw with is in ``page``, ``colours``, ``series``, ``layout``, ``plots``, ``panels``, ``heat``,
``marks`` and ``masks``. Numbers are computed in ``synreal.functional``, never here.
"""

from synreal.figures import (
    attention,  # noqa: F401
    box_panels,  # noqa: F401
    box_sheet,  # noqa: F401
    circle,  # noqa: F401
    class_panels,  # noqa: F401
    class_sheet,  # noqa: F401
    confusion,  # noqa: F401
    curves,  # noqa: F401
    gain,  # noqa: F401
    gradcam,  # noqa: F401
    mask_panels,  # noqa: F401
    mask_sheet,  # noqa: F401
    weights,  # noqa: F401
)
from synreal.figures.attention import attention_panels
from synreal.figures.base import (
    FIGURES,
    Chart,
    Drawing,
    Figure,
    Looked,
    Outcome,
    Sheet,
    Study,
    chart_of,
    figures_of,
    sheet_of,
    study_of,
)
from synreal.figures.circle import feature_circle
from synreal.figures.curves import Line, history_curves
from synreal.figures.gain import Gain, gain_scatter
from synreal.figures.gradcam import gradcam_panels, heat_panel
from synreal.figures.page import drawing_path, save_drawing
from synreal.figures.panels import Panel, Panels, panels_of
from synreal.figures.weights import Sweep, weight_curves

__all__ = [
    "FIGURES",
    "Chart",
    "Drawing",
    "Figure",
    "Gain",
    "Line",
    "Looked",
    "Outcome",
    "Panel",
    "Panels",
    "Sheet",
    "Study",
    "Sweep",
    "attention_panels",
    "chart_of",
    "drawing_path",
    "feature_circle",
    "figures_of",
    "gain_scatter",
    "gradcam_panels",
    "heat_panel",
    "history_curves",
    "panels_of",
    "register",
    "save_drawing",
    "sheet_of",
    "study_of",
    "weight_curves",
]

register = FIGURES.register

"""CSG: contrastive synthetic-to-real generalization (Chen et al., ICLR 2021)."""

from __future__ import annotations

from typing import ClassVar, Literal

from synreal.core.terms import REGULARIZERS
from synreal.regularizers.info_nce import InfoNCE


@REGULARIZERS.register
class CSG(InfoNCE):
    """CSG (Chen et al., ICLR 2021): pull student and frozen network together on two views, push other images away.

    InfoNCE with attentional pooling: for each stage, ``z = norm(h(P_a(f(x0))))`` is the anchor and
    ``z+ = norm(h_ema(P_a(f_o(x1)))`` its positive, where ``P_a`` on the teacher's map uses the attention of the
    student's map of the same view. InfoNCE losses (eq. 3) are summed over stages. All settings are ``InfoNCE``'s.

    Attributes:
        pooling: ``"attentional"`` (A-Pool) or ``"gap"``, the paper's ablation. With ``"gap"`` the student's extra pass
            on view 1 is not needed and not run.
    """

    name: ClassVar[str] = "csg"
    summary: ClassVar[str] = "InfoNCE between student and frozen network, attentional pooling"
    paper: ClassVar[str] = "CSG (Chen et al., ICLR 2021)"

    pooling: Literal["attentional", "gap"] = "attentional"

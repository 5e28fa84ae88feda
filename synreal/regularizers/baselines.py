"""The two baselines: train everything without a penalty, or train the head alone."""

from __future__ import annotations

from typing import ClassVar

from synreal.core.norm_stats import freeze_norm_stats, pretrained_norm_layers, release_norm_stats
from synreal.core.terms import REGULARIZERS, NoPenalty, Regularizer, Site, Term
from synreal.errors import StageError


@REGULARIZERS.register
class NoRegularizer(Regularizer):
    """No regularizer: plain fine-tuning on synthetic images ("source only" in the papers)."""

    name: ClassVar[str] = "none"
    summary: ClassVar[str] = "plain fine-tuning, the papers' source-only baseline"
    paper: ClassVar[str] = "baseline"
    penalizes: ClassVar[bool] = False

    def build(self, site: Site) -> Term:
        """Build a term that adds nothing."""
        return NoPenalty()


@REGULARIZERS.register
class Oracle(Regularizer):
    """Freeze the backbone and train the task's head alone (CSG: Chen et al., ICLR 2021, footnote 3).

    Parameters of the backbone stop taking gradient and its running statistics stay as they are, until ``detach()``.
    """

    name: ClassVar[str] = "oracle"
    summary: ClassVar[str] = "backbone frozen, only the head learns"
    paper: ClassVar[str] = "CSG, footnote 3"
    penalizes: ClassVar[bool] = False

    def build(self, site: Site) -> Term:
        """Freeze the backbone and build a term that adds nothing."""
        return _Frozen(site)


class _Frozen(NoPenalty):
    def __init__(self, site: Site) -> None:
        super().__init__()
        parameters = dict(site.student.named_parameters())
        if len(site.backbone) == len(parameters):
            raise StageError(
                "oracle trains the head alone, but no head was found: the network has no get_classifier(), fc, "
                "classifier, head or heads, and no layer at its end that makes logits of vectors. Give the final layer "
                "one of these names, or attach(entry=...), the path of the pretrained network inside."
            )
        # In a list and a tuple, so that the student's modules are not registered twice.
        head = parameters.keys() - site.backbone
        self._layers = freeze_norm_stats(pretrained_norm_layers(site.student, site.entry, head))
        self._thawed = tuple(parameters[name] for name in sorted(site.backbone) if parameters[name].requires_grad)
        for parameter in self._thawed:
            parameter.requires_grad_(False)

    def release(self) -> None:
        """Let the backbone learn again."""
        release_norm_stats(self._layers)
        for parameter in self._thawed:
            parameter.requires_grad_(True)
        self._thawed = ()
        self._layers = []

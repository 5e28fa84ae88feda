"""What every transform is made of: a spec that changes a network before it is attached."""

from __future__ import annotations

from abc import abstractmethod
from typing import Final

from torch import nn

from synreal.specs import Spec, SpecRegistry


class Transform(Spec):
    """The spec of a transform: what changes a network's layers in place, before ``attach``.

    Subclasses set ``name`` and ``summary``, add their settings as fields and change the network in ``apply``. The
    frozen teacher stays as it was pretrained: where a regularizer compares with one, copy the network before ``apply``
    and pass the copy to ``attach`` as ``reference=``.
    """

    @abstractmethod
    def apply(self, network: nn.Module) -> None:
        """Change a network in place.

        Paths of modules that are stages should stay: regularizers find them by name, on the teacher too.

        Args:
            network: A classifier, segmenter or detector with its pretrained weights.

        Raises:
            ConfigError: If the network has nothing that the transform could change: doing nothing is an error.
        """


TRANSFORMS: Final[SpecRegistry[Transform]] = SpecRegistry(
    "transform", "transforms", Transform, example="ibn(stages=(1, 2, 3))"
)

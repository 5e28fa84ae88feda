"""What every transform is made of: a spec that changes a network before it is attached."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Final

from torch import nn

from synreal.core.regularized import ATTACHED, RegularizedModel
from synreal.core.taps import tapped
from synreal.errors import ConfigError
from synreal.specs import Spec, SpecRegistry


class Transform(Spec):
    """The spec of a transform: what changes a network's layers in place, before ``attach``.

    Subclasses set ``name`` and ``summary``, add their settings as fields and change the network in ``apply``. The
    frozen teacher stays as it was pretrained: where a regularizer compares with one, copy the network before ``apply``
    and pass the copy to ``attach`` as ``reference=``.

    Attributes:
        paper: Where it comes from, in the body of the class; may be left out.
        least_images: The fewest images that it needs in a batch to do anything.
        changes_state: Whether the network's state dict and what it computes in eval mode are others afterwards.
    """

    paper: ClassVar[str]
    changes_state: ClassVar[bool] = True

    @property
    def least_images(self) -> int:
        """The fewest images in a batch that let it do anything."""
        return 1

    @abstractmethod
    def apply(self, network: nn.Module) -> None:
        """Change a network in place.

        Paths of modules that are stages should stay: regularizers find them by name, on the teacher too.

        Args:
            network: A classifier, segmenter or detector with its pretrained weights.

        Raises:
            ConfigError: If the network has nothing that the transform could change: doing nothing is an error.
        """


def check_free(network: nn.Module, name: str) -> None:
    """Refuse a network that is attached, compiled or wrapped already.

    Args:
        network: The network.
        name: The transform, for the message.

    Raises:
        ConfigError: If it is.
    """
    if network in ATTACHED or tapped(network) or isinstance(network, RegularizedModel):
        raise ConfigError(f"Regularizers are attached to this network already: apply {name} first, then attach.")
    if hasattr(network, "_orig_mod") or isinstance(network, nn.parallel.DistributedDataParallel):
        raise ConfigError(f"The network is compiled or wrapped already: apply {name} first, then compile, then wrap.")


TRANSFORMS: Final[SpecRegistry[Transform]] = SpecRegistry(
    "transform", "transforms", Transform, example="ibn(variant=b)"
)

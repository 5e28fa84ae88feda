"""``Anatomy``: all that ``attach`` must know of a network, a torchvision detector's own resizing included."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from synreal.core.head_search import search_head
from synreal.core.parts import RGB, class_counts, find_classifiers, find_entry, input_statistics, takes
from synreal.core.stages import CLASSIFIER_INPUT, Stage, probe_input, resolve
from synreal.core.task_heads import last_layers
from synreal.errors import TrainingError


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """What a network is made of: facts alone, so that a copy of a model holds nothing of the original.

    Attributes:
        kind: Name of the network's class, for messages.
        entry: Path of the module that turns images into stage maps; empty for the network itself.
        stages: The stages that were asked for, by name.
        head: Names of the parameters of the task's head.
        backbone: Names of all other parameters.
        doubt: Path of a fresh last layer, where no head was found; else empty.
        classifiers: Paths of the final classifiers; empty in a segmenter or detector.
        last_layers: Paths of the last layer of each classifier.
        classes: Classes of the network's classifier and of its pretrained weights, where it says so.
        statistics: Mean and standard deviation of the images that it was made for, per RGB channel; None if unknown.
        resizes: Whether it takes lists of images and resizes them by itself, as torchvision's detectors do.
        takes_targets: Whether its forward takes ``targets``, as theirs does in training.
    """

    kind: str
    entry: str
    stages: Mapping[str, Stage]
    head: frozenset[str]
    backbone: frozenset[str]
    doubt: str
    classifiers: tuple[str, ...]
    last_layers: tuple[str, ...]
    classes: tuple[int | None, int | None]
    statistics: tuple[RGB, RGB] | None
    resizes: bool
    takes_targets: bool

    @classmethod
    def of(
        cls,
        network: nn.Module,
        wanted: Iterable[int | str] = (),
        *,
        entry: str | None = None,
        known: Mapping[str, str] | None = None,
    ) -> Self:
        """Look at a network; trial passes leave it as it is.

        Args:
            network: A classifier, segmenter or detector.
            wanted: Stages to find: numbers 0 to 4, module paths or ``CLASSIFIER_INPUT``. A network without a classifier
                has stage 4 in place of that.
            entry: Path of the module that turns images into maps; found when None.
            known: The user's own stage names and module paths; they override what is found.

        Raises:
            StageError: If a stage does not exist, or no trial pass reaches it.
        """
        head = search_head(network, entry)
        entry = find_entry(network) if entry is None else entry
        classifiers = find_classifiers(network)
        names = list(dict.fromkeys(wanted))
        reads_input = CLASSIFIER_INPUT in names
        has_input = bool(classifiers) and not entry
        if reads_input and not has_input:
            names.append(4)
        stages = resolve(network, [name for name in names if name != CLASSIFIER_INPUT], known=known, entry=entry)
        if reads_input and has_input:
            stages[CLASSIFIER_INPUT] = probe_input(network, CLASSIFIER_INPUT, classifiers[0])
        return cls(
            kind=type(network).__name__,
            entry=entry,
            stages=stages,
            head=head.names,
            backbone=frozenset(name for name, _ in network.named_parameters()) - head.names,
            doubt=head.doubt,
            classifiers=classifiers,
            last_layers=tuple(last_layers(network)),
            classes=class_counts(network),
            statistics=input_statistics(network),
            resizes=isinstance(getattr(network, "transform", None), nn.Module),
            takes_targets=takes(network, "targets"),
        )

    @property
    def classifier(self) -> str:
        """Path of the classifier whose input may be read; empty where images enter elsewhere than at the root."""
        return self.classifiers[0] if self.classifiers and not self.entry else ""

    def inner_stages(self) -> list[Stage]:
        """Return the stages with paths as seen from inside the entry."""
        start = len(self.entry) + 1 if self.entry else 0
        return [dataclasses.replace(stage, path=stage.path[start:]) for stage in self.stages.values()]

    def renormalization(self, other: Anatomy) -> tuple[Tensor, Tensor] | None:
        """Return what turns images normalised for this network into images normalised for another.

        Returns:
            Scale and shift by channel, (3,) each; None if both were made for the same images or one does not say.
        """
        if self.statistics is None or other.statistics is None:
            return None
        mean, std, their_mean, their_std = (torch.tensor(value) for value in (*self.statistics, *other.statistics))
        if torch.equal(mean, their_mean) and torch.equal(std, their_std):
            return None
        return std / their_std, (mean - their_mean) / their_std

    def check_views(self, views: Sequence[Any]) -> None:
        """Refuse further views that cannot be brought to the shape of view 0.

        Raises:
            TrainingError: If one is a list where the network takes tensors, or of another shape.
        """
        for number, view in enumerate(views[1:], start=1):
            if not isinstance(view, Tensor) and not self.resizes:
                raise TrainingError(
                    f"View {number} is a {type(view).__name__}; {self.kind} takes a tensor. Only torchvision's "
                    "detectors, which resize images by themselves, take lists of them."
                )
            if self.entry == "" and view.shape != views[0].shape:
                raise TrainingError(
                    f"View {number} has shape {tuple(view.shape)}, view 0 {tuple(views[0].shape)}: views of one batch "
                    "must have one shape."
                )

    def drawn(self, views: Sequence[Any], *, targets: bool = False) -> Tensor | None:
        """Return the state of the random numbers, to be asked for before view 0 runs.

        ``batch`` and ``targets`` draw from it again.

        Args:
            views: All views.
            targets: Whether ``targets`` is going to be called.

        Returns:
            None unless the network resizes a further view, or targets, by itself.
        """
        again = (targets and self.resizes) or any(not isinstance(view, Tensor) for view in views[1:])
        return torch.get_rng_state() if again else None

    def targets(self, network: nn.Module, images: Any, targets: Any, drawn: Tensor | None) -> Any:
        """Return targets in the pixels that the entry saw.

        Args:
            network: The network.
            images: View 0.
            targets: Those of view 0.
            drawn: From ``drawn``: boxes are resized with the random numbers that view 0 was.
        """
        if drawn is None or not self.resizes:
            return targets
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.set_rng_state(drawn)
            _, moved = network.get_submodule("transform")(list(images), targets)
        return moved

    def batch(
        self, network: nn.Module, number: int, views: Sequence[Any], seen: Tensor, drawn: Tensor | None
    ) -> Tensor:
        """Return a view as the entry takes it.

        Args:
            network: The network, or a copy of it.
            number: Index of the view.
            views: All views, each a tensor (N, C, H, W) or a list of images (C, H, W).
            seen: What the entry saw of view 0, (N, C, H, W): view 0 itself is that.
            drawn: From ``drawn``: lists are resized with the random numbers that view 0 was.

        Returns:
            (N, C, H, W), of the shape of ``seen``.

        Raises:
            TrainingError: If it is of another shape.
        """
        if number == 0:
            return seen
        images = views[number]
        if drawn is not None and not isinstance(images, Tensor):
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                torch.set_rng_state(drawn)
                resized, _ = network.get_submodule("transform")(list(images))
            images = resized.tensors
        if images.shape != seen.shape:
            raise TrainingError(
                f"View {number} reaches {self.entry or 'the network'} as {tuple(images.shape)}, view 0 as "
                f"{tuple(seen.shape)}: views of one batch must have one shape and geometry and differ in colour alone."
            )
        found: Tensor = images
        return found

"""Looking into a network: what its features, weights and predictions tell beyond how often it is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

from synreal.config import RunConfig
from synreal.core.parts import find_entry, find_head
from synreal.core.stage_groups import stage_groups
from synreal.core.stages import Stage, find_stages
from synreal.core.taps import FeatureTap
from synreal.data.sets import ImageSet
from synreal.engine.loading import length
from synreal.engine.progress import RunProgress
from synreal.engine.testing import most_batches, shared_batches
from synreal.errors import StageError
from synreal.functional.pooling import gap
from synreal.measures import Collection, Glance
from synreal.tasks.base import Task
from synreal.tasks.items import TestItems
from synreal.views import View, classification_transform, to_float
from synreal.weights import Student, normalization


@dataclass(frozen=True)
class Eyes:
    """What it takes to look into a network.

    Attributes:
        title: What the network is called, for progress.
        task: The task, with the sets.
        student: The network.
        frozen: The network as it was pretrained; None if nothing is compared with it.
        config: Sizes of batches and data loading.
        accelerator: Device, precision and the other processes.
        progress: What people see.
        stop: Called after each batch, equally often in all processes; it raises if work is to end.
    """

    title: str
    task: Task[Any]
    student: Student
    frozen: nn.Module | None
    config: RunConfig
    accelerator: Accelerator
    progress: RunProgress
    stop: Callable[[], None]

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        found: torch.device = self.accelerator.device
        return found

    def batches(self, name: str, data: Dataset[Any], collate: Callable[..., Any]) -> Iterator[tuple[range, Any]]:
        """Go through the batches of a set that are this process's, as ``shared_batches``, and say how far it is."""
        size, processes = self.config.testing.eval_batch_size, self.accelerator.num_processes
        self.progress.start(f"{self.title}: {name}", most_batches(length(data), size, processes), 0)
        shared = shared_batches(data, collate, self.config, self.accelerator, self.stop)
        for number, batch in enumerate(shared, start=1):
            yield batch
            self.progress.step(number, {})


@contextmanager
def in_eval_mode(*networks: nn.Module | None) -> Iterator[None]:
    """Put networks into eval mode, and then each into the mode that it was in."""
    modes = [(one, one.training) for one in networks if one is not None]
    for one, _ in modes:
        one.eval()
    try:
        yield
    finally:
        for one, mode in modes:
            one.train(mode)


class Backbone:
    """The backbone in a network, whose maps are read.

    Args:
        network: The network.

    Attributes:
        stages: Its stages, in order of depth.

    Raises:
        StageError: If no stage is found.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.path = find_entry(network)
        self.stages = tuple(find_stages(network, entry=self.path).values())

    @property
    def last(self) -> Stage:
        """The last stage."""
        return self.stages[-1]

    @contextmanager
    def reading(self) -> Iterator[Callable[[Tensor], Mapping[str, Tensor]]]:
        """Hook the network for as long as its maps are read.

        Yields:
            What gives the map of each stage, (N, C, H, W), by its name, for images as the backbone takes them.
        """
        tap = FeatureTap(self.network, self.stages, entry=self.path)
        inner = self.network.get_submodule(self.path)

        def maps(images: Tensor) -> Mapping[str, Tensor]:
            with tap.record() as found:
                inner(images)
            tap.take_input()
            return found

        try:
            yield maps
        finally:
            tap.remove()


def look_at_set(eyes: Eyes, name: str, measures: Sequence[str], *more: type[Any]) -> Collection:
    """Take measures of one of the task's sets, in one pass over its images.

    Features are read in float32 and whole images; predictions are made as in a test.

    Args:
        eyes: The network and what goes with it.
        name: Which set.
        measures: Names; none of the weights or of ImageNet.
        *more: Collectors that shall go along.

    Returns:
        What was collected, of all processes.
    """
    task, student, device = eyes.task, eyes.student, eyes.device
    collection = Collection(measures, task.tests[name], looking=True)
    for kind in more:
        collection.also(kind)
    lookers = collection.lookers
    changes = list(dict.fromkeys(one.change for one in lookers if one.change is not None))
    sees = collection.reads_features
    data = _Together([task.test_data(name), *(task.test_data(name, change) for change in changes)])
    with torch.no_grad(), in_eval_mode(student.network, eyes.frozen), _pooled(eyes, sees) as pooled:
        for one in lookers:
            one.begin(pooled.widths)
        for indices, (plain, *changed) in eyes.batches(name, data, partial(_together, task.collate_test)):
            images, targets = plain
            numbers = torch.tensor(indices)
            with eyes.accelerator.autocast():
                _predict(eyes, collection, numbers, images, targets, changes, [other for other, _ in changed])
            if sees:
                seen = list(task.entry_tests(images, student, device))
                glance = Glance(numbers, targets, pooled(0, seen), pooled(1, seen))
                for one in lookers:
                    one.see(glance)
    collection.gather(device)
    return collection


def _predict(
    eyes: Eyes,
    collection: Collection,
    indices: Tensor,
    images: Any,
    targets: Any,
    changes: Sequence[View],
    changed: Sequence[Any],
) -> None:
    """Predict what measures of a batch need, of its images and of the changed ones."""
    task, student, device = eyes.task, eyes.student, eyes.device
    if not collection.reads_predictions and not changes:
        collection.seen.add(len(targets))
        return
    if collection.asks_confidence:
        output, confidences = task.predict_sure(student, images, device)
        collection.update_sure(output, targets, confidences)
    else:
        output = task.predict(student, images, device)
        collection.update(output, targets)
    for one in collection.judging:
        one.see_predicted(indices, output, targets)
    for change, others in zip(changes, changed, strict=True):
        again = task.predict(student, others, device)
        for one in collection.lookers:
            if one.change == change:
                one.see_changed(output, again, targets)


class _Pooled:
    """Pooled features of the student and of the frozen network, by the stages' names.

    Args:
        readers: What gives the maps of each of the two; the second is absent if nothing is compared with it.
        stages: The stages.
    """

    def __init__(self, readers: Sequence[Callable[[Tensor], Mapping[str, Tensor]]], stages: Sequence[Stage]) -> None:
        self.readers = readers
        self.widths = {stage.name: stage.channels for stage in stages}

    def __call__(self, number: int, batches: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return float32, (N, C), of each stage; empty if there is no such network."""
        if number >= len(self.readers):
            return {}
        found = [self.readers[number](batch) for batch in batches]
        return {name: torch.cat([gap(maps[name]) for maps in found]) for name in self.widths}


@contextmanager
def _pooled(eyes: Eyes, sees: bool) -> Iterator[_Pooled]:
    if not sees:
        yield _Pooled([], [])
        return
    own = Backbone(eyes.student.network)
    if eyes.frozen is None:
        with own.reading() as maps:
            yield _Pooled([maps], own.stages)
        return
    frozen = Backbone(eyes.frozen)
    if [(one.name, one.channels) for one in own.stages] != [(one.name, one.channels) for one in frozen.stages]:
        raise StageError(
            f"{eyes.title} has other stages than the network as it was pretrained, so their features do not compare. "
            "Leave cka out."
        )
    with own.reading() as maps, frozen.reading() as theirs:
        yield _Pooled([maps, theirs], own.stages)


def weigh(eyes: Eyes, measures: Sequence[str], images: ImageSet) -> Collection:
    """Take measures of the weights alone.

    Args:
        eyes: The network, and the one that it began as.
        measures: Names; all of weights.
        images: Any set: collectors are told of one.

    Raises:
        DataError: If the two networks have other parameters.
    """
    assert eyes.frozen is not None
    own = Backbone(eyes.student.network)
    weights = dict(own.network.named_parameters())
    groups = stage_groups(own.network, own.stages, weights.keys() - find_head(own.network))
    collection = Collection(measures, images, looking=True)
    for one in collection.lookers:
        one.weigh(weights, dict(eyes.frozen.named_parameters()), groups)
    collection.seen.value += len(images)  # of a set that nothing of this depends on
    return collection


def look_at_imagenet(
    eyes: Eyes, measures: Sequence[str], images: ImageSet, classifier: nn.Module, size: int
) -> Collection:
    """Take measures of what a network predicts for images of ImageNet.

    Args:
        eyes: What goes with it.
        measures: Names; all of ImageNet.
        images: The images.
        classifier: The trained backbone under its original classifier.
        size: Side of the centre crop, in pixels.
    """
    collection = Collection(measures, images, looking=True)
    data = TestItems(images, partial(_cropped, classification_transform(size, train=False)))
    statistics = normalization(classifier)
    with torch.no_grad(), in_eval_mode(classifier):
        for _, (crops, labels) in eyes.batches("imagenet", data, default_collate):
            with eyes.accelerator.autocast():
                collection.update(classifier(to_float(crops.to(eyes.device), *statistics)), labels)
    collection.gather(eyes.device)
    return collection


def _cropped(crop: Callable[[Tensor], Tensor], index: int, image: Tensor, label: int) -> tuple[Tensor, int]:
    return crop(image), label


class _Together(Dataset[list[Any]]):
    """Items of several data sets of one length, side by side."""

    def __init__(self, parts: Sequence[Dataset[Any]]) -> None:
        self.parts = parts
        self.images = getattr(parts[0], "images", None)  # names a file that cannot be read

    def __len__(self) -> int:
        return length(self.parts[0])

    def __getitem__(self, index: int) -> list[Any]:
        return [part[index] for part in self.parts]


def _together(collate: Callable[[Sequence[Any]], Any], items: Sequence[Sequence[Any]]) -> list[Any]:
    return [collate(column) for column in zip(*items, strict=True)]

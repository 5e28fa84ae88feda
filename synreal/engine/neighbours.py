"""Which held-out renders look most like a real image to the network of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from synreal.engine import preflight
from synreal.engine.loading import batches, dead_workers_named, make_loader
from synreal.engine.looking import Backbone
from synreal.engine.progress import RunProgress
from synreal.engine.signals import listening
from synreal.engine.trained import read_trained
from synreal.errors import Interrupted
from synreal.figures.page import Pixels, as_pixels
from synreal.figures.panels import shrunk
from synreal.functional import gap, unit


@dataclass(frozen=True)
class Neighbour:
    """A held-out render beside a real image.

    Attributes:
        index: Its place among the held-out images.
        similarity: Cosine of the two images' features, in [-1, 1].
        pixels: uint8, (H, W, 3), no larger than a panel.
    """

    index: int
    similarity: float
    pixels: Pixels


def nearest_renders(
    path: str | Path,
    wanted: Mapping[str, Sequence[int]],
    *,
    count: int = 3,
    device: str = "auto",
    show_progress: bool = True,
) -> dict[str, dict[int, list[Neighbour]]]:
    """Find the held-out renders that are nearest to real images, in the features of a run's backbone.

    Features are the mean over positions of the last stage's map, in float32; nearest is by their cosine. The backbone
    of a run of ``oracle`` is the pretrained one: what is near there is what ImageNet's classes make alike.

    Args:
        path: The run folder.
        wanted: Indices of images by the name of their target.
        count: How many renders of each, at most.
        device: As in ``RunConfig``.
        show_progress: Write progress to stderr.

    Returns:
        By target and index, the nearest first.

    Raises:
        SynrealError: As ``evaluate``.
        Interrupted: If the process was asked to stop.
    """
    if not any(wanted.values()):
        return {name: {} for name in wanted}
    trained = read_trained(Path(path), "look into", device=device)
    accelerator = preflight.accelerator(trained.config)
    task = trained.load_tests(source=True)
    student = trained.student(task)
    network = student.network.to(accelerator.device).eval()
    size, workers = trained.config.testing.eval_batch_size, trained.config.data.workers

    with (
        listening() as request,
        RunProgress(show=show_progress) as progress,
        dead_workers_named(),
        torch.no_grad(),
        _pooled(network) as pooled,
    ):

        def features(name: str, indices: Sequence[int]) -> Tensor:
            found = []
            loader = make_loader(task.test_data(name), workers, task.collate_test, batch_size=size, sampler=indices)
            progress.start(f"nearest renders: {name}", -(-len(indices) // size), 0)
            for done, (images, _) in enumerate(batches(loader), start=1):
                found += [pooled(one).cpu() for one in task.entry_tests(images, student, accelerator.device)]
                progress.step(done, {})
                if request.exit_code:
                    raise Interrupted("Stopped while looking for the nearest renders.", request.exit_code)
            return unit(torch.cat(found).float())

        renders = features("source", range(len(task.tests["source"])))
        found = {}
        for name, indices in wanted.items():
            best = (features(name, list(indices)) @ renders.T).topk(min(count, len(renders))) if indices else None
            rows = zip(*(best.indices.tolist(), best.values.tolist()), strict=True) if best is not None else ()
            found[name] = {
                index: [
                    Neighbour(place, near, shrunk(as_pixels(task.tests["source"][place][0])))
                    for place, near in zip(places, values, strict=True)
                ]
                for index, (places, values) in zip(indices, rows, strict=True)
            }
    return found


@contextmanager
def _pooled(network: Any) -> Iterator[Any]:
    backbone = Backbone(network)
    with backbone.reading() as maps:
        yield lambda images: gap(maps(images)[backbone.last.name])

"""A task whose network takes batches of images of one size. Imports no torch before it runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from synreal.tasks.base import S, Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from synreal.weights import Student


class BatchTask(Task[S]):
    """A task whose network takes one normalised tensor per view."""

    def inputs(
        self, views: Any, targets: Any, student: Student, device: torch.device
    ) -> tuple[list[Any], dict[str, Any]]:
        """Scale and normalise as the backbone was pretrained: uint8 -> float32."""
        return [self.prepared(view, student, device) for view in views], {}

    def entry_images(self, views: Any, student: Student, device: torch.device) -> Tensor:
        """Return view 0, normalised."""
        return self.prepared(views[0], student, device)

    def entry_tests(self, images: Any, student: Student, device: torch.device) -> Iterator[Tensor]:
        """Go through images of one size all at once, else one by one."""
        import torch

        if isinstance(images, torch.Tensor):
            yield self.prepared(images, student, device)
        elif len({image.shape for image in images}) == 1:
            yield self.prepared(torch.stack(list(images)), student, device)
        else:
            for image in images:
                yield self.prepared(image[None], student, device)

    def prepared(self, images: Tensor, student: Student, device: torch.device) -> Tensor:
        """Return a batch of uint8 images, (N, 3, H, W), as the network takes it: float32, normalised."""
        from synreal.views import to_float

        return self.formatted(to_float(images.to(device, non_blocking=True), *student.statistics))

    def formatted(self, images: Tensor) -> Tensor:
        """Order a batch in memory as the network is."""
        return images.contiguous(memory_format=memory_format(self.setup.memory_format))


MEMORY_FORMATS: Final = {"channels_last": "channels_last", "contiguous": "contiguous_format"}
"""What torch calls an order of images in memory."""


def memory_format(name: str) -> torch.memory_format:
    """Return torch's own constant for the name of a memory format in a configuration."""
    import torch

    found: torch.memory_format = getattr(torch, MEMORY_FORMATS[name])
    return found

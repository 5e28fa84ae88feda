"""A task whose network takes batches of images of one size. Imports no torch before it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from synreal.tasks.base import S, Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from synreal.tasks.exported import Agreement, Exportable
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

    def exported_batches(
        self,
        student: Student,
        size: tuple[int, int],
        multiple: int | None,
        preparation: Mapping[str, Any],
        loading: str,
    ) -> Exportable:
        """Return the network as it is exported, with ``images`` as its input and ``logits`` as its output.

        Args:
            student: The student, on the CPU.
            size: Height and width of its example, in pixels.
            multiple: What heights and widths are a multiple of; None where they are always those of ``size``.
            preparation: See ``Exportable``.
            loading: See ``Exportable``.
        """
        import torch

        from synreal.data.labels import LABELS
        from synreal.tasks.exported import Exportable, ExportedNetwork, compared_probabilities

        cpu, unit = torch.device("cpu"), LABELS.get(self.spec.label).unit

        def compare(theirs: Student, ours: Student, images: Any) -> Agreement:
            first, second = (self.probabilities(one, images, cpu) for one in (theirs, ours))
            return compared_probabilities(first, second, unit)

        sides = {} if multiple is None else {2: ("height", multiple), 3: ("width", multiple)}
        return Exportable(
            graph=student.network,
            example={"images": torch.zeros(2, 3, *size)},
            free={"images": {0: ("batch", 1), **sides}},
            outputs=("logits",),
            preparation=preparation,
            loading=loading,
            stand_in=ExportedNetwork,
            compare=compare,
            traced=multiple is not None,  # torch.export takes minutes to reason about sides of any length
        )

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

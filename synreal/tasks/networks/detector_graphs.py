"""torchvision's detectors as functions of tensors alone, for a whole batch, as exported files need them.

torchvision loops over the images of a batch, and a loop is written into a file once for each image that it ran for.
Here all images go together: a box carries the number of its image, and what is done image by image (choosing the best,
suppressing what overlaps) keeps images apart by that number. The numbers are torchvision's, up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import nms, roi_align

from synreal.errors import ConfigError

INPUTS: Final = ("images", "sizes")
OUTPUTS: Final = ("boxes", "scores", "labels", "image")
STRIDE: Final = 32
"""Sides of a padded image are multiples of this."""

_LEAST_PROPOSAL: Final = 1e-3  # side of a proposal in pixels, as torchvision's RPN is built
_LEAST_BOX: Final = 1e-2  # side of a box in pixels, as torchvision's second stage has it
_CANONICAL: Final = 224, 4  # side in pixels of an object of ImageNet and its level: Lin et al., 2017, eq. 1


def detector_graph(detector: nn.Module) -> nn.Module:
    """Return a detector as a graph of its own weights.

    Args:
        detector: A detector of torchvision's that ``create_detector`` made, in eval mode.

    Returns:
        A module in eval mode. It takes ``images``, float32 (N, 3, H, W), normalised, resized and padded with 0 at the
        right and at the bottom, H and W multiples of 32; and ``sizes``, int64 (N, 2), height and width of each image
        within the padding. It returns what ``OUTPUTS`` names, of all images together, the most certain first: boxes,
        float32 (M, 4), as x1, y1, x2, y2 in pixels of the resized image; scores, float32 (M,), in [0, 1]; labels,
        int64 (M,), counted from 0; and the image, int64 (M,), that each box is in.

    Raises:
        ConfigError: If it is another kind of detector.
    """
    if isinstance(detector, FasterRCNN):
        return _TwoStages(detector).eval()
    if isinstance(detector, (FCOS, RetinaNet)):
        return _OneStage(detector).eval()
    raise ConfigError(f"{type(detector).__name__} cannot be exported; expected FasterRCNN, FCOS or RetinaNet.")


class ExportedDetector(nn.Module):
    """What a task can predict with in place of a detector: its transform around what an exported file computes.

    Args:
        detector: The detector.
        run: Runs the graph: a mapping of ``INPUTS`` to a tuple of ``OUTPUTS``.
    """

    def __init__(self, detector: nn.Module, run: Callable[[Mapping[str, Tensor]], Sequence[Tensor]]) -> None:
        super().__init__()
        self.transform: Any = detector.get_submodule("transform")
        self.run = run

    def forward(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Return boxes, scores and labels of each image as torchvision's detectors do.

        Args:
            images: float32 (3, H, W) in [0, 1], of any size.
        """
        batch: ImageList = self.transform(list(images))[0]
        sizes = torch.tensor(batch.image_sizes, dtype=torch.int64)
        boxes, scores, labels, image = self.run({"images": batch.tensors, "sizes": sizes})
        found = [
            {"boxes": boxes[image == one], "scores": scores[image == one], "labels": labels[image == one] + 1}
            for one in range(len(images))
        ]
        own = [(int(one.shape[-2]), int(one.shape[-1])) for one in images]
        placed: list[dict[str, Tensor]] = self.transform.postprocess(found, batch.image_sizes, own)
        return placed


class _Candidates:
    """Boxes of all images in a row.

    Attributes:
        boxes: (M, 4).
        scores: (M,).
        groups: (M,): those of other groups do not suppress each other.
        image: (M,).
    """

    def __init__(self, boxes: Tensor, scores: Tensor, groups: Tensor, image: Tensor) -> None:
        self.boxes, self.scores, self.groups, self.image = boxes, scores, groups, image

    def chosen(self, kept: Tensor) -> _Candidates:
        """Return some, by a mask or by their places."""
        return _Candidates(self.boxes[kept], self.scores[kept], self.groups[kept], self.image[kept])

    def suppressed(self, sizes: Tensor, overlap: float, most: int) -> _Candidates:
        """Return the best of each image, the most certain first, without those that overlap a better one too much.

        Args:
            sizes: As ``detector_graph`` says.
            overlap: IoU from which on the worse one of a group goes.
            most: How many are kept of an image.
        """
        apart = sizes.max() + 1  # groups are moved apart to the right, images downwards: each keeps its own rounding
        shift = torch.stack([self.groups, self.image, self.groups, self.image], 1) * apart
        best = self.chosen(nms(self.boxes + shift.to(self.boxes.dtype), self.scores, overlap))
        numbers = torch.arange(sizes.shape[0])
        of_image = (best.image[:, None] == numbers[None]).to(torch.int64)
        rank = (of_image.cumsum(0) * of_image).sum(1)  # from 1, within the image
        return best.chosen(rank <= most)


class _OneStage(nn.Module):
    """FCOS (Tian et al., ICCV 2019) and RetinaNet (Lin et al., ICCV 2017)."""

    def __init__(self, detector: FCOS | RetinaNet) -> None:
        super().__init__()
        self.detector = detector
        self.anchors = _Anchors(detector.anchor_generator)

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        detector: Any = self.detector
        found = []
        for level, features in enumerate(detector.backbone(images).values()):
            told = detector.head([features])
            scores = told["cls_logits"].sigmoid()
            if "bbox_ctrness" in told:
                scores = (scores * told["bbox_ctrness"].sigmoid()).sqrt()
            classes = scores.shape[-1]
            best, place = _best(scores.flatten(1), detector.topk_candidates)
            where = place // classes
            codes = told["bbox_regression"].gather(1, where[..., None].expand(-1, -1, 4))
            boxes = self._decoded(codes, self.anchors(level, features, images)[where])
            found.append((_clipped(boxes, sizes), best, place % classes))
        boxes, scores, labels = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
        candidates = _in_a_row(boxes, scores, labels, scores > detector.score_thresh)
        kept = candidates.suppressed(sizes, detector.nms_thresh, detector.detections_per_img)
        return kept.boxes, kept.scores, kept.groups - 1, kept.image

    def _decoded(self, codes: Tensor, anchors: Tensor) -> Tensor:
        coder: Any = self.detector.box_coder
        flat: Tensor = getattr(coder, "decode_single", coder.decode)(codes.reshape(-1, 4), anchors.reshape(-1, 4))
        return flat.reshape(codes.shape)


class _TwoStages(nn.Module):
    """Faster R-CNN (Ren et al., NeurIPS 2015) on a feature pyramid (Lin et al., CVPR 2017)."""

    def __init__(self, detector: FasterRCNN) -> None:
        super().__init__()
        self.detector = detector
        self.anchors = _Anchors(detector.rpn.anchor_generator)
        body: Any = detector.backbone.body
        self.strides = [int(stride) for stride in body.feature_info.reduction()]

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        heads: Any = self.detector.roi_heads
        maps = list(self.detector.backbone(images).values())
        proposals = self._proposals(maps, images, sizes)
        parts = list(self._pooled(maps, proposals))
        pooled = torch.cat([features for features, _ in parts])
        kept = torch.cat([own for _, own in parts])
        proposals = proposals.chosen(kept)
        logits, codes = heads.box_predictor(heads.box_head(pooled))
        chances = logits.softmax(-1)[:, 1:]
        classes = chances.shape[1]
        boxes = heads.box_coder.decode_single(codes, proposals.boxes).reshape(-1, classes + 1, 4)[:, 1:]
        boxes = _clipped(boxes, sizes[proposals.image])
        certain = (chances > heads.score_thresh) & _at_least(boxes, _LEAST_BOX)
        row, label = certain.nonzero(as_tuple=True)
        found = _Candidates(boxes[row, label], chances[row, label], label, proposals.image[row])
        best = found.suppressed(sizes, heads.nms_thresh, heads.detections_per_img)
        return best.boxes, best.scores, best.groups, best.image

    def _proposals(self, maps: Sequence[Tensor], images: Tensor, sizes: Tensor) -> _Candidates:
        """Return where the first stage sees objects; groups are levels of the pyramid."""
        rpn: Any = self.detector.rpn
        found = []
        for level, features in enumerate(maps):
            objectness, codes = (one[0] for one in rpn.head([features]))
            count, _, height, width = objectness.shape
            best, where = _best(objectness.permute(0, 2, 3, 1).reshape(count, -1), rpn.pre_nms_top_n())
            codes = codes.view(count, -1, 4, height, width).permute(0, 3, 4, 1, 2).reshape(count, -1, 4)
            codes = codes.gather(1, where[..., None].expand(-1, -1, 4))
            anchors = self.anchors(level, features, images)[where]
            boxes = rpn.box_coder.decode_single(codes.reshape(-1, 4), anchors.reshape(-1, 4)).reshape(codes.shape)
            found.append((_clipped(boxes, sizes), best, torch.full_like(where, level)))
        boxes, scores, levels = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
        real = (scores > -math.inf) & _at_least(boxes, _LEAST_PROPOSAL) & (scores.sigmoid() >= rpn.score_thresh)
        candidates = _in_a_row(boxes, scores.sigmoid(), levels, real)
        return candidates.suppressed(sizes, rpn.nms_thresh, rpn.post_nms_top_n())

    def _pooled(self, maps: Sequence[Tensor], proposals: _Candidates) -> Any:
        """Go through levels: the features of the proposals that are looked at there, and which these are."""
        pool: Any = self.detector.roi_heads.box_roi_pool
        side, level = _CANONICAL
        sides = proposals.boxes[:, 2:] - proposals.boxes[:, :2]
        wanted = (level + (sides.prod(1).sqrt() / side).log2() + 1e-6).floor()
        finest = math.log2(self.strides[0])
        wanted = wanted.clamp(finest, finest + len(self.strides) - 1) - finest
        rois = torch.cat([proposals.image[:, None].to(proposals.boxes.dtype), proposals.boxes], 1)
        for number, (features, stride) in enumerate(zip(maps, self.strides, strict=False)):
            own = (wanted == number).nonzero()[:, 0]
            yield roi_align(features, rois[own], pool.output_size, 1 / stride, pool.sampling_ratio), own


class _Anchors(nn.Module):
    """The anchors of each level as buffers.

    Args:
        generator: torchvision's own.
    """

    def __init__(self, generator: Any) -> None:
        super().__init__()
        for level, cells in enumerate(generator.cell_anchors):
            self.register_buffer(f"cells{level}", cells.clone())

    def forward(self, level: int, features: Tensor, images: Tensor) -> Tensor:
        """Return float32 (H' * W' * A, 4), in pixels."""
        cells = self.get_buffer(f"cells{level}")
        height, width = features.shape[-2:]
        down = torch.arange(height) * (images.shape[-2] // height)
        right = torch.arange(width) * (images.shape[-1] // width)
        corner = torch.stack(
            [right[None, :].expand(height, -1), down[:, None].expand(-1, width)] * 2, -1
        )  # (H', W', 4): x, y, x, y
        return (corner[:, :, None].to(cells.dtype) + cells).reshape(-1, 4)


def _best(scores: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return the ``most`` best of each image and their places; where there are fewer, the rest is -inf at place 0."""
    # Filled up, so that their number is the same for images of any size.
    filled = torch.cat([scores, scores.new_full((1, 1), -math.inf).expand(scores.shape[0], most)], 1)
    best, place = filled.topk(most, dim=1)
    return best, torch.where(best > -math.inf, place, 0)


def _clipped(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Return boxes, (N, M, 4), within images of ``sizes``, (N, 2)."""
    most = sizes.flip(1).to(boxes.dtype).repeat(1, 2)[:, None]
    return torch.minimum(boxes.clamp(min=0), most)


def _at_least(boxes: Tensor, side: float) -> Tensor:
    """Return which boxes, (..., 4), have sides of that many pixels."""
    return ((boxes[..., 2:] - boxes[..., :2]) >= side).all(-1)


def _in_a_row(boxes: Tensor, scores: Tensor, groups: Tensor, kept: Tensor) -> _Candidates:
    """Return the candidates, (N, M), that are kept."""
    image, place = kept.nonzero(as_tuple=True)
    return _Candidates(boxes[image, place], scores[image, place], groups[image, place], image)

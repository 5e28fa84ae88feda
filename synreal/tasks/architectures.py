"""What can be built around a backbone, by name. Imports no torch."""

from __future__ import annotations

from typing import Final

SEGMENTERS: Final = (
    *("deeplabv3plus", "deeplabv3", "fpn", "unet", "unetplusplus", "upernet", "segformer"),
    *("linknet", "manet", "pan", "pspnet", "dpt"),
)
"""Those of segmentation_models_pytorch that take any encoder; a test compares."""

DETECTORS: Final = ("fasterrcnn", "retinanet", "fcos")
"""Those of torchvision that are built around any backbone."""

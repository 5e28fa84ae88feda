"""How an exported ONNX file is run without synreal: for model cards and docs/deploy.md, which a test holds equal.

``student.onnx`` and ``photo.jpg`` stand for the files.
"""

from typing import Final

_OPEN: Final = """\
import json

import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession("student.onnx", providers=["CPUExecutionProvider"])
told = session.get_modelmeta().custom_metadata_map
classes, prepared = json.loads(told["classes"]), json.loads(told["preparation"])
image = Image.open("photo.jpg").convert("RGB")
"""

_NORMALISE: Final = """\
pixels = (np.asarray(image) / 255 - prepared["mean"]) / prepared["std"]
"""

_PAD: Final = """\
height, width = pixels.shape[:2]
multiple = prepared["pad_to_multiple_of"]
pixels = np.pad(pixels, ((0, -height % multiple), (0, -width % multiple), (0, 0)))
"""

_BATCH: Final = """\
images = pixels.transpose(2, 0, 1)[None].astype(np.float32)
"""

CLASSES: Final = (
    _OPEN
    + """\
short, size = prepared["short_side"], prepared["centre_crop"]
image = image.resize([short * side // min(image.size) for side in image.size], Image.Resampling.BILINEAR)
left, top = (round((side - size) / 2) for side in image.size)
image = image.crop((left, top, left + size, top + size))
"""
    + _NORMALISE
    + _BATCH
    + """\
logits = session.run(["logits"], {"images": images})[0][0]
chances = np.exp(logits - logits.max())
print(classes[logits.argmax()], chances.max() / chances.sum())
"""
)

PIXELS: Final = (
    _OPEN
    + _NORMALISE
    + _PAD
    + _BATCH
    + """\
logits = session.run(["logits"], {"images": images})[0][0]
mask = logits[:, :height, :width].argmax(0).astype(np.uint8)
for label, pixels in zip(*np.unique(mask, return_counts=True)):
    print(classes[label], pixels / mask.size)
"""
)

BOXES: Final = (
    _OPEN
    + """\
scale = min(prepared["short_side"] / min(image.size), prepared["long_side_at_most"] / max(image.size))
resized = [int(side * scale + 1e-4) for side in image.size]
right, down = (side / new for side, new in zip(image.size, resized))
image = image.transform(resized, Image.Transform.AFFINE, (right, 0, 0, 0, down, 0), Image.Resampling.BILINEAR)
"""
    + _NORMALISE
    + _PAD
    + _BATCH
    + """\
sizes = np.array([[height, width]])  # without the padding
boxes, scores, labels, _ = session.run(None, {"images": images, "sizes": sizes})
for box, score, label in zip(boxes * [right, down, right, down], scores, labels):
    if score >= 0.5:
        print(classes[label], score, box.round(1))  # x1, y1, x2, y2 in the photo's pixels
"""
)

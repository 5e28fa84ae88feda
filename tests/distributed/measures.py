"""Started by tests/measures/test_collection.py on two ranks; writes each rank's scores to the folder it is given."""

import json
import sys
from pathlib import Path

import torch
from torch import distributed as dist

from synreal.data.labels.boxes import Boxes
from synreal.distributed import rank, world_size
from synreal.errors import TrainingError
from synreal.measures import Collection
from synreal.plugins import load_plugin
from tests.reference.coco import random_boxes

SIZES = range(1, 18)
BATCHES = range(1, 5)
KINDS = {
    "accuracy": ("mean_class_accuracy", "accuracy"),
    "masks": ("mean_iou", "pixel_accuracy"),
    "boxes": ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    "plugin": ("top2_error", "accuracy"),
}
PLUGIN = Path(__file__).parents[1] / "measures" / "top2_error.py"
CLASSES = ("cat", "dog", "emu", "fox")  # nothing is a fox


class Outcome:
    """What a network said of a set of images, and the truth, for the measures of one kind of label."""

    split, fingerprint, classes = "test", "f" * 64, CLASSES

    def __init__(self, kind, size):
        self.name = kind
        generator = torch.Generator().manual_seed(size)
        kind = "accuracy" if kind == "plugin" else kind
        outputs = {
            "accuracy": torch.randn(size, 4, generator=generator),
            "masks": torch.randn(size, 4, 5, 7, generator=generator),
        }
        targets = {
            "accuracy": torch.randint(3, (size,), generator=generator),
            "masks": torch.randint(3, (size, 5, 7), generator=generator).to(torch.uint8),
        }
        targets["masks"][torch.rand(size, 5, 7, generator=generator) < 0.2] = 255
        if kind == "boxes":
            found, objects = random_boxes(size, size, classes=4)
            self.outputs = found
            self.targets = [(index, Boxes(**one)) for index, one in enumerate(objects)]
        else:
            self.outputs, self.targets = list(outputs[kind]), list(targets[kind])

    def __len__(self):
        return len(self.outputs)

    def size(self, index):
        return tuple(self[index][0].shape[-2:])

    def __getitem__(self, index):
        return torch.zeros(3, 10 + index, 20), self.targets[index]

    def batch(self, indices):
        output, target = ([column[index] for index in indices] for column in (self.outputs, self.targets))
        return (output, target) if self.name == "boxes" else (torch.stack(output), torch.stack(target))


def collected(outcome, indices, batch_size):
    """Measure some images, batch by batch."""
    collection = Collection(KINDS[outcome.name], outcome)
    for start in range(0, len(indices), batch_size):
        collection.update(*outcome.batch(indices[start : start + batch_size]))
    return collection


def scores(kind, size, batch_size):
    """Test a set as the engine does: every process each so many images, from its own rank on."""
    outcome = Outcome(kind, size)
    collection = collected(outcome, range(rank(), size, world_size()), batch_size)
    collection.gather(torch.device("cpu"))
    result = {"score": collection.compute().model_dump(mode="json")}
    if kind == "boxes":
        result["files"] = dict(collection.files())
    return result


def refused(kind, indices, gathers):
    """What is said if this process tests these of three images."""
    collection = collected(Outcome(kind, 3), indices, 2)
    for _ in range(gathers):
        collection.gather(torch.device("cpu"))
    try:
        collection.compute()
    except TrainingError as error:
        return str(error)


def main(folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    load_plugin(PLUGIN)
    result = {
        f"{kind} {size} {batch_size}": scores(kind, size, batch_size)
        for kind in KINDS
        for size in SIZES
        for batch_size in BATCHES
    }
    for kind in KINDS:
        # An even number, as a DistributedSampler makes it: image 0 once more.
        result[f"{kind} padded"] = refused(kind, [[0, 2], [1, 0]][rank()], gathers=1)
        result[f"{kind} gathered twice"] = refused(kind, [[0, 2], [1]][rank()], gathers=2)
        result[f"{kind} missing"] = refused(kind, [[0], [1]][rank()], gathers=1)
    result["boxes swapped"] = refused("boxes", [[0, 1], [1]][rank()], gathers=1)
    (Path(folder) / f"rank{rank()}.json").write_text(json.dumps(result))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])

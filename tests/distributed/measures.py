"""Started by tests/measures/test_collection.py on two ranks; writes each rank's scores to the folder it is given."""

import json
import sys
from pathlib import Path

import torch
from torch import distributed as dist

from synreal.data.labels.boxes import Boxes
from synreal.distributed import all_reduce_sum, leave, rank, world_size
from synreal.errors import TrainingError
from synreal.functional import cka_numbers, cka_of_sums, cka_sums, energy_of_tiles, energy_tiles
from synreal.measures import Collection, Rows, Sum
from synreal.measures.box_mistakes import BoxMistakes
from synreal.measures.mistakes import ClassMistakes, PixelMistakes
from synreal.plugins import load_plugin
from tests.reference.coco import random_boxes

SIZES = range(1, 18)
BATCHES = range(1, 5)
KINDS = {
    "accuracy": ("mean_class_accuracy", "accuracy"),
    "masks": ("mean_iou", "pixel_accuracy"),
    "boxes": ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    "plugin": ("top2_error", "accuracy"),
    "calibration": ("ece",),
    "calibration of masks": ("ece", "mean_iou"),
}
LIKE = {"plugin": "accuracy", "calibration": "accuracy", "calibration of masks": "masks"}
PLUGIN = Path(__file__).parents[1] / "measures" / "top2_error.py"
CLASSES = ("cat", "dog", "emu", "fox")  # nothing is a fox


class Outcome:
    """What a network said of a set of images, and the truth, for the measures of one kind of label."""

    split, fingerprint, classes = "test", "f" * 64, CLASSES

    def __init__(self, kind, size):
        self.name = kind
        generator = torch.Generator().manual_seed(size)
        kind = LIKE.get(kind, kind)
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


JUDGES = {"accuracy": ClassMistakes, "masks": PixelMistakes, "boxes": BoxMistakes}


def judged(outcome, indices, batch_size):
    """Judge the predictions of some images, batch by batch."""
    judge = JUDGES[outcome.name](outcome)
    indices = list(indices)
    for start in range(0, len(indices), batch_size):
        part = indices[start : start + batch_size]
        judge.see_predicted(torch.tensor(part), *outcome.batch(part))
    return judge


def mistakes(kind, size):
    """What is worst, as every process knows it."""
    judge = judged(Outcome(kind, size), range(rank(), size, world_size()), 3)
    judge.gather(torch.device("cpu"))
    worst = [[one.kind, one.count, one.total, one.images] for one in judge.worst(99)]
    return json.loads(json.dumps([worst, judge.most_and_least(4)]))


def shared_features():
    """Energies whose tiles, and CKA whose images two processes share, as hexadecimal digits and as a number."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 2500, 6, generator=generator)
    mine = slice(rank(), None, world_size())
    rows = Rows(6, torch.float32)
    rows.add(x[mine])
    rows.gather(torch.device("cpu"))
    tiles = energy_tiles(rows.value, part=rank(), parts=world_size())
    sums = Sum(cka_numbers(6, 6), dtype=torch.float64)
    for some, others in zip(x[mine].split(100), y[mine].split(100), strict=True):
        sums.add(cka_sums(some, others, x[0], y[0]))
    sums.gather(torch.device("cpu"))
    return {
        "energies": [value.hex() for value in energy_of_tiles(all_reduce_sum(tiles)).values.tolist()],
        "cka": [float(cka_of_sums(sums.value, 6, 6, unbiased=unbiased)) for unbiased in (False, True)],
    }


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
    result |= {f"mistakes of {kind} {size}": mistakes(kind, size) for kind in JUDGES for size in SIZES}
    result["features"] = shared_features()
    result["boxes swapped"] = refused("boxes", [[0, 1], [1]][rank()], gathers=1)
    (Path(folder) / f"rank{rank()}.json").write_text(json.dumps(result))
    leave()


if __name__ == "__main__":
    main(sys.argv[1])

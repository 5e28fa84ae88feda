"""Started by tests/tasks/test_meters.py on two ranks; writes the scores each rank has to the folder it is given."""

import json
import sys
from pathlib import Path

import torch
from torch import distributed as dist

from synreal.data.sets import Boxes
from synreal.distributed import rank, world_size
from synreal.errors import TrainingError
from synreal.tasks.meters import AccuracyMeter, BoxMeter, MaskMeter
from tests.reference.coco import random_boxes

SIZES = range(1, 18)
BATCHES = range(1, 5)
METERS = {"accuracy": AccuracyMeter, "masks": MaskMeter, "boxes": BoxMeter}
CLASSES = ("cat", "dog", "emu", "fox")  # nothing is a fox


class Outcome:
    """What a network said of a set of images, and the truth, for one of the meters."""

    split, fingerprint, classes = "test", "f" * 64, CLASSES

    def __init__(self, kind, size):
        self.name = kind
        generator = torch.Generator().manual_seed(size)
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
            self.outputs = [one | {"labels": one["labels"] + 1} for one in found]
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


def metered(outcome, indices, batch_size):
    """Give a meter some images, batch by batch."""
    meter = METERS[outcome.name](outcome)
    for start in range(0, len(indices), batch_size):
        meter.update(*outcome.batch(indices[start : start + batch_size]))
    return meter


def scores(kind, size, batch_size):
    """Test a set as the engine does: every process each so many images, from its own rank on."""
    outcome = Outcome(kind, size)
    meter = metered(outcome, range(rank(), size, world_size()), batch_size)
    meter.gather(torch.device("cpu"))
    result = {"score": meter.compute().model_dump(mode="json")}
    if kind == "boxes":
        result["truth"], result["results"] = meter.coco()
    return result


def refused(kind, indices, gathers):
    """What is said if this process tests these of three images."""
    meter = metered(Outcome(kind, 3), indices, 2)
    for _ in range(gathers):
        meter.gather(torch.device("cpu"))
    try:
        meter.compute()
    except TrainingError as error:
        return str(error)


def main(folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    result = {
        f"{kind} {size} {batch_size}": scores(kind, size, batch_size)
        for kind in METERS
        for size in SIZES
        for batch_size in BATCHES
    }
    for kind in METERS:
        # An even number, as a DistributedSampler makes it: image 0 once more.
        result[f"{kind} padded"] = refused(kind, [[0, 2], [1, 0]][rank()], gathers=1)
        result[f"{kind} gathered twice"] = refused(kind, [[0, 2], [1]][rank()], gathers=2)
        result[f"{kind} missing"] = refused(kind, [[0], [1]][rank()], gathers=1)
    result["boxes swapped"] = refused("boxes", [[0, 1], [1]][rank()], gathers=1)
    (Path(folder) / f"rank{rank()}.json").write_text(json.dumps(result))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])

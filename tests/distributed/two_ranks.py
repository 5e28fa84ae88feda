"""Started by tests/test_distributed.py on two ranks; writes what each rank saw to the folder it is given."""

import sys
from pathlib import Path

import torch
from torch import distributed as dist
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import synreal
from synreal.core import queue_terms
from synreal.distributed import all_gather_rows, all_reduce_sum, broadcast, leave, rank, world_size
from synreal.errors import TrainingError
from synreal.transforms import MixStyle
from tests.regularizers.contract import Toy, batch, bits, optimizer_of, tiny

ROWS = 8
PAIR = "csg and feature_l2"
MASKED = "masked_feature_l2(things=[0])"  # of whose positions the ranks have unlike numbers


def names():
    """What is trained: every regularizer by itself, a pair, and one whose mean is over some positions."""
    return [*synreal.list_regularizers(), PAIR, MASKED]


def take_step(model, optimizer, views, target):
    output = model(*views, targets=target)
    (F.cross_entropy(output["output"], target) + output["penalty"]).backward()
    optimizer.step()
    optimizer.zero_grad()
    return output["penalty"].detach()


def build(name):
    torch.manual_seed(0)
    student = Toy()
    torch.manual_seed(rank())  # each rank draws other heads; wrapping must make them one
    model = synreal.attach(student, [tiny(one, queue_size=20) for one in name.split(" and ")]).train()
    # In float32 the rounding of another order of sums may carry a unit over a ReLU's kink, and then nothing is close.
    model.double()
    wrapped = DistributedDataParallel(model, broadcast_buffers=False) if world_size() > 1 else model
    return model, wrapped, optimizer_of(model)


def train(name, steps=5):
    """Train on each rank's share of one global batch and return the model, its wrapper and its optimizer."""
    model, wrapped, optimizer = build(name)
    share = ROWS // world_size()
    mine = slice(rank() * share, (rank() + 1) * share)
    for step in range(steps):
        view0, view1, target = batch(step, ROWS)
        take_step(wrapped, optimizer, (view0[mine].double(), view1[mine].double()), target[mine])
    return model, wrapped, optimizer


def told(name, *, wrap, steps, penalty=True):
    """What is said of a loop on each rank's own images that wraps the model or not, and adds the penalty or not."""
    torch.manual_seed(0)
    model = synreal.attach(Toy(), tiny(name)).train()
    optimizer = optimizer_of(model)
    call = DistributedDataParallel(model, broadcast_buffers=False) if wrap else model
    try:
        for step in range(steps):
            view0, view1, target = batch(2 * step + rank(), rows=2)
            output = call(view0, view1)
            loss = F.cross_entropy(output["output"], target)
            (loss + output["penalty"] if penalty else loss).backward()
            optimizer.step()
            optimizer.zero_grad()
    except TrainingError as error:
        return str(error)
    return ""


def gathered(*counts):
    """Gather rows that carry their rank and number; ``counts`` says how many each rank brings."""
    count = counts[rank()]
    rows = torch.stack([torch.full((count,), float(rank())), torch.arange(float(count))], dim=1)
    return all_gather_rows(rows.requires_grad_())


def noisy():
    """Train with noise on features, each rank with a seed of its own; return the state and outputs of equal images."""
    torch.manual_seed(0)
    student = Toy()
    torch.manual_seed(rank())
    MixStyle(p=1).apply(student)
    model = synreal.attach(student, tiny("csg", queue_size=20)).train()
    wrapped = DistributedDataParallel(model, broadcast_buffers=False)
    optimizer = optimizer_of(model)
    view0, view1, target = batch(0, ROWS)
    for _ in range(2):
        take_step(wrapped, optimizer, (view0, view1), target)
    return bits(model), wrapped(view0, view1)["output"].detach()


def main(folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    result = {"ragged": {counts: gathered(*counts) for counts in ((2, 1), (1, 2), (2, 0), (0, 3), (0, 0))}}
    result["sum"] = all_reduce_sum(torch.tensor([1.0, rank()]))
    own = torch.tensor([5.0 + rank()])
    broadcast(own)
    result["broadcast"] = own

    result["wrapped"] = told("csg", wrap=True, steps=4)
    result["apart"] = told("csg", wrap=False, steps=4)
    result["one rank"] = told("weight_l2", wrap=False, steps=1, penalty=rank() == 0)

    result["noisy"], result["noisy output"] = noisy()

    result["state"], result["after ragged batch"], result["not gathered"] = {}, {}, {}
    view0, view1, target = batch(5, 4)
    view0, view1 = view0.double(), view1.double()
    mine = slice(0, 3) if rank() == 0 else slice(3, 4)
    for name in names():
        model, wrapped, optimizer = train(name)
        result["state"][name] = bits(model)
        take_step(wrapped, optimizer, (view0[mine], view1[mine]), target[mine])
        result["after ragged batch"][name] = bits(model)

    queue_terms.all_gather_rows = lambda rows: rows
    for name in names():
        if any("queue" in key for key in result["state"][name]):
            result["not gathered"][name] = bits(train(name, steps=1)[0])
    torch.save(result, Path(folder) / f"rank{rank()}.pt")
    leave()


if __name__ == "__main__":
    main(sys.argv[1])

"""What the contract tests need: tiny settings for any regularizer, networks, batches and a training loop."""

import copy
import functools
import itertools
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import synreal
from synreal.regularizers import REGULARIZERS, get

PENALTY_FREE = {name for name in REGULARIZERS.available() if not get(name).penalizes}

# Fields that make a term large by default; a spec that has them gets these values.
SMALL: dict[str, Any] = {"dim": 8, "queue_size": 12}
# What a regularizer needs on top to be tested, by name. One without an entry is tested with its defaults and SMALL.
SETTINGS: dict[str, dict[str, Any]] = {
    "csg": {"weight": 1.0, "momentum": 0.9},
    "feature_l2": {"weight": 1.0},
    "info_nce": {"weight": 1.0, "momentum": 0.9},
    "causal_invariance": {"momentum": 0.9},
    "gcisg": {"momentum": 0.9},
    "isw": {"weight": 10.0, "stages": (1, 2), "images": 1, "clusters": 2},  # maps of any network
    "kl": {"weight": 10.0},
    "masked_feature_l2": {"weight": 1.0, "stages": (2,)},  # fine enough for the objects of small images
    "miro": {"weight": 1.0},
    "si": {"weight": 10.0, "interval": 2},
    "texture": {"weight": 100.0},
    "weight_l2": {"weight": 1.0},
}
# Settings with which a regularizer runs other code than with its defaults.
VARIANTS = [
    "causal_invariance(directions=first)",
    "causal_invariance(moves_stats=true, average_norm=averaged)",
    "causal_invariance(target_head=average, patches=2)",
    "csg(patches=2)",
    "feature_l2(spatial=true, stages=[3, 4], stage_weights=[1, 0.5])",
    "ftp(annealing=0.5, radius_lr=0.1, weight=0.5)",
    "gcisg(guidance_stages=4, invariance_stages=[2, 3], adapter=true)",
    "guidance(adapter=true, norm=batch)",
    "info_nce(pooling=attentional)",
    "info_nce(teacher=average, queue_start=random)",
    "isw(variant=irw)",
    "isw(variant=iw)",
    "kl(adapter=true)",
    "kl(stage=4)",
    "masked_feature_l2(squared=true, stages=[3, 4], stage_weights=[1, 0.5])",
    "masked_feature_l2(things=[0])",
    "miro(floor=0.01, stages=[0, 4])",
    "pyramid_consistency(sizes=[1, 2])",
    "si(interval=1)",
    "spd(weight=2)",
    "texture(steps=9)",
]
# Of these, those whose penalty of a batch is not the mean of its images' penalties: accumulated, they teach otherwise.
COUPLED = {"guidance(adapter=true, norm=batch)", "masked_feature_l2(things=[0])"}


def tiny(text, **overrides):
    """A spec of a registered name, or of a text such as ``"csg(patches=2)"``, small enough for a unit test."""
    name, bracket, _ = text.partition("(")
    cls = get(name)
    settings = {key: value for key, value in {**SMALL, **SETTINGS.get(name, {})}.items() if key in cls.model_fields}
    spec = REGULARIZERS.spec(text) if bracket else None
    written = {key: getattr(spec, key) for key in spec.model_fields_set} if spec else {}
    given = {key: value for key, value in overrides.items() if key in cls.model_fields}
    return cls(**{**settings, **written, **given})


def captured(model):
    """A list that will hold the step that each term of a model sees."""
    steps = []
    for term in model.terms.values():
        term.register_forward_pre_hook(lambda _, args: steps.append(args[0]))
    return steps


class Toy(nn.Module):
    """Five strided convolutions, one a stage, without statistics: a sample's maps do not depend on its batch."""

    def __init__(self, num_classes=3, widths=(4, 8, 8, 12, 16)):
        super().__init__()
        channels = [3, *widths]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(2, after), nn.ReLU())
                for before, after in itertools.pairwise(channels)
            )
        )
        self.fc = nn.Linear(channels[-1], num_classes)
        self.feature_info = [
            {"module": f"blocks.{index}", "num_chs": width, "reduction": 2 << index}
            for index, width in enumerate(widths)
        ]

    def forward(self, images):
        return self.fc(self.blocks(images).mean((2, 3)))


def network(seed=0):
    """A small network with BatchNorm whose statistics look trained; torch's generator is left as by building it."""
    model, state = _built(seed)
    torch.set_rng_state(state)
    return copy.deepcopy(model)


@functools.cache
def _built(seed):
    import timm

    torch.manual_seed(seed)
    model = timm.create_model("test_resnet", num_classes=3).train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(8, 3, 64, 64))
    return model, torch.get_rng_state()


def batch(step, rows=4, size=64):
    """Two views and labels, a function of the step alone."""
    generator = torch.Generator().manual_seed(1000 + step)
    image = torch.rand(rows, 3, size, size, generator=generator)
    noise = torch.rand(rows, 3, size, size, generator=generator)
    return image, 0.7 * image + 0.3 * noise, torch.randint(3, (rows,), generator=generator)


def call(model, step, rows=4, **kwargs):
    """What a model in training says of a batch."""
    view0, view1, target = batch(step, rows, **kwargs)
    return model(view0, view1, targets=target)


def optimizer_of(model, lr=0.02):
    """An optimizer of all that learns, bound to the model."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr, momentum=0.9)
    model.bind(optimizer)
    return optimizer


def train(model, optimizer, steps, first=0, rows=4):
    """Train as the README shows and return the last output."""
    output = {}
    for step in range(first, first + steps):
        view0, view1, target = batch(step, rows)
        output = model(view0, view1, targets=target)
        (F.cross_entropy(output["output"], target) + output["penalty"]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return output


def attached(name, student=None, steps=0, norm="frozen", **overrides):
    """A model with one regularizer and its optimizer, after some training steps."""
    model = synreal.attach(network() if student is None else student, tiny(name, **overrides), norm=norm).train()
    optimizer = optimizer_of(model)
    train(model, optimizer, steps)
    return model, optimizer


def bits(value):
    """A copy of a module's or optimizer's state that later steps do not change."""
    return copy.deepcopy(dict(value.state_dict()))


def same_bits(first, second):
    """Whether two states are equal to the last bit."""
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same_bits(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same_bits, first, second))
    return first == second


def hooks(model):
    """How many forward hooks a network carries."""
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())

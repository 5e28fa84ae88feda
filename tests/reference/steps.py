"""What regularizers do over several training steps, kept up in float64 beside a model of synreal.

Networks are copies that run here by themselves; queues are deques; nothing of synreal's terms is used but the weights
of the heads that learn, which are read from the model before each step.
"""

import copy
from collections import deque

import torch
from torch import nn
from torch.nn import functional as F

import synreal
from tests.reference import maths
from tests.regularizers.contract import Toy, optimizer_of, tiny


class NormToy(Toy):
    """Toy with BatchNorm, whose statistics look trained."""

    def __init__(self):
        super().__init__()
        for block in self.blocks:
            block[1] = nn.BatchNorm2d(block[0].out_channels)
        with torch.no_grad():
            for step in range(30):
                self(images(100 + step, 8)[0])


def wide(module):
    """A float64 copy without hooks, apart from its original."""
    copied = copy.deepcopy(module).double()
    for part in copied.modules():
        part._forward_hooks.clear()
        part._forward_pre_hooks.clear()
    return copied


def maps_of(network, images):
    """The maps of a Toy, by stage."""
    maps = []
    for block in network.blocks:
        images = block(images)
        maps.append(images)
    return maps


def project(layers, vectors):
    """W2 relu(W1 v + b1) + b2, scaled to length 1."""
    first, _, second = layers
    hidden = (vectors @ first.weight.T + first.bias).clamp(min=0)
    projected = hidden @ second.weight.T + second.bias
    return projected / projected.square().sum(1, keepdim=True).sqrt()


def cut(maps, n):
    """n x n patches of equal size, by sample, row and column."""
    height, width = maps.shape[2] // n, maps.shape[3] // n
    return torch.stack(
        [
            one[:, row * height : (row + 1) * height, column * width : (column + 1) * width]
            for one in maps
            for row in range(n)
            for column in range(n)
        ]
    )


def follow(average, module, decay, *, buffers):
    """w_ema <- decay w_ema + (1 - decay) w, of the parameters and perhaps the float buffers."""
    with torch.no_grad():
        pairs = list(zip(average.parameters(), module.parameters(), strict=True))
        if buffers:
            both = zip(average.buffers(), module.buffers(), strict=True)
            pairs += [(held, now) for held, now in both if held.is_floating_point()]
        for held, now in pairs:
            held.copy_(decay * held + (1 - decay) * now.double())


class Shadow:
    """A term of one model, recomputed; subclasses give the penalty and what follows the optimizer's step.

    Args:
        model: A model of synreal with one term, right after ``attach``.
        reference: The frozen network that ``attach`` was given.
    """

    def __init__(self, model, reference):
        self.model = model
        (self.spec,) = model.specs
        self.term = model.terms[self.spec.name]
        self.teacher = wide(reference).eval().requires_grad_(False)
        self.anchors = wide(model.student).requires_grad_(False)
        self.read()

    def read(self):
        """Copy what learns, as it is now."""
        self.student = wide(self.model.student)

    def heads(self):
        """The float64 copies of heads and their originals, for comparing gradients."""
        return []

    def weighted(self, losses):
        weights = self.spec.stage_weights or [1.0] * len(losses)
        return sum(weight * loss for weight, loss in zip(weights, losses, strict=True))

    def after_step(self):
        pass


class FeatureL2(Shadow):
    def penalty(self, view0, view1):
        ours, theirs = maps_of(self.student, view0), maps_of(self.teacher, view0)
        return self.weighted([maths.feature_l2(ours[s], theirs[s], self.spec.spatial) for s in self.spec.stages])


class Guidance(Shadow):
    def read(self):
        super().read()
        adapters = getattr(self.term, "guidance", self.term).adapters
        self.adapters = [(wide(adapter.linear), adapter.linear) for adapter in adapters.values()]

    def heads(self):
        return self.adapters

    def guided(self, view0, stages, pooling, norm):
        ours, theirs = maps_of(self.student, view0), maps_of(self.teacher, view0)
        losses = []
        for index, stage in enumerate(stages):
            mine = ours[stage]
            if self.spec.adapter:
                linear = self.adapters[index][0]
                mine = torch.einsum("dc,nchw->ndhw", linear.weight, mine) + linear.bias[:, None, None]
            each = maths.guidance(mine, theirs[stage], pooling)
            losses.append(each.sum().sqrt() if norm == "batch" else each.mean())
        return self.weighted(losses)

    def penalty(self, view0, view1):
        return self.guided(view0, self.spec.stages, self.spec.pooling, self.spec.norm)


class KL(Shadow):
    def read(self):
        super().read()
        self.adapter = [(wide(self.term.adapter.linear), self.term.adapter.linear)] if self.spec.adapter else []

    def heads(self):
        return self.adapter

    def penalty(self, view0, view1):
        ours, theirs = maps_of(self.student, view0)[4], maps_of(self.teacher, view0)[4]
        if self.spec.stage is None:
            ours, theirs = (value.mean((2, 3), keepdim=True) for value in (ours, theirs))
        if self.adapter:
            linear = self.adapter[0][0]
            ours = torch.einsum("dc,nchw->ndhw", linear.weight, ours) + linear.bias[:, None, None]
        frozen = self.teacher.fc
        logits = [
            torch.einsum("kc,nchw->nkhw", frozen.weight, value) + frozen.bias[:, None, None] for value in (ours, theirs)
        ]
        return maths.distillation_kl(*logits, self.spec.temperature)


class WeightL2(Shadow):
    def penalty(self, view0, view1):
        named = dict(self.student.blocks.named_parameters())
        anchors = dict(self.anchors.blocks.named_parameters())
        return sum((named[name] - anchors[name]).square().sum() for name in named)


class Queued(Shadow):
    """What InfoNCE and causal invariance have in common: a head, a second head and a queue for each stage."""

    parts = "contrasts"
    second = "key_head"

    def __init__(self, model, reference):
        super().__init__(model, reference)
        spec = self.spec
        self.average = wide(model.student).eval().requires_grad_(False)
        self.average_decay = getattr(spec, "average_momentum", spec.momentum)
        self.second_heads = [wide(head).requires_grad_(False) for head, _ in self.learning]
        self.queues = [deque(maxlen=spec.queue_size) for _ in self.learning]

    def read(self):
        super().read()
        parts = getattr(getattr(self.term, "invariance", self.term), self.parts).values()
        self.learning = [(wide(part.head.layers), part.head.layers) for part in parts]

    def heads(self):
        return self.learning

    def run_average(self, images):
        """The moving average's maps; its BatchNorm follows the student's mode, or never normalises by the batch."""
        if self.spec.average_norm == "own":
            for layer, original in zip(self.average.modules(), self.model.student.modules(), strict=True):
                if isinstance(layer, nn.BatchNorm2d):
                    layer.train(original.training)
        with torch.no_grad():
            return maps_of(self.average, images)

    def second_decay(self):
        return self.spec.momentum

    def after_step(self):
        super().after_step()
        for (_, head), second in zip(self.learning, self.second_heads, strict=True):
            follow(second, head, self.second_decay(), buffers=False)
        follow(self.average, self.model.student, self.average_decay, buffers=self.spec.average_norm == "averaged")
        for queue, keys in zip(self.queues, self.fresh, strict=True):
            queue.extend(keys)


class InfoNCE(Queued):
    def penalty(self, view0, view1):
        spec = self.spec
        anchors = maps_of(self.student, view0)
        attention = None
        with torch.no_grad():
            keys = self.run_average(view1) if spec.teacher == "average" else maps_of(self.teacher, view1)
            if spec.pooling == "attentional":
                attention = maps_of(copy.deepcopy(self.student), view1)
        losses, self.fresh = [], []
        for index, stage in enumerate(spec.stages):
            ours, theirs = cut(anchors[stage], spec.patches), cut(keys[stage], spec.patches)
            if attention is None:
                pooled = maths.gap(ours), maths.gap(theirs)
            else:
                seen = cut(attention[stage], spec.patches)
                pooled = maths.attentional_pool(ours), maths.attentional_pool(theirs, seen)
            z = project(self.learning[index][0], pooled[0])
            positives = project(self.second_heads[index], pooled[1])
            losses.append(maths.info_nce(z, positives, list(self.queues[index]), spec.temperature).mean())
            self.fresh.append(list(positives))
        return self.weighted(losses)


class CausalInvariance(Queued):
    parts = "invariances"
    second = "target_head"

    def second_decay(self):
        return 1.0 if self.spec.target_head == "initial" else self.spec.momentum

    def invariant(self, view0, view1, stages):
        spec = self.spec
        online = [maps_of(self.student, view0)]
        target = []
        if spec.directions != "first":
            online.append(maps_of(self.student, view1))
            target.append(self.run_average(view0))
        target.insert(0, self.run_average(view1))
        pool = maths.gap if spec.pooling == "gap" else maths.attentional_pool
        losses, self.fresh = [], []
        for index, stage in enumerate(stages):
            directions = []
            for one, other in zip(online, target, strict=True):
                z = project(self.learning[index][0], pool(cut(one[stage], spec.patches)))
                z_bar = project(self.second_heads[index], pool(cut(other[stage], spec.patches)))
                directions.append(self.direction(z, z_bar, list(self.queues[index])))
                if other is target[0]:
                    self.fresh.append(list(z_bar))
            losses.append(sum(directions) / (len(directions) if spec.directions == "mean" else 1))
        return self.weighted(losses)

    def direction(self, z, z_bar, queue):
        """-sum_k p_tb(z_bar)[k] log p_t(z)[k], the mean over samples."""
        if not queue:
            return z.sum() * 0
        losses = []
        for online, target in zip(z, z_bar, strict=True):
            log_p = maths.log_softmax([maths.dot(online, q) / self.spec.temperature for q in queue])
            log_target = maths.log_softmax([maths.dot(target, q) / self.spec.target_temperature for q in queue])
            losses.append(-sum(t.exp() * p for t, p in zip(log_target, log_p, strict=True)))
        return sum(losses) / len(losses)

    def penalty(self, view0, view1):
        return self.invariant(view0, view1, self.spec.stages)


class GCISG(CausalInvariance, Guidance):
    def heads(self):
        return self.learning + self.adapters

    def penalty(self, view0, view1):
        spec = self.spec
        guided = self.guided(view0, spec.guidance_stages or spec.stages, spec.guidance_pooling, spec.guidance_norm)
        invariant = self.invariant(view0, view1, spec.invariance_stages or spec.stages)
        return spec.guidance_weight * guided + spec.invariance_weight * invariant


SHADOWS = {
    "causal_invariance": CausalInvariance,
    "csg": InfoNCE,
    "feature_l2": FeatureL2,
    "gcisg": GCISG,
    "guidance": Guidance,
    "info_nce": InfoNCE,
    "kl": KL,
    "weight_l2": WeightL2,
}


def close(got, want, tolerance):
    """Compare relative to the largest number; below 1 absolutely, as differences of rounded numbers must be."""
    scale = float(want.detach().abs().max())
    difference = float((got.detach().double() - want.detach()).abs().max())
    assert difference <= tolerance * max(scale, 1), f"off by {difference} at scale {scale}"


def images(step, rows):
    """Two views and labels, a function of the step alone; images differ in the large, so that their features do."""
    generator = torch.Generator().manual_seed(step)
    coarse = torch.randn(rows, 3, 4, 4, generator=generator)
    view = F.interpolate(coarse, size=64, mode="bilinear") * 2
    other = view + 0.5 * torch.randn(view.shape, generator=generator)
    return view, other, torch.randint(3, (rows,), generator=generator)


def train_beside_a_shadow(name, student=None, steps=4, rows=3, lr=0.05, tolerance=1e-5, **settings):
    """Train with one regularizer and compare penalty and all its gradients with the equations at each step.

    Returns:
        The shadow as it is after the last step; it holds the model.
    """
    student = Toy() if student is None else student
    spec = tiny(name, **settings)
    # Another network than the student, so that differences are not small and keep their relative precision.
    reference = type(student)()
    teacher = reference if spec.needs_reference else None
    model = synreal.attach(student, spec, reference=teacher, norm="train").train()
    optimizer = optimizer_of(model, lr=lr)
    shadow = SHADOWS[name](model, reference)
    compared = 0
    for step in range(steps):
        view0, view1, target = images(step, rows)
        shadow.read()
        output = model(view0, view1)
        want = spec.weight * shadow.penalty(view0.double(), view1.double())
        close(output["penalty"], want, tolerance)
        if float(want.detach()):
            compared += 1
            compare_gradients(shadow, output["penalty"], want, 50 * tolerance, step)
        (F.cross_entropy(output["output"], target) + output["penalty"]).backward()
        optimizer.step()
        optimizer.zero_grad()
        shadow.after_step()
    assert compared >= steps - 1
    return shadow


def compare_gradients(shadow, penalty, want, tolerance, step):
    """Compare the gradients of all that learns, relative to the largest of each parameter's network."""
    pairs = [list(zip(shadow.student.parameters(), shadow.model.student.parameters(), strict=True))]
    pairs += [list(zip(mine.parameters(), original.parameters(), strict=True)) for mine, original in shadow.heads()]
    for network in pairs:
        wanted = torch.autograd.grad(want, [mine for mine, _ in network], allow_unused=True, retain_graph=True)
        got = torch.autograd.grad(penalty, [value for _, value in network], allow_unused=True, retain_graph=True)
        largest = max(float(value.abs().max()) for value in wanted if value is not None)
        assert largest > 1e-5 or step == 0  # at first queues are empty
        for mine, theirs in zip(got, wanted, strict=True):
            if theirs is None:
                assert mine is None or not mine.any()
            else:
                off = float((mine.double() - theirs).abs().max())
                assert off <= tolerance * max(largest, 2e-3), f"gradient off by {off} at scale {largest}"

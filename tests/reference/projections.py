"""SGD, AdamW, SPD and FTP in NumPy, float64, from the equations alone."""

import math

import numpy as np


class SGD:
    """Momentum as PyTorch has it: u = m u + g, p -= lr u; decay is added to the gradient."""

    def __init__(self, lr, momentum=0.9, weight_decay=0.0):
        self.lr, self.momentum, self.decay = lr, momentum, weight_decay
        self.velocity = {}

    def step(self, name, weight, gradient):
        gradient = gradient + self.decay * weight
        known = self.velocity.get(name)
        self.velocity[name] = gradient if known is None else self.momentum * known + gradient
        return weight - self.lr * self.velocity[name]


class AdamW:
    def __init__(self, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        self.lr, self.betas, self.eps, self.decay = lr, betas, eps, weight_decay
        self.held = {}

    def step(self, name, weight, gradient):
        first, second, count = self.held.get(name, (0.0, 0.0, 0))
        count += 1
        first = self.betas[0] * first + (1 - self.betas[0]) * gradient
        second = self.betas[1] * second + (1 - self.betas[1]) * gradient**2
        self.held[name] = (first, second, count)
        unbiased = first / (1 - self.betas[0] ** count)
        spread = np.sqrt(second / (1 - self.betas[1] ** count))
        return weight * (1 - self.lr * self.decay) - self.lr * unbiased / (spread + self.eps)


def norm(values):
    return math.sqrt(sum(value * value for value in np.ravel(values).tolist()))


class SPD:
    def __init__(self, anchors, weight=1.0):
        self.anchors, self.weight = anchors, weight
        self.shares = []

    def move(self, name, before, gradient, after):
        anchor = self.anchors[name]
        if sum((gradient * (before - anchor)).ravel().tolist()) <= 0:
            self.shares.append(0.0)
            return after
        radius, radius_before = norm(after - anchor), norm(before - anchor)
        growth = min(max((radius - radius_before) / radius, 0.0), 1.0)
        self.shares.append(self.weight * growth)
        return after - self.weight * growth * (after - anchor)


class FTP:
    def __init__(self, anchors, rate=1e-2, annealing=1.0, weight=1.0):
        self.anchors, self.rate, self.annealing, self.weight = anchors, rate, annealing, weight
        self.held = {}  # by name: radius, Adam's averages, steps, displacement

    def rows(self, values):
        return values.reshape(1, -1) if values.ndim < 2 else values.reshape(len(values), -1)

    def move(self, name, before, gradient, after):
        anchor = self.anchors[name]
        moved = self.rows(after - anchor)
        lengths = [sum(abs(value) for value in row) + 1e-8 for row in moved.tolist()]
        radius, first, second, count, last = self.held.get(name, (1e-8, 0.0, 0.0, 0, None))
        count += 1
        if count > 1:
            slope = 0.0
            for row, displaced in zip(self.rows(gradient).tolist(), last.tolist(), strict=True):
                product = sum(g * c for g, c in zip(row, displaced, strict=True))
                slope += product / (sum(map(abs, displaced)) + 1e-8)
            if slope > 0:
                slope *= self.annealing
            first = 0.9 * first + 0.1 * slope
            second = 0.999 * second + 0.001 * slope**2
            step = first / (1 - 0.9**count) / (math.sqrt(second / (1 - 0.999**count)) + 1e-8)
            radius = min(max(radius - self.rate * step, 1e-8), max(lengths))
        self.held[name] = (radius, first, second, count, moved)
        scales = [min(1, radius / length) for length in lengths]
        projected = np.array([[s * c for c in row] for row, s in zip(moved.tolist(), scales, strict=True)])
        projected = anchor + projected.reshape(anchor.shape)
        return after + self.weight * (projected - after)

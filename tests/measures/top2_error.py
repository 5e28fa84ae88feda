"""A measure in a file of its own, with what it collects: the class is not among the two that score highest."""

from synreal.measures import Collector, Measure, Sum, register


class Misses(Collector):
    label = "classes"

    def __init__(self, images):
        super().__init__(images)
        self.missed, self.seen = Sum(len(images.classes)), Sum(len(images.classes))

    def state(self):
        return [self.missed, self.seen]

    def update(self, output, targets):
        missed = (output.topk(2, dim=1).indices != targets[:, None]).all(1)
        self.missed.add(targets[missed].bincount(minlength=len(self.missed.value)))
        self.seen.add(targets.bincount(minlength=len(self.seen.value)))


@register
class Top2Error(Measure):
    name = "top2_error"
    summary = "share of images whose class is not among the two that score highest"
    heading = "top-2 error"
    collector = Misses
    higher_is_better = False

    def compute(self, collected):
        return float(collected.missed.value.sum().double() / collected.seen.value.sum())

    def per_class(self, collected):
        return (collected.missed.value.double() / collected.seen.value).tolist()

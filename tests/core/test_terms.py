"""Terms, sums of terms, and specs."""

from typing import ClassVar

import pydantic
import pytest
import torch
from torch import nn

from synreal.core.passes import Step
from synreal.core.sums import SumTerm, build_terms, calibrate
from synreal.core.terms import NoPenalty, Regularizer, Site, Term

STEP = Step({})


class Noting(Term):
    """Notes which hooks were called."""

    def __init__(self, value, log, *, waits=False):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))
        self.log = log
        self.waits = waits

    def forward(self, step):
        self.log.append(("forward", step is STEP))
        return self.value

    def before_step(self):
        self.log.append("before_step")

    def move_weights(self):
        self.log.append("move_weights")

    def after_step(self):
        self.log.append("after_step")

    @property
    def undecayed(self):
        return (self.value,)

    @property
    def wants_images(self):
        return self.waits

    def calibrate(self, images):
        self.log.append(("calibrate", [image.tolist() for image in images]))
        self.waits = False

    def forget(self):
        self.log.append("forget")

    def release(self):
        self.log.append("release")


class Plain(Term):
    """Uses no hook."""

    def forward(self, step):
        return torch.tensor(5.0)


class Late(Plain):
    """Uses the hook after a step alone."""

    def after_step(self):
        """Count nothing."""


class Moving(Plain):
    """Moves weights alone."""

    def move_weights(self):
        """Move nothing."""


class Built(Regularizer):
    """Builds a term that a test made."""

    name: ClassVar[str] = "built"
    summary: ClassVar[str] = "for tests"
    paper: ClassVar[str] = "none"
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)

    term: Term | None = None

    def build(self, site):
        if self.term is None:
            raise ArithmeticError("cannot be built")
        return self.term


def site():
    return Site(nn.Identity(), {}, {}, frozenset())


def summed(**parts):
    return SumTerm({name: Built(term=term, weight=weight) for name, (weight, term) in parts.items()}, site())


def test_a_sum_weighs_its_parts():
    total = summed(first=(0.5, Noting(3.0, [])), second=(2.0, Noting(7.0, [])))
    loss = total(STEP)
    assert float(loss.detach()) == 0.5 * 3 + 2 * 7
    loss.backward()
    assert [float(p.grad) for p in total.parameters()] == [0.5, 2.0]
    assert list(total.state_dict()) == ["first.value", "second.value"]


def test_a_sum_forwards_every_hook():
    logs = [], []
    total = summed(first=(1.0, Noting(3.0, logs[0])), second=(1.0, Noting(7.0, logs[1])))
    total(STEP)
    hooks = ["before_step", "move_weights", "after_step", "forget", "release"]
    for hook in hooks:
        getattr(total, hook)()
    assert logs[0] == logs[1] == [("forward", True), *hooks]
    assert [float(value) for value in total.undecayed] == [3.0, 7.0]


def test_every_hook_of_a_term_is_forwarded_by_a_sum():
    hooks = {name for name in vars(Term) if not name.startswith("_")} - {"forward"}
    assert hooks <= vars(SumTerm).keys()


def test_a_sum_shows_images_to_the_parts_that_wait_for_them():
    logs = [], [], []
    total = summed(
        first=(1.0, Noting(1.0, logs[0], waits=True)),
        second=(1.0, Noting(1.0, logs[1])),
        third=(1.0, Noting(1.0, logs[2], waits=True)),
    )
    assert total.wants_images
    total.calibrate(torch.tensor(value) for value in (1, 2))  # can be read but once
    assert logs == ([("calibrate", [1, 2])], [], [("calibrate", [1, 2])])
    assert not total.wants_images


@pytest.mark.parametrize(
    ("second", "stateful", "reads"),
    [(Plain(), False, False), (Late(), True, False), (Moving(), True, False), (Noting(1.0, []), True, True)],
)
def test_a_sum_is_what_one_of_its_parts_is(second, stateful, reads):
    total = summed(first=(1.0, Plain()), second=(1.0, second))
    assert (total.stateful, total.reads_gradients, total.wants_images) == (stateful, reads, False)
    assert (second.stateful, second.reads_gradients) == (stateful, reads)


def test_what_cannot_be_built_leaves_no_trace():
    log = []
    specs = {"first": Built(term=Noting(1.0, log)), "second": Built()}
    for build in (build_terms, SumTerm):
        log.clear()
        with pytest.raises(ArithmeticError):
            build(specs, site())
        assert log == ["release"]


def test_one_term_alone_reads_images_as_they_come():
    log, read = [], []

    class Lazy(Noting):
        def calibrate(self, images):
            next(iter(images))

    calibrate([Lazy(1.0, log, waits=True), Plain()], (read.append(value) for value in range(3)))
    assert read == [0]


def test_no_penalty_is_zero_on_its_device():
    term = NoPenalty()
    assert float(term(STEP)) == 0
    assert term.bfloat16()(STEP).dtype == torch.float32
    assert not term.state_dict()
    assert not term.stateful


class Settings(Built):
    """Has settings."""

    first: int = pydantic.Field(default=1, ge=1)
    second: int = 2


def test_given_settings_stay():
    spec = Settings(first=1)
    assert spec.with_defaults(first=5, second=6) == Settings(first=1, second=6)
    assert Settings().with_defaults(first=5) == Settings(first=5)
    assert Settings().with_defaults() == Settings()
    assert Settings(weight=3).with_defaults(first=5, weight=4).weight == 3
    with pytest.raises(pydantic.ValidationError, match="greater than or equal to 1"):
        Settings().with_defaults(first=0)
    with pytest.raises(pydantic.ValidationError, match="third"):
        Settings().with_defaults(third=0)

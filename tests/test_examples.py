import importlib.util
from pathlib import Path

import pytest
import torch

from synreal.tasks import data
from synreal.tasks.data.base import ArrayImages

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_has_a_test():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {"plain"}


def test_plain_learns(monkeypatch, capsys):
    # Dark noise and bright noise: learnt in a few steps if gradients reach the student.
    labels = torch.arange(40) % 2
    images = (torch.randint(0, 128, (40, 3, 64, 64)) + 127 * labels.view(-1, 1, 1, 1)).to(torch.uint8)
    tiny = ArrayImages("digits", "train", images, labels, [str(i) for i in range(10)])
    monkeypatch.setattr(data, "load", lambda name, split: tiny)
    losses = load("plain").main(steps=12, size=16)
    assert len(losses) == 12
    assert sum(losses[-3:]) / 3 < 0.5 * losses[0]
    assert capsys.readouterr().out.count("penalty") == 12


@pytest.mark.parametrize("steps", [1])
def test_plain_leaves_no_hook(monkeypatch, steps):
    module = load("plain")
    attached = []
    real = module.synreal.attach
    monkeypatch.setattr(module.synreal, "attach", lambda *a, **k: attached.append(real(*a, **k)) or attached[-1])
    module.main(steps=steps, size=4)
    student = attached[0].student
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in student.modules()) == 0

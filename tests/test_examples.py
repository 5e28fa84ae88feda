import importlib.util
import json
from pathlib import Path

import pytest
import torch

import synreal
from synreal import data
from synreal.core.queues import FeatureQueue
from synreal.core.teachers import AveragedNetwork, EmaTeacher
from synreal.data.labels.boxes import Boxes
from synreal.data.sets import ArrayBoxes, ArrayImages, ArrayMasks
from synreal.rates import RatePolicy
from tests.engine.tiny import install

EXAMPLES = Path(__file__).parents[1] / "examples"
OWN = ["own_segmenter", "own_detector"]
LOOPS = ["amp_accumulation", "with_accelerate", "with_lightning", "with_transformers"]  # two batches a step


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _as_a_script(monkeypatch, tmp_path):
    # A script finds the files beside it.
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tiny(monkeypatch):
    # Dark noise and bright noise: learnt in a few steps if gradients reach the student.
    labels = torch.arange(48) % 2
    images = (torch.randint(0, 128, (48, 3, 64, 64)) + 127 * labels.view(-1, 1, 1, 1)).to(torch.uint8)
    few = ArrayImages("digits", "train", images, labels, [str(i) for i in range(10)])
    monkeypatch.setattr(data, "load", lambda name, split: few)


@pytest.fixture(autouse=True)
def at_full_rate(monkeypatch):
    # A handful of steps would all lie at the foot of the warm-up.
    real = synreal.warmup_poly_schedule
    monkeypatch.setattr(
        synreal, "warmup_poly_schedule", lambda opt, total, warmup=0: real(opt, total, warmup=warmup // 5)
    )


def scenes(name, split, label):
    """A dozen scenes of one bright square of one class on dark noise."""
    images = torch.randint(0, 60, (12, 3, 128, 128), dtype=torch.uint8)
    images[:, :, 30:90, 40:100] = torch.randint(180, 256, (12, 3, 60, 60), dtype=torch.uint8)
    masks = torch.zeros(12, 128, 128, dtype=torch.uint8)
    masks[:, 30:90, 40:100] = 4
    classes = data.find(name).class_names(label)
    if label == "masks":
        return ArrayMasks(name, split, images, masks, classes)
    one = Boxes(torch.tensor([[40.0, 30, 100, 90]]), torch.tensor([3]), torch.tensor([False]), torch.tensor([3600.0]))
    return ArrayBoxes(name, split, images, [one] * 12, classes)


@pytest.fixture
def watched(monkeypatch):
    """What was attached, with its terms, which ``detach()`` drops; and how often each average moved."""
    attached, moves = [], {}
    real = synreal.attach

    def attach(*args, **settings):
        model = real(*args, **settings)
        attached.append((model, model.terms, model.averages))
        return model

    monkeypatch.setattr(synreal, "attach", attach)
    for kind in (EmaTeacher, AveragedNetwork):

        def update(self, module, *, real=kind.update):
            moves[self] = moves.get(self, 0) + 1
            real(self, module)

        monkeypatch.setattr(kind, "update", update)
    return attached, moves


def queues(terms):
    return [module for module in terms.modules() if isinstance(module, FeatureQueue)]


def hooks(student):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in student.modules())


def test_every_example_has_a_test():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {"plain", "pictures", "learn_rates", *LOOPS, *OWN}


def test_plain_learns(tiny, capsys):
    losses = load("plain").main(steps=12, batch_size=16)
    assert len(losses) == 12
    assert sum(losses[-3:]) / 3 < 0.5 * losses[0]
    assert capsys.readouterr().out.count("penalty") == 12


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)
def test_a_network_of_one_s_own_learns_and_keeps_no_hook(name, watched, monkeypatch, capsys):
    monkeypatch.setattr(data, "load", scenes)
    script = load(name)
    losses = script.main(steps=10, batch_size=4)
    assert len(losses) == 10
    assert sum(losses[-3:]) < 0.85 * sum(losses[:3])
    ((model, terms, _),), _ = watched
    assert queues(terms)
    for queue in queues(terms):
        assert int(queue.count) == 10 * 4 * (64 if name == "own_segmenter" else 16)
    assert hooks(model.student) == 0
    assert capsys.readouterr().out.count("penalty") == 10
    assert "synreal.tasks.segmentation" not in Path(script.__file__).read_text("utf-8")


def test_plain_leaves_no_hook(watched):
    load("plain").main(steps=1, batch_size=4)
    assert hooks(watched[0][0][0].student) == 0


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_learns_and_its_state_moves_once_a_step(name, tiny, watched):
    steps, size = 6, 8
    losses = load(name).main(steps=steps, batch_size=size)
    assert len(losses) == (steps if name == "with_transformers" else 2 * steps)
    quarter = len(losses) // 4 + 1
    assert sum(losses[-quarter:]) < 0.7 * sum(losses[:quarter])
    ((model, terms, averages),), moves = watched
    assert queues(terms)
    for queue in queues(terms):
        assert int(queue.count) == int(queue.pointer) == 2 * steps * size
    following = [
        m for part in (terms, averages) for m in part.modules() if isinstance(m, (EmaTeacher, AveragedNetwork))
    ]
    assert following
    assert moves == dict.fromkeys(following, steps)
    assert not model.bound
    assert hooks(model.student) == 0


def test_a_second_run_goes_on_from_a_checkpoint(tiny, watched, tmp_path):
    script, file = load("amp_accumulation"), tmp_path / "state.pt"
    whole = script.main(steps=4, batch_size=4)
    first = script.main(steps=2, batch_size=4, checkpoint=file)
    saved = torch.load(file, weights_only=True)
    script.main(steps=2, batch_size=4, checkpoint=file)
    assert whole[:2] == first[:2]
    again = torch.load(file, weights_only=True)
    for state, filled in ((saved, 16), (again, 32)):
        counts = [value for key, value in state["model"].items() if key.endswith("queue.count")]
        assert [int(count) for count in counts] == [filled, filled]
    assert not torch.equal(saved["ema"]["module.conv_stem.weight"], again["ema"]["module.conv_stem.weight"])
    json.dumps(saved["scaler"])


def test_the_trainer_on_lightnings_side_predicts_with_the_student_alone(tiny):
    module = load("with_lightning")
    student, _ = module.student_and_pictures("digits", 64)
    classifier = module.Classifier(student).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(classifier.model(images)["output"], student.eval()(images))


@pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")
def test_a_policy_of_rates_is_trained(monkeypatch, tmp_path, capsys):
    install(monkeypatch.setattr)
    (tmp_path / "run.yaml").write_text("regularizers: kl\nbackbone: test_efficientnet\nweights: none\nimage_size: 32\n")
    settings = ["epochs=1", "batch_size=6", "workers=0", "device=cpu"]
    given = [word for setting in settings for word in ("--set", setting)]
    found = load("learn_rates").main(["--config", "run.yaml", *given, "--episodes", "2", "--shortest", "1"])
    assert capsys.readouterr().out.splitlines() == [
        f"episode {episode}: mean reward {reward:.4f}" for episode, reward in enumerate(found)
    ]
    assert RatePolicy.load(tmp_path / "policy.safetensors").fingerprint != RatePolicy(0).fingerprint

import pytest
import torch
from safetensors.torch import save_file

from synreal.engine.building import build_student
from synreal.tasks.classification import Classification
from synreal.weights import Student, WeightsOrigin, create_backbone, normalization
from tests.engine.tiny import load, make_config

BACKBONE = "test_efficientnet"


def built(weights, tmp_path, **settings):
    """The student of a run on ten classes, and its classifier."""
    config = make_config(tmp_path / "run", regularizers="none", weights=str(weights), **settings)
    student = Classification(config.task, config.setup, load("digits", "train"), {}).build_student()
    assert student.statistics == normalization(student.network)
    return student.network, student.network.get_classifier()


def stored(tmp_path, classes, step):
    """A file of weights whose classifier is as it was drawn, or one step away from that."""
    network, _ = create_backbone(BACKBONE, num_classes=classes, weights="none")
    if step:
        network(torch.rand(2, 3, 32, 32)).logsumexp(1).sum().backward()
        torch.optim.SGD(network.parameters(), lr=0.1).step()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors", network


def test_a_fresh_classifier_starts_at_zero_and_its_hidden_layer_as_drawn(tmp_path):
    _, classifier = built("none", tmp_path)
    assert not classifier.weight.any()
    assert not classifier.bias.any()
    _, classifier = built("none", tmp_path, head_width=16)
    assert classifier[0].weight.any()
    assert not classifier[2].weight.any()


@pytest.mark.parametrize(("classes", "step", "kept"), [(10, True, True), (10, False, False), (7, True, False)])
def test_a_classifier_from_a_file_is_kept_if_it_was_trained_and_fits(classes, step, kept, tmp_path):
    file, network = stored(tmp_path, classes, step)
    student, classifier = built(file, tmp_path)
    assert torch.equal(student.conv_stem.weight, network.conv_stem.weight)
    if kept:
        assert torch.equal(classifier.weight, network.get_classifier().weight)
    else:
        assert not classifier.weight.any()
        assert not classifier.bias.any()


@pytest.mark.parametrize(
    ("name", "order"), [("channels_last", torch.channels_last), ("contiguous", torch.contiguous_format)]
)
def test_network_and_images_lie_in_memory_as_the_run_asks(name, order, tmp_path):
    config = make_config(tmp_path / "run", regularizers="none", weights="none", memory_format=name)
    task = Classification(config.task, config.setup, load("digits", "train"), {})
    student = build_student(task, config)
    images = task.prepared(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), student, torch.device("cpu"))
    other = torch.contiguous_format if order is torch.channels_last else torch.channels_last
    for tensor in (student.network.conv_stem.weight, images):
        assert tensor.is_contiguous(memory_format=order)
        assert not tensor.is_contiguous(memory_format=other)


@pytest.mark.parametrize("flip", [False, True])
def test_how_sure_a_student_is_is_its_softmax_and_the_scores_are_as_ever(flip, tmp_path):
    class Lopsided(torch.nn.Module):
        def forward(self, images):
            return images[..., 0].mean((1, 2))[:, None] * torch.tensor([3.0, 1.0, -2.0]) + torch.tensor([0.0, 0.5, 1.0])

    config = make_config(tmp_path / "run", regularizers="none", weights="none", test_flip=flip)
    task = Classification(config.task, config.setup, load("digits", "train"), {})
    student = Student(Lopsided(), WeightsOrigin("none", "none", None), ((0.5,) * 3, (0.5,) * 3))
    images = torch.randint(0, 256, (50, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    scores, sure = task.predict_sure(student, images, torch.device("cpu"))
    assert torch.equal(scores, task.predict(student, images, torch.device("cpu")))
    prepared = task.prepared(images, student, torch.device("cpu"))
    logits = [student.network(prepared), student.network(prepared.flip(-1))][: 1 + flip]
    assert len(set(scores.argmax(1).tolist())) > 1
    for row, said in enumerate(scores.argmax(1).tolist()):
        own = [float(one[row].exp()[said] / one[row].exp().sum()) for one in logits]
        assert float(sure[row]) == pytest.approx(sum(own) / len(own), abs=1e-6)

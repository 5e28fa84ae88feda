import json
import shutil

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from synreal import engine
from synreal.engine import export_formats
from synreal.engine.export_formats import FORMATS, TOLD
from synreal.errors import ConfigError, ExportError
from synreal.tasks import snippets
from synreal.tasks.classification import Classification
from synreal.tasks.exported import Agreement, compared_boxes
from synreal.weights import Student
from tests.engine import tiny

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")

AVERAGE = "ema(decay=0.5)"


def stir(file):
    """Give a network's file other weights than a few steps from zero leave, so that its answers differ."""
    with safe_open(file, framework="pt") as opened:
        told = opened.metadata()
    generator = torch.Generator().manual_seed(0)
    state = load_file(file)
    for name, value in state.items():
        if name.startswith("classifier"):
            state[name] = torch.randn(value.shape, generator=generator)
    save_file(state, file, metadata=told)


@pytest.fixture
def run(whole, tmp_path):
    """A finished run of a classifier, with an average."""
    folder = shutil.copytree(whole(regularizers="none", averages=[AVERAGE], targets="mnist"), tmp_path / "run")
    stir(folder / "model.safetensors")
    return folder


def task_of(text, tmp_path, **changes):
    """A task with no data, and a network of it."""
    config = tiny.make_config(tmp_path, task=text, **changes)
    task = config.task.runtime()(config.task, config.setup, None, {}, tuple("abcdef"))
    student = task.build_student()
    network = student.network.eval()
    with torch.no_grad():
        for name, value in network.named_parameters():
            if name.startswith(("classifier", "segmentation_head", "roi_heads.box_predictor.cls_score")):
                value.copy_(torch.randn(value.shape, generator=torch.Generator().manual_seed(0)))
            if name == "head.classification_head.cls_logits.weight":
                value.mul_(8)  # else scores are so near to each other that rounding chooses among boxes
            if name == "head.classification_head.cls_logits.bias":
                value.copy_(torch.where(torch.arange(len(value)) % 7 == 0, -20.0, 0.0))
    return task, student


def written(form, task, student, path):
    exportable = task.exported(student)
    told = {"task": task.spec.name, "classes": list(task.classes), "preparation": exportable.preparation}
    export_formats.write(form, exportable, path, told)
    run = export_formats.reader(form, exportable, path)
    return exportable, Student(exportable.stand_in(run).eval(), student.origin, student.statistics)


def images_of(task, *sizes):
    item = task.test_item()
    draw = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes]
    return task.collate_test([item(n, image, 0) for n, image in enumerate(draw)])[0]


QUICK = {
    "cls": ["torchscript"],
    "seg": ["onnx"],
    "det(architecture='fcos')": ["onnx"],
}
SLOW = {
    "cls": ["onnx", "torch.export"],
    "seg": ["torchscript"],
    "seg(architecture='fpn')": ["onnx"],
    "det": ["onnx", "torchscript"],
    "det(architecture='fcos')": ["torchscript"],
    "det(architecture='retinanet')": ["onnx", "torchscript"],
}


@pytest.mark.parametrize(
    ("text", "form"),
    [
        *((text, form) for text, forms in QUICK.items() for form in forms),
        *(pytest.param(text, form, marks=pytest.mark.slow) for text, forms in SLOW.items() for form in forms),
    ],
)
def test_the_file_says_what_the_network_says_of_batches_of_any_length_and_size(text, form, tmp_path):
    task, student = task_of(text, tmp_path)
    file = tmp_path / f"student{FORMATS[form]}"
    exportable, other = written(form, task, student, file)
    with torch.no_grad():
        for sizes in ([(64, 96)], [(64, 64)] * 3, [(70, 100), (130, 64)]):
            found = exportable.compare(student, other, images_of(task, *sizes))
            assert found.total > 0
            # Of boxes whose scores differ by rounding alone, the machine says which is the last that is kept.
            assert found.share >= (0.99 if task.spec.name == "detection" else 1)
            assert 0 <= found.difference < 1e-4
    assert b"site-packages" not in file.read_bytes()
    if form == "onnx":
        check_snippet(task, student, exportable, tmp_path)


def check_snippet(task, student, exportable, tmp_path):
    """Run the file as its card says, on an image that needs no resizing."""
    pixels = torch.randint(0, 256, (3, 70, 64), dtype=torch.uint8)[..., : task.setup.image_size]
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / "photo.png")
    space = {}
    code = exportable.loading
    for name, file in (("student.onnx", "student.onnx"), ("photo.jpg", "photo.png")):
        code = code.replace(name, str(tmp_path / file))
    exec(compile(code, "card", "exec"), space)
    item = task.test_item()(0, pixels, 0)
    with torch.no_grad():
        images = task.collate_test([item])[0]
        expected = task.predict(student, images, torch.device("cpu"))[0]
    if task.spec.name == "classification":
        np.testing.assert_allclose(space["logits"], expected, atol=1e-4)
    elif task.spec.name == "segmentation":
        np.testing.assert_array_equal(space["mask"], expected)
    else:
        found = {key: torch.from_numpy(space[key].copy()) for key in ("boxes", "scores", "labels")}
        agreement = compared_boxes([found], [expected], [70])
        assert agreement.total > 10
        assert agreement.within(1e-4)


@pytest.mark.parametrize("name", ["CLASSES", "PIXELS", "BOXES"])
def test_the_page_shows_what_cards_show(name):
    assert f"```py\n{getattr(snippets, name)}```" in (tiny.ROOT / "docs" / "deploy.md").read_text("utf-8")


@pytest.mark.parametrize("text", ["seg", "det(architecture='fcos')"])
def test_what_takes_images_of_any_size_is_not_written_with_a_fixed_one(text, tmp_path):
    task, student = task_of(text, tmp_path)
    with pytest.raises(ConfigError, match=r"any size is not written by torch.export.*\.onnx or \.ts"):
        written("torch.export", task, student, tmp_path / "a.pt2")


def test_a_run_is_written_with_what_it_takes_to_use_it(run, tmp_path):
    done = engine.export(run, tmp_path / "a.onnx", show_progress=False)
    told = onnxruntime.InferenceSession(tmp_path / "a.onnx").get_modelmeta().custom_metadata_map
    assert told["task"] == "classification"
    assert json.loads(told["classes"]) == [str(digit) for digit in range(10)]
    prepared = json.loads(told["preparation"])
    assert (prepared["short_side"], prepared["centre_crop"], prepared["antialias"]) == (32, 32, True)
    assert prepared["mean"] == [0.485, 0.456, 0.406]
    assert (done.agreement.equal, done.agreement.total) == (11, 11)
    assert done.checked_on == "11 images of target 'mnist'"
    card = done.card.read_text("utf-8")
    for text in (
        "# a.onnx",
        "regularizer none; the last weights of a run with seed 0",
        "| mnist (real) | 11 |",
        "nothing of the target",
        "began with random weights",
        "11 of 11 images equal",
        'InferenceSession("a.onnx"',
        "timm.create_model('test_efficientnet', num_classes=10)",
    ):
        assert text in card
    assert str(tmp_path) not in card


@pytest.mark.parametrize("form", ["torch.export", "torchscript"])
def test_an_average_is_written_and_what_the_file_tells_is_read_back(form, run, tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(3):
        Image.fromarray(np.full((40, 50, 3), 80 * number, np.uint8)).save(tmp_path / "photos" / f"{number}.png")
    file = tmp_path / f"a{FORMATS[form]}"
    done = engine.export(run, file, average="ema(decay=.5)", images=tmp_path / "photos", count=2, show_progress=False)
    assert done.checked_on == "2 images of the folder 'photos'"
    extra = {TOLD: ""}
    if form == "torchscript":
        loaded = torch.jit.load(file, _extra_files=extra)
    else:
        loaded = torch.export.load(file, extra_files=extra).module()
    assert json.loads(extra[TOLD])["weights"] == AVERAGE
    average = load_file(next(run.glob("average-*.safetensors")))
    last = load_file(run / "model.safetensors")
    weight = dict(loaded.named_parameters())["classifier.weight"]
    torch.testing.assert_close(weight.detach(), average["classifier.weight"])
    assert not torch.equal(last["classifier.weight"], average["classifier.weight"])
    assert f"the weights '{AVERAGE}'" in done.card.read_text("utf-8")


def test_a_file_that_says_something_else_is_not_written(run, tmp_path, monkeypatch):
    read = export_formats.reader

    def spoiled(name, exportable, path):
        right = read(name, exportable, path)
        return lambda inputs: [right(inputs)[0] + torch.tensor([0.1, *[0.0] * 9])]

    monkeypatch.setattr(export_formats, "reader", spoiled)
    with pytest.raises(ExportError, match=r"does not agree with the network on 11 images of target 'mnist': largest"):
        engine.export(run, tmp_path / "a.ts", show_progress=False)
    assert not list(tmp_path.glob("a.*"))
    done = engine.export(run, tmp_path / "a.ts", tolerance=1, show_progress=False)
    assert done.agreement.difference > 1e-3


def test_what_cannot_be_compared_is_not_written(run, tmp_path, monkeypatch):
    exported = Classification.exported

    def blind(self, student):
        made = exported(self, student)
        return type(made)(**{**vars(made), "compare": lambda *_: Agreement(0.0, 0, 0, "images", 1)})

    monkeypatch.setattr(Classification, "exported", blind)
    with pytest.raises(ExportError, match=r"found no images .* could not be checked"):
        engine.export(run, tmp_path / "a.ts", show_progress=False)

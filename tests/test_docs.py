"""Every command and every Python block of README and docs is run; every generated part is up to date."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from synreal_cli.app import main

import synreal
from benchmarks.tables import GRIDS, RESULTS
from synreal import data, engine
from synreal.figures import FIGURES
from synreal.rates import RatePolicy
from synreal.records.leaderboard import build, find
from synreal.registry import ROOMS, registry_of
from tests.data import own_trees, simple_trees, trees
from tests.engine.tiny import draw_nothing, load, narrow

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))]
SMALL = shlex.split("--backbone test_efficientnet --weights none --max-steps 2 --batch-size 8 --workers 0 --image-size")
SIZES = {"cls": ["32"], "seg": ["64", "--architecture", "fpn"], "det": ["64", "--architecture", "fcos"]}
# Run by .ci/run itself, or long: the scripts and grids of benchmarks are tested in test_benchmarks.py.
ELSEWHERE = (
    "make run",
    "make test",
    "make check",
    "make docs",
    "make slow",
    "synreal bench benchmarks/",
    "synreal leaderboard benchmarks/",
    "python benchmarks/costs.py",
    "python benchmarks/data.py",
    "python benchmarks/fingerprints.py",
    "python benchmarks/insight.py",
    "python benchmarks/queue_loss.py",
    "python benchmarks/own_loop.py ",
    "python -m benchmarks.diagnoses",
    "python -m benchmarks.figures",
    "python -m benchmarks.looks",
    "SYNREAL_FUZZ=",
    "SYNREAL_SOAK=",
)
IN_OTHER_TESTS = (
    "python examples/",
    "pytest tests/regularizers/test_contract.py",
)  # test_examples, test_plugins
OF_RENDERS = (
    "README.md", "docs/your-data.md", "docs/library.md", "docs/guide.md", "docs/insight.md", "docs/reproduce.md",
    "docs/deploy.md", "docs/diagnose.md", "docs/walk-through.md",
)  # fmt: skip
FILE = re.compile(r"# (\w+\.(?:py|yaml))\n")  # the first line of a block that is a file, named there


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)


def commands(page):
    return [line for block in blocks(page, "bash") for line in block.splitlines() if line.strip()]


def write_files(page):
    """Put the files that a page shows into the working directory, and the folders that it speaks of."""
    if page in OF_RENDERS:
        simple_trees.imagefolder_tree(Path("renders"))
        simple_trees.imagefolder_tree(Path("photos"), seed=1)
    if page == "docs/views.md":
        simple_trees.imagefolder_tree(Path("openimages"), seed=2)
    if page == "docs/methods/learned_rates.md":
        RatePolicy().save(Path("policy.safetensors"))
    if page in ("docs/insight.md", "docs/reproduce.md"):
        Path("imagenet-sample-images").mkdir()
        shutil.copy(next(Path("photos").rglob("*.png")), "imagenet-sample-images/n01440764_tench.png")
    if page in ("docs/your-data.md", "docs/walk-through.md"):
        own_trees.coco_tree(Path("blender"))
        own_trees.coco_tree(Path("labelled"), seed=1)
    if page == "docs/insight.md":
        torch.save(timm.create_model("resnet18", num_classes=3).state_dict(), "mine.pth")
    if page == "docs/your-data.md":
        simple_trees.list_tree(Path("listed"))
        own_trees.masks_tree(Path("mask-photos"), encoding="colour", seed=1)
        own_trees.solo_tree(Path("unity"))
        own_trees.perception_tree(Path("unity-old"))
        simple_trees.yolo_tree(Path("yolo-renders"))
        simple_trees.yolo_tree(Path("yolo-photos"), seed=1)
        trees.kitti_tree(Path("replicator"), 12, names=own_trees.CLASSES)
        trees.voc_tree(Path("voc-photos"), names=own_trees.CLASSES)
    for block in [*blocks(page, "python"), *blocks(page, "yaml")]:
        if name := FILE.match(block):
            Path(name[1]).write_text(block, "utf-8")


def size(words):
    """The images and the network of a quick run of the task that a command speaks of."""
    if "--task" in words:
        return SIZES[words[words.index("--task") + 1]]
    if "--config" in words:
        text = Path(words[words.index("--config") + 1]).read_text("utf-8")
        return SIZES["seg" if "name: segmentation" in text else "cls"]
    return SIZES["cls"]


def small(words):
    """What makes a run that a page shows a quick one."""
    return [*SMALL, *size(words)]


def quick_diagnosis(words):
    """What makes a diagnosis a quick one: it refuses a network without pretrained weights."""
    save_file(timm.create_model("test_efficientnet", num_classes=10).state_dict(), "pretrained.safetensors")
    more = "--backbone test_efficientnet --weights pretrained.safetensors --steps 2 --batch-size 8 --workers 0"
    return [*more.split(), "--image-size", *size(words)]


def carry_out(planned, **_):
    """Make the runs of a diagnosis in this process, one after the other."""
    for row in planned.rows:
        row.record = row.record or engine.run(row.cell.config, show_progress=False).record


@pytest.fixture
def tiny(monkeypatch, tmp_path, own_registry):
    """A working directory of its own, and data, detectors and figures that take no time."""

    monkeypatch.setattr("synreal.diagnosis.diagnosing.carry_out", carry_out)
    monkeypatch.setattr(data, "load", load)
    draw_nothing(monkeypatch.setattr)
    narrow(monkeypatch.setattr)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNREAL_CACHE", str(tmp_path / "cache"))


@pytest.mark.filterwarnings(
    "ignore::synreal.core.teachers.UntrainedTeacherWarning", "ignore:.*left out", "ignore:Target "
)
@pytest.mark.parametrize("page", PAGES)
def test_every_command_works(page, tiny, capsys):
    write_files(page)
    lines = [line for line in commands(page) if not line.startswith(ELSEWHERE + IN_OTHER_TESTS)]
    if any("runs" in line for line in lines) and not any("--output runs/mine" in line for line in lines):
        lines.insert(0, "synreal run --regularizer none --output runs/mine")
    for line in lines:
        words = shlex.split(line)
        assert words[0] == "synreal", f"{page}: nothing runs {line!r}"
        starts_run = words[1] == "run" and not {"--resume", "--dry-run"} & set(words)
        starts_grid = words[1] == "bench" and not {"--dry-run", "--emit"} & set(words)  # tests/bench runs one
        more = small(words) if starts_run else ["--dry-run"] if starts_grid else []
        more = quick_diagnosis(words) if words[1] == "diagnose" else more
        with pytest.raises(SystemExit) as stop:
            main([*words[1:], *more])
        assert not stop.value.code, f"{page}: {line}\n{capsys.readouterr().err}"
        assert capsys.readouterr().out.strip(), line


@pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")
@pytest.mark.parametrize("page", PAGES)
def test_every_python_block_works(page, tiny, monkeypatch):
    for task in {
        "docs/guide.md": ["cls"],
        "docs/deploy.md": ["cls"],
        "docs/leaderboard.md": ["cls"],
        "docs/tasks.md": ["det"],
    }.get(page, []):
        words = ["run", "--regularizer", "none", "--output", "runs/mine", "--task", task]
        with pytest.raises(SystemExit):
            main([*words, *small(words)])
    real = timm.create_model

    def create(name, pretrained=False, num_classes=12):
        return real("test_efficientnet", num_classes=num_classes)

    monkeypatch.setattr(timm, "create_model", create)
    loader = [((torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)), torch.tensor([0, 1]))] * 2
    write_files(page)
    for block in blocks(page, "python"):
        if FILE.match(block):
            continue
        space = {"synreal": synreal, "torch": torch, "F": torch.nn.functional, "loader": loader}
        space["student"] = create("resnet50")
        exec(compile(block, page, "exec"), space)


def test_generated_parts_are_up_to_date():
    done = subprocess.run(
        [sys.executable, "benchmarks/tables.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_a_generated_part_that_was_edited_is_noticed():
    from benchmarks.tables import filled

    text = (ROOT / "README.md").read_text("utf-8")
    assert filled(text) == text
    assert filled(text.replace("| `csg` |", "| `csg2` |")) == text


@pytest.mark.parametrize("plural", ROOMS)
def test_everything_that_has_a_name_is_in_the_documentation(plural):
    text = "\n".join(path.read_text("utf-8") for path in [*ROOT.glob("docs/**/*.md"), ROOT / "README.md"])
    own = [name for name, cls in registry_of(plural).registered().items() if cls.__module__.startswith("synreal.")]
    assert [name for name in own if f"`{name}`" not in text] == []


@pytest.mark.parametrize("name", [n for n, cls in FIGURES.classes().items() if cls.__module__.startswith("synreal.")])
def test_every_figure_has_an_example_that_the_documentation_shows(name):
    text = (ROOT / "docs/figures.md").read_text("utf-8")
    shown = re.findall(rf"!\[(.*?)\]\(images/{name}\.png\)\n\n(.*?)\n\n", text, re.DOTALL)
    if name == "weights":  # there is nothing to draw until benchmarks/results holds a method at several weights
        board = build(find(path for grid in GRIDS if (path := RESULTS / f"{grid}.json").is_file()))
        swept = any(section.curves for section in board.sections)
        assert bool(shown) == swept, "python -m benchmarks.figures draws what docs/figures.md is to show"
        if not swept:
            return
    ((in_words, caption),) = shown
    assert len(in_words) > 20, "what those are told who do not see it"
    assert caption[0] not in "#!|`-", "a caption beneath it"
    with Image.open(ROOT / "docs/images" / f"{name}.png") as image:
        assert image.format == "PNG"
        assert 400 < image.width < 1_800
    assert (ROOT / "docs/images" / f"{name}.png").stat().st_size < 150_000


def test_every_regularizer_has_a_card_with_its_settings():
    from benchmarks.tables import CARDS, card, own

    for name in set(own()) - {"none", "oracle"}:  # these have nothing to set
        assert card(name) == f"{name}.md"
        assert f"<!-- begin settings-{name} -->" in (CARDS / card(name)).read_text("utf-8")


def missing_tests(text):
    """Tests that a page names and that there are not."""
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", text)
    assert named
    files = {file: ROOT / "tests" / file for file, _ in named}
    sources = {file: path.read_text("utf-8") if path.is_file() else "" for file, path in files.items()}
    return [f"{file}::{name}" for file, name in named if f"\ndef {name}(" not in sources[file]]


def test_every_fault_of_the_page_on_reliability_is_held_by_tests_that_there_are():
    text = (ROOT / "docs/reliability.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| (\d+) \|(.*)$", text, re.MULTILINE))
    assert list(map(int, rows)) == list(range(1, 68))
    assert [number for number, row in rows.items() if "::test_" not in row] == []
    assert missing_tests(text) == []
    assert missing_tests("`test_docs.py::test_nothing`, `test_no.py::test_x`") == [
        "test_docs.py::test_nothing",
        "test_no.py::test_x",
    ]


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / page).read_text("utf-8")):
            assert ((ROOT / page).parent / link).exists(), f"{page} links to {link}"

"""Regularizers from outside: plugin files, installed packages, and the page that shows how to write one."""

import copy
import hashlib
import importlib
import importlib.metadata
import json
import os
import pickle
import re
import shlex
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest
import yaml

import synreal
from synreal import data, engine
from synreal.config import make_config
from synreal.engine import saving
from synreal.engine.environment import plugins
from synreal.engine.phases.train import Train
from synreal.engine.signals import StopRequest
from synreal.errors import ConfigError
from synreal.plugins import load_plugin
from synreal.registry import FILE_MODULE, LOADED, PluginWarning, everything, forget_all, loaded
from synreal.regularizers import REGULARIZERS, available, get, register
from tests.cli.test_cli import tiny_images
from tests.regularizers.contract import attached, batch

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "write-your-own.md").read_text("utf-8")
SMALL = shlex.split(
    "--backbone test_efficientnet --weights none --image-size 32 --batch-size 10 --epochs 1 --workers 0 --device cpu"
)
PLUGIN = """\
from synreal.regularizers import Regularizer, register
from synreal.core.terms import NoPenalty


@register
class Mine(Regularizer):
    name = "{name}"
    summary = "does nothing"
    paper = "nobody"
    size: int = 3

    def build(self, site):
        return Penalty()


class Penalty(NoPenalty):
    pass
"""

pytestmark = [
    pytest.mark.usefixtures("own_registry"),
    pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning"),
]


def block(language, first_line=""):
    """The first block of the page in a language that begins with a line."""
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return next(text for text in found if text.startswith(first_line))


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


@pytest.fixture
def attention(tmp_path):
    """The page's own file."""
    return written(tmp_path / "attention.py", block("python", "# attention.py\n"))


@pytest.fixture
def mine(tmp_path):
    return written(tmp_path / "mine.py", PLUGIN.format(name="mine"))


@pytest.fixture
def call(call, monkeypatch):
    """Run a command line on tiny data, without line breaks in its messages."""
    monkeypatch.setattr(data, "load", tiny_images)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("TERMINAL_WIDTH", "300")
    monkeypatch.setenv("NO_COLOR", "1")
    return call


@pytest.fixture
def new_process():
    """Stands for a new process: what was loaded from files so far is unknown. Called between two commands."""

    def forget():
        for module in [name for name in sys.modules if name.startswith(FILE_MODULE)]:
            forget_all([key for key, cls in everything().items() if cls.__module__ == module])
            LOADED.pop(module)
            del sys.modules[module]

    return forget


def python(*arguments, path=(), cwd=None):
    """Run Python in a process of its own, with folders put on its path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment, cwd=cwd, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


# --- the page's file ---


def test_the_page_keeps_its_promise_of_40_lines(attention):
    lines = attention.read_text("utf-8").splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 120


def test_the_pages_file_runs_from_the_command_line(attention, call, tmp_path, new_process):
    text = "attention(stages=(2, 3), weight=0.5)"
    common = ["--plugin", attention, "-r", text]
    for setting in ("log_every=1", "schedule=constant", "lr=1.0", "max_steps=4"):  # the classifier starts at zero
        common += ["--set", setting]
    code, out, err = call("run", *SMALL, *common, "--workers", 1, "--output", tmp_path / "run")
    assert code == 0, err
    assert "attention, test_efficientnet" in out
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    shares = [row["penalty/attention"] for row in rows if "penalty/attention" in row]
    assert shares[0] < 1e-9  # the student starts as the teacher
    assert shares[-1] > 1e-9
    stored = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert stored["regularizers"] == [{"name": "attention", "weight": 0.5, "stages": [2, 3], "stage_weights": None}]
    (facts,) = json.loads((tmp_path / "run" / "run.json").read_text())["plugins"]
    digest = hashlib.sha256(attention.read_bytes()).hexdigest()
    assert facts == {"file": "attention.py", "sha256": digest, "regularizers": ["attention"]}
    new_process()
    code, out, err = call("evaluate", tmp_path / "run", "--plugin", attention, "--device", "cpu", "--json")
    assert code == 0, err
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert json.loads(out) == {"source": result["source_heldout"], **result["targets"]}


def test_the_pages_file_reaches_the_student_and_not_the_teacher(attention):
    load_plugin(attention)
    model, _ = attached("attention", steps=2)
    model(*batch(2)[:2])["penalty"].backward()
    assert model.student.conv1[0].weight.grad.abs().max() > 0
    assert not any(p.requires_grad or p.grad is not None for p in model.reference.network.parameters())


@pytest.mark.slow
def test_the_pages_file_fulfils_the_contract(attention):
    command = shlex.split(next(line for line in block("bash", "pytest").splitlines()))
    done = python("-m", *[str(attention) if word == "attention.py" else word for word in command], cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 15, done.stdout


@pytest.mark.slow
def test_the_pages_package_is_found_once_it_is_installed(attention, tmp_path):
    source = tmp_path / "source"
    written(source / "pyproject.toml", block("toml"))
    written(source / "synreal_attention.py", attention.read_text("utf-8"))
    done = python("-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", source)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import pickle, synreal; from synreal.registry import loaded\n"
        "spec = synreal.RunConfig(regularizers='attention(weight=2)', weights='none').regularizers[0]\n"
        "assert pickle.loads(pickle.dumps(spec)) == spec and type(spec).__module__ == 'synreal_attention'\n"
        "print('attention' in synreal.list_regularizers(), [plugin.facts() for plugin in loaded()])\n"
        "from synreal_cli.app import main; main(['list', 'regularizers', '--filter', 'attention'])"
    )
    done = python("-W", "error::UserWarning", "-c", code, path=[tmp_path / "site"], cwd=tmp_path)
    facts = {
        "distribution": "synreal-attention",
        "version": "1.0",
        "entry_point": "attention = synreal_attention",
        "regularizers": ["attention"],
    }
    printed, listed = done.stdout.splitlines()
    assert printed == f"True {[facts]}", done.stderr
    assert re.fullmatch(r"attention  the student looks .*, ICLR 2017\) \[synreal-attention 1\.0\]", listed)


# --- plugin files ---


def test_a_file_is_a_module_with_its_names(mine):
    module = load_plugin(str(mine))
    assert module.Mine is get("mine")
    assert REGULARIZERS.spec("mine(size=4)") == module.Mine(size=4)
    assert "mine" in available()
    (plugin,) = loaded({"regularizers": ["mine", "csg"]})
    assert (plugin.names, plugin.path, plugin.origin) == ({"regularizers": ("mine",)}, mine, "plugin mine.py")
    assert loaded({"regularizers": ["csg"]}) == []


def test_specs_and_terms_of_a_file_are_pickled_and_copied(mine):
    module = load_plugin(mine)
    spec = module.Mine(size=5)
    assert pickle.loads(pickle.dumps(spec)) == copy.deepcopy(spec) == spec
    term = pickle.loads(pickle.dumps(spec.build(None)))
    assert type(term) is module.Penalty
    assert type(copy.deepcopy(term)) is module.Penalty


def test_a_file_is_run_once(tmp_path):
    counter = tmp_path / "counter"
    text = f"open({str(counter)!r}, 'a').write('x')\n" + PLUGIN.format(name="mine")
    path = written(tmp_path / "mine.py", text)
    assert load_plugin(path) is load_plugin(tmp_path / ".." / tmp_path.name / "mine.py")
    assert counter.read_text() == "x"
    assert len(loaded()) == 1


def test_a_file_that_changed_replaces_what_it_registered(mine):
    old = load_plugin(mine)
    mine.write_text(PLUGIN.format(name="other").replace("size: int = 3", "size: int = 7"))
    new = load_plugin(mine)
    assert new is not old
    assert get("other")().size == 7
    assert "mine" not in available()
    assert [plugin.names["regularizers"] for plugin in loaded()] == [("other",)]
    assert pickle.loads(pickle.dumps(new.Mine())) == new.Mine()


def test_a_change_for_the_worse_leaves_the_old_in_place(mine):
    old = load_plugin(mine)
    for text in (PLUGIN.format(name="other") + "1 / 0\n", PLUGIN.format(name="csg"), "x = 1\n", "x ="):
        mine.write_text(text)
        with pytest.raises(ConfigError):
            load_plugin(mine)
        assert get("mine") is old.Mine
        assert "other" not in available()
        assert pickle.loads(pickle.dumps(old.Mine())) == old.Mine()
        assert len(loaded()) == 1


def test_a_file_that_was_mended_loads(tmp_path):
    before = available()
    path = written(tmp_path / "mine.py", PLUGIN.format(name="mine") + "1 / 0\n")
    modules = set(sys.modules)
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        load_plugin(path)
    assert available() == before
    assert loaded() == []
    assert set(sys.modules) == modules
    path.write_text(PLUGIN.format(name="mine"))
    assert load_plugin(path).Mine is get("mine")


def test_files_of_one_name_are_told_apart(tmp_path):
    first = load_plugin(written(tmp_path / "a" / "my method.v2.py", PLUGIN.format(name="first")))
    second = load_plugin(written(tmp_path / "b" / "my method.v2.py", PLUGIN.format(name="second")))
    assert (get("first"), get("second")) == (first.Mine, second.Mine)
    for module in (first, second):
        assert pickle.loads(pickle.dumps(module.Mine())) == module.Mine()


def test_nothing_is_written_beside_a_file(mine):
    load_plugin(mine)
    assert list(mine.parent.iterdir()) == [mine]


def test_future_imports_are_the_files_own(tmp_path):
    # Annotations of this file must not turn into texts because those of synreal's loader are.
    text = PLUGIN.format(name="mine") + "\n\ndef f(x: int): ...\n\n\nassert f.__annotations__ == {'x': int}\n"
    load_plugin(written(tmp_path / "mine.py", text))


TWO = "from synreal.regularizers import register, Regularizer\n\n\n@register\n"
WRONG_FILES = {
    "syntax": ("x = 1\ny = = 2\n", r", line 2: SyntaxError: invalid syntax\.$"),
    "null": ("x = 1\n\0", r": (ValueError|SyntaxError): source code string cannot contain null bytes\.$"),
    "import": ("\n\nimport no_such_module_at_all\n", r", line 3: ModuleNotFoundError: No module named 'no_such"),
    "raises": ("def f():\n    return 1 / 0\n\n\nf()\n", r", line 2: ZeroDivisionError: division by zero\.$"),
    "deep": ("import json\n\njson.loads('{')\n", r", line 3: JSONDecodeError: Expecting property name"),
    "silent": ("raise RuntimeError\n", r", line 1: RuntimeError\.$"),
    "exits": ("import sys\nsys.exit(3)\n", r", line 2: SystemExit: 3\.$"),
    "nothing": ("x = 1\n", r" registers nothing: put @register above its class"),
    "only imports": ("from synreal import CSG\n", r" registers nothing"),
    "taken": (PLUGIN.format(name="csg"), r"line 5: .*'csg' is taken by .*\.csg\.CSG; Mine in /.*wrong\.py needs"),
    "no name": (TWO + "class A(Regularizer): ...\n", r"line 4: A in /.*wrong\.py lacks name, summary, paper: each"),
    "no summary": (PLUGIN.format(name="mine").replace("summary", "sumary: str"), r"line 5: .* lacks summary: "),
    "no text": (TWO + "class A(Regularizer):\n    name = 3\n", r"line 4: A in /.*wrong\.py lacks name, summary"),
    "bad name": (PLUGIN.format(name="../csg"), r"line 5: Mine in /.*wrong\.py has the name '\.\./csg.: expected"),
    "a word": (PLUGIN.format(name="lambda"), r"line 5: .* has the name 'lambda'"),
    "of ModuleDict": (PLUGIN.format(name="keys"), r"line 5: .* has the name 'keys'"),
    "not ASCII": (PLUGIN.format(name="größe"), r"line 5: .* has the name 'größe'"),
    "no class": (TWO + "def f(): ...\n", r"line 4: @register must be put on a subclass of Regularizer, got 'f'"),
    "other class": (TWO + "class A: ...\n", r"line 4: @register must be put on a subclass of Regularizer, got 'A'"),
    "pydantic": (PLUGIN.format(name="mine").replace("size: int", "size"), r"line 6: PydanticUserError: A non-annot"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG_FILES)
def test_a_wrong_file_is_named_with_its_line(what, tmp_path, call, monkeypatch):
    text, message = WRONG_FILES[what]
    before = everything()
    path = written(tmp_path / "wrong.py", text)
    with pytest.raises(ConfigError, match=rf"^Plugin {re.escape(str(path))}") as raised:
        load_plugin(path)
    assert re.search(message, str(raised.value)), raised.value
    assert "\n" not in str(raised.value)
    assert everything() == before
    assert loaded() == []
    monkeypatch.chdir(tmp_path)
    for command in (["run", "--output", "new"], ["evaluate", "."], ["list", "tasks"]):
        code, out, err = call(*command, "--plugin", "wrong.py")
        assert code == 2
        assert err == "Error: " + str(raised.value).replace(str(path), "wrong.py", 1) + "\n"
        assert out == ""
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_file_is_refused(tmp_path, call):
    written(tmp_path / "plugin.txt", PLUGIN.format(name="mine"))
    (tmp_path / "folder.py").mkdir()
    for name, message in {
        "missing.py": "Cannot read the plugin {}: No such file or directory.",
        "folder.py": "Cannot read the plugin {}: Is a directory.",
        "plugin.txt": "The plugin {} is not a Python file, expected a path that ends in .py.",
        "mine": "The plugin {} is not a Python file, expected a path that ends in .py.",
    }.items():
        path = tmp_path / name
        code, _, err = call("list", "regularizers", "--plugin", path)
        assert code == 2
        assert message.format(path) in err
    with pytest.raises(ConfigError, match="Cannot read the plugin"):
        load_plugin("a\0.py")
    assert "mine" not in available()


def test_two_files_cannot_have_one_name(mine, tmp_path, call):
    again = written(tmp_path / "again.py", PLUGIN.format(name="mine"))
    code, _, err = call("list", "regularizers", "--plugin", mine, "--plugin", again)
    assert code == 2
    assert f"Plugin {again}, line 5: Regularizer name 'mine' is taken by Mine in {mine}; Mine in {again} needs" in err


# --- the command line ---


def test_the_option_may_be_given_several_times(mine, attention, call):
    code, out, _ = call("list", "regularizers", "--plugin", mine, "--plugin", attention)
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert lines["mine"].endswith("does nothing (nobody) [plugin mine.py]")
    assert lines["attention"].endswith(" [plugin attention.py]")
    assert not any(line.endswith("]") for name, line in lines.items() if name not in ("mine", "attention"))
    rows = json.loads(call("list", "regularizers", "--plugin", mine, "--json")[1])
    (row,) = (row for row in rows if row["name"] == "mine")
    assert row == {"name": "mine", "summary": "does nothing", "paper": "nobody", "plugin": "plugin mine.py"}


def test_the_option_comes_before_the_configuration(mine, call, tmp_path):
    config = written(tmp_path / "run.yaml", "regularizers: [mine, none]\nweights: none\n")
    code, out, err = call("run", "--dry-run", "-c", config, "--set", "regularizers.0.size=9", "--plugin", mine)
    assert code == 0, err
    printed = yaml.safe_load(out)
    assert printed["regularizers"][0] == {"name": "mine", "weight": 1.0, "size": 9}
    assert not {"plugin", "plugins"} & set(printed)
    assert make_config(printed).regularizers[0] == get("mine")(size=9)


HINT = "is known once the file is loaded: pass --plugin FILE"


def test_without_its_file_a_name_is_unknown(call, tmp_path, monkeypatch, mine):
    monkeypatch.chdir(tmp_path)  # the file lies there, and yet is not run
    code, _, err = call("run", "-r", "mine", "--output", "new")
    assert code == 2
    assert "Unknown regularizer 'mine'" in err
    assert HINT in err
    assert not (tmp_path / "new").exists()


@pytest.fixture
def halfway(mine, call, tmp_path, monkeypatch, new_process):
    """A run with a plugin that was stopped after its first step; the plugin is not loaded any more."""
    real = Train.make_step

    def step(self, state, batches):
        if state.step == 0:
            state.job.request.exit_code = 130
        return real(self, state, batches)

    with monkeypatch.context() as patch:
        patch.setattr(Train, "make_step", step)
        path = tmp_path / "halfway"
        code, _, err = call("run", *SMALL, "-r", "mine", "--plugin", mine, "--output", path)
    assert code == 130, err
    new_process()
    return path, err


def test_a_stopped_run_names_the_whole_command_to_go_on(halfway, call):
    path, err = halfway
    words = shlex.split(re.search(r"Go on with: synreal (.*)", err)[1])
    assert words == ["run", "--resume", str(path), "--plugin", str(path.parent / "mine.py")]
    code, _, err = call(*words)
    assert code == 0, err
    assert "Not bit-exact" not in err
    assert (path / "result.json").is_file()


def test_an_installed_plugin_is_no_part_of_that_command(installed, mine):
    installed.add("tiny-a", "other = tiny_a", tiny_a=PLUGIN.format(name="other"))
    load_plugin(mine)
    assert {plugin.names["regularizers"] for plugin in loaded()} == {("mine",), ("other",)}
    request = StopRequest()
    request.exit_code = 130
    assert str(saving.stopped(request, Path("run"), 1)).endswith(f"synreal run --resume run --plugin {mine}")


def test_resume_and_evaluate_without_the_file_say_what_is_missing(halfway, call):
    path, _ = halfway
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    for command in (["run", "--resume", path], ["evaluate", path]):
        code, out, err = call(*command)
        assert code == 2
        assert "Unknown regularizer 'mine'" in err
        assert HINT in err
        assert "Traceback" not in err
        assert out == ""
    with pytest.raises(ConfigError, match=HINT):
        engine.evaluate(path)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_resuming_with_another_version_of_the_file_says_so(halfway, call):
    path, _ = halfway
    plugin = path.parent / "mine.py"
    plugin.write_text(PLUGIN.format(name="mine") + "# changed\n")
    code, _, err = call("run", "--resume", path, "--plugin", plugin)
    assert code == 0, err
    assert re.search(r"Not bit-exact: plugin mine\.py changed from \w{64} to \w{64} at step \d+\.", err)


# --- a run folder of somebody else ---


@pytest.mark.parametrize(
    "line",
    ["plugin: evil.py", "plugins: [evil.py]", "regularizers: evil.py", "regularizers: [{name: evil.py}]",
     "regularizers: evil", "regularizers: [{name: mine, plugin: evil.py}]", "regularizers: 'none(plugin=evil)'"],
)  # fmt: skip
def test_no_configuration_can_have_a_file_run(line, call, tmp_path, monkeypatch):
    run = tmp_path / "run"
    marker = tmp_path / "marker"
    text = f"open({str(marker)!r}, 'w')\n" + PLUGIN.format(name="evil")
    evil = written(run / "evil.py", text)
    written(run / "config.yaml", f"{line}\nweights: none\n")
    facts = {"format": 1, "classes": [], "data": {}, "weights": {}, "reference": None, "versions": {}, "command": ""}
    facts["environment"] = {"device": "", "device_name": "", "threads": 1, "processes": 1, "platform": ""}
    facts["environment"]["git_commit"] = None
    facts |= {"config": {**yaml.safe_load(line), "weights": "none"}, "plugins": [{"file": "evil.py", "sha256": "0"}]}
    written(run / "run.json", json.dumps(facts))
    monkeypatch.chdir(run)  # the nearest that a relative path could be
    for command in (
        ["run", "--resume", run],
        ["run", "--config", "config.yaml", "--dry-run"],
        ["run", "--dry-run", "--set", line.replace(": ", "=", 1)],
        ["evaluate", run],
    ):
        code, _, err = call(*command)
        assert code == 2
        assert "Unknown" in err
        assert "Traceback" not in err
    assert not marker.exists()
    load_plugin(evil)
    assert marker.exists()


# --- installed packages ---


class Installed:
    """Packages that seem to be installed: modules and their metadata in a folder on the path."""

    def __init__(self, path):
        self.path = path

    def add(self, distribution, declared, metadata=True, **modules):
        """Install a package: its name, the lines of its entry points, and the text of each module."""
        for name, text in modules.items():
            written(self.path / f"{name}.py", text)
        info = self.path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        written(info / "entry_points.txt", f"[synreal.regularizers]\n{declared}\n")
        if metadata:
            written(info / "METADATA", f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Nothing has been looked for yet; modules of test packages are forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(REGULARIZERS, "_searched", False)
    before = set(sys.modules)
    yield Installed(tmp_path / "site")
    for name in [name for name in sys.modules if name.startswith("tiny_") and name not in before]:
        del sys.modules[name]


def test_an_entry_point_names_a_module_or_a_class(installed):
    installed.add("tiny-a", "anything = tiny_a", tiny_a=PLUGIN.format(name="of_a_module"))
    plain = PLUGIN.format(name="of_a_class").replace("@register\n", "")
    installed.add("tiny-b", "of_a_class = tiny_b:Mine", tiny_b=plain)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert {"of_a_module", "of_a_class", "csg"} <= set(synreal.list_regularizers())
    assert get("of_a_class").__module__ == "tiny_b"
    assert [plugin.facts() for plugin in loaded()] == [
        {
            "distribution": "tiny-a",
            "version": "1.0",
            "entry_point": "anything = tiny_a",
            "regularizers": ["of_a_module"],
        },
        {
            "distribution": "tiny-b",
            "version": "1.0",
            "entry_point": "of_a_class = tiny_b:Mine",
            "regularizers": ["of_a_class"],
        },
    ]
    assert plugins({"regularizers": ["of_a_class", "csg"]}) == {"tiny-b": "1.0"}


def test_installed_packages_are_loaded_once_and_only_when_asked_for(installed, tmp_path):
    counter = tmp_path / "counter"
    text = f"open({str(counter)!r}, 'a').write('x')\n" + PLUGIN.format(name="mine")
    installed.add("tiny-a", "mine = tiny_a", tiny_a=text)
    get("csg")
    REGULARIZERS.spec("feature_l2(weight=2)")
    assert not counter.exists()
    assert REGULARIZERS.spec("mine(size=2)").size == 2
    del sys.modules["tiny_a"]
    available()
    get("mine")
    assert counter.read_text() == "x"


@pytest.mark.parametrize("way", ["get", "list", "load_plugin"])
def test_each_first_question_finds_installed_packages(way, installed, tmp_path):
    installed.add("tiny-a", "mine = tiny_a", tiny_a=PLUGIN.format(name="mine"))
    if way == "load_plugin":  # or the name would belong to whichever comes first
        with pytest.raises(ConfigError, match=r"'mine' is taken by tiny_a\.Mine; Mine in /.*/clash\.py needs another"):
            load_plugin(written(tmp_path / "clash.py", PLUGIN.format(name="mine")))
    elif way == "list":
        assert "mine" in available()
    assert get("mine").__module__ == "tiny_a"


def test_a_module_that_was_imported_by_hand_is_no_less_a_plugin(installed):
    shown = PLUGIN.format(name="shown")
    installed.add("tiny-a", "x = tiny_a", tiny_a="from tiny_b_shown import Mine\n", tiny_b_shown=shown)
    installed.add("tiny-b", "x = tiny_b", tiny_b=PLUGIN.format(name="plain"))
    installed.add("tiny-c", "x = tiny_c")
    written(installed.path / "tiny_c" / "__init__.py", "from tiny_c import core\n")
    written(installed.path / "tiny_c" / "core.py", PLUGIN.format(name="inside"))
    for module in ("tiny_b_shown", "tiny_b", "tiny_c"):  # as a user's script may
        importlib.import_module(module)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert {"shown", "plain", "inside"} <= set(available())
    assert [plugin.names["regularizers"] for plugin in loaded()] == [("shown",), ("plain",), ("inside",)]


def test_a_module_may_leave_the_work_to_another_package(installed):
    installed.add("tiny-a", "x = tiny_a", tiny_a="import tiny_b\n", tiny_b=PLUGIN.format(name="mine"))
    assert "mine" in available()
    assert [plugin.names["regularizers"] for plugin in loaded()] == [("mine",)]


BROKEN = {
    "import": ("x = tiny_x", "import no_such_module_at_all\n", "ModuleNotFoundError: No module named 'no_such_module"),
    "missing": ("x = tiny_gone", "", "ModuleNotFoundError: No module named 'tiny_gone'"),
    "syntax": ("x = tiny_x", "y = = 2\n", "SyntaxError: invalid syntax"),
    "exits": ("x = tiny_x", "raise SystemExit(3)\n", "SystemExit: 3"),
    "half": ("x = tiny_x", PLUGIN.format(name="halfway") + "1 / 0\n", "ZeroDivisionError: division by zero"),
    "nothing": ("x = tiny_x", "from synreal import CSG\n", "the module registers no regularizer"),
    "function": ("x = tiny_x:f", "def f(): ...\n", "it is a function, expected a module or a Regularizer class"),
    "attribute": ("x = tiny_x:Gone", "", "AttributeError: module 'tiny_x' has no attribute 'Gone'"),
    "abstract": ("x = synreal.regularizers:Regularizer", "", "Regularizer lacks name, summary"),
    "taken": ("x = tiny_x", PLUGIN.format(name="csg"), "is taken by synreal.regularizers.csg.CSG; tiny_x.Mine needs"),
    "malformed": ("x = not a module!", "", "AttributeError"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_package_draws_one_warning_and_the_rest_works(what, installed, call):
    declared, text, message = BROKEN[what]
    builtin = set(REGULARIZERS.registered())
    installed.add("tiny-x", declared, tiny_x=text)
    installed.add("tiny-a", "first = tiny_a", tiny_a=PLUGIN.format(name="first"))
    installed.add("tiny-z", "last = tiny_z", tiny_z=PLUGIN.format(name="last"))
    with pytest.warns(PluginWarning) as caught:
        code, out, _ = call("list", "regularizers", "--json")
    assert code == 0
    assert {row["name"] for row in json.loads(out)} == builtin | {"first", "last"}
    (warning,) = caught
    assert f"The plugin {declared} of tiny-x 1.0 cannot be used: " in str(warning.message)
    assert message in str(warning.message)
    assert str(warning.message).endswith("Everything else works; update or uninstall tiny-x.")
    assert issubclass(PluginWarning, UserWarning)
    assert {plugin.distribution for plugin in loaded()} == {"tiny-a", "tiny-z"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "first" in available()


def test_a_name_that_two_packages_want_goes_to_the_first_in_the_alphabet(installed, tmp_path, monkeypatch):
    installed.add("tiny-a", "mine = tiny_a", tiny_a=PLUGIN.format(name="mine"))
    monkeypatch.syspath_prepend(tmp_path / "before")
    Installed(tmp_path / "before").add("tiny-b", "mine = tiny_b", tiny_b=PLUGIN.format(name="mine"))
    with pytest.warns(PluginWarning, match=r"of tiny-b 1\.0 .*'mine' is taken by tiny_a\.Mine; tiny_b\.Mine needs"):
        assert get("mine").__module__ == "tiny_a"


@pytest.mark.parametrize("python_raises", [False, True])
def test_a_package_that_was_half_removed_spoils_nothing(python_raises, installed, monkeypatch):
    if python_raises:  # as future versions will

        def metadata(self):
            raise FileNotFoundError

        monkeypatch.setattr(importlib.metadata.Distribution, "metadata", property(metadata))
    installed.add("tiny-a", "mine = tiny_a", metadata=False, tiny_a=PLUGIN.format(name="mine"))
    installed.add("tiny-b", "other = tiny_b", tiny_b=PLUGIN.format(name="other"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert {"mine", "other"} <= set(available())
    (plugin,) = loaded({"regularizers": ["mine"]})
    assert (plugin.origin, plugin.version) == ("an unknown package", None)


def test_entry_points_that_cannot_be_read_draw_a_warning(installed):
    installed.add("tiny-a", "no equals sign", tiny_a="")
    with pytest.warns(PluginWarning) as caught:
        assert "csg" in available()
    assert len(caught) == 1


def test_a_plugin_may_ask_what_there_is_while_it_is_loaded(installed):
    text = "from synreal.regularizers import available\nassert 'csg' in available()\n" + PLUGIN.format(name="mine")
    installed.add("tiny-a", "mine = tiny_a", tiny_a=text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "mine" in available()


def test_help_and_import_load_neither_torch_nor_plugins(installed, tmp_path):
    marker = tmp_path / "marker"
    installed.add("tiny-a", "mine = tiny_a", tiny_a=f"open({str(marker)!r}, 'w')\n" + PLUGIN.format(name="mine"))
    for arguments in ("--help", "run --help", "list --help", "evaluate --help", "--version"):
        code = (
            "import sys, synreal; from synreal_cli.app import app\n"
            f"try: app({arguments.split()}, standalone_mode=False)\n"
            "except SystemExit: pass\n"
            "print('torch' in sys.modules, 'tiny_a' in sys.modules)"
        )
        done = python("-c", code, path=[installed.path])
        assert done.stdout.splitlines()[-1] == "False False", done.stderr
    assert not marker.exists()


# --- the registry ---


def test_forgotten_names_are_free_again(mine):
    module = load_plugin(mine)
    REGULARIZERS.forget(["mine"])
    assert "mine" not in available()
    assert register(module.Mine) is module.Mine
    assert "mine" in available()

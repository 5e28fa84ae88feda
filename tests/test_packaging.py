import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"synreal": "synreal", "cli": "synreal_cli"}  # folder in the checkout -> package in the wheel

BESIDES = {
    "py.typed",
    "records/html/base.css",
    "records/run_page/page.css",
    *(f"records/leaderboard/{name}" for name in ("page.css", "page.js", "papers.yaml")),
}  # files of synreal that are no modules


def modules(folder):
    return {path.relative_to(ROOT / folder).as_posix() for path in (ROOT / folder).rglob("*.py")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout, built from a copy: a build leaves its traces in the tree and reads old ones."""
    copy = tmp_path_factory.mktemp("checkout")
    leftovers = shutil.ignore_patterns("__pycache__", "results")
    for name in ("synreal", "cli", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, copy / name, ignore=leftovers)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", copy / "dist", copy],
        cwd=copy,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (copy / "dist").glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        yield archive


def in_metadata(wheel, name):
    (path,) = (path for path in wheel.namelist() if re.fullmatch(rf"synreal-[^/]+\.dist-info/{name}", path))
    return wheel.read(path).decode("utf-8")


def test_the_wheel_holds_two_packages_and_nothing_else(wheel):
    tops = {path.partition("/")[0] for path in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"synreal", "synreal_cli"}
    assert len(tops) == 3
    assert in_metadata(wheel, "top_level.txt").split() == ["synreal", "synreal_cli"]


@pytest.mark.parametrize("folder", PACKAGES)
def test_the_wheel_holds_every_module(folder, wheel):
    package = PACKAGES[folder]
    packed = {path.removeprefix(f"{package}/") for path in wheel.namelist() if path.startswith(f"{package}/")}
    assert {path for path in packed if path.endswith(".py")} == modules(folder)
    assert {path for path in packed if not path.endswith(".py")} == (BESIDES if package == "synreal" else set())


def test_the_wheel_holds_command_licence_and_description(wheel):
    assert "synreal = synreal_cli.app:main" in in_metadata(wheel, "entry_points.txt").splitlines()
    assert in_metadata(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_text(encoding="utf-8")
    metadata = in_metadata(wheel, "METADATA")
    assert "License-Expression: Apache-2.0" in metadata
    assert metadata.endswith((ROOT / "README.md").read_text(encoding="utf-8"))


def test_what_must_not_import_what(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    # It puts the folder it runs in on the path.
    monkeypatch.setattr(sys, "path", list(sys.path))
    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), cache_dir=str(tmp_path))
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out
    assert "0 broken" in capsys.readouterr().out


# Written so that this file does not hold what it looks for.
MACHINE_PATH = re.compile(r"(?<![\w.~*/-])/(?:work|root|home|Users|tmp/w)" + r"/\w")
REGISTRY_HOST = re.compile(
    "|".join(re.escape("".join(parts)) for parts in [("pypi", ".org"), ("python", "hosted.org"), ("anaconda", ".org")])
    + r"|(?:extra-)?index"
    + r"-url|(?:https?://|@)\d+\.\d+\.\d+\.\d+"
)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (MACHINE_PATH, "see /" + "work/shared/x"),
        (MACHINE_PATH, "'/" + "home/me/data'"),
        (REGISTRY_HOST, "https://" + "pypi" + ".org/simple"),
        (REGISTRY_HOST, "pip --index" + "-url x"),
        (REGISTRY_HOST, "http://" + "10.0.0.1:8080/simple"),
    ],
)
def test_traces_of_a_machine_are_recognised(pattern, text):
    assert pattern.search(text)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the files that git tracks are known in a checkout only")
def test_no_tracked_file_holds_a_trace_of_a_machine():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    tracked = [ROOT / name for name in listed.decode("utf-8").split("\0") if name]
    assert ROOT / "pyproject.toml" in tracked
    found = []
    for path in tracked:
        if not path.is_file():  # deleted, but not yet from the index
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        for pattern in (MACHINE_PATH, REGISTRY_HOST):
            found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in pattern.finditer(text)]
    assert not found


MOST_LINES = 420


def test_no_file_is_two_rooms_in_one():
    long = {
        str(path.relative_to(ROOT)): count
        for path in (ROOT / "synreal").rglob("*.py")
        if (count := len(path.read_text("utf-8").splitlines())) > MOST_LINES
    }
    assert not long


ROOMS = sorted(str(path.parent.relative_to(ROOT / "synreal")) for path in (ROOT / "synreal").rglob("__init__.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_says_what_lives_in_it_and_has_its_tests_in_a_folder_of_its_name(room):
    text = (ROOT / "synreal" / room / "__init__.py").read_text("utf-8")
    assert text.startswith('"""'), "the first lines of a package say what lives there and what may not"
    assert list((ROOT / "tests" / room).glob("test_*.py"))

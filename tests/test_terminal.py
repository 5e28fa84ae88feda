import io
import json
import warnings

import pytest
import yaml
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text
from synreal_cli.output import say
from synreal_cli.report import print_result

from synreal.bench.board import Board
from synreal.engine.progress import RunProgress
from synreal.errors import ConfigError
from synreal.figures.page import new_page, text_width, write
from synreal.terminal import Console, printable, word_warnings
from tests.records.made import made, score

HOSTILE = "a\x1b]0;x\x07\x1b[2J\x9b31m\u202eb\u2066\x85\x7f\r[red]:smile:"
WRITTEN = "a\\x1b]0;x\\x07\\x1b[2J\\x9b31m\\u202eb\\u2066\\x85\\x7f\\r[red]:smile:"


def acts(text):
    """Whether anything but rich's colours would act on a terminal."""
    return any(not character.isprintable() and character != "\n" for character in text)


def shown(*renderables, terminal=False, **options):
    console = Console(file=io.StringIO(), width=200, force_terminal=terminal, color_system=None, **options)
    for each in renderables:
        console.print(each)
    return console.file.getvalue()


def test_what_is_printable():
    assert printable("a b/ü€[x].png") == "a b/ü€[x].png"
    assert printable(HOSTILE) == WRITTEN
    assert printable("a\nb\udcff") == "a\\nb\\udcff"
    assert printable("a\nb\t", lines=True) == "a\nb\\t"


def test_whatever_a_console_prints():
    table = Table(HOSTILE, title=HOSTILE, caption=HOSTILE)
    table.add_row(HOSTILE)
    table.add_row(Text(HOSTILE, style="bold"))
    for each in (HOSTILE, Text(HOSTILE), table):
        text = shown(each)
        assert not acts(text)
        assert WRITTEN in text or (isinstance(each, Text) and "\\x1b[2J\\x9b31m\\u202eb" in text)  # rich drops some
    assert len({len(line) for line in shown(table).splitlines()[1:5]}) == 1  # its columns are as wide as what is shown


def test_colours_are_still_those_of_rich():
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=80)
    console.print(Text("\x1b[31mx", style="bold red"))
    assert console.file.getvalue() == "\x1b[1;31m\\x1b[31mx\x1b[0m\n"


def test_bars_of_a_terminal():
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=100)
    with Progress(TextColumn("{task.description}", markup=False), console=console) as bar:
        bar.add_task(HOSTILE, total=1)
        console.print(HOSTILE)
    written = console.file.getvalue()
    assert WRITTEN in written
    assert not any(each in written for each in ("\x1b]0", "\x1b[2J\x9b", "\x9b", "\u202e"))


def test_a_run_and_a_grid_say_nothing_raw(capsys):
    with RunProgress(show=True) as progress:
        progress.start(HOSTILE, 1, 0)
        progress.step(1, {HOSTILE: 0.5})
        progress.say(HOSTILE)
    with Board([], show=True, title=HOSTILE) as board:
        board.say(HOSTILE)
    out, err = capsys.readouterr()
    assert not acts(out + err)
    assert err.count("\\x1b") >= 6


def test_tables_of_a_result(capsys):
    record = made(target="photo")
    record.source_heldout.per_class[HOSTILE] = 0.5
    record.targets["photo"] = score(HOSTILE, 0.5)
    record.targets["photo"].per_class[HOSTILE] = None
    print_result(record, None)
    out = capsys.readouterr().out
    assert not acts(out)
    assert "\\u202e" in out


def test_words_of_warnings(capsys, monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    word_warnings()
    assert warnings.formatwarning(UserWarning(HOSTILE), UserWarning, "x.py", 1) == f"Warning: {WRITTEN}\n"
    assert not acts(warnings.formatwarning(DeprecationWarning(HOSTILE), DeprecationWarning, "x.py", 1))


def test_errors_and_lines(call, capsys, monkeypatch, tmp_path):
    say(HOSTILE)
    say(json.dumps({HOSTILE: "\u202e"}))
    out, _ = capsys.readouterr()
    assert not acts(out)
    assert json.loads(out.splitlines()[1]) == {HOSTILE: "\u202e"}
    monkeypatch.chdir(tmp_path)
    for arguments in (["run", "--config", HOSTILE], ["run", "--source", HOSTILE], ["run", "--set", HOSTILE]):
        code, out, err = call(*arguments)
        assert code == 2
        assert not acts(out + err)


def test_the_printed_configuration_keeps_what_it_says(call, tmp_path):
    code, out, err = call("run", "--dry-run", "--output", tmp_path / "\u202e\x9b31m")
    assert code == 0
    assert not acts(out + err)
    assert yaml.safe_load(out)["output"]["folder"] == str(tmp_path / "\u202e\x9b31m")


@pytest.mark.parametrize("name", [HOSTILE, "\ud800", "$x$"])
def test_figures_draw_any_name(name):
    figure, axes = new_page(2, 1)
    write(axes, 0.1, 0.1, name)
    assert axes.texts[-1].get_text() == printable(name)
    assert text_width(name, 8) > 0
    figure.canvas.draw()


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--source", "imagefolder:/" + "x" * 300],
        ["run", "--source", "x" * 5000],
        ["run", "--config", "x" * 300],
        ["run", "--resume", "x" * 300],
        ["run", "--output", "x" * 300],
        ["evaluate", "x" * 300],
        ["leaderboard", "x" * 300],
        ["bench", "x" * 300],
        ["data", "check", "coco:/" + "x/" * 3000],
        ["data", "check", "y" * 300 + ".yaml"],
    ],
)
def test_names_that_are_too_long(arguments, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = call(*arguments)
    assert code == 2
    assert err.startswith("Error: ")


def test_a_name_that_nobody_knows_is_compared_in_time():
    from synreal.errors import unknown_name

    names = [f"{number}" + "x" * 3000 for number in range(100)]
    error = unknown_name("class", "y" * 100_000, names)
    assert isinstance(error, ConfigError)
    assert len(str(error)) < 2000

import io

from rich.console import Console
from synreal_cli.report import print_result

from tests.records.test_records import detection, record


def printed(one):
    console = Console(file=io.StringIO(), width=80, highlight=False, markup=False, emoji=False)
    print_result(one, None, console)
    return console.file.getvalue()


def cells(text, row):
    line = next(line for line in text.splitlines() if line.strip("│ ").startswith(row))
    return [cell.strip() for cell in line.strip("│").split("│")[1:]]


def test_detection_fits_a_terminal_and_tells_ap_by_size_beneath():
    text = printed(detection(0, 0.5, None))
    assert max(map(len, text.splitlines())) <= 80
    assert cells(text, "digits (synthetic, held out)") == ["10", "50.0", "75.0", "25.0"]
    assert cells(text, "mnist (real)") == ["10", "50.0", "75.0", "25.0"]
    assert "AP by class, %" in text
    assert cells(text, "32² to 96²") == ["50.0"] * 3
    assert cells(text, "area < 32²") == cells(text, "area > 96²") == ["none"] * 3
    assert "chance" not in text


def test_classification_has_no_areas():
    text = printed(record())
    assert "Recall by class, %" in text
    assert "area" not in text
    assert cells(text, "mnist (real)") == ["10", "50.0", "50.0", "50.0"]
    assert cells(text, "b ") == ["none"] * 3


def test_a_headline_without_values_per_class_has_one_table():
    made = record()
    change = {"per_class": {}, "per_class_heading": None}
    scores = {"source_heldout": made.source_heldout.model_copy(update=change)}
    scores["targets"] = {name: score.model_copy(update=change) for name, score in made.targets.items()}
    text = printed(made.model_copy(update=scores))
    assert "mean-class %" in text
    assert "by class" not in text

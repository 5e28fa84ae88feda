import pytest

from synreal.bench import plan
from synreal.bench.selecting import selections
from tests.bench.grids import grid, pretend

BOTH = ["heldout", "shifted"]


@pytest.fixture
def swept(folder, like):
    """A sweep of two regularizers with three weights, two seeds and two rates; what they scored is given by weight."""

    def make(scores, **more):
        found = grid(folder, regularizers=["none", "csg", "kl"], seeds=[0, 1], weights=[0.1, 1, 10], **more)
        rows = plan(found, sweep=True).rows
        for row in rows:
            weight = row.cell.config.terms[0].weight
            score = None if row.cell.label == "none" else scores.get((row.cell.label.partition("(")[0], weight))
            if score is not None:
                row.record = pretend(row.cell, like, score, write=False)
        return rows

    return make


def test_each_rule_chooses_a_weight_for_each_regularizer(swept):
    found = selections(
        swept(
            {
                ("csg", 0.01): 0.5,
                ("csg", 0.1): 0.7,
                ("csg", 1): 0.7,
                ("kl", 0.01): 0.4,
                ("kl", 0.1): 0.3,
                ("kl", 1): 0.2,
            }
        ),
        BOTH,
    )
    chosen = {(one.method, one.rule): round(one.chosen.factor, 6) for one in found}
    assert chosen == {
        **{("csg", rule): 10 for rule in BOTH},  # the largest of equals
        ("csg", "default"): 1,
        ("csg", "best on photo"): 1,
        **{("kl", rule): 0.1 for rule in (*BOTH, "best on photo")},
        ("kl", "default"): 1,
    }
    assert {one.rule for one in found if one.peeks} == {"best on photo"}
    assert {one.pair for one in found} == {"small"}


def test_axes_are_chosen_for_apart_and_what_is_missing_is_passed_over(swept):
    rows = swept({("csg", 0.1): 0.5, ("csg", 1): 0.6}, axes={"lr": [0.05, 0.1]})
    found = selections(rows, ["heldout"])
    assert [(one.changes, one.method, one.rule) for one in found] == [
        (changes, "csg", rule) for changes in ("", "lr=0.1") for rule in ("default", "heldout", "best on photo")
    ]
    assert selections(swept({("csg", 0.1): 0.5}), BOTH) == []  # there was no choice


def test_what_cannot_be_chosen_is_told(swept):
    rows = swept({("csg", 0.1): 0.5, ("csg", 1): 0.6})
    for row in rows:
        if row.record is not None:
            row.record = row.record.model_copy(update={"shifted": {}})
    heldout, shifted = (one for one in selections(rows, BOTH) if one.rule in BOTH)
    assert round(heldout.chosen.factor, 6) == 10
    assert shifted.chosen is None
    assert "which the rule 'shifted' needs" in shifted.problem

from pathlib import Path

import pytest

from synreal.bench import cells_of, plan, read_grid
from synreal.errors import ConfigError
from tests.bench.grids import grid, pair, write_grid


def names(found):
    return [cell.name for cell in cells_of(found)]


def test_a_grid_is_looked_for_where_it_lies_and_runs_where_one_stands(tmp_path, monkeypatch):
    (tmp_path / "grids").mkdir()
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "grids" / "cartoon.yaml"
    path.write_text("{pairs: ../pairs/a.yaml, regularizers: none, records: cartoon.json}")
    found = read_grid(path)
    assert found.pairs == (tmp_path / "grids" / "../pairs/a.yaml",)
    assert found.records == tmp_path / "grids" / "cartoon.json"
    assert found.output == Path("runs/cartoon")
    assert found.seeds == (0, 1, 2)
    assert found.regularizers == ("none",)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"pair": "a.yaml"}, "'pair'. Did you mean 'pairs'?"),
        ({"pairs": []}, "pairs: Tuple should have at least 1 item"),
        ({"pairs": ["missing.yaml"]}, "Cannot read the configuration"),
        ({"pairs": ["small.yaml", "other/small.yaml"]}, "two pairs have the name small"),
        ({"regularizers": []}, "regularizers: Tuple should have at least 1 item"),
        ({"regularizers": ["cgs"]}, "small.yaml, regularizers cgs: Unknown regularizer 'cgs'. Did you mean 'csg'?"),
        ({"regularizers": [["csg", "feature_l2(wight=1)"]]}, "Did you mean 'weight'?"),
        ({"regularizers": ["oracle(depth=1)"]}, "In the cell pair"),
        ({"seeds": [0, 0]}, "a seed stands there twice"),
        ({"seeds": [-1]}, "seeds.0: Input should be greater than or equal to 0"),
        ({"axes": {"lr": []}}, "axes.lr: Tuple should have at least 1 item"),
        ({"axes": {"lr": [0.1], "seed": [1]}}, "seed is set by the grid's own key seeds"),
        ({"settings": {"output.folder": "x"}}, "output.folder is set by the grid's own key output"),
        ({"axes": {"lrr": [0.1]}}, "Unknown setting 'lrr'. Did you mean 'lr'?"),
        ({"axes": {"lr": [0.1, -1]}}, "lr=-1, seed 0: training.lr: Input should be greater than or equal to 0, got -1"),
        ({"axes": {"regularizers.csg.weight": [1]}}, "The axis regularizers.csg.weight applies to no run"),
        ({"settings": {"task.ohem": 0.5}}, "ohem is a setting of"),
        ({"settings": {"views": ["crops"]}}, "Unknown view 'crops'"),
        ({"settings": {"testing.measures": ["mean_iou"]}}, "The measure 'mean_iou' compares masks"),
        ({"weights": [0]}, "weights.0: Input should be greater than 0"),
        ({"weights": [0.1, "much"]}, "weights.1"),
    ],
)
def test_what_is_wrong_with_a_grid_is_told_with_the_cell(values, expected, tmp_path):
    with pytest.raises(ConfigError) as raised:
        cells_of(grid(tmp_path, values))
    assert expected in str(raised.value)


def test_what_compares_is_run_in_a_row(tmp_path):
    pairs = {"a": pair(tmp_path), "b": pair(tmp_path, training={"lr": 0.01})}
    assert names(grid(tmp_path, pairs=pairs, regularizers=["none", "csg"], seeds=[3, 1])) == [
        *("a/none/seed3", "a/csg/seed3", "a/none/seed1", "a/csg/seed1"),
        *("b/none/seed3", "b/csg/seed3", "b/none/seed1", "b/csg/seed1"),
    ]


@pytest.mark.parametrize(
    ("entry", "label", "folder"),
    [
        ("csg", "csg", "csg"),
        ("csg(weight=0.1)", "csg", "csg"),  # the default
        ("csg(weight=0.3, pooling=gap)", "csg(weight=0.3, pooling='gap')", "csg-weight=0.3,pooling=gap"),
        ({"name": "csg", "weight": 0.3}, "csg(weight=0.3)", "csg-weight=0.3"),
        (["csg", "feature_l2(weight=2)"], "csg+feature_l2(weight=2.0)", "csg+feature_l2-weight=2.0"),
        ("csg(stages=[3, 4])", "csg", "csg"),
        ("csg(stages='layer/1')", "csg(stages=['layer/1'])", "csg-stages=_layer_1_-8b39db"),
    ],
)
def test_a_cell_is_called_by_what_differs(entry, label, folder, tmp_path, monkeypatch):
    (cell,) = cells_of(grid(tmp_path, regularizers=[entry]))
    assert cell.label == label
    assert cell.name == f"small/{folder}/seed0"
    assert cell.folder == tmp_path / "runs" / "small" / folder / "seed0"
    assert cell.config.output.folder == cell.folder


def test_a_long_name_is_cut_and_told_apart(tmp_path):
    entries = [[f"csg(weight={n})", "feature_l2(weight=3)", "guidance(weight=3)", "si(weight=3)", "kl(weight=3)",
                "weight_l2(weight=7)", f"info_nce(weight={n})"] for n in (5, 6)]  # fmt: skip
    first, second = names(grid(tmp_path, regularizers=entries))
    assert len(first) < 120
    assert first != second


def test_equal_cells_are_one(tmp_path):
    found = grid(tmp_path, regularizers=["csg", "csg(weight=0.1)", {"name": "csg"}, ["csg"]], axes={"lr": [0.05, 0.1]})
    assert names(found) == ["small/csg/seed0", "small/csg--lr=0.1/seed0"]


def test_axes_make_a_product_and_name_what_is_not_the_pairs_own(tmp_path):
    found = grid(
        tmp_path,
        regularizers=["none", "csg"],
        axes={"lr": [0.05, 0.1], "regularizers.csg.weight": [0.1, 1], "epochs": [2, 3]},
        settings={"training.batch_size": 6, "regularizers.csg.queue_size": 64},
    )
    cells = cells_of(found)
    assert [cell.method for cell in cells] == [
        *("none", "none epochs=3", "none lr=0.1", "none epochs=3 lr=0.1"),
        *("csg(queue_size=64)", "csg(queue_size=64) epochs=3"),
        *("csg(weight=1.0, queue_size=64)", "csg(weight=1.0, queue_size=64) epochs=3"),
        *("csg(queue_size=64) lr=0.1", "csg(queue_size=64) epochs=3 lr=0.1"),
        *("csg(weight=1.0, queue_size=64) lr=0.1", "csg(weight=1.0, queue_size=64) epochs=3 lr=0.1"),
    ]
    assert {cell.config.training.batch_size for cell in cells} == {6}
    assert {cell.config.training.lr for cell in cells} == {0.05, 0.1}
    assert cells[-1].name == "small/csg-weight=1.0,queue_size=64--epochs=3--lr=0.1/seed0"


def test_an_axis_on_a_view_is_named_by_the_views_setting(tmp_path):
    found = grid(tmp_path, axes={"views.randaugment.magnitude": [6, 12]})
    assert names(found) == ["small/none/seed0", "small/none--magnitude=12.0/seed0"]
    first, second = cells_of(grid(tmp_path, axes={"views": [["randaugment", "crop"], ["crop"]]}))
    assert first.changes == ""
    assert "'name': 'crop'" in second.changes


def test_a_folder_stays_the_same_when_cells_are_added(tmp_path):
    few = names(grid(tmp_path, regularizers=["csg"]))
    more = names(grid(tmp_path, regularizers=["none", "csg"], seeds=[1, 0], axes={"lr": [0.1, 0.05]}, weights=[0.5, 1]))
    assert set(few) < set(more)


def test_weights_are_multiples_of_the_default_of_what_has_one(tmp_path):
    entries = ["none", "oracle", "csg", "feature_l2(weight=2)", "csg(pooling=gap)", ["si", "kl"]]
    found = grid(tmp_path, regularizers=entries, weights=[1, 3])
    assert [cell.label for cell in cells_of(found)] == [
        *("none", "oracle", "csg", "csg(weight=0.3)", "feature_l2(weight=2.0)"),
        *("csg(pooling='gap')", "csg(weight=0.3, pooling='gap')", "si+kl"),
    ]


def test_weights_are_multiples_of_what_the_recipe_has_for_its_default(tmp_path):
    found = grid(
        tmp_path,
        pairs={"seg": {"preset": "csg-seg", "data": {"source": "digits"}}},
        regularizers=["csg"],
        weights=[0.1, 1],
    )
    assert [cell.config.terms[0].weight for cell in cells_of(found)] == [7.5, 75.0]
    assert [cell.label for cell in cells_of(found)] == ["csg(weight=7.5)", "csg"]


def test_a_sweep_tests_in_other_styles_where_the_pair_does_not(tmp_path):
    pairs = {"a": pair(tmp_path), "b": pair(tmp_path, testing={"shifts": ["blur"], "eval_batch_size": 8})}
    found = plan(grid(tmp_path, pairs=pairs, regularizers=["none", "csg"]), sweep=True)
    shifts = {
        name: {
            tuple(spec.name for spec in row.cell.config.testing.shifts) for row in found.rows if row.cell.pair == name
        }
        for name in pairs
    }
    assert shifts == {"a": {("blur", "noise", "recolour", "stylise")}, "b": {("blur",)}}
    weights = [row.cell.config.terms[0].weight for row in found.rows if row.cell.pair == "a"]
    assert weights == [1.0, 0.01, 0.03, 0.1, 0.3, 1.0]
    assert [row.cell.changes for row in found.rows] == [""] * 12
    own = plan(grid(tmp_path, pairs=pairs, regularizers=["csg"], weights=[2]), sweep=True)
    assert [row.cell.label for row in own.rows] == ["csg(weight=0.2)"] * 2


def test_only_some_cells_are_asked_for(tmp_path):
    found = grid(tmp_path, regularizers=["none", "csg", "kl"], seeds=[0, 1])
    assert [row.cell.name for row in plan(found, only=["/csg/", "/kl/seed1"]).rows] == [
        "small/csg/seed0", "small/csg/seed1", "small/kl/seed1",
    ]  # fmt: skip
    assert [row.cell.name for row in plan(found, cell="small/csg/seed1").rows] == ["small/csg/seed1"]
    for wrong in ({"only": ["xcsg"]}, {"cell": "xcsg"}):
        with pytest.raises(ConfigError, match=r"The grid has no run .*csg.*\. It has small/none/seed0, "):
            plan(found, **wrong)


def test_what_is_not_a_grid_is_refused(tmp_path):
    path = write_grid(tmp_path)
    path.write_text("[1]")
    with pytest.raises(ConfigError, match="must hold 'key: value' lines"):
        read_grid(path)
    with pytest.raises(ConfigError, match=r"Cannot read the grid .*missing\.yaml"):
        read_grid(tmp_path / "missing.yaml")

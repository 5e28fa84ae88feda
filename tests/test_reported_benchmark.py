import copy
import json

import pytest
import timm
import torch
import yaml

import synreal
from benchmarks import costs, reported, tables
from synreal.bench import cells_of, read_grid
from synreal.regularizers.csg import CSG
from synreal.regularizers.info_nce import InfoNCE
from tests.records.made import made

SCALED = sorted((reported.HERE / "ablations").glob("*.yaml"))
NAMED = {one.scaled: one for one in reported.numbers().ablations if one.scaled}


@pytest.fixture(autouse=True)
def data_somewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("SYNREAL_DATA", str(tmp_path))


def runs_in(path):
    """Label and magnitude of each run of a grid."""
    cells = cells_of(read_grid(path))
    return [(cell.label, getattr(cell.config.views[0], "magnitude", 0.0)) for cell in cells if cell.seed == 0]


def test_every_setting_of_an_ablation_is_a_run_and_every_run_a_setting():
    runs = {name: runs_in(reported.HERE / f"{name}.yaml") for name in [reported.DEFAULTS]}
    runs |= {f"ablations/{path.stem}": runs_in(path) for path in SCALED}
    rows = {one.file: [] for one in reported.numbers().ablations}
    for one in reported.numbers().ablations:
        wanted = [row.run for row in one.rows]
        assert len(set(wanted)) == len(wanted)
        assert set(wanted) <= {*runs[one.file], *runs[reported.DEFAULTS]}, one.name
        rows[one.file] += wanted
    for path in SCALED:
        assert set(runs[f"ablations/{path.stem}"]) <= set(rows[f"ablations/{path.stem}"])
        assert not set(runs[f"ablations/{path.stem}"]) & set(runs[reported.DEFAULTS])  # nothing is run twice


def test_an_ablation_has_as_many_runs_in_the_papers_grid_as_settings():
    for one in reported.numbers().ablations:
        if one.grid:
            cells = cells_of(read_grid(reported.HERE / "papers" / f"{one.grid}.yaml"))
            assert len(cells) == len(one.rows), one.name


def test_files_of_ablations_share_the_recipe_of_the_defaults():
    (pair,) = read_grid(reported.HERE / f"{reported.DEFAULTS}.yaml").pairs
    assert set(NAMED) == {path.stem for path in SCALED}
    for path in SCALED:
        grid = read_grid(path)
        assert [one.resolve() for one in grid.pairs] == [pair.resolve()]
        assert grid.seeds == (0, 1)
        assert set(grid.settings) == {"testing.shifts", "testing.wise_ft"}
        assert grid.records.resolve() == reported.RESULTS / f"ablation-{path.stem}.json"


@pytest.mark.parametrize("path", SCALED, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")
def test_every_run_of_an_ablation_makes_a_step(path):
    student = timm.create_model("test_efficientnet", num_classes=3)
    views = [torch.rand(2, 3, 32, 32) for _ in range(2)]
    for cell in cells_of(read_grid(path)):
        if cell.seed == 0 and cell.label != "none":
            model = synreal.attach(copy.deepcopy(student), list(cell.config.terms))
            optimizer = torch.optim.SGD(model.parameters(), 0.01)
            model.bind(optimizer)
            out = model(*views)
            (out["output"].sum() + out["penalty"]).backward()
            optimizer.step()
            assert model(*views)["penalty"].isfinite(), cell.name


def test_csg_with_average_pooling_is_info_nce():
    plain = {key: value for key, value in CSG(pooling="gap").model_dump().items() if key != "name"}
    assert plain == {key: value for key, value in InfoNCE().model_dump().items() if key != "name"}
    assert CSG.build is InfoNCE.build
    assert CSG(pooling="gap").passes == InfoNCE().passes


def test_the_two_files_of_published_numbers_agree():
    one, other = next(each for each in reported.all_published() if each.source == "visda17").tables
    by_name = {each.name: {row.ours: row.paper for row in each.rows} for each in reported.numbers().ablations}
    assert by_name["csg-pooling"]["csg"] == one.values["csg"]
    assert by_name["gcisg-parts"] == other.values
    for name in ("gcisg-info-nce", "gcisg-stages", "gcisg-temperatures"):
        assert by_name[name]["gcisg"] == other.values["gcisg"]
    assert by_name["gcisg-info-nce"]["causal_invariance"] == other.values["causal_invariance"]
    known = {method for each in (one, other) for method in each.values}
    for each in reported.numbers().measures:
        assert set(each.values) <= known


@pytest.fixture
def records(monkeypatch, tmp_path):
    """Writes records in place of the committed ones."""
    monkeypatch.setattr(reported, "RESULTS", tmp_path)
    real = reported.read_grid
    moved = {"records": tmp_path / "ablation.json"}
    monkeypatch.setattr(reported, "read_grid", lambda path: real(path).model_copy(update=moved))

    def write(name, found):
        (tmp_path / f"{name}.json").write_text(json.dumps([one.model_dump(mode="json") for one in found]))

    return write


def drawn(seed, value, magnitude=6, **changes):
    views = {"views": [{"name": "randaugment", "magnitude": magnitude}, {"name": "crop"}]}
    return made("csg", seed, value, config=views, **changes)


def test_a_table_says_our_means_and_the_papers_numbers_by_setting(records):
    assert reported.ablation_table("csg-stages").startswith(
        "No run of `benchmarks/ablations/csg-stages.yaml` has ended yet.\n\n| stages of `csg` |"
    )
    records("cartoon", [drawn(seed, value) for seed, value in ((0, 0.80), (1, 0.82), (2, 0.10))])
    stage = {"regularizer": {"stages": [4]}}
    records("ablation", [drawn(0, 0.81, **stage), drawn(1, 0.85, **stage), drawn(2, 0.99, **stage)])
    table = reported.ablation_table("csg-stages")
    assert table.splitlines()[2:5] == [
        "| 4 | 2 | 83.0 ± 2.8 | +2.0 [+1.0, +3.0] | 62.88 (-0.89) |",
        "| 3, 4 | 2 | 81.0 ± 1.4 |  | 63.77 |",
        "| 2, 3, 4 |  |  |  | 62.66 (-1.11) |",
    ]
    records("ablation", [drawn(1, 0.85, **stage)])
    assert "| 4 | 1 of 2 | 85.0 | +3.0 | 62.88 (-0.89) |" in reported.ablation_table("csg-stages")


def test_what_an_ablation_does_not_vary_must_be_equal(records):
    records("cartoon", [drawn(0, 0.8)])
    records("ablation", [drawn(0, 0.7, 12)])
    assert "| 12 | 1 of 2 | 70.0 | -10.0 | 62.61 (-0.27) |" in reported.ablation_table("csg-augmentation")
    records("ablation", [drawn(0, 0.7, 12, protocol={"image_size": 96})])
    with pytest.raises(ValueError, match="differ in image_size"):
        reported.ablation_table("csg-augmentation")


def test_numbers_that_lead_nowhere_are_refused():
    row = {"setting": "1", "ours": "csg"}
    with pytest.raises(ValueError, match="one row is the base"):
        reported.Ablation(name="a", what="b", rows=[row])
    with pytest.raises(ValueError, match="no column cka"):
        reported.Measures(pair="a", paper="b", columns={"ap": "AP"}, values={"csg": {"cka": 1}})


def test_every_pair_has_a_command_that_runs_it():
    text = tables.pair_commands()
    for path in sorted((reported.HERE / "pairs").glob("*.yaml")):
        (line,) = [line for line in text.splitlines() if line.startswith(f"| `{path.stem}` ")]
        grid = read_grid(tables.ROOT / line.split("`")[3].removeprefix("synreal bench "))
        assert path.stem in [pair.stem for pair in grid.pairs]


def test_the_committed_costs_are_those_of_the_grids():
    result = json.loads((costs.RESULTS / "costs.json").read_text())
    assert costs.render(result) == (costs.RESULTS / "costs.md").read_text()
    assert [row["grid"] for row in result["grids"]] == [f"papers/{path.name}" for path in costs.grids()]
    loading = {"classification": 100.0, "segmentation": 10.0, "detection": 10.0}
    for name in ("csg-pooling", "gcisg-gta5", "csg-sim10k"):
        row = next(row for row in result["grids"] if row["grid"] == f"papers/{name}.yaml")
        grid = read_grid(costs.HERE / "papers" / f"{name}.yaml")
        assert costs.cost_of(grid, row["grid"], result["networks"], loading) | {"loading": row["loading"]} == row


def test_operations_are_those_of_all_passes():
    path = costs.HERE / "papers" / "pairs" / "visda17-gcisg.yaml"
    values = yaml.safe_load(path.read_text()) | {"testing": {}, "max_steps": 10}
    found = {}
    for method in ("none", "oracle", "guidance", "csg", "gcisg"):
        config = synreal.RunConfig(**{**values, "regularizers": method})
        tests = 30 * 55_388 * 3.0
        found[method] = (costs.flops_of(config, {"whole": 3.0, "backbone": 2.0}) - tests) / (10 * 64)
    # A pass with gradient counts three times: the task's own of 3.0, one more of gcisg's backbone.
    assert found == pytest.approx({"none": 9, "oracle": 2 + 3, "guidance": 9 + 2, "csg": 9 + 4, "gcisg": 9 + 6 + 6})

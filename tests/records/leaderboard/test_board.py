import statistics

import pytest

from synreal.errors import ConfigError
from synreal.records import Change
from synreal.records.leaderboard import Found, build
from synreal.records.leaderboard.papers import all_published, kind_of
from synreal.tasks.base import TASKS
from tests.records.made import made

SEEDS = (0, 1, 2)
NONE = (0.70, 0.72, 0.74)
CSG = (0.80, 0.79, 0.83)


def found(*runs):
    return [Found(run, f"place {number}") for number, run in enumerate(runs)]


def both(**given):
    """Three seeds of none and of csg."""
    return [
        made(method, seed, values[seed], **given)
        for seed in (2, 0, 1)
        for method, values in (("csg", CSG), ("none", NONE))
    ]


def section(*runs, **given):
    (one,) = build(found(*runs), **given).sections
    return one


def rows(board, kind):
    return {row.method: row for row in board.rows if row.kind == kind}


# --- rows ---


def test_a_row_holds_independently_computed_numbers():
    one = rows(section(*both()), "run")["csg"]
    assert (one.pair, one.task, one.peeks, one.seeds) == ("cartoon -> photo", "classification", False, [0, 1, 2])
    assert one.values == list(CSG)
    assert one.mean == pytest.approx(statistics.fmean(CSG))
    assert one.std == pytest.approx(statistics.stdev(CSG))
    differences = [csg - none for csg, none in zip(CSG, NONE, strict=True)]
    assert one.difference == pytest.approx(statistics.fmean(differences))
    assert one.interval == pytest.approx((min(differences), max(differences)))
    assert (one.better, one.verdict, one.rank, one.missing) == (3, "better", 1, [])
    assert (one.measure, one.unit, one.higher_is_better) == ("mean-class", "%", True)


def test_the_baseline_has_no_difference_to_itself():
    one = rows(section(*both()), "run")["none"]
    assert (one.difference, one.interval, one.better, one.verdict, one.rank) == (None, None, None, None, 2)


def test_another_baseline_turns_the_difference_round():
    one = rows(section(*both(), baseline="csg"), "run")["none"]
    assert one.difference == pytest.approx(statistics.fmean(NONE) - statistics.fmean(CSG))
    assert one.verdict == "worse"


def test_a_baseline_that_is_nowhere_is_an_error_and_one_that_a_pair_lacks_is_not():
    with pytest.raises(ConfigError, match=r"No run of the baseline 'nome' is there: found csg, none\."):
        build(found(*both()), baseline="nome")
    alone = build(found(*both(), made("csg", source="sketch"))).sections[1]
    assert alone.baseline is None
    assert alone.rows[0].difference is None


def test_seeds_of_runs_that_changed_are_named():
    change = Change(what="threads", then="1", now="2", step=10)
    runs = [run.model_copy(update={"changes": [change]}) if run.method == "csg" else run for run in both()]
    found = rows(section(*runs), "run")
    assert (found["csg"].changed, found["none"].changed) == ([0, 1, 2], [])


def test_only_shared_seeds_are_paired_and_missing_ones_are_named():
    one = section(made("none", 0, 0.5), made("none", 1, 0.6), made("csg", 1, 0.8), made("csg", 5, 0.1))
    csg, none = (rows(one, "run")[name] for name in ("csg", "none"))
    assert csg.differences == pytest.approx({1: 0.2})
    assert (csg.interval, csg.better, csg.verdict) == (None, 1, None)
    assert (csg.missing, none.missing) == ([0], [5])


@pytest.mark.parametrize(
    ("values", "verdict"), [((0.9, 0.8), "better"), ((0.1, 0.2), "worse"), ((0.9, 0.1), "mixed"), ((0.5, 0.9), "mixed")]
)
@pytest.mark.parametrize("higher", [True, False])
def test_a_verdict_needs_every_seed_and_follows_the_direction(values, verdict, higher):
    kinds = {"higher": higher, "measure": "x"}
    runs = [made("csg", seed, value, **kinds) for seed, value in enumerate(values)]
    one = section(*runs, made("none", 0, 0.5, **kinds), made("none", 1, 0.5, **kinds))
    turned = {"better": "worse", "worse": "better", "mixed": "mixed"}
    assert rows(one, "run")["csg"].verdict == (verdict if higher else turned[verdict])


def test_the_best_comes_first_in_either_direction_and_equal_ones_share_a_rank():
    for higher in (True, False):
        kinds = {"higher": higher, "measure": "x"}
        runs = [made(name, 0, value, **kinds) for name, value in (("none", 0.2), ("csg", 0.9), ("oracle", 0.9))]
        ranked = section(*runs).ranked
        assert [row.rank for row in ranked] == ([1, 1, 3] if higher else [1, 2, 2])
        assert (ranked[0].method == "none") is not higher


def test_a_score_that_is_not_defined_is_nowhere_averaged_in():
    one = section(made("none", 0, 0.5), made("none", 1, 0.5), made("csg", 0, None), made("csg", 1, 0.9))
    csg = rows(one, "run")["csg"]
    assert (csg.mean, csg.std, csg.difference, csg.rank, csg.values) == (None, None, None, None, [None, 0.9])
    assert one.ranked[-1] is csg


# --- protocols and pairs ---


def test_protocols_never_share_a_section_and_their_difference_is_named():
    other = [made("csg", 0, 0.9, protocol={"steps": 520}), made("none", 0, 0.8, protocol={"steps": 520})]
    first, second = build(found(*other, *both())).sections
    assert first.protocol.startswith("tf_efficientnet_lite0, 112 px, 195 steps of 32, ")
    assert (first.differs, second.differs) == ([], ["steps"])
    assert rows(second, "run")["csg"].difference == pytest.approx(0.1)
    assert [row.rank for row in second.ranked] == [1, 2]


def test_a_protocol_says_of_how_many_batches_a_step_is():
    (one,) = build(
        found(*(made(name, 0, 0.9, config={"training": {"accumulate": 4}}) for name in ("none", "csg")))
    ).sections
    assert one.protocol.startswith("tf_efficientnet_lite0, 112 px, 195 steps of 4 x 32, ")


def test_what_saw_the_target_is_ranked_apart_and_says_so():
    saw = {"seen_of_target": "images", "phases": ["train", "self_train"]}
    first, second = build(found(*both(), made("csg", 0, 0.99, protocol=saw))).sections
    assert {row.seen_of_target for row in first.rows} == {"nothing"}
    assert second.rows[0].seen_of_target == "images"
    assert "saw images of the target" in second.protocol
    assert second.rows[0].difference is None


def test_what_used_real_images_is_ranked_apart_and_says_so():
    used = {"real_images": {"style_bank": "f"}}
    first, second = build(found(*both(), made("csg", 0, 0.99, protocol=used))).sections
    assert {row.real_images for row in first.rows} == {False}
    assert second.rows[0].real_images
    assert second.rows[0].seen_of_target == "nothing"
    assert "uses real images" in second.protocol
    assert second.rows[0].consists_of.endswith("training saw nothing of the target, style_bank uses real images")
    assert second.differs == ["real_images"]
    assert second.rows[0].difference is None


def test_each_target_of_a_run_is_a_pair():
    runs = [made(name, 0, targets={"mnist": 0.5, "uci": 0.25}, source="digits") for name in ("none", "csg")]
    assert list(build(found(*runs)).pairs) == [
        ("digits -> mnist", "classification"), ("digits -> uci", "classification"),
    ]  # fmt: skip


def test_tasks_of_one_pair_stand_apart():
    masks = {"protocol": {"task": "segmentation"}}
    board = build(found(*both(), *both(**masks)))
    assert [task for _, task in board.pairs] == ["classification", "segmentation"]
    assert [section.differs for section in board.sections] == [[], []]


def test_a_run_that_is_there_twice_counts_once():
    assert rows(section(*both(), *both()), "run")["csg"].seeds == [0, 1, 2]


def test_two_different_runs_of_one_seed_are_an_error_that_names_both_places():
    with pytest.raises(ConfigError, match=r"csg, seed 0, on cartoon -> photo is there twice.*place 0 and place 1"):
        build(found(made("csg", 0, 0.5), made("csg", 0, 0.6), made("none", 0)))


def test_no_records_are_an_empty_board():
    assert build([]).rows == []


# --- early stops, averages, peeks ---


def test_variants_of_a_run_are_rows_of_their_own():
    runs = both(early=0.75, averaged=0.78, peek=0.9)
    one = section(*runs)
    early, averaged, peeking = (rows(one, kind) for kind in ("early stop", "averaged", "best epoch (peeks)"))
    assert {*early} == {*averaged} == {*peeking} == {"csg", "none"}
    assert early["none"].mean == pytest.approx(0.75)
    assert early["none"].difference == pytest.approx(0.75 - 0.72)  # to the last epoch of none
    assert early["none"].heldout is None
    assert averaged["csg"].detail == "wise_ft(0.5)"
    assert averaged["csg"].heldout == pytest.approx(0.9)
    assert [row.peeks for row in peeking.values()] == [True, True]
    assert {row.rank for row in peeking.values()} == {None}
    assert not {id(row) for row in one.peeking} & {id(row) for row in one.ranked}


def test_short_tables_leave_variants_to_the_baseline():
    one = section(*both(early=0.75, averaged=0.78))
    assert [(s.row.method, s.row.kind) for s in one.shown()] == [
        ("csg", "run"), ("none", "averaged"), ("none", "early stop"), ("none", "run"),
    ]  # fmt: skip
    assert len(one.shown(variants=True)) == 6


# --- cost, held-out ---


def test_cost_is_relative_to_the_baseline_and_of_medians():
    runs = [made("none", seed, cost={"step_seconds": s, "memory": 100}) for seed, s in enumerate((1.0, 2.0, 30.0))]
    runs += [made("csg", seed, cost={"step_seconds": s, "memory": 150}) for seed, s in enumerate((3.0, None, 3.0))]
    csg = rows(section(*runs), "run")["csg"]
    assert (csg.time, csg.memory) == (1.5, 1.5)


@pytest.mark.parametrize("measured", [{"threads": 2}, {"clock": "processor"}])
def test_times_of_other_threads_or_clocks_do_not_compare(measured):
    csg = rows(section(made("none"), made("csg", cost=measured)), "run")["csg"]
    assert (csg.time, csg.memory) == (None, 1.0)


def test_held_out_means_need_every_seed():
    runs = [made("csg", 0, heldout=0.8, shifted={"blur": 0.5, "noise": 0.7}), made("csg", 1, heldout=0.9)]
    csg = rows(section(*runs, made("none")), "run")["csg"]
    assert (csg.heldout, csg.shifted) == (pytest.approx(0.85), None)
    assert rows(section(runs[0], made("none")), "run")["csg"].shifted == pytest.approx(0.6)


# --- weights ---

CURVE = {0.01: (0.92, 0.70), 0.1: (0.91, 0.80), 1.0: (0.80, 0.85)}  # held-out and target by weight


def sweep(curve=CURVE, **given):
    return [
        made("csg", 0, target, weight=weight, heldout=heldout, **given) for weight, (heldout, target) in curve.items()
    ]


def test_a_sweep_is_a_curve_and_its_points_are_not_ranked():
    one = section(*sweep(), made("none", 0, 0.6))
    (curve,) = one.curves
    assert [point.factor for point in curve.points] == pytest.approx([0.1, 1, 10])
    assert [point.chosen_by for point in curve.points] == [("heldout",), (), ()]
    assert [point.best for point in curve.points] == [False, False, True]
    assert [point.row.mean for point in curve.points] == [0.70, 0.80, 0.85]
    assert list(rows(one, "weight")) == ["csg(weight=0.01)", "csg(weight=1.0)"]
    assert [(row.method, row.kind) for row in one.ranked] == [
        ("csg", "run"), ("csg(weight=0.01)", "selected weight"), ("none", "run"),
    ]  # fmt: skip
    best = rows(one, "best weight (peeks)")["csg(weight=1.0)"]
    assert (best.peeks, best.rank, best.factor) == (True, None, pytest.approx(10))
    assert one.ranked[1].detail == "heldout"


def test_a_choice_that_two_rules_share_is_shown_once():
    runs = sweep({0.1: (0.9, 0.8), 1.0: (0.8, 0.7)}, shifted={"blur": 0.5})
    one = section(*runs, made("none", 0, 0.6))
    assert len([row for row in one.ranked if row.kind == "selected weight"]) == 2
    assert [(s.row.method, s.chosen_by) for s in one.shown()] == [
        ("csg", ("heldout",)), ("csg(weight=1.0)", ("shifted",)), ("none", ()),
    ]  # fmt: skip
    runs = sweep({0.01: (0.9, 0.7), 0.1: (0.8, 0.8)}, shifted={"blur": 0.5})
    runs[1].shifted["blur"].measures["mean_class_accuracy"] = 0.1
    assert [(s.row.method, s.chosen_by) for s in section(*runs, made("none", 0, 0.6)).shown()] == [
        ("csg", ()), ("csg(weight=0.01)", ("heldout", "shifted")), ("none", ()),
    ]  # fmt: skip


def test_a_sweep_that_is_not_complete_says_why_nothing_is_chosen():
    one = section(made("csg", 0, weight=0.1), made("csg", 1, weight=1.0), made("none"))
    assert one.curves[0].notes == ["There is no weight to choose: no seed was run at every weight."]
    assert [point.chosen_by for point in one.curves[0].points] == [(), ()]


def test_other_settings_of_a_method_are_methods_of_their_own():
    one = section(made("csg", 0, 0.5), made("csg", 0, 0.7, regularizer={"stages": [4]}), made("none"))
    assert list(rows(one, "run")) == ["csg(stages=[4])", "csg", "none"]
    assert one.curves == []


# --- papers ---


def test_published_numbers_stand_beside_runs_of_their_pair():
    config = {"data": {"source": "visda17:VisDA", "targets": ["visda17(root='VisDA')"]}}
    board = build(found(made("none", source="visda17", target="visda17", config=config), *both()))
    (papers,) = board.papers.values()
    assert {row.kind for row in papers} == {"paper"}
    assert {row.rank for row in papers} == {None}
    csg = next(row for row in papers if row.method == "csg")
    assert (csg.mean, csg.difference) == (pytest.approx(0.6405), pytest.approx(0.6405 - 0.493))
    assert csg.source.startswith("CSG (Chen et al., ICLR 2021)")
    assert csg.protocol.startswith("paper: ResNet-101")
    assert board.rows[-len(papers) :] == papers


@pytest.mark.parametrize("written", ["gta5", "gta5:here", "gta5(root='x')", {"format": "gta5", "root": "x"}])
def test_the_kind_of_data_is_read_however_it_is_written(written):
    assert kind_of(written) == "gta5"


def test_every_published_pair_is_one_that_can_be_run():
    from synreal.data import DATA

    for one in all_published():
        assert {one.source, one.target} <= set(DATA.available())
        assert one.task in TASKS.available()
        assert all(0 < value < 100 for table in one.tables for value in (table.alone, *table.values.values()))

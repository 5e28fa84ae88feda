import math
import statistics

import pytest

from synreal.errors import ConfigError
from synreal.records import RULES, best_on_target, by_weight, select
from tests.records.made import made

# mean of held-out source by weight, each with seeds 0, 1, 2; the best one's standard error is 0.01 / sqrt(3)
HELDOUT = {0.01: 0.90, 0.03: 0.91, 0.1: 0.9053, 0.3: 0.903, 1.0: 0.80}


def sweep(values=None, spread=0.01, seeds=(0, 1, 2), **given):
    """Runs of csg at several weights, given out of order."""
    values = HELDOUT if values is None else values
    return [
        made("csg", seed, weight=weight, heldout=value + spread * (seed - 1), **given)
        for seed in seeds
        for weight, value in reversed(values.items())
    ]


def test_runs_are_put_together_by_weight_and_seed():
    curves = by_weight([*sweep(seeds=(2, 0)), made("none", 0), made("feature_l2", 0)])
    assert list(curves) == ["csg", "none", "feature_l2"]
    assert [one.weight for one in curves["csg"]] == sorted(HELDOUT)
    assert [one.factor for one in curves["csg"]] == pytest.approx([0.1, 0.3, 1.0, 3.0, 10.0])
    assert [[run.protocol.seed for run in one.records] for one in curves["csg"]] == [[0, 2]] * 5
    assert [one.factor for one in curves["none"]] == [1.0]


def test_a_run_that_differs_in_more_than_its_weight_is_no_point_of_the_curve():
    both = made("csg", 0)
    both = both.model_copy(update={"regularizers": both.regularizers * 2, "defaults": both.defaults * 2})
    others = [both, made("csg", 1, weight=1.0, regularizer={"stages": [4]})]
    assert [one.factor for one in by_weight([*others, made("csg", 2)])["csg"]] == [1.0]


def test_a_method_without_a_weight_has_no_curve():
    weightless = made("csg").model_copy(update={"regularizers": [{"name": "x"}], "defaults": [{"name": "x"}]})
    assert by_weight([weightless]) == {}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (made("csg", 1, protocol={"steps": 196}), "Runs do not compare: they differ in steps"),
        (made("csg", 1, config={"training": {"lr": 0.1}}), "they differ in training.lr"),
        (made("csg", 0), r"csg at weight 0.1 has two runs of one seed: \[0, 0\]"),
    ],
)
def test_runs_that_are_no_sweep_are_refused(other, message):
    with pytest.raises(ConfigError, match=message):
        by_weight([made("csg", 0), other])


def test_the_largest_weight_within_one_standard_error_of_the_best_is_chosen():
    (curve,) = by_weight(sweep()).values()
    error = statistics.stdev([0.90, 0.91, 0.92]) / math.sqrt(3)
    assert 0.91 - 0.9053 < error < 0.91 - 0.903
    assert select(curve, "heldout").weight == 0.1


@pytest.mark.parametrize(("spread", "weight"), [(0.0, 0.03), (0.013, 0.3), (0.5, 1.0)])
def test_the_more_seeds_differ_the_larger_the_weight(spread, weight):
    assert select(by_weight(sweep(spread=spread))["csg"], "heldout").weight == weight


def test_a_single_seed_has_no_error():
    assert select(by_weight(sweep(seeds=(1,)))["csg"], "heldout").weight == 0.03


def test_of_equal_weights_the_largest_is_chosen():
    assert select(by_weight(sweep(dict.fromkeys(HELDOUT, 0.9), spread=0))["csg"], "heldout").weight == 1.0


def test_a_measure_of_which_less_is_better_is_followed_downwards():
    kinds = {"measure": "error", "unit": "", "higher": False}
    curve = by_weight(sweep({0.1: 0.3, 1.0: 0.2, 3.0: 0.5}, spread=0, value=0.1, **kinds))["csg"]
    assert select(curve, "heldout").weight == 1.0


def test_the_rule_of_shifted_images_looks_at_the_mean_of_their_styles():
    styles = {0.1: {"blur": 0.6, "noise": 0.6}, 1.0: {"blur": 0.9, "noise": 0.4}, 3.0: {"blur": 0.5, "noise": 0.5}}
    runs = [made("csg", 0, weight=weight, heldout=weight, shifted=found) for weight, found in styles.items()]
    curve = by_weight(runs)["csg"]
    assert select(curve, "shifted").weight == 1.0
    assert select(curve, "heldout").weight == 3.0


def test_scores_that_the_rule_needs_must_be_there():
    runs = [made("csg", 0, shifted={"blur": 0.5}), made("csg", 0, weight=1.0)]
    with pytest.raises(ConfigError, match=r"csg\(weight=1\.0\), seed 0, was not tested .* run it with testing\.shifts"):
        select(by_weight(runs)["csg"], "shifted")
    runs[1] = made("csg", 0, weight=1.0, shifted={"noise": 0.5})
    with pytest.raises(ConfigError, match=r"Runs of csg were tested in different styles.*: blur; noise"):
        select(by_weight(runs)["csg"], "shifted")


def test_seeds_that_a_weight_lacks_are_not_looked_at():
    runs = [made("csg", seed, weight=0.1, heldout=value) for seed, value in enumerate([0.5, 0.9])]
    runs.append(made("csg", 0, weight=1.0, heldout=0.6))
    assert select(by_weight(runs)["csg"], "heldout").weight == 1.0
    with pytest.raises(ConfigError, match="no seed was run at every weight"):
        select(by_weight(runs[1:])["csg"], "heldout")


def test_undefined_scores_are_passed_over():
    runs = [made("csg", 0, weight=0.1, heldout=0.5), made("csg", 0, weight=1.0, heldout=None)]
    assert select(by_weight(runs)["csg"], "heldout").weight == 0.1
    with pytest.raises(ConfigError, match="No weight of csg has a defined score"):
        select(by_weight(runs[1:])["csg"], "heldout")


@pytest.mark.parametrize("rule", RULES)
def test_a_choice_sees_nothing_of_the_target(rule):
    for low, high in ((0.1, 0.9), (0.9, 0.1)):
        runs = [
            made("csg", 0, high if weight == 0.1 else low, weight=weight, heldout=0.5, shifted={"blur": weight})
            for weight in (0.1, 0.3, 1.0)
        ]
        assert select(by_weight(runs)["csg"], rule).weight == 1.0


def test_the_best_weight_on_the_target():
    runs = [made("csg", seed, weight + seed / 10, weight=weight) for weight in (0.1, 0.3) for seed in (0, 1)]
    assert best_on_target(by_weight(runs)["csg"], "photo").weight == 0.3
    falling = [
        made("csg", 0, value, weight=weight, higher=False, measure="error") for weight, value in ((0.1, 0.2), (1, 0.9))
    ]
    assert best_on_target(by_weight(falling)["csg"], "photo").weight == 0.1


def test_what_cannot_be_chosen_by():
    with pytest.raises(ConfigError, match=r"Unknown rule 'held_out'\. Did you mean 'heldout'"):
        select(by_weight(sweep())["csg"], "held_out")
    with pytest.raises(ConfigError, match="no run differs from its defaults in the weight alone"):
        select([], "heldout")

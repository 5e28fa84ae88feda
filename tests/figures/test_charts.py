"""Figures of numbers that runs left behind: the data behind what is drawn."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.figure import Figure

from synreal.errors import ConfigError
from synreal.figures import (
    Chart,
    Gain,
    Line,
    Sweep,
    chart_of,
    figures_of,
    gain_scatter,
    history_curves,
    register,
    save_drawing,
    weight_curves,
)
from synreal.figures.gain import gains_of
from synreal.figures.plots import apart, place_labels, wrapped
from synreal.figures.series import style, styles_of
from synreal.records import History, SetHistory
from synreal.records.leaderboard import Found, build
from tests.records.made import made


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draw a chart; gives the figure, which is not rendered."""
    made_figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: made_figures.append(figure))

    def draw(name, needs, numbers):
        chart_of(name, needs).draw(numbers, tmp_path / "a.png")
        return made_figures.pop()

    return draw


def lines(axes):
    """Lines by label, those that only help to read left out."""
    return {line.get_label(): tuple(map(list, line.get_data())) for line in axes.lines if line.get_label()[0] != "_"}


def texts(axes):
    return [text.get_text() for text in axes.texts]


def whole_text(figure):
    return " ".join(texts(figure.axes[0]))


# --- curves ---


def history(label, seed, source, photo, steps=(65, 130), **change):
    tested = {"measure": "accuracy", "heading": "overall", "unit": "%", "steps": steps, **change}
    sets = {"source": SetHistory(values=source, **tested), "photo": SetHistory(values=photo, **tested)}
    return History(label, seed, sets, f"{label}-{seed}", {})


def test_a_line_is_the_mean_over_seeds_and_its_band_their_range(drawn):
    runs = [history("none", 0, (0.8, 0.9), (0.7, 0.5)), history("none", 1, (0.8, 0.7), (0.5, 0.4))]
    runs.append(history("csg", 0, (0.7, 0.8), (0.6, 0.65)))
    figure = drawn("curves", "histories", runs)
    source, photo = figure.axes[1:]
    assert lines(source) == {"csg": ([65, 130], [70, 80]), "none": ([65, 130], pytest.approx([80, 80]))}
    assert lines(photo)["none"] == ([65, 130], pytest.approx([60, 45]))  # the fall
    (band,) = (one for one in photo.collections if isinstance(one, PolyCollection))
    assert {tuple(np.round(point, 9)) for point in band.get_paths()[0].vertices} == {
        (65, 50),
        (65, 70),
        (130, 40),
        (130, 50),
    }
    assert [axes.get_title(loc="left") for axes in (source, photo)] == ["held-out source (synthetic)", "photo (real)"]
    assert {axes.get_ylabel() for axes in (source, photo)} == {"overall %"}
    assert {axes.get_xlabel() for axes in (source, photo)} == {"step"}
    assert "mean over 1 to 2 seeds" in whole_text(figure)
    assert all(set(texts(axes)) == {"none", "csg"} for axes in (source, photo))  # by name, at the ends
    low, high = photo.get_ylim()
    assert high - low < 40  # its own scale: the fall shows


def test_a_test_that_a_seed_lacks_leaves_a_gap(drawn):
    runs = [history("none", 0, (0.8, 0.9), (0.7, math.nan)), history("none", 1, (0.8,), (0.5,), steps=(65,))]
    for axes, first in zip(drawn("curves", "histories", runs).axes[1:], (80, 60), strict=True):
        steps, values = lines(axes)["none"]
        assert steps == [65, 130]
        assert values[0] == pytest.approx(first)
        assert math.isnan(values[1])


def test_a_run_that_has_not_finished_takes_its_heading_from_the_measure(drawn):
    run = history("none", 0, (0.8, 0.9), (0.7, 0.6), measure="mean_class_accuracy", heading=None, unit=None)
    axes = drawn("curves", "histories", [run]).axes[1]
    assert axes.get_ylabel() == "mean-class %"
    assert lines(axes)["none"][1] == pytest.approx([80, 90])
    unknown = drawn(
        "curves", "histories", [history("none", 0, (2.0, 3.0), (1.0, 1.0), measure="mine", heading=None, unit=None)]
    )
    assert unknown.axes[1].get_ylabel() == "mine"
    assert lines(unknown.axes[1])["none"][1] == [2, 3]


def test_of_many_methods_the_baseline_alone_has_a_band():
    line = Line([1, 2], [[1.0, 2.0], [2.0, 3.0]])
    panels = {"source": dict.fromkeys(["csg", *"abcdef", "none"], line)}
    figure = history_curves(panels, {"source": "m"})
    bands = [one for one in figure.axes[1].collections if isinstance(one, PolyCollection)]
    assert [one.get_label() for one in bands] == ["_none"]
    assert "none alone has a band" in whole_text(figure)
    assert len(set(texts(figure.axes[1]))) == 8


@pytest.mark.parametrize("panels", [{}, {"source": {}}, {"source": {"none": Line([1, 2], [[1.0]])}}])
def test_curves_without_numbers_are_refused(panels):
    with pytest.raises(ConfigError, match=r"need a tested run|expected one value a step"):
        history_curves(panels, dict.fromkeys(panels, "m"))


# --- weights ---


def board(*records):
    return build([Found(record, f"{number}") for number, record in enumerate(records)])


def swept():
    """csg and none on a pair: real images are best at 0.3 times the default weight, held-out ones at the default."""
    target = {0.03: 0.62, 0.1: 0.6, 1.0: 0.5}
    runs = [
        made("csg", s, value + s / 100, weight=w, heldout=0.9 - abs(w - 0.1))
        for w, value in target.items()
        for s in (0, 1)
    ]
    return board(*runs, *(made("none", s, 0.4, heldout=0.88) for s in (0, 1)))


def test_scores_stand_over_multiples_of_the_default_weight(drawn):
    figure = drawn("weights", "board", swept())
    axes = figure.axes[1]
    found = lines(axes)
    assert found["real"] == (pytest.approx([0.3, 1, 10]), pytest.approx([62.5, 60.5, 50.5]))
    assert found["synthetic"] == (pytest.approx([0.3, 1, 10]), pytest.approx([83, 90, 0]))
    assert found["none, real"][1] == pytest.approx([40, 40])
    assert found["none, synthetic"][1] == pytest.approx([88, 88])
    assert found["default"][0] == [1, 1]
    assert found["chosen"] == ([pytest.approx(1)], [pytest.approx(60.5)])  # the rule's, by held-out images
    assert axes.get_xscale() == "log"
    assert axes.get_title(loc="left") == "csg, cartoon → photo"
    assert axes.get_ylabel() == "mean-class %"
    assert {"real", "synthetic", "none, real", "none, synthetic", "default"} == set(texts(axes))
    seeds = sorted(round(float(y), 6) for line in axes.lines if line.get_label() == "_seeds" for y in line.get_ydata())
    assert seeds == [50, 51, 60, 61, 62, 63]


def test_real_and_synthetic_differ_by_more_than_colour(drawn):
    real, synthetic = (
        next(line for line in drawn("weights", "board", swept()).axes[1].lines if line.get_label() == name)
        for name in ("real", "synthetic")
    )
    assert real.get_marker() != synthetic.get_marker()
    assert real.get_linestyle() != synthetic.get_linestyle()


def test_a_board_without_a_sweep_is_refused(drawn):
    with pytest.raises(ConfigError, match=r"No curve of a weight is on the board.*'weights: \[0.1, 1, 10\]'"):
        drawn("weights", "board", board(made("csg"), made("none")))


@pytest.mark.parametrize("change", [{"factors": [1.0]}, {"factors": [0.0, 1.0]}, {"heldout": [1.0]}])
def test_sweeps_that_do_not_fit_are_refused(change):
    given = {"factors": [0.1, 1.0], "target": [[1.0], [2.0]], "heldout": [1.0, 1.0], **change}
    with pytest.raises(ConfigError, match=r"t: weights .* Expected two weights above 0"):
        weight_curves([Sweep("t", "m", **given)])
    with pytest.raises(ConfigError, match="needs a sweep"):
        weight_curves([])


# --- gain ---


def several_pairs():
    runs = []
    for pair, (frozen, csg) in {"a": (0.6, 0.55), "b": (0.4, 0.45)}.items():
        for seed in (0, 1):
            runs += [made("none", seed, 0.5, source=pair), made("oracle", seed, frozen + seed / 50, source=pair)]
            runs.append(made("csg", seed, csg + seed / 50 - 0.01 * (pair == "b"), source=pair))
    runs.append(made("feature_l2", 0, 0.5, source="a"))
    return [*runs, made("none", 0, 0.5, source="c"), made("csg", 0, 0.6, source="c")]


def scattered(axes):
    return {
        one.get_label(): [tuple(map(float, point)) for point in one.get_offsets()]
        for one in axes.collections
        if isinstance(one, PathCollection)
    }


def test_a_point_is_a_pair_and_each_method_has_a_panel(drawn):
    figure = drawn("gain", "board", board(*several_pairs()))
    csg, feature_l2 = figure.axes[1:]
    assert [axes.get_title(loc="left") for axes in (csg, feature_l2)] == ["csg", "feature_l2"]
    assert scattered(csg) == {"sure": [pytest.approx((11, 6)), pytest.approx((-9, -5))], "unsure": []}
    assert scattered(feature_l2) == {"sure": [], "unsure": [pytest.approx((11, 0))]}
    assert set(texts(csg)) == {"a → photo", "b → photo"}
    assert set(texts(feature_l2)) == {"a → photo"}
    assert (csg.get_xlabel(), csg.get_ylabel()) == ("frozen − none, points", "gain over none, points")
    assert csg.get_xlim() == feature_l2.get_xlim()
    assert csg.get_ylim() == feature_l2.get_ylim()
    zeros = [tuple(map(tuple, line.get_data())) for line in csg.lines if line.get_label() == "_zero"]
    assert zeros == [((0, 1), (0, 0)), ((0, 0), (0, 1))]
    assert "Not drawn, for want of a frozen network or a method: c → photo." in whole_text(figure)


def test_bars_are_the_intervals_of_the_board():
    gains, left_out, unit = gains_of(board(*several_pairs()))
    assert (left_out, unit) == (["c → photo"], "points")
    axes = gain_scatter([one for one in gains if one.method == "csg"]).axes[1]
    bars = [tuple(map(list, line.get_data())) for line in axes.lines if line.get_label() == "_gain interval"]
    assert bars == [
        ([pytest.approx(11)] * 2, pytest.approx([5, 7])),
        ([pytest.approx(-9)] * 2, pytest.approx([-6, -4])),
    ]
    across = [tuple(map(list, line.get_data())) for line in axes.lines if line.get_label() == "_frozen interval"]
    assert across[0] == (pytest.approx([10, 12]), [pytest.approx(6)] * 2)


def test_where_less_is_better_a_gain_is_still_upward():
    runs = [
        made(m, s, v, measure="error", unit="", higher=False)
        for s in (0, 1)
        for m, v in (("none", 5.0), ("oracle", 4.0), ("csg", 3.0))
    ]
    gains, _, unit = gains_of(board(*runs))
    assert [(one.frozen, one.gain, one.gain_interval) for one in gains] == [(1, 2, (2, 2))]
    assert unit == ""


def test_two_protocols_of_a_pair_have_two_names():
    runs = [made(m, 0, 0.5, protocol={"epochs": e}) for e in (3, 9) for m in ("none", "oracle", "csg")]
    names = [one.pair for one in gains_of(board(*runs))[0]]
    assert len(set(names)) == 2
    assert all(name.startswith("cartoon → photo (") for name in names)


def test_a_board_without_a_pair_that_has_all_is_refused():
    with pytest.raises(ConfigError, match=r"No pair on the board has runs of none, of oracle and of a method"):
        gains_of(board(made("none"), made("csg")))
    mixed = [
        made(m, 0, 0.5, source=u or "n", unit=u, measure=f"m{u}") for u in ("%", "") for m in ("none", "oracle", "csg")
    ]
    with pytest.raises(ConfigError, match="do not share an axis"):
        gains_of(board(*mixed))


@pytest.mark.parametrize("gains", [[], [Gain("a", "csg", 1, 1), Gain("a", "csg", 2, 2)]])
def test_gains_that_cannot_be_drawn_are_refused(gains):
    with pytest.raises(ConfigError, match=r"needs a method on a pair|Two gains are of one method and pair"):
        gain_scatter(gains)


def test_of_very_many_methods_those_with_most_pairs_are_drawn():
    gains = [Gain("a", f"m{number:02}", 1, 1) for number in range(13)] + [Gain("b", "m12", 2, 2)]
    figure = gain_scatter(gains)
    titles = [axes.get_title(loc="left") for axes in figure.axes[1:]]
    assert titles == [*(f"m{number:02}" for number in range(11)), "m12"]
    assert "1 method on fewer pairs not drawn" in whole_text(figure)


def test_of_very_many_pairs_that_are_not_drawn_some_are_named():
    text = whole_text(gain_scatter([Gain("a", "csg", 1, 1)], [f"pair {number}" for number in range(9)]))
    assert "pair 0, pair 1, pair 2, pair 3, and 5 more." in text


# --- what they share ---


def frames_overlap(labels):
    return any(a.frame.overlaps(b.frame) for a, b in itertools.combinations(labels, 2))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 2.4), st.floats(0, 2.0)), min_size=1, max_size=8))
def test_names_beside_points_cover_no_other(points):
    labels = place_labels(points, [f"source {i} → photo" for i in range(len(points))], (2.4, 2.0), [])
    assert not frames_overlap(labels)
    assert sorted(label.text for label in labels) == [f"source {i} → photo" for i in range(len(points))]
    for label in labels:
        assert label.frame.left >= 0
        assert label.frame.left + label.frame.width <= 2.4 + 1e-9
        assert 0 <= label.frame.top <= 2.0 - label.frame.height + 1e-9


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 2), min_size=1, max_size=9).map(sorted))
def test_names_at_the_ends_of_lines_are_apart_and_in_order(places):
    moved = apart(places, 0.15, 2.0)
    assert all(b - a >= 0.15 - 1e-9 for a, b in itertools.pairwise(moved))
    assert moved[0] >= 0
    assert moved[-1] <= 2.0 + 1e-9
    if all(b - a >= 0.15 for a, b in itertools.pairwise(places)):
        assert moved == pytest.approx(places)


def test_long_texts_are_broken_at_spaces():
    lines_of = wrapped("one two three " * 10, 1.0, 8)
    assert " ".join(lines_of) == " ".join(["one two three"] * 10)
    assert wrapped("", 1, 8) == []
    assert wrapped("a" * 60, 1, 8) == ["a" * 60]


def test_methods_differ_in_colour_marker_and_dashes_and_the_baseline_is_its_own():
    styles = styles_of(["csg", "none", "kl", "csg"])
    assert list(styles) == ["csg", "none", "kl"]
    assert styles["csg"] == styles_of(["csg"])["csg"]
    assert styles["none"].width > styles["csg"].width
    for field in ("colour", "marker", "dash"):
        assert len({str(getattr(one, field)) for one in styles.values()}) == 3
    assert len({(one.colour, one.marker, str(one.dash)) for one in map(style, range(440))}) == 440


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_drawing_is_the_same_each_time(ending, tmp_path):
    sweep = Sweep("a $x_1$ name", "m", [0.1, 1.0], [[1.0, 2.0], [2.0, 3.0]], [3.0, math.nan], (1.0, 2.0))
    files = [save_drawing(weight_curves([sweep]), tmp_path / "new" / f"{turn}.{ending}") for turn in range(2)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")


def test_a_drawing_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    figure = weight_curves([Sweep("t", "m", [0.1, 1.0], [[1.0], [2.0]], [3.0, 3.0])])
    with pytest.raises(ConfigError, match=r"a\.pdf: its ending does not say how to draw. End it in \.png or \.svg"):
        save_drawing(figure, tmp_path / "a.pdf")
    with pytest.raises(ConfigError, match=r"Cannot write .*a\.svg: "):
        save_drawing(figure, tmp_path / "file" / "a.svg")


@pytest.mark.usefixtures("own_registry")
def test_charts_are_told_from_other_figures():
    with pytest.raises(ConfigError, match="'gain' is not drawn from this: 'synreal leaderboard --figure' draws it"):
        chart_of("gain", "histories")
    with pytest.raises(
        ConfigError, match="'confusion' draws what a test gave; expected one that draws numbers that runs"
    ):
        chart_of("confusion", "board")
    with pytest.raises(
        ConfigError, match="'curves' draws numbers that runs left behind; expected one that draws what a test"
    ):
        figures_of(["curves"], "classes")
    with pytest.raises(ConfigError, match="Did you mean 'gain'"):
        chart_of("gains", "board")
    register(type("Mine", (Chart,), {"name": "mine", "summary": "s", "needs": "else", "draw": lambda *_: None}))
    with pytest.raises(ConfigError, match="another command draws it"):
        chart_of("mine", "board")

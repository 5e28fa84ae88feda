"""Contents of pages for tests: one network, two of them, and one whose names are attacks."""

import io
import json
from dataclasses import replace

import numpy as np
from PIL import Image

from synreal.records import History, SetHistory
from synreal.records.run_page import Contents, Example, Glimpse, MistakeKind, Picture, SetContents, Shot, Side
from tests.records.leaderboard.boards import ATTACK
from tests.records.made import made
from tests.records.test_look import look, measured, seen

RECALL = {"cat": 0.9, "dog": 0.4, "emu": None, "fox": 0.6}


def picture(alt, side=40):
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return Picture(file.getvalue(), "image/png", side, side, alt)


def record(method="csg", value=0.5, per_class=RECALL, **more):
    run = made(method, value=value, shifted={"blur": 0.7}, averaged=0.6, **more)
    score = run.targets["photo"].model_copy(update={"per_class": per_class, "per_class_heading": "Recall"})
    return run.model_copy(update={"targets": {"photo": score}})


def side(title="csg, seed 0", run=None, shift=0.0):
    measures = {
        "cka": measured(0.75 - shift, stages={"1": 0.99, "4": 0.75 - shift}),
        "ece": measured(0.1 + shift).model_copy(update={"heading": "ECE", "unit": "%", "higher_is_better": False}),
    }
    drift = measured(0.02 + shift, stages={"1": 0.01, "after 4": 0.04 + shift}, note="a note").model_copy(
        update={"heading": "drift", "unit": "%", "higher_is_better": False}
    )
    one = look(sets={"photo": seen(**measures)}, measures={"drift": drift}).model_copy(update={"title": title})
    return Side(one, run or record(), is_end=True)


def example(index, sides, *, shots=("image",), heat=False):
    shown = [Shot(picture(f"{name} of image {index}"), name, f"what {name} says") for name in shots]
    glimpses = [
        Glimpse(f"word {place}", float(place), picture(f"Grad-CAM over image {index}", 100) if heat else None)
        for place in range(sides)
    ]
    return Example(index, shown, glimpses)


def contents(*sides, several=False):
    """A page of so many networks; ``several`` shows each image by several pictures."""
    sides = sides or (side(),)
    number = len(sides)
    shots = ("image", "ground truth", "prediction", "the mistake") if several else ("image",)
    mistakes = [
        MistakeKind("dog", "cat", [(12, 20), (3, 20)][:number], [example(i, number, shots=shots) for i in (5, 7)]),
        MistakeKind("fox", None, [(2, 9), None][:number], [example(3, number, shots=shots)]),
        MistakeKind(None, "cat", [(1, None), (0, None)][:number], [example(1, number, shots=shots)]),
    ]
    groups = {
        "Wrong predictions": [example(i, number, heat=True) for i in (5, 8)],
        "Right predictions": [example(i, number, heat=True) for i in (0, 2, 9)],
    }
    sets = SetContents(
        "photo",
        [one.record.targets["photo"] if one.record else None for one in sides],
        "images",
        mistakes,
        {"cat": "#112233", "dog": "#445566"} if several else {},
        groups,
    )
    tested = SetHistory("mean_class_accuracy", "mean-class", "%", (65, 130), (0.5, float("nan")))
    return Contents(
        sides=sides,
        sets=[sets],
        charts=[picture("Curves", 400)],
        histories={one.title: History("csg", 0, {"source": tested, "photo": tested}, "p", {}) for one in sides},
        meanings={"cka": "how alike; 1 is the same", "ece": "how far", "drift": "how much"},
        heat_scale=Shot(picture("from dark to light", 8), "heat", "Share of the largest."),
        left_out=[("acc_in of csg", "it needs a folder.")],
    )


def compared():
    """A page of two networks."""
    other = side("none, seed 0", record("none", 0.6, {"cat": 0.8, "dog": 0.4, "emu": None, "fox": 0.7}), shift=0.05)
    return contents(side(), other, several=True)


def hostile():
    """A page of two networks of which each name and text is an attack."""

    def spoiled(value):
        """The same with attacks in place of words; keys that are names of fields or measures stay."""
        known = {"photo", "dog", "cat", "fox", "emu", "a note", "word 0", "word 1", "Wrong predictions"}
        if isinstance(value, str):
            return ATTACK if value in known or value.startswith(("what ", "Curves", "how ")) else value
        if isinstance(value, (list, tuple)):
            return [spoiled(one) for one in value]
        return {spoiled(key): spoiled(one) for key, one in value.items()} if isinstance(value, dict) else value

    def side_of(number):
        one = side()
        found = one.look.model_validate(spoiled(json.loads(one.look.model_dump_json())))
        run = one.record.model_validate(spoiled(json.loads(one.record.model_dump_json())))
        change = {"title": f"{ATTACK} {number}", "backbone": ATTACK, "checkpoint": ATTACK}
        return Side(found.model_copy(update=change), run.model_copy(update={"backbone": ATTACK}), is_end=True)

    sides = side_of(1), side_of(2)
    page = contents(*(replace(one, record=None) for one in sides))
    shot = Shot(picture(ATTACK), ATTACK, ATTACK)
    bad = Example(1, [shot], [Glimpse(ATTACK, 0.5, picture(ATTACK)), None])
    sets = SetContents(
        ATTACK,
        [run.record.targets[ATTACK] for run in sides],
        ATTACK,
        [MistakeKind(ATTACK, ATTACK, [(1, 2), None], [bad])],
        {ATTACK: ATTACK},
        {ATTACK: [bad]},
    )
    return replace(
        page,
        sides=sides,
        sets=[sets],
        charts=[picture(ATTACK)],
        meanings=dict.fromkeys(page.meanings, ATTACK),
        heat_scale=Shot(picture(ATTACK), ATTACK, ATTACK),
        left_out=[(ATTACK, ATTACK)],
    )

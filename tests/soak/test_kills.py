"""Runs that are killed at random, and gone on with, end in the same bits as one that nobody touched.

``SYNREAL_SOAK`` is the number of kills of each kind of run, ``SYNREAL_SOAK_SEED`` draws the same moments again.
"""

import os
import random

import pytest

from tests.soak.lives import Case, calls, draw_death, end, live

ASKED = os.environ.get("SYNREAL_SOAK")
NUMBER = int(ASKED or 2)
SEED = int(os.environ.get("SYNREAL_SOAK_SEED") or (random.randrange(2**32) if ASKED else 0))
SETTINGS = {"regularizers": "csg", "phases": ["pilot", "train"], "checkpoint_every": 2, "epochs": 1, "seed": 3}
CASES = {
    "classification": Case({**SETTINGS, "regularizers": "gcisg"}),
    "segmentation": Case({**SETTINGS, "task": "seg", "architecture": "fpn"}),
    "detection": Case({**SETTINGS, "task": "det", "architecture": "fcos"}),
    "two processes": Case({**SETTINGS, "batch_size": 3}, processes=2),
}
BY_DEFAULT = "classification"  # the others are for whoever asks for a number of kills


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Runs that nobody touched, made once: the folder, and the seconds that each took."""
    made = {}

    def get(name, **changes):
        key = name, repr(changes)
        if key not in made:
            folder = tmp_path_factory.mktemp("whole") / "run"
            made[key] = folder, checked(live(CASES[name], folder, **changes)).seconds
        return made[key]

    return get


def checked(life):
    """A life that ended well, or was ended by us."""
    assert life.killed or not any(life.codes), f"exit codes {life.codes}\n{life.said[-3000:]}"
    return life


@pytest.mark.parametrize("name", CASES if ASKED else [BY_DEFAULT])
def test_a_run_that_is_killed_again_and_again_ends_equal(name, whole, tmp_path):
    print(f"\nTo be repeated with SYNREAL_SOAK={NUMBER} SYNREAL_SOAK_SEED={SEED}, {name}.")
    case, draw = CASES[name], random.Random(f"{SEED} {name}")
    untouched, seconds = whole(name)
    kills = runs = 0
    while kills < NUMBER:
        folder, runs = tmp_path / f"run{runs}", runs + 1
        death = draw_death(draw, case, seconds, calls(untouched))
        while checked(live(case, folder, death)).killed:
            kills += 1
            death = draw_death(draw, case, seconds, calls(untouched)) if kills < NUMBER else None
        assert end(folder) == end(untouched)
    print(f"{kills} kills of {runs} runs, each of which ended equal.")


def test_another_seed_ends_otherwise(whole):
    ours, theirs = (end(whole(BY_DEFAULT, **changes)[0]) for changes in ({}, {"seed": 4}))
    for key in ("model", "metrics", "result", "state"):
        assert ours[key] != theirs[key]

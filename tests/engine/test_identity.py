"""What of a configuration may change when a run is gone on with."""

import pytest

from synreal.config import RunConfig
from synreal.engine import identity
from synreal.errors import ConfigError
from tests.engine import tiny


def stored(**changes):
    return tiny.make_config(changes.pop("output", None), **changes).model_dump(mode="json")


@pytest.mark.parametrize(
    "changes",
    [
        {"workers": 3}, {"log_every": 5}, {"output": "elsewhere"}, {"device": "auto"}, {"eval_batch_size": 1},
        {"checkpoint_every": 3}, {"keep_checkpoints": 9},
    ],
)  # fmt: skip
def test_settings_that_move_no_number_are_free(changes):
    assert identity.differences(stored(), stored(**changes)) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"lr": 0.01}, [("training.lr", 0.05, 0.01)]),
        ({"seed": 3}, [("training.seed", 0, 3)]),
        ({"accumulate": 2}, [("training.accumulate", 1, 2)]),
        ({"precision": "bf16"}, [("training.precision", "fp32", "bf16")]),
        ({"eval_every": 0}, [("testing.eval_every", 1, 0)]),
        ({"norm": "train"}, [("student.norm", "frozen", "train")]),
        ({"clip_norm": 1.0}, [("training.clip_norm", None, 1.0)]),
    ],
)
def test_all_others_are_told_with_both_values(changes, expected):
    assert identity.differences(stored(), stored(**changes)) == expected


def test_of_specs_only_the_setting_that_differs_is_told():
    one, other = (stored(regularizers=("feature_l2", f"weight_l2(weight={weight})")) for weight in (0.1, 0.2))
    assert identity.differences(one, other) == [("regularizers.weight_l2.weight", 0.1, 0.2)]
    (row,) = identity.differences(one, stored(regularizers=("feature_l2",)))
    assert row[0] == "regularizers"


def test_the_table_has_columns_and_short_values():
    lines = identity.table([("a", 1, "x" * 200), ("longer.key", None, 2.5)]).splitlines()
    assert lines[0].split() == ["key", "then", "now"]
    assert len({line.index(word) for line, word in zip(lines, ("then", "1", "None"), strict=True)}) == 1
    assert max(map(len, lines)) < 90


def test_every_free_setting_exists():
    known = {f"{section}.{key}" for section, values in stored().items() if isinstance(values, dict) for key in values}
    assert known >= identity.FREE_ON_RESUME
    with pytest.raises(
        ConfigError, match=r"\n +training\.lr +0\.05 +0\.2\n.*Free are data\.strict, data\.workers, output\."
    ):
        identity.check("runs/mine", stored(), RunConfig(**stored(lr=0.2)))

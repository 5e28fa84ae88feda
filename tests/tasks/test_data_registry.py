from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from synreal.errors import ConfigError
from synreal.tasks import data


def test_names_by_domain_and_task() -> None:
    assert {"digits", "mnist", "uci"} <= set(data.available())
    assert "digits" in data.available("source")
    assert {"mnist", "uci"} <= set(data.available("target", "classification"))
    assert not set(data.available("source")) & set(data.available("target"))
    assert data.available() == sorted(data.available())


@pytest.mark.parametrize("name", data.available())
def test_info_is_complete_and_frozen(name: str) -> None:
    entry = data.info(name)
    assert entry.name == name
    assert entry.tasks
    assert entry.classes
    assert entry.summary
    assert "\n" not in entry.summary
    assert entry.needs
    assert entry.splits == (("train", "heldout") if entry.domain == "source" else ("test",))
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("source", data.available("source"))
def test_default_targets_share_classes_and_task(source: str) -> None:
    targets = data.default_targets(source)
    assert targets
    for target in targets:
        assert data.info(target).domain == "target"
        assert data.info(target).classes == data.info(source).classes
        assert set(data.info(target).tasks) & set(data.info(source).tasks)


def test_default_targets_of_digits() -> None:
    assert data.default_targets("digits") == ("mnist", "uci")
    with pytest.raises(ConfigError, match=r"'mnist' is a target, expected a source: .*digits"):
        data.default_targets("mnist")


@pytest.mark.parametrize(
    ("name", "split", "count"),
    [("digits", "heldout", 1_000), ("mnist", "test", 5_000), ("uci", "test", 1_797)],
)
def test_loads_what_it_describes(name: str, split: str, count: int, tmp_path: Path) -> None:
    images = data.load(name, split, cache=tmp_path)
    assert (images.name, images.split, len(images)) == (name, split, count)
    assert images.classes == data.info(name).classes
    assert f"{count:,}" in data.info(name).summary


def test_seed_reaches_the_source(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="seed -5"):
        data.load("digits", "train", seed=-5, cache=tmp_path)


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    for call in (data.info, data.default_targets, lambda name: data.load(name, "test")):
        with pytest.raises(ConfigError, match=r"Unknown data set 'mnits'. Did you mean 'mnist'\?"):
            call("mnits")
    with pytest.raises(ConfigError, match=r"Unknown domain 'real'.*source, target"):
        data.available("real")
    with pytest.raises(ConfigError, match=r"Unknown task.*'juggling'.*classification"):
        data.available(task="juggling")


@pytest.mark.parametrize(
    ("name", "split", "known"),
    [("digits", "test", "train, heldout"), ("mnist", "train", "test"), ("uci", "", "test")],
)
def test_wrong_split_names_the_valid_ones(name: str, split: str, known: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}.*no split '{split}'\. Known: {known}\."):
        data.load(name, split)


def test_listing_imports_no_torch() -> None:
    code = "import sys; from synreal.tasks import data; data.info('digits'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from synreal.errors import ConfigError
from synreal.tasks import data
from synreal.tasks.data import scenes
from synreal.tasks.data.base import Boxes


def test_names_by_domain_and_task() -> None:
    assert {"digits", "mnist", "uci"} <= set(data.available())
    assert "digits" in data.available("source")
    assert {"mnist", "uci"} <= set(data.available("target", "classification"))
    assert not set(data.available("source")) & set(data.available("target"))
    assert data.available() == sorted(data.available())
    for task in ("segmentation", "detection"):
        assert {"digits", "mnist"} <= set(data.available(task=task))
        assert "uci" not in data.available(task=task)


@pytest.mark.parametrize("name", data.available())
def test_info_is_complete_and_frozen(name: str) -> None:
    entry = data.info(name)
    assert entry.name == name
    assert entry.tasks
    assert entry.tasks == tuple(entry.classes)
    assert all(entry.classes.values())
    assert json.loads(json.dumps(dataclasses.asdict(entry)))["classes"] == {
        task: list(classes) for task, classes in entry.classes.items()
    }
    assert entry.summary
    assert "\n" not in entry.summary
    assert entry.needs
    assert entry.splits == (("train", "heldout") if entry.domain == "source" else ("test",))
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("source", data.available("source"))
def test_default_targets_share_classes_and_task(source: str) -> None:
    for task in data.info(source).tasks:
        targets = data.default_targets(source, task)
        assert targets
        for target in targets:
            assert data.info(target).domain == "target"
            assert data.info(target).classes[task] == data.info(source).classes[task]


def test_default_targets_of_digits() -> None:
    assert data.default_targets("digits") == ("mnist", "uci")
    assert data.default_targets("digits", "segmentation") == data.default_targets("digits", "detection") == ("mnist",)
    with pytest.raises(ConfigError, match=r"'mnist' is a target, expected a source: .*digits"):
        data.default_targets("mnist")


@pytest.mark.parametrize(
    ("name", "split", "count"),
    [("digits", "heldout", 1_000), ("mnist", "test", 5_000), ("uci", "test", 1_797)],
)
def test_loads_what_it_describes(name: str, split: str, count: int, tmp_path: Path) -> None:
    images = data.load(name, split, cache=tmp_path)
    assert (images.name, images.split, len(images)) == (name, split, count)
    assert images.classes == data.info(name).classes["classification"]
    assert f"{count:,}" in data.info(name).summary


def test_segmentation_has_a_background_and_the_others_do_not() -> None:
    numerals = tuple("0123456789")
    for name in ("digits", "mnist"):
        assert data.info(name).classes == {
            "classification": numerals,
            "segmentation": ("background", *numerals),
            "detection": numerals,
        }


@pytest.mark.parametrize("task", ["segmentation", "detection"])
@pytest.mark.parametrize(("name", "split", "count"), [("digits", "heldout", 4), ("mnist", "test", 2)])
def test_loads_scenes_by_task(
    name: str, split: str, count: int, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"{scenes.COUNTS['train']:,} and {scenes.COUNTS['heldout']}" in data.info("digits").summary
    assert f"{scenes.TARGET_COUNT}" in data.info("mnist").summary
    monkeypatch.setitem(scenes.COUNTS, "heldout", 4)
    monkeypatch.setattr(scenes, "TARGET_COUNT", 2)
    images = data.load(name, split, task=task, cache=tmp_path)
    assert (images.name, images.split, len(images)) == (name, split, count)
    assert images.classes == data.info(name).classes[task]
    assert isinstance(images[0][1], torch.Tensor if task == "segmentation" else Boxes)


def test_scenes_of_another_seed_are_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(scenes.COUNTS, "train", 2)
    one, two = (data.load("digits", "train", task="detection", seed=seed, cache=tmp_path) for seed in (0, 1))
    assert one.fingerprint != two.fingerprint


def test_labels_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"'uci' has no labels for detection, only for classification\. A target with labels .*: mnist\.",
    ):
        data.load("uci", "test", task="detection", cache=tmp_path)
    for call in (
        lambda task: data.load("digits", "train", task=task),
        lambda task: data.default_targets("digits", task),
    ):
        with pytest.raises(
            ConfigError, match=r"Unknown task of a data set 'segmentatoin'. Did you mean 'segmentation'"
        ):
            call("segmentatoin")


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

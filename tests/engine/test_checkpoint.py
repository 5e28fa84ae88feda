import errno
import hashlib
import json
import os
import pickle
import random
import re
import shutil
import signal
import stat
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from synreal import atomic
from synreal.engine.checkpoint import (
    CheckpointFacts,
    Evaluation,
    Seconds,
    Snapshot,
    export_student,
    load,
    load_latest,
    read_student,
    save,
)
from synreal.errors import CheckpointError
from tests.faults import moments

FILES = ("model.safetensors", "optimizer.safetensors", "state.json", "manifest.json")


def facts_of(step, **changes):
    settings = {
        "config": {"seed": step}, "data": {"train": "0" * 64}, "processes": 1, "threads": 1,
        "device": "cpu", "changes": [],
        "versions": {"torch": "2"}, "plugins": {}, "scaler": None, "phase": 0, "step": step, "history": [],
        "seconds": Seconds(),
    }  # fmt: skip
    return CheckpointFacts(**(settings | changes))


def snapshot(step):
    model = {"weight": torch.full((2, 3), float(step)), "count": torch.tensor(step)}
    optimizer = {"state": {0: {"momentum_buffer": torch.full((2, 3), -float(step))}}, "param_groups": [{"lr": 0.5}]}
    return Snapshot(step, model, optimizer, facts_of(step))


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 5))


def take_step(model, optimizer, seed):
    images = torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    model(images).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def assert_same_state(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].dtype == second[name].dtype
        assert torch.equal(first[name], second[name]), name


def sgd(model):
    head = model[3]
    groups = [{"params": [*model[0].parameters(), *model[1].parameters()], "lr": 0.01}, {"params": head.parameters()}]
    return torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=5e-4)


OPTIMIZERS = {
    "sgd": sgd,
    "adamw": lambda model: torch.optim.AdamW(model.parameters(), lr=1e-3),
    "amsgrad": lambda model: torch.optim.AdamW(model.parameters(), lr=1e-3, amsgrad=True, betas=(0.8, 0.9)),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_loaded_optimizer_goes_on_bit_for_bit(tmp_path, kind):
    model = network()
    optimizer = OPTIMIZERS[kind](model)
    for seed in range(3):
        take_step(model, optimizer, seed)
    facts = facts_of(
        3,
        config={"name": "größer", "lr": 0.1, "targets": ["mnist"]},
        scaler=torch.amp.GradScaler("cpu").state_dict(),
        history=[Evaluation(step=3, measures={"mnist": {"accuracy": 0.1 + 0.2, "ap_small": None}})],
        seconds=Seconds(training=1 / 3),
    )
    save(tmp_path, Snapshot(3, model.state_dict(), optimizer.state_dict(), facts), keep=1)
    found = load_latest(tmp_path)
    assert found.step == 3
    assert found.facts == facts
    assert type(found.facts.scaler["growth_interval"]) is int  # torch takes no float here
    assert_same_state(found.model, model.state_dict())

    copy, forgetful = network(), network()
    for other in (copy, forgetful):
        other.load_state_dict(found.model)
    resumed, fresh = OPTIMIZERS[kind](copy), OPTIMIZERS[kind](forgetful)
    resumed.load_state_dict(found.optimizer)
    take_step(model, optimizer, 9)
    take_step(copy, resumed, 9)
    take_step(forgetful, fresh, 9)
    assert_same_state(copy.state_dict(), model.state_dict())
    # The optimizer's state matters: without it the step is another.
    assert not torch.equal(forgetful[0].weight, model[0].weight)


def test_tensors_that_share_memory_or_have_strides_are_saved(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    model = {"a": base, "b": base[0], "turned": base.T, "half": base.to(torch.bfloat16), "empty": torch.zeros(0, 8)}
    save(tmp_path, Snapshot(1, model, {}, facts_of(1)), keep=1)
    assert_same_state(load_latest(tmp_path).model, model)


@pytest.mark.parametrize(
    "shape",
    [
        {"tensor": "nowhere"},
        {"map": 3},
        {"map": [[1]]},
        {"map": [[[], {"value": 1}]]},
        {"list": None},
        {},
        {"value": 1},
    ],
)
def test_a_state_of_another_shape_is_named(shape, tmp_path):
    path = save(tmp_path, snapshot(1), keep=1)
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps(state | {"optimizer": shape}))
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["sha256"]["state.json"] = hashlib.sha256((path / "state.json").read_bytes()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"state\.json holds no state of an optimizer"):
        load(path)


def test_no_checkpoints_is_no_error(tmp_path):
    assert load_latest(tmp_path / "never made") is None
    assert load_latest(tmp_path) is None


def test_files_are_readable_by_others(tmp_path):
    before = os.umask(0o022)
    try:
        path = save(tmp_path / "checkpoints", snapshot(1), keep=1)
        export_student(tmp_path / "model.safetensors", {"w": torch.ones(2)}, {})
    finally:
        os.umask(before)
    assert listing(path) == sorted(FILES)
    for file in [*path.iterdir(), tmp_path / "model.safetensors"]:
        assert stat.S_IMODE(file.stat().st_mode) == 0o644, file.name
    assert stat.S_IMODE(path.stat().st_mode) == 0o755


def test_manifest_is_written_last_and_aside(tmp_path, monkeypatch):
    written = []
    original = atomic._write_synced
    monkeypatch.setattr(atomic, "_write_synced", lambda path, raw: (written.append(path), original(path, raw)))
    path = save(tmp_path, snapshot(1), keep=1)
    assert sorted(file.name for file in written) == sorted(FILES)
    assert written[-1].name == "manifest.json"
    assert {file.parent.name for file in written} == {"step-00000001.tmp"}
    assert set(json.loads((path / "manifest.json").read_text())["sha256"]) == set(FILES[:3])


def truncate(file):
    file.write_bytes(file.read_bytes()[:-3])


def empty(file):
    file.write_bytes(b"")


def flip_one_bit(file):
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)


@pytest.mark.parametrize("damage", [truncate, empty, flip_one_bit, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_damage_is_seen_and_the_checkpoint_before_is_taken(tmp_path, name, damage):
    save(tmp_path, snapshot(1), keep=2)
    latest = save(tmp_path, snapshot(2), keep=2)
    assert load_latest(tmp_path).step == 2
    damage(latest / name)
    with pytest.raises(CheckpointError, match="step-00000002"):
        load(latest)
    with pytest.warns(UserWarning, match=r"step-00000002.*Falling back"):
        found = load_latest(tmp_path)
    assert found.step == 1
    assert_same_state(found.model, snapshot(1).model)


@pytest.mark.filterwarnings("ignore:.*Falling back")
def test_error_if_no_checkpoint_is_whole(tmp_path):
    for step in (1, 2):
        flip_one_bit(save(tmp_path, snapshot(step), keep=2) / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"None of the 2 checkpoints .* is whole"):
        load_latest(tmp_path)


def test_a_folder_set_aside_is_never_chosen(tmp_path):
    first = save(tmp_path, snapshot(1), keep=2)
    shutil.copytree(first, tmp_path / "step-00000009.tmp")
    assert load_latest(tmp_path).step == 1
    shutil.rmtree(first)
    assert load_latest(tmp_path) is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_whatever_fails_the_newest_checkpoint_is_whole(tmp_path, faults, number):
    def begin(folder):
        save(folder, snapshot(1), keep=1)
        return folder

    first = begin(tmp_path / "first")
    found = moments(faults, first, lambda: save(first, snapshot(2), keep=1))
    assert {name for name, _ in found} == {"open", "write", "fsync", "rename", "mkdir"}
    for name, at in found:
        folder = begin(tmp_path / f"{name}-{at}")
        faults.plan(folder, name, at, number)
        message = rf"step-00000002: {os.strerror(number)}\. Older ones are kept"
        with pytest.raises(CheckpointError, match=message) as caught:
            save(folder, snapshot(2), keep=1)
        assert caught.value.exit_code == 1
        renamed = str(folder) in faults.met  # all that failed was to sync the folder around it
        faults.heal()
        assert listing(folder) == ["step-00000001", "step-00000002"][: 2 if renamed else 1]
        assert load_latest(folder).step == (2 if renamed else 1)
        save(folder, snapshot(2), keep=1)
        assert listing(folder) == ["step-00000002"]


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"file/checkpoints/step-00000001: Not a directory"):
        save(tmp_path / "file" / "checkpoints", snapshot(1), keep=1)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: No such file"):
        export_student(tmp_path / "none" / "model.safetensors", {}, {})


def save_for_ever(folder, step):
    while True:
        step += 1
        save(folder, snapshot(step), keep=1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_moment_the_newest_is_whole(tmp_path):
    save(tmp_path, snapshot(1), keep=1)
    last = 1
    delays = random.Random(0)
    for _ in range(20):
        child = os.fork()
        if child == 0:
            try:
                save_for_ever(tmp_path, last)
            finally:
                os._exit(1)  # never back into pytest
        time.sleep(delays.uniform(0.005, 0.12))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # there is nothing to fall back from
            found = load_latest(tmp_path)
        assert found.step >= last
        assert_same_state(found.model, snapshot(found.step).model)
        last = found.step
    assert last > 5  # it did save meanwhile


@pytest.mark.parametrize("keep", [1, 2, 3, 4])
def test_exactly_the_newest_stay(tmp_path, keep):
    for step in range(1, 11):
        save(tmp_path, snapshot(step), keep=keep)
        assert listing(tmp_path) == [f"step-{s:08d}" for s in range(max(1, step - keep + 1), step + 1)]
    assert load_latest(tmp_path).step == 10


def test_a_damaged_later_checkpoint_does_not_push_out_whole_ones(tmp_path):
    save(tmp_path, snapshot(4), keep=2)
    truncate(save(tmp_path, snapshot(8), keep=2) / "state.json")
    with pytest.warns(UserWarning, match="Falling back"):
        assert load_latest(tmp_path).step == 4
    save(tmp_path, snapshot(6), keep=1)
    with pytest.warns(UserWarning, match="Falling back"):
        assert load_latest(tmp_path).step == 6
    save(tmp_path, snapshot(8), keep=1)
    assert listing(tmp_path) == ["step-00000008"]
    assert load_latest(tmp_path).step == 8


def test_saving_a_step_again_replaces_it(tmp_path):
    save(tmp_path, snapshot(5), keep=2)
    save(tmp_path, replace(snapshot(5), facts=facts_of(5, config={"seed": "new"})), keep=2)
    assert listing(tmp_path) == ["step-00000005"]
    assert load_latest(tmp_path).facts.config == {"seed": "new"}


def test_a_failed_delete_only_warns(tmp_path, monkeypatch):
    save(tmp_path, snapshot(1), keep=1)
    original = shutil.rmtree

    def rmtree(path, ignore_errors=False):
        if Path(path).name == "step-00000001":
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        original(path, ignore_errors=ignore_errors)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", rmtree)
        with pytest.warns(UserWarning, match=r"Cannot remove the old checkpoint .*step-00000001.*busy"):
            save(tmp_path, snapshot(2), keep=1)
    assert load_latest(tmp_path).step == 2
    save(tmp_path, snapshot(3), keep=1)
    assert listing(tmp_path) == ["step-00000003"]


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("name", [*FILES, "custom_checkpoint_0.pkl", "random_states_0.pkl", "optimizer.bin"])
@pytest.mark.filterwarnings("ignore:.*Falling back")
def test_a_pickle_is_never_executed(tmp_path, name):
    marker = tmp_path / "marker"
    raw = pickle.dumps(Payload(marker))
    pickle.loads(raw)
    assert marker.exists()  # the payload works
    marker.unlink()

    folder = tmp_path / "checkpoints"
    path = save(folder, snapshot(1), keep=1)
    (path / name).write_bytes(raw)
    if name in FILES[:3]:
        # Whoever plants a payload also makes the manifest fit.
        manifest = json.loads((path / "manifest.json").read_text())
        manifest["sha256"][name] = hashlib.sha256(raw).hexdigest()
        (path / "manifest.json").write_text(json.dumps(manifest))
    if name in FILES:
        with pytest.raises(CheckpointError):
            load_latest(folder)
    else:
        assert load_latest(folder).step == 1
    export = tmp_path / "model.safetensors"
    export.write_bytes(raw)
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        read_student(export)
    assert not marker.exists()


@pytest.mark.parametrize("number", [0, 1, 2, 3, 5, "4", None])
def test_another_format_is_refused(tmp_path, number):
    path = save(tmp_path, snapshot(1), keep=1)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "format": number}))
    with pytest.raises(CheckpointError, match=rf"has checkpoint format {number!r}, this version reads 4"):
        load(path)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("facts", "history"), r"facts\.history: Field required"),
        (("facts", "phase"), r"facts\.phase: Field required"),
        (("step",), "step: Field required"),
        (("optimizer",), "optimizer: Field required"),
    ],
)
def test_a_state_that_lacks_something_is_refused(tmp_path, keys, message):
    path = save(tmp_path, snapshot(1), keep=1)
    rewrite_state(path, lambda state: nested(state, keys[:-1]).pop(keys[-1]))
    with pytest.raises(CheckpointError, match=rf"state\.json is not what checkpoint format 4 holds: {message}"):
        load(path)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("facts", "step"), "3"),
        (("facts", "phase"), -1),
        (("facts", "threads"), True),
        (("facts", "seconds", "training"), "1"),
        (("facts", "seconds", "resting"), 1.0),
        (("facts", "history"), [{"step": 1, "mnist": {"accuracy": 0.5}}]),
        (("facts", "more"), {}),
    ],
)
def test_a_state_with_something_else_in_it_is_refused(tmp_path, keys, value):
    path = save(tmp_path, snapshot(1), keep=1)
    rewrite_state(path, lambda state: nested(state, keys[:-1]).update({keys[-1]: value}))
    with pytest.raises(CheckpointError, match=re.escape(f"holds: {'.'.join(keys)}")):
        load(path)


def nested(value, keys):
    for key in keys:
        value = value[key]
    return value


def rewrite_state(path, change):
    """Change a checkpoint's state, and make its manifest fit."""
    state = json.loads((path / "state.json").read_text())
    change(state)
    raw = json.dumps(state).encode()
    (path / "state.json").write_bytes(raw)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["sha256"]["state.json"] = hashlib.sha256(raw).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))


def test_exported_student_is_one_file_however_often_it_is_written(tmp_path):
    state = {f"w{index}": torch.full((3,), float(index)) for index in range(4)}
    seen = set()
    for _ in range(20):  # safetensors would write several entries of metadata in random order
        export_student(tmp_path / "model.safetensors", state, {"backbone": "b", "classes": ["0", "1"], "library": "l"})
        seen.add((tmp_path / "model.safetensors").read_bytes())
    assert len(seen) == 1
    assert_same_state(read_student(tmp_path / "model.safetensors"), state)
    assert listing(tmp_path) == ["model.safetensors"]


def test_missing_student_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"Cannot read .*model\.safetensors: No such file"):
        read_student(tmp_path / "model.safetensors")

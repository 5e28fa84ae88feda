from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import data as benchmark
from synreal.config import RunConfig


def small(task: str) -> benchmark.Case:
    height, width = 54, 96
    copies = None if task == "classification" else 27
    return benchmark.CASES[task]._replace(size=(height, width), files=3, images=4, batch=2, copies=copies)


@pytest.mark.parametrize("task", benchmark.CASES)
def test_both_sides_read_the_same_files_and_draw_views_of_the_same_size(task: str, tmp_path: Path) -> None:
    case = small(task)
    benchmark.write_files(case, tmp_path)
    images = benchmark.synreal_images(case, tmp_path)
    config = RunConfig(task=task, **benchmark.SETTINGS[task])
    ours = config.task.runtime()(config.task, config.setup, images, {}).training_data(2)
    plain = benchmark.PlainImages(case, tmp_path)
    plain.shared, plain.own = lambda *items: items if len(items) > 1 else items[0], lambda image: image
    for index in range(3):
        views, label = plain[index]
        assert torch.equal(views[0].as_subclass(torch.Tensor), images[index][0])
        if task == "classification":
            assert label == images[index][1]
        elif task == "segmentation":
            assert torch.equal(label.as_subclass(torch.Tensor), images[index][1])
        else:
            assert torch.equal(label["boxes"].as_subclass(torch.Tensor), images[index][1].boxes)
    plain = benchmark.PlainImages(case, tmp_path)
    for index in range(3):
        shapes = [tuple(view.shape) for view in ours[(0, index)][0]]
        assert len(shapes) == 2
        assert [tuple(view.shape) for view in plain[index][0]] == shapes


def test_a_round_reads_as_many_images_and_never_repeats_a_view() -> None:
    case = small("segmentation")
    batches = benchmark.Batches(case, epochs=True)
    rounds = [[position for batch in batches for position in batch] for _ in range(2)]
    assert [len(one) for one in rounds] == [4, 4]
    assert len({position for one in rounds for position in one}) == 8
    indices = [index for batch in benchmark.Batches(case, epochs=False) for index in batch]
    assert sorted(indices) == sorted(index for _, index in rounds[0])


def test_it_leaves_records_and_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path)
    monkeypatch.setattr(benchmark, "CASES", {"segmentation": small("segmentation")})
    monkeypatch.setattr(benchmark, "WORKERS", 1)
    monkeypatch.setattr(sys, "argv", ["data.py", "--rounds", "1", "--tasks", "segmentation"])
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    benchmark.main()
    record = json.loads((tmp_path / "data.json").read_text())
    (case,) = record["cases"]
    assert (record["workers"], case["task"]) == (1, "segmentation")
    assert case["speed_least"] <= case["speed_median"] <= case["speed_greatest"]
    expected = case["synreal_images_per_second"] / case["plain_images_per_second"]
    assert case["speed_median"] == pytest.approx(expected), "of one round they are one"
    table = (tmp_path / "data.md").read_text()
    assert f"| {case['speed_median']:.2f} |" in table
    assert table.strip() == capsys.readouterr().out.strip()


def test_the_committed_table_is_that_of_the_record() -> None:
    record = json.loads((benchmark.RESULTS / "data.json").read_text())
    result = {key: value for key, value in record.items() if key != "cases"}
    assert benchmark.render(result, record["cases"]) == (benchmark.RESULTS / "data.md").read_text()

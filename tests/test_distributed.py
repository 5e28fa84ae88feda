import pytest
import torch

from synreal.distributed import all_gather_rows, all_reduce_sum, broadcast, is_distributed, rank, world_size
from tests.distributed import two_ranks
from tests.distributed.launch import two_processes
from tests.regularizers.contract import bits, same_bits

NAMES = two_ranks.names()
QUEUED = [name for name in NAMES if any("queue" in key for key in two_ranks.build(name)[0].state_dict())]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What the two ranks of one run wrote."""
    folder = tmp_path_factory.mktemp("ranks")
    two_processes(two_ranks.__file__, folder)
    return [torch.load(folder / f"rank{number}.pt", weights_only=True) for number in (0, 1)]


def test_ragged_rows_are_gathered_in_rank_order(ranks):
    for result in ranks:
        for counts, rows in result["ragged"].items():
            want = [[float(number), float(row)] for number in (0, 1) for row in range(counts[number])]
            assert rows.tolist() == want
            assert rows.shape == (sum(counts), 2)
            assert not rows.requires_grad


def test_sums_and_broadcasts_agree(ranks):
    for result in ranks:
        assert result["sum"].tolist() == [2.0, 1.0]
        assert result["broadcast"].tolist() == [5.0]


def test_processes_that_train_apart_or_leave_a_penalty_out_are_told(ranks):
    first, second = ranks
    assert first["wrapped"] == second["wrapped"] == ""
    for result in ranks:
        assert "After two steps the parameters of process 1 differ from those of process 0" in result["apart"]
        assert "Wrap the whole model" in result["apart"]
    assert first["one rank"] == ""
    assert "In process 1 of 2 no backward went through the penalty" in second["one rank"]


@pytest.mark.parametrize("moment", ["state", "after ragged batch"])
@pytest.mark.parametrize("name", NAMES)
def test_both_ranks_hold_the_same_bits(ranks, name, moment):
    first, second = (result[moment][name] for result in ranks)
    assert any("blocks.0.0.weight" in key for key in first)
    assert same_bits(first, second)


def test_noise_is_drawn_for_each_rank_from_one_state(ranks):
    first, second = ranks
    assert first["noisy"]["noise._extra_state"][:, 1].tolist() == [2, 2]
    assert same_bits(first["noisy"], second["noisy"])
    assert not torch.equal(first["noisy output"], second["noisy output"])


def test_what_must_agree_is_compared():
    """Heads, moving averages of heads and of the student, queues, anchors and importances are part of the state."""
    held = {name: " ".join(two_ranks.build(name)[0].state_dict()) for name in NAMES}
    for kind in ("head.layers", "key_head", "queue.bank", "queue.pointer", "queue.count"):
        assert kind in held["csg"]
        assert kind in held["info_nce"]
    for name in ("causal_invariance", "gcisg"):
        for kind in ("head.layers", "target_head", "queue.bank", "averages.0.network.blocks.0.0.weight"):
            assert kind in held[name]
    assert "omega" in held["si"]
    assert "anchor" in held["weight_l2"]


@pytest.mark.parametrize("name", NAMES)
def test_two_ranks_train_like_one(ranks, name):
    state = ranks[0]["state"][name]
    alone = bits(two_ranks.train(name)[0])
    assert list(state) == list(alone)
    for key, value in alone.items():
        torch.testing.assert_close(state[key], value, rtol=1e-6, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}")
    counts = [int(value) for key, value in alone.items() if key.endswith("queue.count")]
    assert counts == [20] * len(counts)


@pytest.mark.parametrize("name", QUEUED)
def test_a_ragged_batch_brings_every_row(ranks, name):
    pointers = {key: int(value) for key, value in ranks[0]["state"][name].items() if key.endswith("queue.pointer")}
    assert pointers
    for key, before in pointers.items():
        assert int(ranks[0]["after ragged batch"][name][key]) == (before + 4) % 20


@pytest.mark.parametrize("name", QUEUED)
def test_without_gathering_the_queues_part(ranks, name):
    first, second = (result["not gathered"][name] for result in ranks)
    banks = [key for key in first if key.endswith("queue.bank")]
    assert banks
    assert not any(torch.equal(first[key], second[key]) for key in banks)


def test_one_process_needs_no_group():
    rows = torch.ones(3, 2, requires_grad=True)
    assert (world_size(), rank(), is_distributed()) == (1, 0, False)
    assert torch.equal(all_gather_rows(rows), rows)
    assert not all_gather_rows(rows).requires_grad
    value = torch.tensor([3.0])
    broadcast(value)
    assert all_reduce_sum(value).tolist() == [3.0]

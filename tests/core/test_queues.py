import copy
import pickle
import random
from collections import deque

import pytest
import torch

from synreal.core.queues import FeatureQueue
from synreal.errors import ConfigError


def rows(first, count):
    """Rows that carry their serial number: a wrong order or a lost row shows."""
    return torch.arange(first, first + count, dtype=torch.float32).unsqueeze(1).repeat(1, 2)


def push_all(queue, batches, first=0):
    for batch in batches:
        queue.push(rows(first, batch))
        first += batch
    return first


def test_the_queue_is_a_deque():
    chance = random.Random(0)
    for _ in range(1000):
        size = chance.randint(1, 12)
        queue, oracle, serial = FeatureQueue(size, 2), deque(maxlen=size), 0
        for _ in range(chance.randint(1, 6)):
            batch = chance.choice([0, 1, size - 1, size, size + 1, 2 * size + 1, chance.randint(0, 20)])
            queue.push(rows(serial, batch))
            oracle.extend(float(number) for number in range(serial, serial + batch))
            serial += batch
            assert queue.ordered()[:, 0].tolist() == list(oracle)
            assert sorted(queue.keys()[:, 0].tolist()) == sorted(oracle)


def test_rows_are_pushed_within_one_compiled_graph():
    queue, plain = FeatureQueue(7, 2), FeatureQueue(7, 2)
    push = torch.compile(queue.push, fullgraph=True, backend="aot_eager")
    for serial in range(0, 15, 3):
        push(rows(serial, 3))
        plain.push(rows(serial, 3))
        assert all(torch.equal(value, plain.state_dict()[name]) for name, value in queue.state_dict().items())


def test_a_copy_goes_its_own_way():
    queue = FeatureQueue(3, 2)
    queue.push(rows(1, 2))
    for other in (copy.deepcopy(queue), pickle.loads(pickle.dumps(queue))):
        other.push(rows(3, 2))
        assert other.ordered()[:, 0].tolist() == [2, 3, 4]
        assert queue.ordered()[:, 0].tolist() == [1, 2]


def test_keys_hold_filled_rows_only():
    queue = FeatureQueue(5, 2)
    assert queue.keys().shape == (0, 2)
    queue.push(rows(7, 3))
    assert torch.equal(queue.keys(), rows(7, 3))
    queue.push(rows(10, 4))
    assert sorted(queue.keys()[:, 0].tolist()) == [9, 10, 11, 12, 13]


@pytest.mark.parametrize("batches", [(), (3,), (5,), (4, 4), (17,)])
def test_a_saved_queue_goes_on_where_it_stopped(batches):
    queue, fresh = FeatureQueue(5, 2), FeatureQueue(5, 2)
    serial = push_all(queue, batches)
    fresh.load_state_dict(queue.state_dict())
    assert sorted(queue.state_dict()) == ["bank", "count", "pointer"]
    for value in (queue, fresh):
        push_all(value, (2, 4), serial)
    for name, value in queue.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value)
    assert torch.equal(fresh.ordered(), queue.ordered())


def test_a_queue_of_another_size_is_refused():
    with pytest.raises(RuntimeError, match="size mismatch for bank"):
        FeatureQueue(6, 2).load_state_dict(FeatureQueue(5, 2).state_dict())


def test_rows_are_stored_without_gradient_in_the_queues_dtype():
    queue = FeatureQueue(3, 2)
    queue.push(rows(1, 2).bfloat16().requires_grad_())
    assert queue.bank.dtype == torch.float32
    assert not queue.bank.requires_grad
    queue.double().push(rows(3, 1))
    assert torch.equal(queue.ordered(), rows(1, 3).double())


def test_a_queue_holds_no_parameters():
    assert not list(FeatureQueue(3, 2).parameters())


@pytest.mark.parametrize(("size", "dim"), [(0, 2), (-1, 2), (2, 0)])
def test_a_queue_needs_room(size, dim):
    with pytest.raises(ConfigError, match=f"got size {size} and dim {dim}"):
        FeatureQueue(size, dim)


@pytest.mark.parametrize("shape", [(3,), (3, 4), (1, 3, 2)])
def test_rows_of_another_shape_are_named(shape):
    with pytest.raises(ConfigError, match="rows of length 2 cannot take"):
        FeatureQueue(4, 2).push(torch.zeros(shape))

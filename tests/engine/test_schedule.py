import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synreal.engine.schedule import BatchPlan
from synreal.errors import ConfigError


def epochs_of(plan):
    """The indices that each epoch shows, in order."""
    shown = {}
    for batch in plan:
        for epoch, index in batch:
            shown.setdefault(epoch, []).append(index)
    return shown


def test_every_epoch_is_a_permutation_without_its_ragged_end():
    plan = BatchPlan(25, 6, 3, seed=0)
    assert len(plan) == plan.total == 12
    assert [len(batch) for batch in plan] == [6] * 12
    assert [{epoch for epoch, _ in batch} for batch in plan] == [{step // 4} for step in range(12)]
    shown = epochs_of(plan)
    assert list(shown) == [0, 1, 2]
    for indices in shown.values():
        assert len(indices) == len(set(indices)) == 24
        assert set(indices) < set(range(25))


def test_order_is_a_function_of_seed_and_epoch():
    shown = epochs_of(BatchPlan(24, 6, 2, seed=0))
    assert shown == epochs_of(BatchPlan(24, 6, 2, seed=0))
    assert shown[0] != shown[1]
    other = epochs_of(BatchPlan(24, 6, 2, seed=1))
    assert shown[0] != other[0]
    assert shown[0] != list(range(24))
    # A longer run begins like a shorter one.
    assert shown == {epoch: epochs_of(BatchPlan(24, 6, 5, seed=0))[epoch] for epoch in shown}


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_resumed_plan_is_the_tail_of_the_whole_one(world, accumulate):
    whole = list(BatchPlan(26, 3, 3, seed=7, accumulate=accumulate, rank=world - 1, world=world))
    for start in range(len(whole) // accumulate + 1):
        plan = BatchPlan(26, 3, 3, seed=7, accumulate=accumulate, rank=world - 1, world=world)
        plan.start = start
        assert list(plan) == whole[start * accumulate :]
        assert len(plan) == len(whole) - start * accumulate


@settings(max_examples=60, deadline=None)
@given(
    images=st.integers(1, 60),
    batch_size=st.integers(1, 8),
    world=st.integers(1, 4),
    accumulate=st.integers(1, 3),
    epochs=st.integers(0, 3),
    seed=st.integers(0, 2**31 - 1),
)
def test_batches_and_ranks_partition_every_step(images, batch_size, world, accumulate, epochs, seed):
    def plan(rank):
        return BatchPlan(images, batch_size, epochs, seed, accumulate=accumulate, rank=rank, world=world)

    if images < batch_size * accumulate * world:
        with pytest.raises(ConfigError):
            plan(0)
        return
    plans = [plan(rank) for rank in range(world)]
    alone = list(BatchPlan(images, batch_size * accumulate * world, epochs, seed))
    assert {one.total for one in plans} == {len(alone)}
    assert {len(one) for one in plans} == {len(alone) * accumulate}
    together = list(zip(*plans, strict=True))
    for step, whole in enumerate(alone):
        # Batch by batch, each in rank order, the parts are the batch that one process would see at once.
        parts = [part for ranks in together[step * accumulate : (step + 1) * accumulate] for part in ranks]
        assert [item for part in parts for item in part] == whole
        assert {len(part) for part in parts} == {batch_size}


@pytest.mark.parametrize(("world", "largest"), [(1, 10), (2, 5), (3, 3)])
def test_batch_larger_than_the_data_names_the_largest_that_fits(world, largest):
    with pytest.raises(ConfigError, match=rf"Use at most batch_size={largest}\."):
        BatchPlan(10, 11, 1, seed=0, world=world)
    assert BatchPlan(10, largest, 1, seed=0, world=world).total == 1


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "fewer"), [(4, 3, "batch_size=3"), (1, 11, "accumulate=10"), (20, 11, "accumulate=1")]
)
def test_a_step_larger_than_the_data_says_how_many_batches_it_has(batch_size, accumulate, fewer):
    said = (
        rf"batch_size {batch_size} on 1 process\(es\), {accumulate} batches a step, is larger .* Use at most {fewer}\."
    )
    with pytest.raises(ConfigError, match=said):
        BatchPlan(10, batch_size, 1, seed=0, accumulate=accumulate)


def test_most_cuts_the_plan_and_never_lengthens_it():
    whole = list(BatchPlan(24, 6, 2, seed=0))
    assert list(BatchPlan(24, 6, 2, seed=0, most=5)) == whole[:5]
    assert list(BatchPlan(24, 6, 2, seed=0, most=99)) == whole


def test_no_epochs_no_batches():
    plan = BatchPlan(24, 6, 0, seed=0)
    assert plan.total == len(plan) == 0
    assert list(plan) == []


@pytest.mark.parametrize("rank", [0, 1])
def test_a_step_is_found_without_those_before(rank):
    plan = BatchPlan(23, 3, 4, seed=7, rank=rank, world=2)
    assert [plan.at(step) for step in range(plan.total)] == [[batch] for batch in plan]

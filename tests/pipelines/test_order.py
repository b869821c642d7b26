"""Which samples make up which step: properties over sizes, worlds and resume points."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.order import (
    epoch_of_step,
    epoch_order,
    evaluation_slice,
    rank_slice,
    step_indices,
    steps_per_epoch,
)

SEEDS = st.integers(0, 2**63)
QUICK = settings(max_examples=60, deadline=None)


@QUICK
@given(seed=SEEDS, epoch=st.integers(0, 10**6), num_samples=st.integers(1, 3000))
def test_an_epoch_is_a_permutation_of_all_samples(seed: int, epoch: int, num_samples: int) -> None:
    order = epoch_order(seed, epoch, num_samples)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(num_samples))


@QUICK
@given(data=st.data(), seed=SEEDS, world_size=st.integers(1, 4096), per_rank=st.integers(1, 3))
def test_ranks_share_a_step_without_gap_or_overlap(
    data: st.DataObject, seed: int, world_size: int, per_rank: int
) -> None:
    global_batch = world_size * per_rank
    num_samples = global_batch * data.draw(st.integers(1, 3)) + data.draw(st.integers(0, global_batch - 1))
    step = data.draw(st.integers(0, 40))
    whole = step_indices(seed, step, global_batch=global_batch, num_samples=num_samples)
    parts = [rank_slice(whole, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert {len(part) for part in parts} == {per_rank}
    assert np.array_equal(np.concatenate(parts), whole)


@QUICK
@given(data=st.data(), seed=SEEDS, num_samples=st.integers(1, 300))
def test_every_sample_comes_once_an_epoch_from_any_resume_point(
    data: st.DataObject, seed: int, num_samples: int
) -> None:
    global_batch = data.draw(st.integers(1, num_samples))
    steps = steps_per_epoch(num_samples, global_batch)
    epoch = data.draw(st.integers(0, 5))
    resume = data.draw(st.integers(0, steps))
    first = epoch * steps

    def indices(begin: int, end: int) -> list[int]:
        return [
            int(index)
            for step in range(begin, end)
            for index in step_indices(seed, step, global_batch=global_batch, num_samples=num_samples)
        ]

    seen = indices(first, first + resume) + indices(first + resume, first + steps)
    assert len(seen) == len(set(seen)) == steps * global_batch > num_samples - global_batch
    assert seen == epoch_order(seed, epoch, num_samples)[: len(seen)].tolist()
    assert {epoch_of_step(step, num_samples, global_batch) for step in range(first, first + steps)} == {epoch}


def test_epochs_and_seeds_give_other_orders() -> None:
    orders = {epoch_order(seed, epoch, 100).tobytes() for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_samples_left_out_of_one_epoch_come_in_others() -> None:
    left_out = [set(epoch_order(3, epoch, 103)[100:].tolist()) for epoch in range(20)]
    assert len(set.union(*left_out)) > 30


@QUICK
@given(num_samples=st.integers(0, 10_000), world_size=st.integers(1, 4096))
def test_evaluation_gives_each_sample_to_one_rank_evenly(num_samples: int, world_size: int) -> None:
    parts = [evaluation_slice(num_samples, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert [index for part in parts for index in part] == list(range(num_samples))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_order_is_the_one_that_checkpoints_were_made_with() -> None:
    """A numpy that permutes otherwise would silently break resuming: then PLAN_VERSION has to be raised."""
    order = epoch_order(7, 3, 1000).astype("<i8").tobytes()
    assert hashlib.sha256(order).hexdigest()[:16] == "e56340ed142265c7"


@pytest.mark.parametrize("global_batch", [0, 11])
def test_a_batch_that_the_dataset_cannot_fill_is_refused(global_batch: int) -> None:
    with pytest.raises(ValueError, match="10"):
        steps_per_epoch(10, global_batch)


def test_a_batch_that_does_not_divide_and_a_rank_outside_are_refused() -> None:
    with pytest.raises(ValueError, match="divisible by the 4 ranks"):
        rank_slice(np.arange(10), rank=0, world_size=4)
    with pytest.raises(ValueError, match=r"0\.\.1"):
        rank_slice(np.arange(10), rank=2, world_size=2)

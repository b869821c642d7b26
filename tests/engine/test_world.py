import os
import time

import pytest
import torch

from data_process.errors import InputError, RunError
from engine.world import DistConfig, World, join
from tests.engine.ranks import Ranks, environment


def test_without_rank_the_process_is_alone():
    world = join(DistConfig(device="cpu"), {})
    assert (world.rank, world.world_size, world.control) == (0, 1, None)
    assert world.largest(3) == 3
    assert world.gather("a") == ["a"]


@pytest.mark.parametrize("missing", ["WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT", "MASTER_ADDR"])
def test_an_incomplete_environment_is_named(missing):
    environ = environment(0, 2, 1234)
    del environ[missing]
    with pytest.raises(InputError, match=missing):
        join(DistConfig(device="cpu"), environ)


def test_a_rank_outside_the_world_is_refused():
    with pytest.raises(InputError, match="RANK is 2, but WORLD_SIZE is 2"):
        join(DistConfig(device="cpu"), environment(2, 2, 1234))


@pytest.mark.skipif(torch.cuda.is_available(), reason="the promise concerns machines without a GPU")
def test_asking_for_a_gpu_that_is_not_there_is_wrong_input():
    with pytest.raises(InputError, match=r"dist\.device"):
        join(DistConfig(device="cuda"), {})


def test_nccl_on_the_cpu_is_refused_when_the_config_is_built():
    with pytest.raises(InputError, match=r"dist\.backend"):
        DistConfig(device="cpu", backend="nccl")


def _agreements(world: World):
    rows = torch.full((world.rank + 1, 2), float(world.rank))
    empty = torch.zeros((0 if world.rank else 3, 2))
    return (
        world.largest(10 - world.rank),
        world.mean({"a": torch.tensor(float(world.rank)), "b": torch.tensor(2.5)}),
        world.gather(f"rank {world.rank}"),
        world.concatenate(rows).tolist(),
        world.concatenate(empty).shape[0],
    )


def test_two_ranks_agree_on_values_rows_and_means(two_ranks):
    answers = two_ranks.run(_agreements)
    rows = [[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]
    expected = (10, {"a": 0.5, "b": 2.5}, ["rank 0", "rank 1"], rows, 3)
    assert answers == [expected, expected]


def test_one_process_gives_its_own_values_back():
    world = World()
    assert world.mean({"loss": torch.tensor(0.1, dtype=torch.float64)}) == {"loss": 0.1}
    assert torch.equal(world.concatenate(torch.ones(2, 3)), torch.ones(2, 3))


def _slowly_on_rank_1(world):
    def work():
        time.sleep(4.0 * world.rank)
        return time.time()

    return world.finish_together(work, poll_s=0.1), time.time()


def test_work_may_take_one_rank_longer_than_a_lost_peer_gets():
    ranks = Ranks(2, timeout_s=2)
    try:
        (quick, first), (slow, second) = ranks.run(_slowly_on_rank_1)
    finally:
        ranks.stop()
    assert quick < slow, "each rank has what its own work gave"
    assert min(first, second) >= slow, "nobody goes on before all are done"


def _no_room_on_rank_1(world):
    def work():
        if world.rank == 1:
            raise InputError("the disk is full")
        time.sleep(60)

    start = time.monotonic()
    with pytest.raises((InputError, RunError)) as caught:
        world.finish_together(work, poll_s=0.1)
    assert time.monotonic() - start < 30, "nobody waits for work that is in vain"
    return type(caught.value).__name__, str(caught.value)


def test_work_that_fails_on_one_rank_stops_all_at_once(two_ranks):
    told = ("RunError", "rank 1 could not get ready to start; its log tells the cause")
    assert two_ranks.run(_no_room_on_rank_1) == [told, ("InputError", "the disk is full")]


def test_a_single_process_does_the_work_itself():
    assert World().finish_together(lambda: 7) == 7


def _vanish_or_wait(world):
    if world.rank == 1:
        os._exit(9)
    with pytest.raises(RunError, match=r"does not answer any more.*start again") as caught:
        world.largest(0)
    return str(caught.value)


def test_a_lost_peer_fails_the_run_with_one_paragraph():
    ranks = Ranks(2)
    try:
        assert "\n" not in ranks.run_on_survivor(_vanish_or_wait)
    finally:
        ranks.stop()

"""The loader: any start, any world, any thread count give the same batches; faults and threads end with the loop."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import pytest
import torch

from data_process.errors import InputError, RunError
from pipelines import loader as loader_module
from pipelines.batch import ViewBatch
from pipelines.loader import Loader, PipelineConfig, build_loader, make_executor
from pipelines.plan import DIGESTS, OPERATIONS
from tests.pipelines.memory_shards import MemoryShards, RandomPlanner, generated

PLANNER = RandomPlanner(frozenset(OPERATIONS), num_views=2, num_frames=3)
HOST = PipelineConfig(backend="host", threads=2)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert not {name for name in left if name.startswith("intravid")}


@pytest.fixture(scope="module")
def videos() -> MemoryShards:
    return generated(12)


@pytest.fixture(params=["host", "dali"])
def config(request: pytest.FixtureRequest) -> PipelineConfig:
    if request.param == "dali":
        pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    return replace(HOST, backend=request.param)


def load(videos: MemoryShards, config: PipelineConfig = HOST, *, rank: int = 0, world_size: int = 1) -> Loader:
    return build_loader(
        videos,
        PLANNER,
        PLANNER.clip_format(16),
        config=config,
        seed=9,
        global_batch=4,
        rank=rank,
        world_size=world_size,
    )


def taken(loader: Loader, start_step: int, count: int) -> list[ViewBatch]:
    batches = loader.batches(start_step)
    out = list(islice(batches, count))
    batches.close()
    return out


def same(one: ViewBatch, other: ViewBatch) -> bool:
    return (
        torch.equal(one.index, other.index)
        and all(torch.equal(a, b) for a, b in zip(one.clips, other.clips, strict=True))
        and one.targets.keys() == other.targets.keys()
        and all(torch.equal(one.targets[name], other.targets[name]) for name in one.targets)
    )


def test_batches_from_any_step_are_those_of_an_unbroken_run(videos: MemoryShards, config: PipelineConfig) -> None:
    with load(videos, config) as loader:
        assert loader.steps_per_epoch == 3
        whole = taken(loader, 0, 7)
        for start in (2, 5):
            assert all(map(same, taken(loader, start, 7 - start), whole[start:]))
    assert not same(whole[0], whole[3]), "the next epoch has other plans"


def test_batches_carry_indices_and_targets_of_their_samples(videos: MemoryShards, config: PipelineConfig) -> None:
    with load(videos, config) as loader:
        batches = taken(loader, 0, 3)
    assert sorted(int(index) for batch in batches for index in batch.index) == list(range(12))
    for batch in batches:
        assert batch.targets["label"].tolist() == [videos[int(index)].label for index in batch.index]
        assert batch.targets["start"].shape == (4, 2)


def clip_hashes(batch: ViewBatch) -> list[tuple[int, str]]:
    return [
        (int(index), hashlib.sha256(b"".join(clip[sample].numpy().tobytes() for clip in batch.clips)).hexdigest())
        for sample, index in enumerate(batch.index)
    ]


@pytest.mark.parametrize("world_size", [2, 4])
def test_any_number_of_ranks_consumes_the_same_clips_in_a_step(
    videos: MemoryShards, config: PipelineConfig, world_size: int
) -> None:
    with load(videos, config) as alone:
        batches = taken(alone, 1, 4)
    whole = [clip_hashes(batch) for batch in batches]
    parts, digests = [], []
    for rank in range(world_size):
        with load(videos, config, rank=rank, world_size=world_size) as loader:
            batches_here = taken(loader, 1, 4)
        parts.append([clip_hashes(batch) for batch in batches_here])
        digests.append([batch.plan_digest for batch in batches_here])
    assert whole == [[one for part in step for one in part] for step in zip(*parts, strict=True)]
    assert len({batch.plan_digest for batch in batches}) == 4
    assert [batch.plan_digest for batch in batches] == [sum(step) % DIGESTS for step in zip(*digests, strict=True)]


@pytest.mark.parametrize("changes", [{"threads": 1}, {"threads": 4}, {"readers": 1, "prefetch": 1}, {"readers": 5}])
def test_no_setting_of_speed_changes_a_bit(videos: MemoryShards, config: PipelineConfig, changes: dict) -> None:
    with load(videos, config) as loader:
        expected = taken(loader, 0, 4)
    with load(videos, replace(config, **changes)) as loader:
        assert all(map(same, taken(loader, 0, 4), expected))


class FailingShards(MemoryShards):
    """Reads fail from a certain read on."""

    def read_frames(self, index, frames):
        if len(self.frames_read) > 60:
            raise RunError(f"shard of video {index} is damaged")
        return super().read_frames(index, frames)


def test_an_error_of_reading_comes_out_unchanged_behind_the_good_batches(config: PipelineConfig) -> None:
    whole = generated(12)
    seen: list[ViewBatch] = []

    def consume(loader: Loader) -> None:
        for batch in loader.batches(0):
            seen.append(batch)  # noqa: PERF402 - what came before the error is the point

    loader = load(FailingShards(whole.records, whole.units), replace(config, readers=1))
    with loader, pytest.raises(RunError, match="damaged"):
        consume(loader)
    assert seen
    with load(whole, config) as sound:
        assert all(map(same, seen, taken(sound, 0, len(seen))))


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError])
def test_threads_end_when_the_loop_is_left_by_an_error(
    videos: MemoryShards, config: PipelineConfig, failure: type[BaseException]
) -> None:
    def consume() -> None:
        with load(videos, config) as loader:
            for _ in loader.batches(0):
                raise failure("in the step")

    with pytest.raises(failure, match="in the step"):
        consume()


def test_closing_the_loader_ends_a_loop_that_was_left_open(videos: MemoryShards, config: PipelineConfig) -> None:
    loader = load(videos, config)
    batches = loader.batches(0)
    next(batches)
    loader.close()


def test_a_second_iteration_takes_over_from_the_first(videos: MemoryShards, config: PipelineConfig) -> None:
    with load(videos, config) as loader:
        first = loader.batches(0)
        next(first)
        second = loader.batches(4)
        took_over = next(second)
        second.close()
        assert same(took_over, taken(loader, 4, 1)[0])


class SlowShards(MemoryShards):
    def read_frames(self, index, frames):
        time.sleep(0.02)
        return super().read_frames(index, frames)


def test_the_loader_counts_the_seconds_that_the_step_waited() -> None:
    whole = generated(12)
    with load(SlowShards(whole.records, whole.units), replace(HOST, readers=1)) as loader:
        start = time.perf_counter()
        taken(loader, 0, 5)
        elapsed = time.perf_counter() - start
        assert 0.5 * elapsed < loader.wait_s <= elapsed, "reading 4 videos takes 80 ms, the loop does nothing"
    with load(whole) as quick:
        start = time.perf_counter()
        for _ in islice(quick.batches(0), 6):
            time.sleep(0.1)
        assert quick.wait_s < 0.5 * (time.perf_counter() - start), "only the first batch is waited for"


@pytest.mark.parametrize(
    ("global_batch", "world_size", "complaint"),
    [(30, 4, r"\(30\) must be divisible by the 4 ranks"), (16, 4, "the 12 videos")],
)
def test_batches_that_cannot_be_shared_are_refused_before_anything_starts(
    videos: MemoryShards, global_batch: int, world_size: int, complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        build_loader(
            videos,
            PLANNER,
            PLANNER.clip_format(),
            config=HOST,
            seed=0,
            global_batch=global_batch,
            world_size=world_size,
        )


@pytest.mark.parametrize("wrong", [{"threads": -1}, {"prefetch": 0}, {"readers": 0}])
def test_wrong_settings_are_named(wrong: dict) -> None:
    with pytest.raises(InputError, match=rf"pipeline\.{next(iter(wrong))}"):
        PipelineConfig(**wrong)


def test_auto_takes_the_host_on_a_machine_without_a_gpu(videos: MemoryShards) -> None:
    from pipelines.host import HostExecutor

    executor = make_executor(
        PLANNER.clip_format(), PipelineConfig(threads=1), max_samples=2, device=torch.device("cpu")
    )
    assert isinstance(executor, HostExecutor)
    executor.close()


def test_ranks_share_the_cores_and_too_many_threads_are_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loader_module, "available_cores", lambda: 8)
    assert loader_module.thread_count(0, local_ranks=1) == 8
    assert loader_module.thread_count(0, local_ranks=3) == 2
    assert loader_module.thread_count(0, local_ranks=16) == 1
    assert loader_module.thread_count(4, local_ranks=2) == 4
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert loader_module.thread_count(4, local_ranks=4) == 4
    assert "4 threads for each of 4 ranks on 8 cores" in caplog.text

"""From a step to plans and encoded frames."""

import pickle
import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest

from data_process.errors import InputError
from data_process.records import VideoRecord
from pipelines.plan import OPERATIONS, Box, ClipFormat, ClipPlan, SamplePlan
from pipelines.source import ClipSource, PlannedBatch, plan_batch
from tests.pipelines.memory_shards import MemoryShards, RandomPlanner, generated

PLANNER = RandomPlanner(frozenset(OPERATIONS))


@pytest.fixture(scope="module")
def videos() -> MemoryShards:
    return generated(12)


def source_of(videos: MemoryShards, *, rank: int = 0, world_size: int = 1, global_batch: int = 4) -> ClipSource:
    return ClipSource(
        videos, PLANNER, PLANNER.clip_format(), seed=5, global_batch=global_batch, rank=rank, world_size=world_size
    )


def digests(batch: PlannedBatch) -> list[tuple[int, str]]:
    return [(int(index), plan.digest()) for index, plan in zip(batch.index, batch.plans, strict=True)]


@pytest.mark.parametrize("world_size", [2, 4])
def test_a_step_has_the_same_clips_for_any_number_of_ranks(videos: MemoryShards, world_size: int) -> None:
    alone = source_of(videos)
    ranks = [source_of(videos, rank=rank, world_size=world_size) for rank in range(world_size)]
    for step in (0, 2, 3, 17):
        whole, parts = alone(step), [source(step) for source in ranks]
        assert digests(whole) == [one for part in parts for one in digests(part)]
        assert whole.frames == tuple(frames for part in parts for frames in part.frames)
        assert whole.digest == sum(part.digest for part in parts) % (1 << 62)


def test_a_step_is_a_pure_function_that_survives_pickling(videos: MemoryShards) -> None:
    source = source_of(videos)
    copy = pickle.loads(pickle.dumps(source))
    expected = digests(source(7))
    source(8)
    assert digests(source(7)) == digests(copy(7)) == expected != digests(source(8))


def test_epochs_draw_new_plans_for_the_same_video(videos: MemoryShards) -> None:
    source = source_of(videos)
    first = dict(one for step in range(3) for one in digests(source(step)))
    second = dict(one for step in range(3, 6) for one in digests(source(step)))
    assert sorted(first) == sorted(second) == list(range(12))
    assert all(first[index] != second[index] for index in first)


@dataclass(frozen=True)
class Planned:
    """A planner that gives one fixed plan."""

    plan: SamplePlan

    def __call__(self, _: np.random.Generator, record: VideoRecord) -> SamplePlan:
        return self.plan


BOX = Box(0, 0, 20, 20)
REPEATING = SamplePlan((ClipPlan((2, 2, 5, 2), BOX), ClipPlan((5, 4, 2, 4), BOX)))


def test_each_stored_frame_is_read_once_however_often_views_use_it() -> None:
    videos = generated(2)
    batch = plan_batch(videos, Planned(REPEATING), ClipFormat(2, 4, 8), [1], seed=0, epoch=0)
    assert videos.frames_read == [2, 4, 5]
    assert batch.frames[0].numbers == (2, 4, 5)
    assert batch.frames[0].units == tuple(videos.units[1][frame] for frame in (2, 4, 5))


def test_plans_that_do_not_fit_format_or_video_are_refused(videos: MemoryShards) -> None:
    with pytest.raises(ValueError, match="3 views"):
        plan_batch(videos, Planned(REPEATING), ClipFormat(3, 4, 8), [0], seed=0, epoch=0)
    beyond = SamplePlan((ClipPlan((0, 99), BOX),))
    with pytest.raises(ValueError, match="video/3: frame 99"):
        plan_batch(videos, Planned(beyond), ClipFormat(1, 2, 8), [3], seed=0, epoch=0)


def test_targets_are_stacked_over_the_samples(videos: MemoryShards) -> None:
    batch = source_of(videos)(0)
    assert batch.targets["label"].tolist() == [videos[index].label for index in batch.index]
    assert batch.targets["start"].shape == (4, 2)
    assert batch.targets["start"].dtype == np.int64


@pytest.mark.parametrize("odd", [{}, {"label": 1.5}, {"label": [1, 2]}, {"label": 1, "more": 1}])
def test_targets_that_differ_between_samples_are_named(videos: MemoryShards, odd: dict) -> None:
    batch = source_of(videos)(0)
    plain = [replace(plan, targets={"label": np.int64(1)}) for plan in batch.plans]
    plain[2] = replace(plain[2], targets=odd)
    with pytest.raises(ValueError, match=batch.records[2].id):
        _ = replace(batch, plans=tuple(plain)).targets


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"global_batch": 30, "world_size": 4}, r"global_batch \(30\) must be divisible by the 4 ranks; 32 is"),
        ({"global_batch": 16}, r"global_batch \(16\) .* the 12 videos"),
        ({"global_batch": 0}, "between 1 and"),
        ({"seed": -1}, r"seed \(-1\)"),
    ],
)
def test_wrong_settings_are_input_errors_that_name_the_setting(
    videos: MemoryShards, changes: dict, complaint: str
) -> None:
    given = {"seed": 0, "global_batch": 4, **changes}
    with pytest.raises(InputError, match=complaint):
        ClipSource(videos, PLANNER, PLANNER.clip_format(), **given)


def test_planning_needs_neither_torch_nor_dali() -> None:
    code = "import sys, pipelines.source, pipelines.draw; print({'torch', 'nvidia.dali'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

"""Frames and their flow side by side: the same moment, the same place, whatever executor carries them out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from data_process.errors import InputError, RunError
from data_process.records import VideoRecord
from pipelines.loader import PipelineConfig, build_loader
from pipelines.paired import PairedFlow, flow_clip
from pipelines.plan import Box, ClipFormat, ClipPlan, SamplePlan
from pipelines.source import ClipSource
from tests.pipelines.memory_shards import RandomPlanner, flow_videos, generated

VIDEOS = 6


@dataclass
class Pair:
    frames: object
    flow: PairedFlow


@pytest.fixture(scope="module")
def pair() -> Pair:
    """Videos and flow of the same sizes and names, in different orders."""
    frames, flow = generated(VIDEOS, frames=10), flow_videos(VIDEOS)
    place = np.arange(VIDEOS)[::-1].copy()
    return Pair(frames, PairedFlow(reordered(flow, place), place))


def reordered(videos, order):
    return replace(videos, records=[videos.records[one] for one in order], units=[videos.units[one] for one in order])


PLANNER = RandomPlanner(frozenset({"flip", "turn"}), num_views=2, num_frames=4)
FORMAT = replace(PLANNER.clip_format(24), flow="flow-u")


def loader(pair, config, **settings):
    return build_loader(
        pair.frames, PLANNER, FORMAT, config=config, seed=1, global_batch=VIDEOS, flow=pair.flow, **settings
    )


@pytest.mark.parametrize("backend", ["host", "dali"])
def test_flow_stands_behind_the_frames_as_if_it_were_loaded_alone(pair: Pair, backend: str) -> None:
    if backend == "dali":
        pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    config = PipelineConfig(backend=backend, threads=2)  # type: ignore[arg-type]
    with loader(pair, config) as both:
        batches = [batch for _, batch in zip(range(3), both.batches(0), strict=False)]
    for step, batch in enumerate(batches):
        assert [tuple(clips.shape) for clips in batch.clips] == [(VIDEOS, 3, 4, 24, 24)] * 4
        source = ClipSource(pair.frames, PLANNER, FORMAT, seed=1, global_batch=VIDEOS, flow=pair.flow)
        planned = source(step)
        assert planned.flow is not None
        for index, record, theirs in zip(batch.index.tolist(), planned.records, planned.flow.records, strict=True):
            assert record.id == pair.frames[index].id == f"video/{index}"
            assert theirs.id == f"v{index}"
        with build_loader(pair.frames, PLANNER, FORMAT.of_frames, config=config, seed=1, global_batch=VIDEOS) as alone:
            frames = next(iter(alone.batches(step)))
        assert all(torch.equal(one, other) for one, other in zip(batch.clips[:2], frames.clips, strict=True))
        assert batch.plan_digest == frames.plan_digest


def test_both_executors_show_the_same_flow(pair: Pair) -> None:
    pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    shown = []
    for backend in ("host", "dali"):
        with loader(pair, PipelineConfig(backend=backend, threads=2)) as both:  # type: ignore[arg-type]
            shown.append(next(iter(both.batches(0))).clips)
    for one, other in zip(*shown, strict=True):
        levels = (one - other).abs() * 255 * torch.tensor(FORMAT.std).view(3, 1, 1, 1)
        assert levels.max() <= 6
        assert levels.mean() < 0.5
    assert not torch.equal(shown[0][0], shown[0][2])


def test_time_place_and_mirror_are_those_of_the_frames() -> None:
    frames = VideoRecord("v", 0, "train", "jpeg", 9, 25.0, 60, 80)
    flow = VideoRecord("v", 0, "train", "flow-jpeg", 8, 25.0, 60, 80)
    clip = ClipPlan((5, 8, 2), Box(3, 10, 50, 40), flip=True, quarter_turns=1)
    assert flow_clip(clip, frames, flow) == replace(clip, frames=(5, 7, 2)), "no flow leads on from the last frame"
    half = replace(flow, height=30, width=40)
    assert flow_clip(clip, frames, half).box == Box(2, 5, 24, 20)
    odd = replace(flow, height=31, width=41)
    for top in range(0, 11):
        box = flow_clip(replace(clip, box=Box(top, 40, 50, 40)), frames, odd).box
        assert box.is_inside(31, 41)


def test_a_method_that_sees_flow_needs_it_and_another_refuses_it(pair: Pair) -> None:
    config = PipelineConfig(backend="host", threads=1)
    with pytest.raises(InputError, match=r"the method sees flow-u: give data.flow"):
        build_loader(pair.frames, PLANNER, FORMAT, config=config, seed=0, global_batch=2)
    with pytest.raises(InputError, match=r"data.flow is given, but the method sees frames alone"):
        build_loader(pair.frames, PLANNER, FORMAT.of_frames, config=config, seed=0, global_batch=2, flow=pair.flow)
    with pytest.raises(ValueError, match="beside rgb"):
        ClipFormat(1, 1, 1, modality="flow", flow="flow-u")


def test_damaged_flow_comes_out_behind_the_good_batches(pair: Pair) -> None:
    class Breaking:
        def __init__(self, videos):
            self.videos, self.reads = videos, 0

        def __len__(self):
            return len(self.videos)

        def __getitem__(self, index):
            return self.videos[index]

        def read_frames(self, index, frames):
            self.reads += 1
            if self.reads > 2 * VIDEOS:
                raise RunError("the flow of v is damaged")
            return self.videos.read_frames(index, frames)

    config = PipelineConfig(backend="host", threads=1, readers=1, max_damaged_frames=0)
    broken = PairedFlow(Breaking(pair.flow.videos), pair.flow.place)
    seen = []

    def consume(both):
        for batch in both.batches(0):
            seen.append(batch)  # noqa: PERF402 - what came before the error is the point

    with (
        build_loader(pair.frames, PLANNER, FORMAT, config=config, seed=1, global_batch=VIDEOS, flow=broken) as both,
        pytest.raises(RunError, match="the flow of v is damaged"),
    ):
        consume(both)
    assert len(seen) == 2


def test_plans_of_frames_decide_the_targets() -> None:
    clip = ClipPlan((0,), Box(0, 0, 10, 10))
    plan = SamplePlan((clip,), {"label": np.array(3)})
    videos, flow = generated(1, frames=10), flow_videos(1)
    clip_format = ClipFormat(1, 1, 8, flow="flow-v")
    source = ClipSource(
        videos, lambda rng, record: plan, clip_format, seed=0, global_batch=1, flow=PairedFlow(flow, np.array([0]))
    )
    batch = source(0)
    assert batch.targets["label"].tolist() == [3]
    assert batch.flow is not None
    assert batch.flow.targets["label"].tolist() == [3]

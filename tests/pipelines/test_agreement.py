"""The DALI graph and the host executor carry out the same plans to within two grey levels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_process.outcome import Stored
from data_process.source import SourceVideo
from data_process.transcode import transcode
from data_process.transcode_config import TranscodeConfig
from pipelines.host import HostExecutor
from pipelines.plan import OPERATIONS, ClipFormat, Interpolation
from pipelines.source import PlannedBatch, plan_batch
from tests.pipelines.memory_shards import MemoryShards, RandomPlanner, generated, record_of

pytest.importorskip("nvidia.dali", reason="DALI is not installed")
from pipelines.dali import DaliExecutor

CLIPS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "clips"
NUM_PLANS, BATCH = 200, 10
TOLERANCE = 2.01
REAL = (
    ("php-ffmpeg_portrait.MOV", 101),
    ("test_video_66x50.mov", 256),
    ("v_SoccerJuggling_g23_c01.avi", 171),
    ("mmaction2_test.mp4", 129),
)


@pytest.fixture(scope="module", params=["generated", "real"])
def videos(request: pytest.FixtureRequest) -> MemoryShards:
    if request.param == "generated":
        return generated(8)
    if not CLIPS.is_dir():
        pytest.skip("real videos are not here (../shared/data/clips)")
    stored = [
        transcode(SourceVideo(CLIPS / name, name, None, "train"), 0, TranscodeConfig(short_side=side, min_frames=9))
        for name, side in REAL
    ]
    units = [one.units[:12] for one in stored if isinstance(one, Stored)]
    assert len(units) == len(REAL), stored
    return MemoryShards([record_of(one, number) for number, one in enumerate(units)], units)


def random_batches(videos: MemoryShards, planner: RandomPlanner, clip_format: ClipFormat) -> Iterator[PlannedBatch]:
    for first in range(0, NUM_PLANS, BATCH):
        indices = [(first + place) % len(videos) for place in range(BATCH)]
        yield plan_batch(videos, planner, clip_format, indices, seed=3, epoch=first)


def levels(clips: torch.Tensor, clip_format: ClipFormat) -> np.ndarray:
    """Normalised (B, 3, T, S, S) back to grey levels (B, T, S, S, 3)."""
    pixels = clips.permute(0, 2, 3, 4, 1).numpy().astype(np.float64)
    return (pixels * clip_format.std + np.array(clip_format.mean)) * 255.0


def check_agreement(
    videos: MemoryShards, operations: frozenset[str], interpolation: Interpolation = "bilinear"
) -> None:
    planner = RandomPlanner(operations)
    clip_format = replace(planner.clip_format(), interpolation=interpolation)
    host = HostExecutor(clip_format, threads=2)
    dali = DaliExecutor(clip_format, max_samples=BATCH, threads=2)
    total, count, plans = 0.0, 0, 0
    try:
        pairs = zip(
            host.run(random_batches(videos, planner, clip_format)),
            dali.run(random_batches(videos, planner, clip_format)),
            strict=True,
        )
        for (batch, host_clips), (_, dali_clips) in pairs:
            plans += len(batch.plans)
            for view in range(clip_format.num_views):
                error = np.abs(levels(host_clips[view], clip_format) - levels(dali_clips[view], clip_format))
                for plan, one in zip(batch.plans, error, strict=True):
                    assert one.max() < TOLERANCE, f"{one.max():.1f} levels apart: {plan.clips[view]}"
                total, count = total + error.sum(), count + error.size
    finally:
        host.close()
        dali.close()
    assert plans == NUM_PLANS
    assert total / count < 0.5


@pytest.mark.parametrize("operation", [*OPERATIONS, "none"])
def test_executors_agree_on_each_operation(videos: MemoryShards, operation: str) -> None:
    check_agreement(videos, frozenset({operation} - {"none"}))


@pytest.mark.parametrize("operation", ["none", "flip"])
def test_executors_agree_on_bicubic_resizes(videos: MemoryShards, operation: str) -> None:
    check_agreement(videos, frozenset({operation} - {"none"}), "bicubic")


def test_executors_agree_end_to_end(videos: MemoryShards) -> None:
    check_agreement(videos, frozenset(OPERATIONS))

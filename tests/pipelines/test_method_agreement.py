"""Host and DALI carry out 500 random plans of each method's own recipe alike, on videos of odd sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from data_process.source import SourceVideo
from data_process.transcode import Stored, transcode
from data_process.transcode_config import TranscodeConfig
from models.planners.overlap import OverlapPlanner
from models.planners.segments import SegmentPlanner
from models.planners.single_clip import BankPlanner, ClipDraw
from models.planners.triplet import LEGACY_AUGMENTATION, TripletPlanner
from pipelines.draw import SpatialOverlap, TemporalOverlap
from pipelines.host import HostExecutor
from pipelines.plan import ClipFormat
from pipelines.source import plan_batch
from tests.pipelines.memory_shards import MemoryShards, generated, record_of

pytest.importorskip("nvidia.dali", reason="DALI is not installed")
from pipelines.dali import DaliExecutor

CLIPS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "clips"
REAL = (("php-ffmpeg_portrait.MOV", 101), ("v_SoccerJuggling_g23_c01.avi", 75), ("mmaction2_test.mp4", 129))
PLANS, BATCH, FRAMES, SIZE = 500, 25, 2, 40

CLIP = ClipDraw(num_frames=FRAMES, size=SIZE, resize=(48, 64))
TRIPLET = TripletPlanner(FRAMES, 4, SIZE, 46)
PLANNERS = {
    "iic": (BankPlanner(CLIP, num_rows=9, num_negatives=3, intra_negative="repeat"), 1, frozenset()),
    "vtdl": (TRIPLET, 3, TRIPLET.operations),
    "vtdl legacy": (replace(TRIPLET, augmentation=LEGACY_AUGMENTATION), 3, TRIPLET.operations),
    "vtdl turned": (replace(TRIPLET, area=(0.6, 1.0), turn=True), 3, TRIPLET.operations | {"turn"}),
    "dualvar": (SegmentPlanner(FRAMES, 4, SIZE, (48, 64)), 3, SegmentPlanner().operations),
    "cstp": (OverlapPlanner(SIZE, TemporalOverlap(FRAMES)), 2, OverlapPlanner().operations),
    "cstp legacy": (
        OverlapPlanner(SIZE, TemporalOverlap(FRAMES, legacy=True), SpatialOverlap(legacy=True), raster=True), 2,
        OverlapPlanner().operations | {"pad"},
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=["generated", "real"])
def videos(request: pytest.FixtureRequest) -> MemoryShards:
    if request.param == "generated":
        return generated(6, frames=40)
    if not CLIPS.is_dir():
        pytest.skip("real videos are not here (../shared/data/clips)")
    stored = [
        transcode(SourceVideo(CLIPS / name, name), 0, TranscodeConfig(short_side=side, min_frames=9))
        for name, side in REAL
    ]
    units = [one.units for one in stored if isinstance(one, Stored)]
    assert len(units) == len(REAL), stored
    return MemoryShards([record_of(one, number) for number, one in enumerate(units)], units)


@pytest.mark.parametrize("name", PLANNERS)
def test_executors_agree_on_what_a_method_draws(videos: MemoryShards, name: str) -> None:
    planner, views, operations = PLANNERS[name]
    clip_format = ClipFormat(views, FRAMES, SIZE, operations=operations)
    planned = (
        plan_batch(
            videos, planner, clip_format, [(first + one) % len(videos) for one in range(BATCH)], seed=1, epoch=first
        )
        for first in range(0, PLANS, BATCH)
    )
    batches = list(planned)
    total, count = 0.0, 0
    host, dali = HostExecutor(clip_format, threads=1), DaliExecutor(clip_format, max_samples=BATCH, threads=1)
    for (batch, ours), (_, theirs) in zip(host.run(batches), dali.run(batches), strict=True):
        for view, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            error = 255.0 * (one - other).abs().numpy()
            worst = int(error.max(axis=(1, 2, 3, 4)).argmax())
            assert error.max() < 2.01, f"{error.max():.1f} levels apart: {batch.plans[worst].clips[view]}"
            total, count = total + float(error.sum()), count + error.size
    host.close()
    dali.close()
    assert total / count < 0.5


@pytest.mark.parametrize("name", PLANNERS)
def test_recipes_declare_all_that_they_draw(videos: MemoryShards, name: str) -> None:
    planner, views, operations = PLANNERS[name]
    clip_format = ClipFormat(views, FRAMES, SIZE, operations=operations)
    used: set[str] = set()
    for epoch in range(40):
        batch = plan_batch(videos, planner, clip_format, range(len(videos)), seed=2, epoch=epoch)
        used |= {operation for plan in batch.plans for clip in plan.clips for operation in clip.operations}
    assert used == set(operations), "what is never drawn would be in the graph for nothing"

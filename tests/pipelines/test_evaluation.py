"""Evaluation clips: evenly spaced, centred, deterministic, every sample once and in order."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image

from data_process.errors import InputError
from data_process.records import VideoRecord
from pipelines.evaluation import EvaluationClips, evaluation_batches
from pipelines.loader import PipelineConfig
from pipelines.plan import Box, SamplePlan
from tests.pipelines.memory_shards import MemoryShards, generated, picture, record_of

HOST = PipelineConfig(backend="host", threads=2)


def record(num_frames: int, height: int = 128, width: int = 171) -> VideoRecord:
    return VideoRecord("a/b", 1, "test", "jpeg", num_frames, 25.0, height, width)


def plan_of(clips: EvaluationClips, video: VideoRecord) -> SamplePlan:
    (plan,) = clips.plans(video)
    clips.clip_format.check(plan)
    for clip in plan.clips:
        clip.check_fits(video)
    return plan


def test_iics_ten_clips_and_centre_crop() -> None:
    clips = EvaluationClips(drop_last_frame=True)
    plan = plan_of(clips, record(100))
    starts = [clip.frames[0] for clip in plan.clips]
    assert starts == [int(centre - 8) for centre in np.linspace(8, 99 - 8, 10)], "L is one less than the frames"
    assert all(clip.frames == tuple(range(clip.frames[0], clip.frames[0] + 16)) for clip in plan.clips)
    assert {clip.box for clip in plan.clips} == {Box(8, 30, 112, 112)}, "Pillow and torchvision round 29.5 to 30"


@pytest.mark.parametrize(("height", "width"), [(64, 64), (61, 83), (240, 320)])
def test_without_resize_the_largest_centred_square_is_taken(height: int, width: int) -> None:
    box = plan_of(EvaluationClips(resize=None), record(30, height, width)).clips[0].box
    assert box.height == box.width == min(height, width)
    assert (box.top, box.left) == ((height - box.height) // 2, (width - box.width) // 2)


@pytest.mark.parametrize("num_frames", [1, 2, 15, 16, 17])
def test_short_videos_start_again_from_the_beginning(num_frames: int) -> None:
    plan = plan_of(EvaluationClips(num_clips=3), record(num_frames))
    assert plan.clips[0].frames == tuple(frame % num_frames for frame in range(16))


@pytest.mark.parametrize(("place", "frame"), [(0.0, 0), (0.5, 10), (1.0, 20)])
def test_the_one_frame_control_sees_one_frame_in_every_clip(place: float, frame: int) -> None:
    plan = plan_of(EvaluationClips(num_clips=4, num_frames=8, frozen_frame=place), record(21))
    assert {number for clip in plan.clips for number in clip.frames} == {frame}


def test_labels_come_as_targets() -> None:
    assert plan_of(EvaluationClips(), record(20)).targets["label"] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_clips": 0},
        {"stride": 0},
        {"size": 200},
        {"frozen_frame": 1.5},
        {"resize": (100, 171)},
        {"resize": 100},
        {"sampling": "random"},
        {"crops": 2},
        {"interpolation": "nearest"},
        {"hop": 0},
    ],
)
def test_impossible_settings_are_input_errors(wrong: dict) -> None:
    with pytest.raises(InputError, match=next(iter(wrong)).replace("num_", "").replace("size", "resize|size")):
        EvaluationClips(**wrong)


@pytest.fixture(scope="module")
def videos() -> MemoryShards:
    return generated(7)


CLIPS = EvaluationClips(num_clips=2, num_frames=4, size=16, resize=None)


@pytest.mark.parametrize("backend", ["host", "dali"])
@pytest.mark.parametrize("batch_size", [1, 3, 7, 20])
def test_all_samples_come_once_in_their_order(videos: MemoryShards, backend: str, batch_size: int) -> None:
    if backend == "dali":
        pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    indices = [5, 0, 6, 1, 2]
    config = PipelineConfig(backend=backend, threads=2)  # type: ignore[arg-type]
    batches = list(evaluation_batches(videos, CLIPS, config=config, indices=indices, batch_size=batch_size))
    assert [int(index) for batch in batches for index in batch.index] == indices
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert [int(label) for batch in batches for label in batch.targets["label"]] == [
        videos[index].label for index in indices
    ]


def test_clips_do_not_depend_on_the_batch_they_come_in(videos: MemoryShards) -> None:
    def everything(batch_size: int) -> torch.Tensor:
        batches = evaluation_batches(videos, CLIPS, config=HOST, indices=range(7), batch_size=batch_size)
        return torch.cat([torch.stack(batch.clips, dim=1) for batch in batches])

    assert torch.equal(everything(2), everything(5))


def test_no_samples_give_no_batches(videos: MemoryShards) -> None:
    assert list(evaluation_batches(videos, CLIPS, config=HOST, indices=[], batch_size=3)) == []


def test_leaving_evaluation_early_leaves_no_thread(videos: MemoryShards) -> None:
    before = set(threading.enumerate())
    batches = evaluation_batches(videos, CLIPS, config=HOST, indices=range(7), batch_size=1)
    next(batches)
    batches.close()
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize(
    ("num_frames", "starts"), [(200, [0, 10]), (74, [0, 10]), (73, [0]), (64, [0]), (40, [0]), (1, [0])]
)
def test_vtdls_two_windows_begin_ten_frames_apart_where_they_fit(num_frames: int, starts: list) -> None:
    clips = EvaluationClips(sampling="leading", num_clips=2, num_frames=64)
    windows = [plan.clips for plan in clips.plans(record(num_frames))]
    assert [one.frames[0] for (one,) in windows] == starts
    assert windows[0][0].frames == tuple(frame % num_frames for frame in range(64))
    assert max(frame for (one,) in windows for frame in one.frames) < num_frames


def test_drawn_clips_are_told_by_seed_and_sample_and_reach_both_ends() -> None:
    video = record(80)
    clips = EvaluationClips(sampling="drawn", num_clips=1, num_frames=64)
    starts = [clips.plans(video, index)[0].clips[0].frames[0] for index in range(300)]
    assert set(starts) == set(range(17)), "1-based from 1 to N - 63"
    assert starts == [clips.plans(video, index)[0].clips[0].frames[0] for index in range(300)]
    other = EvaluationClips(sampling="drawn", num_clips=1, num_frames=64, seed=1)
    assert starts != [other.plans(video, index)[0].clips[0].frames[0] for index in range(300)]
    short = clips.plans(record(40), 7)[0].clips[0].frames
    assert short == tuple(frame % 40 for frame in range(64))


def test_drawn_clips_are_those_of_their_sample_in_any_order_and_batch(videos: MemoryShards) -> None:
    clips = EvaluationClips(sampling="drawn", num_clips=2, num_frames=4, size=16, resize=None)

    def by_index(indices: list[int], batch_size: int) -> dict[int, torch.Tensor]:
        batches = evaluation_batches(videos, clips, config=HOST, indices=indices, batch_size=batch_size)
        rows = ((int(one), batch, place) for batch in batches for place, one in enumerate(batch.index))
        return {one: torch.stack([view[place] for view in batch.clips]) for one, batch, place in rows}

    whole, turned = by_index(list(range(7)), 3), by_index([6, 2, 4, 0], 1)
    assert all(torch.equal(whole[index], seen) for index, seen in turned.items())


@pytest.mark.parametrize("backend", ["host", "dali"])
def test_cstps_bicubic_centre_crop_is_pillows_resize_of_the_frame(backend: str) -> None:
    if backend == "dali":
        pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    rng = np.random.default_rng(4)
    stored = [simplejpeg.encode_jpeg(picture(rng, 240, 320), quality=95) for _ in range(2)]
    one = MemoryShards([record_of(stored, 0)], [stored])
    apart = {}
    for interpolation in ("bilinear", "bicubic"):
        clips = EvaluationClips(
            sampling="joined",
            num_frames=2,
            size=112,
            resize=128,
            interpolation=interpolation,  # type: ignore[arg-type]
        )
        config = PipelineConfig(backend=backend, threads=2)  # type: ignore[arg-type]
        batch = next(iter(evaluation_batches(one, clips, config=config, indices=[0], batch_size=1)))
        ours = batch.clips[0][0].permute(1, 2, 3, 0).numpy() * 255.0
        frames = (Image.fromarray(simplejpeg.decode_jpeg(jpeg)) for jpeg in stored)
        # CSTP's img_test: the frame to 170 x 128, then the square at round((w - 112) / 2).
        theirs = [frame.resize((170, 128), Image.Resampling.BICUBIC).crop((29, 8, 141, 120)) for frame in frames]
        errors = np.abs(ours - np.stack([np.asarray(one) for one in theirs]))
        apart[interpolation] = errors[:, 2:-2, 2:-2].mean(), errors.mean()
    # The crop ends at whole pixels of the stored frame, and its filter at the crop.
    assert apart["bicubic"][0] < 0.9 * apart["bilinear"][0], apart
    assert apart["bicubic"][1] < 2, apart


def test_crops_lie_where_they_are_said_to() -> None:
    plan = plan_of(EvaluationClips(num_clips=2, num_frames=8, crops=10, resize=(128, 171)), record(40))
    assert [clip.frames[0] for clip in plan.clips] == [0] * 10 + [32] * 10
    first = plan.clips[:10]
    corners = [(0, 0), (0, 59), (16, 0), (16, 59), (8, 30)]
    assert [(clip.box.top, clip.box.left) for clip in first] == corners * 2
    assert [clip.flip for clip in first] == [False] * 5 + [True] * 5
    assert {(clip.box.height, clip.box.width) for clip in first} == {(112, 112)}


@pytest.mark.parametrize(
    ("height", "width", "places"), [(128, 171, [(8, 0), (8, 30), (8, 59)]), (171, 128, [(0, 8), (30, 8), (59, 8)])]
)
def test_three_crops_lie_along_the_longer_side(height: int, width: int, places: list) -> None:
    clips = EvaluationClips(num_clips=1, crops=3, resize=(height, width))
    plan = plan_of(clips, record(40, height, width))
    assert [(clip.box.top, clip.box.left) for clip in plan.clips] == places
    square = plan_of(EvaluationClips(num_clips=1, crops=3, resize=None), record(40, height, width))
    ends = [(clip.box.top, clip.box.left) for clip in square.clips]
    assert ends[0] == (0, 0)
    assert ends[2] == (max(0, height - width), max(0, width - height))


@pytest.mark.parametrize("sampling", ["joined", "sliding"])
def test_windows_cover_a_video_and_keep_its_rows_together(videos: MemoryShards, sampling: str) -> None:
    clips = EvaluationClips(sampling=sampling, num_frames=4, size=16, resize=None, crops=3)  # type: ignore[arg-type]
    counts = [len(clips.plans(video)) for video in videos.records]
    assert len(set(counts)) > 1, "videos of one length show nothing"
    for video in videos.records:
        seen = {frame for plan in clips.plans(video) for clip in plan.clips for frame in clip.frames}
        assert seen >= set(range(video.num_frames - 1)), "the last frame may be left over"
    batches = list(evaluation_batches(videos, clips, config=HOST, indices=[3, 0, 6], batch_size=4))
    rows = [int(index) for batch in batches for index in batch.index]
    assert rows == [3] * counts[3] + [0] * counts[0] + [6] * counts[6]
    assert all(len(batch.clips) == 3 for batch in batches)
    assert all(len(batch) == 4 for batch in batches[:-1])


@pytest.mark.parametrize(
    ("height", "width", "resized"),
    [(240, 320, (128, 170)), (320, 240, (170, 128)), (128, 171, (128, 171)), (240, 426, (128, 227))],
    ids=["landscape", "portrait", "fitting", "wide"],
)
def test_a_shorter_side_keeps_the_aspect_as_in_vtdl_and_cstp(height: int, width: int, resized: tuple) -> None:
    video = record(40, height, width)
    given, sizes = (plan_of(EvaluationClips(num_clips=1, crops=3, resize=resize), video) for resize in (128, resized))
    assert [clip.box for clip in given.clips] == [clip.box for clip in sizes.clips]

"""Pairs of clips whose labels are computed from what is cut."""

import numpy as np
import pytest
import torch

from data_process.records import VideoRecord
from models.planners.overlap import OverlapPlanner
from pipelines.draw import RATES, Augmentation, SpatialOverlap, TemporalOverlap, shared_area
from pipelines.pixels import cut_clip
from pipelines.plan import ClipFormat, sample_rng

VIDEO = VideoRecord("v", 0, "train", "jpeg", 300, 25.0, 240, 320)
RASTER = OverlapPlanner(spatial=SpatialOverlap(legacy=True), raster=True)


def plans(planner: OverlapPlanner, count: int, video: VideoRecord = VIDEO):
    return [planner(sample_rng(0, 0, number), video) for number in range(count)]


@pytest.mark.parametrize("planner", [OverlapPlanner(), RASTER], ids=["upright", "raster"])
def test_clips_fit_the_format_and_the_video(planner: OverlapPlanner) -> None:
    clip_format = ClipFormat(2, 16, 112, operations=planner.operations)
    for plan in plans(planner, 200):
        clip_format.check(plan)
        for clip in plan.clips:
            clip.check_fits(VIDEO)
        assert {name: value.shape for name, value in plan.targets.items()} == {
            "spatial": (), "temporal": (), "playback": (), "turns": (2,), "spatial_overlap": (), "temporal_overlap": (),
        }  # fmt: skip


def test_labels_follow_from_boxes_and_frames() -> None:
    for plan in plans(OverlapPlanner(), 500):
        one, two = plan.clips
        rate = (1, 2, 4, 8)[int(plan.targets["playback"])]
        assert set(np.diff(one.frames)) == set(np.diff(two.frames)) == {rate}
        shared = 1 - abs(one.frames[0] - two.frames[0]) / (15 * rate)
        assert plan.targets["temporal_overlap"] == pytest.approx(shared)
        # At rate 1 the shift of 3 frames of 15 is cut to 2.
        assert shared == pytest.approx(RATES[int(plan.targets["temporal"])], abs=0.07)
        assert plan.targets["spatial_overlap"] == pytest.approx(shared_area(one.box, two.box))
        assert shared_area(one.box, two.box) == pytest.approx(RATES[int(plan.targets["spatial"])], abs=0.02)


@pytest.mark.parametrize("flip", [0.0, 1.0], ids=["upright", "mirrored"])
def test_the_label_of_a_turn_is_that_of_the_frame_before_the_mirror(flip: float) -> None:
    planner = OverlapPlanner(augmentation=Augmentation(flip=flip))
    frame = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    for plan in plans(planner, 40):
        for clip, turns in zip(plan.clips, plan.targets["turns"].tolist(), strict=True):
            decoded = dict.fromkeys(clip.frames, frame)
            box = clip.box
            cut = frame[box.top : box.top + box.height, box.left : box.left + box.width]
            square = cut_clip({0: cut}, type(clip)((0,), type(box)(0, 0, box.height, box.width)), 32)[0]
            expected = torch.rot90(square, turns, dims=(0, 1))
            expected = expected.flip(1) if flip else expected
            assert torch.equal(cut_clip(decoded, clip, 32)[0], expected)


def test_raster_boxes_cut_what_a_turned_frame_shows_at_their_place() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    video = VideoRecord("v", 0, "train", "jpeg", 300, 25.0, 60, 80)
    planner = OverlapPlanner(
        spatial=SpatialOverlap(legacy=True), raster=True, augmentation=Augmentation(), temporal=TemporalOverlap()
    )
    outside = 0
    for plan in plans(planner, 200, video):
        for clip, turns in zip(plan.clips, plan.targets["turns"].tolist(), strict=True):
            if clip.box.is_inside(60, 80):
                continue
            outside += 1
            box = clip.box
            canvas = np.zeros((400, 400, 3), np.uint8)
            canvas[150:210, 150:230] = frame
            cut = canvas[150 + box.top :, 150 + box.left :][: box.height, : box.width]
            size = 8
            whole = cut_clip({0: np.ascontiguousarray(cut)}, type(clip)((0,), type(box)(0, 0, *cut.shape[:2])), size)[0]
            drawn = cut_clip(dict.fromkeys(clip.frames, frame), clip, size)[0]
            assert torch.equal(drawn, torch.rot90(whole, turns, dims=(0, 1)))
    assert outside > 20


def test_turns_are_all_equally_likely_and_independent() -> None:
    turns = np.array([plan.targets["turns"] for plan in plans(OverlapPlanner(), 3200)])
    pairs = np.bincount(4 * turns[:, 0] + turns[:, 1], minlength=16)
    assert ((pairs - 200) ** 2 / 200).sum() < 37.7  # 99.9 % of 15 degrees of freedom
    assert not any(plan.targets["turns"].any() for plan in plans(OverlapPlanner(turn=False), 20))


def test_a_third_of_the_clips_is_strongly_augmented() -> None:
    tilted = [clip.tilt != 0 for plan in plans(OverlapPlanner(), 1500) for clip in plan.clips]
    assert np.mean(tilted) == pytest.approx(0.3, abs=0.03)


def test_raster_boxes_need_the_draw_that_they_belong_to() -> None:
    with pytest.raises(ValueError, match=r"spatial\.legacy"):
        OverlapPlanner(raster=True)

"""Clips whose segments are put in another order."""

from itertools import permutations

import numpy as np
import pytest

from data_process.records import VideoRecord
from models.planners.segments import PairPlanner, SegmentPlanner
from pipelines.plan import IDENTITY, ClipFormat, sample_rng

VIDEO = VideoRecord("v", 0, "train", "jpeg", 300, 25.0, 128, 171)


def plans(planner: SegmentPlanner, count: int, video: VideoRecord = VIDEO):
    return [planner(sample_rng(0, 0, number), video) for number in range(count)]


def test_the_third_clip_shows_the_first_ones_frames_with_its_own_crop() -> None:
    others = []
    for plan in plans(SegmentPlanner(), 50):
        first, second, third = plan.clips
        assert first.frames == third.frames
        assert (first.box, first.photometric) != (third.box, third.photometric)
        others.append(second.frames != first.frames)
    assert np.mean(others) > 0.9, "two centres of 300 seldom agree"


def test_all_clips_run_backwards_or_none() -> None:
    steps = [
        {int(np.sign(clip.frames[-1] - clip.frames[0])) for clip in plan.clips} for plan in plans(SegmentPlanner(), 600)
    ]
    assert all(len(one) == 1 for one in steps)
    assert np.mean([one == {-1} for one in steps]) == pytest.approx(0.5, abs=0.08)
    assert all(plan.clips[0].frames[0] < plan.clips[0].frames[-1] for plan in plans(SegmentPlanner(reverse=0.0), 50))


def test_clips_of_short_videos_repeat_their_ends() -> None:
    video = VideoRecord("short", 0, "train", "jpeg", 17, 25.0, 128, 171)
    for plan in plans(SegmentPlanner(reverse=0.0), 50, video):
        for clip in plan.clips:
            clip.check_fits(video)
            assert list(clip.frames) == sorted(clip.frames)


@pytest.mark.parametrize(("num_frames", "stride"), [(8, 3), (7, 2), (16, 4)])
def test_clips_may_be_kept_inside_of_videos_that_are_long_enough(num_frames, stride) -> None:
    video = VideoRecord("v", 0, "train", "jpeg", 64, 25.0, 128, 171)
    planner = SegmentPlanner(num_frames=num_frames, stride=stride, num_segments=1, inside=True, reverse=0.0)
    starts = []
    for plan in plans(planner, 500, video):
        for clip in plan.clips[:2]:
            starts.append(clip.frames[0])
            assert np.diff(clip.frames).tolist() == [stride] * (num_frames - 1)
    assert set(starts) == set(range(64 - (num_frames - 1) * stride))
    short = VideoRecord("short", 0, "train", "jpeg", 5, 25.0, 128, 171)
    assert all(max(clip.frames) < 5 for plan in plans(planner, 20, short) for clip in plan.clips)


def test_every_order_of_segments_is_equally_likely() -> None:
    drawn = [tuple(plan.targets["segment_order"].tolist()) for plan in plans(SegmentPlanner(num_segments=4), 4800)]
    counts = [drawn.count(order) for order in permutations(range(4))]
    assert sum(counts) == 4800
    assert sum((count - 200) ** 2 / 200 for count in counts) < 49.8  # 99.9 % of 23 degrees of freedom


def test_the_first_clip_is_plain_in_a_fifth_of_the_samples() -> None:
    drawn = plans(SegmentPlanner(), 3000)
    plain = [np.mean([plan.clips[view].photometric == (IDENTITY,) for plan in drawn]) for view in range(3)]
    # A clip with the full recipe is unchanged where neither jitter (0.64) nor blur (0.5) comes.
    assert plain == pytest.approx([0.2 + 0.8 * 0.18, 0.18, 0.18], abs=0.03)


def test_clips_fit_the_format_that_the_planner_declares() -> None:
    planner = SegmentPlanner(num_frames=8, resize=(171, 128))
    clip_format = ClipFormat(3, 8, 112, operations=planner.operations)
    for plan in plans(planner, 50):
        clip_format.check(plan)


def test_pairs_are_the_first_two_clips_of_the_same_draw() -> None:
    planner = SegmentPlanner(turn=True, area=(0.3, 0.9))
    pairs = [PairPlanner(planner)(sample_rng(0, 0, number), VIDEO) for number in range(20)]
    assert [plan.clips for plan in pairs] == [plan.clips[:2] for plan in plans(planner, 20)]
    assert not any(plan.targets for plan in pairs)


def test_boxes_may_be_drawn_by_area_and_clips_turned() -> None:
    planner = SegmentPlanner(num_frames=8, area=(0.25, 1.0), turn=True)
    clips = [clip for plan in plans(planner, 400) for clip in plan.clips]
    assert "turn" in planner.operations - SegmentPlanner().operations
    shares = [clip.box.height**2 / 128**2 for clip in clips]
    assert all(clip.box.height == clip.box.width for clip in clips)
    assert 0.24 < min(shares) < 0.3 < 0.9 < max(shares) <= 1.0
    counts = np.bincount([clip.quarter_turns for clip in clips], minlength=4)
    assert counts.min() > 0.8 * 300  # 300 expected, standard deviation 15


@pytest.mark.parametrize(
    ("wrong", "why"), [({"num_segments": 3}, "cut into 3"), ({"resize": (100, 171)}, "crop of 112")]
)
def test_segments_and_crops_that_cannot_be_are_refused(wrong: dict, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        SegmentPlanner(**wrong)

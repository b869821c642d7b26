"""Triplets: two views of one moment, one of another, and what is blended in."""

import numpy as np
import pytest

from data_process.records import VideoRecord
from models.planners.triplet import BASIC_AUGMENTATION, LEGACY_AUGMENTATION, PartialTriplet, TripletPlanner
from pipelines.draw import TripletStarts
from pipelines.plan import ClipFormat, sample_rng

VIDEO = VideoRecord("v", 0, "train", "jpeg", 300, 25.0, 240, 320)


def plans(planner: TripletPlanner, count: int, video: VideoRecord = VIDEO):
    return [planner(sample_rng(0, 0, number), video) for number in range(count)]


def test_anchor_and_positive_share_frames_and_nothing_else() -> None:
    for plan in plans(TripletPlanner(), 50):
        anchor, positive, negative = plan.clips
        assert anchor.frames == positive.frames != negative.frames
        assert (anchor.box, anchor.angle, anchor.photometric) != (positive.box, positive.angle, positive.photometric)
        assert not any(clip.flip for clip in plan.clips)


def test_all_clips_fit_their_format_and_their_video() -> None:
    planner = TripletPlanner(num_frames=8, size=112, short_side=128)
    clip_format = ClipFormat(3, 8, 112, operations=planner.operations)
    for video in (VIDEO, VideoRecord("tall", 0, "train", "jpeg", 20, 25.0, 171, 128)):
        for plan in plans(planner, 50, video):
            clip_format.check(plan)
            for clip in plan.clips:
                clip.check_fits(video)


def test_the_crop_is_of_the_asked_share_of_the_frame() -> None:
    boxes = [clip.box for plan in plans(TripletPlanner(size=224, short_side=256), 30) for clip in plan.clips]
    assert {box.height for box in boxes} <= {209, 210, 211}, "224 of 256 rows are 210 of 240"


def test_blending_weights_and_frames_are_uniform() -> None:
    drawn = plans(TripletPlanner(), 3000)
    weights = np.array([plan.targets["mix_weight"] for plan in drawn])
    frames = np.bincount([int(plan.targets["mix_frame"]) for plan in drawn], minlength=16)
    assert 0.0 <= weights.min() < weights.max() < 0.1
    assert weights.mean() == pytest.approx(0.05, abs=0.002)
    assert len(frames) == 16
    assert frames.min() > 130
    assert drawn[0].targets["mix_weight"].dtype == np.float32


def test_a_gap_moves_the_negative_away() -> None:
    planner = TripletPlanner(starts=TripletStarts(reserve=61, min_gap=64))
    gaps = [abs(plan.clips[0].frames[0] - plan.clips[2].frames[0]) for plan in plans(planner, 100)]
    assert min(gaps) >= 64


def test_the_legacy_recipe_changes_one_thing_a_clip() -> None:
    def changes(augmentation):
        drawn = [plan.clips[0].photometric[0] for plan in plans(TripletPlanner(augmentation=augmentation), 60)]
        return {sum((c.brightness != 1, c.contrast != 1, c.saturation != 1, c.hue != 0)) for c in drawn}

    assert changes(BASIC_AUGMENTATION) == {4}
    assert changes(LEGACY_AUGMENTATION) == {1}


def test_a_crop_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="224 pixels does not fit into a short side of 128"):
        TripletPlanner(short_side=128)


def test_squares_of_drawn_areas_and_quarter_turns_may_be_asked_for() -> None:
    planner = TripletPlanner(size=48, short_side=32, area=(0.25, 1.0), turn=True)
    clip_format = ClipFormat(3, 16, 48, operations=planner.operations)
    drawn = plans(planner, 100)
    for plan in drawn:
        clip_format.check(plan)
    boxes = [clip.box for plan in drawn for clip in plan.clips]
    assert all(box.height == box.width for box in boxes)
    shares = np.array([box.height * box.width / 240**2 for box in boxes])
    assert shares.mean() == pytest.approx(0.625, abs=0.04)
    assert 0.24 < shares.min() < 0.3 < 0.95 < shares.max() <= 1.0
    assert {clip.quarter_turns for plan in drawn for clip in plan.clips} == {0, 1, 2, 3}
    assert all(len({clip.quarter_turns for clip in plan.clips}) == 1 for plan in drawn), "the triplet as a whole"


def test_parts_are_those_of_the_whole_triplet() -> None:
    planner = TripletPlanner()
    whole = planner(sample_rng(0, 0, 3), VIDEO)
    part = PartialTriplet(planner, ("anchor", "negative"), 9, 5)(sample_rng(0, 0, 3), VIDEO)
    assert part.clips == (whole.clips[0], whole.clips[2])
    assert part.targets["mix_weight"] == whole.targets["mix_weight"]
    assert part.targets["negatives"].shape == (5,)
    assert set(part.targets["negatives"].tolist()) <= set(range(9))
    assert PartialTriplet(planner)(sample_rng(0, 0, 3), VIDEO).digest() == whole.digest()

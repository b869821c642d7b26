"""Single clips as the papers draw them for fine-tuning."""

from dataclasses import replace

import numpy as np
import pytest

from data_process.records import VideoRecord
from models.planners.single_clip import ClipDraw

LONG = VideoRecord(id="v", label=0, split="train", codec="jpeg", num_frames=100, fps=(25, 1), height=60, width=80)
SHORT = replace(LONG, num_frames=11)


def drawn(clip, record=LONG, count=300):
    return [clip.draw(np.random.default_rng(seed), record) for seed in range(count)]


def test_settings_that_are_off_change_no_other_draw():
    plain = ClipDraw(num_frames=8, size=32, resize=(40, 50), flip=0.5)
    turned = replace(plain, angle=10.0, short="padded")
    for one, other in zip(drawn(plain), drawn(turned), strict=True):
        assert (one.box, one.flip, one.photometric) == (other.box, other.flip, other.photometric)
        assert one.angle == 0.0 != other.angle


def test_angles_are_uniform_either_way():
    angles = np.array([plan.angle for plan in drawn(ClipDraw(num_frames=8, angle=10.0), count=2000)])
    assert -10 <= angles.min() < -9.8
    assert 9.8 < angles.max() <= 10
    assert abs(angles.mean()) < 0.5
    assert "rotate" in ClipDraw(angle=10.0).operations


def test_a_shorter_side_keeps_the_aspect_of_the_frame():
    clip = ClipDraw(num_frames=8, size=32, resize=48)
    for plan in drawn(clip):
        # A 60 x 80 frame is thought to be 48 x 64; 32 of those pixels are 40 stored ones.
        assert (plan.box.height, plan.box.width) == (40, 40)
        assert plan.box.is_inside(60, 80)
    assert clip.varies
    with pytest.raises(ValueError, match="a crop of 64 pixels does not fit into frames resized to 48"):
        replace(clip, size=64)


def test_boxes_of_an_aspect_are_shares_of_the_whole_frame():
    clip = ClipDraw(num_frames=8, size=32, area=(0.2, 1.0), aspect=(3 / 4, 4 / 3))
    boxes = [plan.box for plan in drawn(clip, count=1000)]
    shares = np.array([box.height * box.width / 4800 for box in boxes])
    aspects = np.array([box.width / box.height for box in boxes])
    assert shares.min() < 0.25
    assert 0.9 < shares.max() <= 1.0
    assert 0.7 < aspects.min() < 0.8
    assert 1.25 < aspects.max() < 1.4
    assert all(box.is_inside(60, 80) for box in boxes)
    with pytest.raises(ValueError, match=r"aspect .* goes with area"):
        replace(clip, area=None)


def test_short_videos_start_again_with_or_without_their_phase():
    clip = ClipDraw(num_frames=8, stride=4, drop_last_frame=False)
    assert {plan.frames for plan in drawn(clip, SHORT)} == {(0, 4, 8, 1, 5, 9, 2, 6)}
    assert {plan.frames for plan in drawn(replace(clip, short="restarted"), SHORT)} == {(0, 4, 8, 0, 4, 8, 0, 4)}


def test_padded_videos_stand_still_at_either_end_as_in_dualvar():
    clip = ClipDraw(num_frames=8, stride=4, drop_last_frame=False, short="padded")
    expected = set()
    for start in range(4):
        inside = list(range(start, 11, 4))
        missing = 8 - len(inside)
        expected |= {tuple([0] * missing + inside), tuple(inside + [10] * missing)}
    assert {plan.frames for plan in drawn(clip, SHORT)} == expected


def test_padding_leaves_long_videos_alone():
    clip = ClipDraw(num_frames=8, stride=4, drop_last_frame=False, short="padded")
    starts = {plan.frames[0] for plan in drawn(clip, count=3000)}
    assert starts == set(range(100 - 32))  # randint(N - L * ds) of the release
    assert all(np.diff(plan.frames).tolist() == [4] * 7 for plan in drawn(clip))

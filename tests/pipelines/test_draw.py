"""Draws stay inside the video and have the distributions that they promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.draw import (
    ColourJitter,
    centre_box,
    clip_frames,
    even_starts,
    looped,
    random_area_box,
    random_start,
    resized_crop,
    span,
)
from pipelines.plan import IDENTITY, Box, Photometric

QUICK = settings(max_examples=80, deadline=None)
SIDES = st.integers(1, 400)


def rng_of(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


@QUICK
@given(
    seed=st.integers(0, 10**6),
    video_frames=st.integers(1, 300),
    num_frames=st.integers(1, 32),
    stride=st.integers(1, 8),
)
def test_random_clips_lie_inside_the_video_looped_where_it_is_short(
    seed: int, video_frames: int, num_frames: int, stride: int
) -> None:
    start = random_start(rng_of(seed), video_frames=video_frames, num_frames=num_frames, stride=stride)
    frames = clip_frames(start, num_frames=num_frames, stride=stride)
    assert len(frames) == num_frames
    assert set(np.diff(frames)) <= {stride}
    assert frames[-1] - frames[0] + 1 == span(num_frames, stride)
    if span(num_frames, stride) <= video_frames:
        assert 0 <= frames[0] <= frames[-1] < video_frames
        assert looped(frames, video_frames) == frames
    else:
        assert start == 0
        assert set(looped(frames, video_frames)) <= set(range(video_frames))


def test_random_starts_reach_both_ends_evenly() -> None:
    rng = rng_of(0)
    starts = [random_start(rng, video_frames=20, num_frames=5, stride=3) for _ in range(4000)]
    counts = np.bincount(starts, minlength=8)
    assert len(counts) == 8, "a clip of 5 frames with stride 3 takes 13 of 20"
    assert counts.min() > 400


@QUICK
@given(video_frames=st.integers(16, 2000))
def test_even_starts_follow_iics_rule(video_frames: int) -> None:
    expected = [int(centre - 8) for centre in np.linspace(8, video_frames - 8, 10)]
    starts = even_starts(video_frames=video_frames, num_clips=10, num_frames=16)
    assert list(starts) == expected
    assert (starts[0], starts[-1]) == (0, video_frames - 16)


@QUICK
@given(
    video_frames=st.integers(1, 300),
    num_clips=st.integers(1, 12),
    num_frames=st.integers(1, 32),
    stride=st.integers(1, 5),
)
def test_even_starts_ascend_and_keep_clips_inside(
    video_frames: int, num_clips: int, num_frames: int, stride: int
) -> None:
    starts = even_starts(video_frames=video_frames, num_clips=num_clips, num_frames=num_frames, stride=stride)
    assert len(starts) == num_clips
    assert list(starts) == sorted(starts)
    assert starts[0] == 0
    assert starts[-1] + span(num_frames, stride) <= max(video_frames, span(num_frames, stride))


@QUICK
@given(seed=st.integers(0, 10**6), height=SIDES, width=SIDES, low=st.floats(0.01, 1.0), more=st.floats(0.0, 1.0))
def test_area_boxes_are_squares_of_the_drawn_area_inside_the_frame(
    seed: int, height: int, width: int, low: float, more: float
) -> None:
    high = low + (1 - low) * more
    box = random_area_box(rng_of(seed), height=height, width=width, area=(low, high))
    largest = min(height, width)
    assert box.height == box.width
    assert box.top + box.height <= height
    assert box.left + box.width <= width
    assert largest * low**0.5 - 1 <= box.height <= largest * high**0.5 + 1


def test_area_boxes_reach_every_side_of_the_frame() -> None:
    rng = rng_of(1)
    boxes = [random_area_box(rng, height=20, width=30, area=(0.3, 0.9)) for _ in range(1000)]
    assert min(box.top for box in boxes) == min(box.left for box in boxes) == 0
    assert max(box.top + box.height for box in boxes) == 20
    assert max(box.left + box.width for box in boxes) == 30


@QUICK
@given(height=SIDES, width=SIDES)
def test_the_centre_box_is_the_largest_square_and_central(height: int, width: int) -> None:
    box = centre_box(height, width)
    assert box.height == box.width == min(height, width)
    assert abs(2 * box.top + box.height - height) <= 1
    assert abs(2 * box.left + box.width - width) <= 1


@QUICK
@given(data=st.data(), height=st.integers(2, 500), width=st.integers(2, 500))
def test_a_crop_of_a_resized_frame_is_found_in_the_stored_one(data: st.DataObject, height: int, width: int) -> None:
    resized = (data.draw(st.integers(8, 200)), data.draw(st.integers(8, 200)))
    crop = data.draw(st.integers(1, min(resized)))
    top = data.draw(st.integers(0, resized[0] - crop))
    left = data.draw(st.integers(0, resized[1] - crop))
    box = resized_crop(top, left, crop=crop, resized=resized, height=height, width=width)
    assert box.top + box.height <= height
    assert box.left + box.width <= width
    assert abs(box.top - top * height / resized[0]) <= 1
    assert abs(box.height - crop * height / resized[0]) <= 1
    assert abs(box.width - crop * width / resized[1]) <= 1


def test_a_crop_of_a_frame_stored_at_the_resized_size_is_that_crop() -> None:
    assert resized_crop(8, 30, crop=112, resized=(128, 171), height=128, width=171) == Box(8, 30, 112, 112)


JITTER = ColourJitter(
    brightness=0.4, contrast=0.3, saturation=1.5, hue=0.1, probability=0.5, grey=0.2, blur=0.25, blur_sigma=(0.3, 1.1)
)


def test_colour_draws_stay_in_their_ranges_and_come_as_often_as_they_should() -> None:
    rng = rng_of(2)
    drawn = [JITTER.draw(rng) for _ in range(4000)]
    changed = [one for one in drawn if one.changes_colour]
    assert len(changed) / len(drawn) == pytest.approx(0.5, abs=0.04)
    assert np.mean([one.grey for one in drawn]) == pytest.approx(0.2, abs=0.04)
    assert np.mean([one.blur > 0 for one in drawn]) == pytest.approx(0.25, abs=0.04)
    for name, low, high in (("brightness", 0.6, 1.4), ("contrast", 0.7, 1.3), ("saturation", 0.0, 2.5)):
        values = [getattr(one, name) for one in changed]
        assert low <= min(values) < low + 0.05
        assert high - 0.05 < max(values) <= high
    assert 34 < max(abs(one.hue) for one in changed) <= 36, "a tenth of the circle"
    blurs = [one.blur for one in drawn if one.blur > 0]
    assert 0.3 <= min(blurs) < max(blurs) <= 1.1


def test_colour_draws_take_the_same_count_of_numbers_whatever_comes_out() -> None:
    for seed in range(50):
        drawn, counted = rng_of(seed), rng_of(seed)
        JITTER.draw(drawn)
        counted.random(8)
        assert drawn.random() == counted.random()


@pytest.mark.parametrize(
    ("jitter", "operations"),
    [
        (ColourJitter(), set()),
        (ColourJitter(hue=0.1), {"colour"}),
        (ColourJitter(hue=0.1, probability=0.0), set()),
        (ColourJitter(grey=0.1, blur=0.1), {"grey", "blur"}),
        (JITTER, {"colour", "grey", "blur"}),
    ],
)
def test_a_jitter_declares_the_operations_that_its_draws_need(jitter: ColourJitter, operations: set[str]) -> None:
    assert jitter.operations == operations
    rng = rng_of(3)
    for change in (jitter.draw(rng) for _ in range(200)):
        used = {"colour": change.changes_colour, "grey": change.grey, "blur": change.blur > 0}
        assert {name for name, is_used in used.items() if is_used} <= operations


def test_a_jitter_of_nothing_changes_nothing() -> None:
    assert ColourJitter().draw(rng_of(0)) == Photometric()
    assert ColourJitter(hue=0.5, probability=0.0).draw(rng_of(0)) is IDENTITY

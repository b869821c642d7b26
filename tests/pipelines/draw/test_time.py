"""Clips stay inside the video and begin where their rules say."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.draw import (
    TripletStarts,
    centred_frames,
    clip_frames,
    even_starts,
    looped,
    playback_label,
    random_start,
    restarted,
    span,
)

QUICK = settings(max_examples=80, deadline=None)


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
@given(st.integers(0, 50), st.integers(1, 40), st.integers(1, 9), st.integers(1, 60))
def test_a_clip_that_reaches_the_end_goes_on_at_frame_0(start: int, num_frames: int, stride: int, length: int) -> None:
    start %= length
    frames = restarted(start, num_frames=num_frames, stride=stride, video_frames=length)
    assert frames[0] == start
    for one, following in itertools.pairwise(frames):
        assert following == (one + stride if one + stride < length else 0)


@QUICK
@given(st.integers(0, 300), st.integers(1, 33), st.integers(1, 9), st.integers(1, 300))
def test_a_centred_clip_repeats_the_ends_of_the_video(centre: int, num_frames: int, stride: int, length: int) -> None:
    centre %= length
    frames = np.array(centred_frames(centre, num_frames=num_frames, stride=stride, video_frames=length))
    assert (
        frames.tolist() == np.clip(centre + (np.arange(num_frames) - num_frames // 2) * stride, 0, length - 1).tolist()
    )
    assert frames[num_frames // 2] == centre


@QUICK
@given(st.integers(0, 10**6), st.integers(1, 600))
def test_triplets_follow_the_rule_of_vtdl(seed: int, length: int) -> None:
    starts = TripletStarts()
    anchor, other = starts.draw(rng_of(seed), length)
    count = max(length - 128, 0) + 1
    u, v = rng_of(seed).random(2)
    a, b = 1 + int(u * count), 1 + int(v * count)  # from 1, as the original counts
    if abs(b - a) < 2:
        b = (b + length // 3) % length or 1
    assert (anchor, other) == (a - 1, b - 1)
    assert 0 <= other < length


@QUICK
@given(st.integers(0, 10**6), st.integers(1, 300), st.integers(1, 100))
def test_triplets_keep_the_asked_gap_where_the_video_has_it(seed: int, length: int, gap: int) -> None:
    anchor, other = TripletStarts(reserve=61, min_gap=gap).draw(rng_of(seed), length)
    last = max(length - 61, 0)
    assert 0 <= min(anchor, other) <= max(anchor, other) <= last
    assert abs(anchor - other) >= min(gap, max(anchor, last - anchor))


def test_gaps_leave_all_other_starts_equally_likely() -> None:
    rng, starts = rng_of(5), TripletStarts(reserve=10, min_gap=4)
    pairs = [starts.draw(rng, 20) for _ in range(8000)]
    others = np.bincount([other for anchor, other in pairs if anchor == 5], minlength=11)
    assert others[2:9].tolist() == [0] * 7
    assert others[[0, 1, 9, 10]].min() > 0.6 * others[[0, 1, 9, 10]].max()


@pytest.mark.parametrize("wrong", [{"reserve": -1}, {"min_gap": 0}])
def test_triplets_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least"):
        TripletStarts(**wrong)


@pytest.mark.parametrize(("room", "labels"), [(3, {0}), (29, {0}), (30, {0, 1}), (60, {0, 1, 2}), (500, {0, 1, 2, 3})])
def test_only_playback_rates_that_fit_are_drawn(room: int, labels: set[int]) -> None:
    rng = rng_of(room)
    assert {playback_label(rng, room=room, reaches=(15, 30, 60, 120)) for _ in range(200)} == labels

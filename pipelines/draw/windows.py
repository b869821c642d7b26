"""The clips that a whole video is judged by: evenly spaced ones, or windows that cover it.

L frames a clip, s the stride, N frames of the video; numbers from 0.
"""

from __future__ import annotations

import numpy as np

from pipelines.draw.time import clip_frames, even_starts, looped, random_start, restarted, span

Clips = tuple[tuple[int, ...], ...]


def even_clips(video_frames: int, *, num_clips: int, num_frames: int, stride: int) -> Clips:
    """Evenly spaced clips; short videos start again (IIC's ``datasets/ucf101.py``)."""
    starts = even_starts(video_frames=video_frames, num_clips=num_clips, num_frames=num_frames, stride=stride)
    return tuple(looped(clip_frames(start, num_frames=num_frames, stride=stride), video_frames) for start in starts)


def capped_clips(video_frames: int, *, num_clips: int, num_frames: int, stride: int) -> Clips:
    """Evenly spaced clips; short videos stand still at their last frame (DualVar's ten-clip test).

    Centres in ``linspace(a, b)`` with ``h = L s // 2``, ``a = min(h, N)``, ``b = max(a, N - h)``.
    """
    half = num_frames * stride // 2
    first = min(half, video_frames)
    centres = np.linspace(first, max(first, video_frames - half), num_clips)
    starts = [max(0, int(centre - half)) for centre in centres]
    return tuple(
        tuple(min(frame, video_frames - 1) for frame in clip_frames(start, num_frames=num_frames, stride=stride))
        for start in starts
    )


def drawn_clips(rng: np.random.Generator, video_frames: int, *, num_clips: int, num_frames: int, stride: int) -> Clips:
    """Clips whose starts are drawn, uniform over those that keep them inside; short videos start again.

    VTDL judges and extracts one such clip a video (its validation: 1-based starts from 1 to N - 63 for 64 frames).
    """
    starts = [
        random_start(rng, video_frames=video_frames, num_frames=num_frames, stride=stride) for _ in range(num_clips)
    ]
    return tuple(restarted(start, num_frames=num_frames, stride=stride, video_frames=video_frames) for start in starts)


def leading_windows(video_frames: int, *, num_clips: int, num_frames: int, stride: int, hop: int) -> Clips:
    """At most so many clips that begin at the frames 0, hop, 2 hop, ... and fit; a short video gives one, looped.

    VTDL's test of ten clips ends after two such windows, 10 frames apart (``test_clips`` of its release has no effect).
    """
    fitting = (video_frames - span(num_frames, stride)) // hop + 1
    return tuple(
        restarted(place * hop, num_frames=num_frames, stride=stride, video_frames=video_frames)
        for place in range(max(1, min(num_clips, fitting)))
    )


def joined_windows(video_frames: int, *, num_frames: int, stride: int) -> Clips:
    """Clips from the first frame on of which neighbours share one frame, and one that ends at the last (CSTP's test).

    The last one may repeat the one before it. A video that is no longer than a clip's span gives one, which starts
    again (from its first frame to its last; the release leaves one of the two out)::

        N = 40, L = 16, s = 1:    0..15   15..30   24..39
    """
    reach = (num_frames - 1) * stride
    if video_frames <= reach:
        return (restarted(0, num_frames=num_frames, stride=stride, video_frames=video_frames),)
    last = video_frames - reach - 1
    starts = [*range(0, last + 1, reach or 1), last]
    return tuple(clip_frames(start, num_frames=num_frames, stride=stride) for start in starts)


def sliding_windows(video_frames: int, *, num_frames: int, stride: int, pad_front: bool = False) -> Clips:
    """Clips that begin ``L s // 2 - 1`` frames after each other while ``L s`` frames follow (DualVar's other test).

    A video that is too short gives one clip, which stands still at its last frame, or before it begins at the first
    where `pad_front` is set (the release tosses a coin).
    """
    taken = num_frames * stride
    step = max(1, taken // 2 - 1)
    if video_frames < taken:
        frames = tuple(range(0, video_frames, stride))[:num_frames]
        rest = num_frames - len(frames)
        return ((0,) * rest + frames if pad_front else frames + (video_frames - 1,) * rest,)
    starts = range(0, video_frames - taken + 1, step)
    return tuple(clip_frames(start, num_frames=num_frames, stride=stride) for start in starts)

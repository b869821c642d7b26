"""When a clip begins and which frames it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def clip_frames(start: int, *, num_frames: int, stride: int = 1) -> tuple[int, ...]:
    """Frame numbers start, start + stride, ... (num_frames of them).

    With num_frames 4 and stride 3 (K kept, . skipped)::

        K . . K . . K . . K        the clip spans (4 - 1) * 3 + 1 = 10 frames
    """
    return tuple(range(start, start + num_frames * stride, stride))


def span(num_frames: int, stride: int) -> int:
    """Number of video frames from the first to the last frame of a clip, both counted."""
    return (num_frames - 1) * stride + 1


def looped(frames: tuple[int, ...], video_frames: int) -> tuple[int, ...]:
    """Frame numbers taken modulo the length of the video: short videos start again from the beginning."""
    return tuple(frame % video_frames for frame in frames)


def restarted(start: int, *, num_frames: int, stride: int, video_frames: int) -> tuple[int, ...]:
    """A strided clip that goes back to frame 0 whenever its next frame would lie behind the video's last one.

    Not the same as `looped`, which keeps its phase. VTDL reads all clips so (methods of its `dataset.py`), CSTP those
    of videos that are too short::

        video of 10 frames, start 5, stride 4:    restarted 5 9 0 4 8 0 4 ...     looped 5 9 3 7 1 5 9 ...
    """
    frames, frame = [], start
    for _ in range(num_frames):
        frames.append(frame)
        frame = frame + stride if frame + stride < video_frames else 0
    return tuple(frames)


def centred_frames(centre: int, *, num_frames: int, stride: int, video_frames: int) -> tuple[int, ...]:
    """A strided clip around a frame, with the first and last frame of the video repeated where it reaches beyond.

    ``clip(centre + (i - num_frames // 2) * stride, 0, video_frames - 1)``, as DualVar's pretraining data sets.
    """
    first, last = centre - num_frames // 2 * stride, video_frames - 1
    return tuple(min(max(frame, 0), last) for frame in range(first, first + num_frames * stride, stride))


def random_start(rng: np.random.Generator, *, video_frames: int, num_frames: int, stride: int = 1) -> int:
    """First frame of a clip, uniform over all starts that keep it inside the video; 0 for shorter videos."""
    return int(rng.integers(0, max(0, video_frames - span(num_frames, stride)) + 1))


def even_starts(*, video_frames: int, num_clips: int, num_frames: int, stride: int = 1) -> tuple[int, ...]:
    """First frames of evenly spaced clips, from the beginning to the end of the video.

    ``int(c - s/2)`` for the clip centres c in ``linspace(s/2, L - s/2, num_clips)``, s the number of frames that a
    clip takes (num_frames * stride), as in IIC's ``datasets/ucf101.py`` for stride 1.
    """
    half = num_frames * stride / 2
    centres = np.linspace(half, max(half, video_frames - half), num_clips)
    return tuple(max(0, int(centre - half)) for centre in centres)


@dataclass(frozen=True)
class TripletStarts:
    """First frames of an anchor clip and of a clip from another time of the same video, as VTDL draws them.

    Both are uniform over the first ``video_frames - reserve`` frames; where they nearly agree, the second one moves on
    by a third of the video (round its end).

    Attributes:
        reserve: frames behind the last start that remain for the clip. The original reserves 128 (its default
            length 32 times stride 4) for clips of 16 frames, so that their video's end is never seen.
        min_gap: None takes the original's rule; a number of frames keeps both starts at least so far apart, or as far
            as the video allows.
    """

    reserve: int = 128
    min_gap: int | None = None

    def __post_init__(self) -> None:
        if self.reserve < 0 or (self.min_gap is not None and self.min_gap < 1):
            raise ValueError(f"reserve must be at least 0 and min_gap at least 1, got {self}")

    def draw(self, rng: np.random.Generator, video_frames: int) -> tuple[int, int]:
        """Starts of the anchor and of the other clip, from 0."""
        count = max(video_frames - self.reserve, 0) + 1
        u, v = rng.random(2).tolist()
        anchor = int(u * count)
        if self.min_gap is not None:
            return anchor, _apart(v, anchor, count, self.min_gap)
        other = int(v * count)
        if abs(other - anchor) < 2:
            # The original counts frames from 1 and turns the 0 of its modulo into 1.
            other = max((other + 1 + video_frames // 3) % video_frames, 1) - 1
        return anchor, other


def _apart(unit: float, anchor: int, count: int, gap: int) -> int:
    """A start in 0..count-1 at least `gap` from the anchor, uniform; the farthest one where there is none."""
    before, behind = max(0, anchor - gap + 1), max(0, count - anchor - gap)
    if not before + behind:
        return 0 if anchor >= count - 1 - anchor else count - 1
    place = int(unit * (before + behind))
    return place if place < before else anchor + gap + place - before


def playback_label(rng: np.random.Generator, *, room: int, reaches: Sequence[int]) -> int:
    """Which of some playback rates, uniform over those that fit; 0 where none does.

    Args:
        rng: generator of the sample.
        room: frames that may be used.
        reaches: for each rate, slowest first, the frames that it needs; CSTP takes ``(num_frames - 1) * rate``.
    """
    fitting = sum(room >= reach for reach in reaches)
    return int(rng.random() * max(1, fitting))

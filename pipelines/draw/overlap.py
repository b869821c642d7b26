"""Two clips of a video whose spans and boxes overlap by a rate that a network can be asked for.

Source: CSTP (arXiv 2112.08913) and its release; the rates and their nominal labels are its own. Where the release draws
label and place again until they fit, which makes small overlaps rare (two thirds of the spatial labels come out as "all
of it"), the label is drawn first here and kept, and then a place that admits it; `legacy` draws as the release does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pipelines.draw.space import area_aspect_size
from pipelines.draw.time import clip_frames, playback_label, restarted
from pipelines.plan import Box

RATES = (1.0, 0.8, 0.6, 0.4, 0.2)
"""Nominal overlap of each label: the shared part of a clip's duration, or of a box's area."""

_ATTEMPTS = 24


class ClipPair(NamedTuple):
    """When two clips of one video are.

    Attributes:
        first: frame numbers of the first clip.
        second: of the second.
        playback: label of the rate of both clips.
        label: of the overlap, a place in `RATES`.
        overlap: the part of the span that is shared, measured.
    """

    first: tuple[int, ...]
    second: tuple[int, ...]
    playback: int
    label: int
    overlap: float


def overlap_shifts(reach: int) -> tuple[int, ...]:
    """By how many frames a clip is shifted for each label; `reach` is the distance of its first and last frame."""
    return tuple(int((1 - rate) * reach) for rate in RATES)


@dataclass(frozen=True)
class TemporalOverlap:
    """Draws two clips of one playback rate whose spans overlap by a nominal rate.

    Attributes:
        num_frames: T, frames a clip.
        rates: playback rates, video frames from one frame to the next, growing; their places are the labels.
        legacy: the release's draw: any rate whose clip fits, label and direction drawn until the second clip fits.
            Otherwise only rates are drawn at which the video has room for every label, so that labels are equally
            frequent.
        legacy_repeat: the second clip shows the frames of the first whatever its label says, as where the release reads
            from databases: its temporal labels are noise. Needs `legacy`.
    """

    num_frames: int = 16
    rates: tuple[int, ...] = (1, 2, 4, 8)
    legacy: bool = False
    legacy_repeat: bool = False

    def __post_init__(self) -> None:
        if self.legacy_repeat and not self.legacy:
            raise ValueError("legacy_repeat belongs to the release's own draw; set legacy too")

    def draw(self, rng: np.random.Generator, video_frames: int) -> ClipPair:
        """The frames of both clips, with their labels."""
        reaches = [(self.num_frames - 1) * rate for rate in self.rates]
        needed = reaches if self.legacy else [reach + overlap_shifts(reach)[-1] + 1 for reach in reaches]
        playback = playback_label(rng, room=video_frames, reaches=needed)
        rate, reach = self.rates[playback], reaches[playback]
        if video_frames <= reach:
            frames = restarted(0, num_frames=self.num_frames, stride=rate, video_frames=video_frames)
            return ClipPair(frames, frames, playback, 0, 1.0)
        last = video_frames - reach - 1
        start, other, label = (self._until_it_fits if self.legacy else self._label_first)(rng, reach, last)
        other = start if self.legacy_repeat else other
        first, second = (clip_frames(one, num_frames=self.num_frames, stride=rate) for one in (start, other))
        return ClipPair(first, second, playback, label, 1.0 - abs(other - start) / reach)

    def _label_first(self, rng: np.random.Generator, reach: int, last: int) -> tuple[int, int, int]:
        shifts = [shift for shift in overlap_shifts(reach) if shift <= last]
        which, side, place = rng.random(3).tolist()
        label = int(which * len(shifts))
        early = int(place * (last - shifts[label] + 1))
        late = early + shifts[label]
        return (late, early, label) if side < 0.5 else (early, late, label)

    def _until_it_fits(self, rng: np.random.Generator, reach: int, last: int) -> tuple[int, int, int]:
        shifts, units = overlap_shifts(reach), rng.random(2 * _ATTEMPTS + 1).tolist()
        start = int(units.pop() * (last + 1))
        for which, side in zip(units[::2], units[1::2], strict=True):
            label = int(which * len(shifts))
            other = start - shifts[label] if side < 0.5 else start + shifts[label]
            if 0 <= other <= last:
                return start, other, label
        return start, start, 0


class BoxPair(NamedTuple):
    """Two boxes of one size.

    Attributes:
        first: box of the first clip.
        second: of the second.
        label: of their overlap, a place in `RATES`.
    """

    first: Box
    second: Box
    label: int

    @property
    def overlap(self) -> float:
        """The shared part of a box's area, measured."""
        return shared_area(self.first, self.second)


def shared_area(first: Box, second: Box) -> float:
    """Intersection of two boxes as a share of the first one's area."""
    rows = min(first.top + first.height, second.top + second.height) - max(first.top, second.top)
    columns = min(first.left + first.width, second.left + second.width) - max(first.left, second.left)
    return max(rows, 0) * max(columns, 0) / (first.height * first.width)


@dataclass(frozen=True)
class SpatialOverlap:
    """Draws two boxes of one size that share a corner part of a nominal rate.

    Attributes:
        area: range of a box's share of the frame.
        aspect: range of width / height, before the sides are swapped half the time.
        legacy: the release's draw: a box anywhere, then label, corner and place drawn until the second box fits.
    """

    area: tuple[float, float] = (0.2, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    legacy: bool = False

    def draw(self, rng: np.random.Generator, frame: tuple[int, int], second: tuple[int, int] | None = None) -> BoxPair:
        """Boxes in a frame of (height, width).

        Args:
            rng: generator of the sample.
            frame: size of the first clip's frame.
            second: size of the second clip's frame where it is another one (the release's boxes in differently turned
                frames); only with `legacy`, and the second box may then leave its frame to the right and below.
        """
        if self.legacy:
            return self._until_it_fits(rng, frame, second or frame)
        if second is not None and second != frame:
            raise ValueError("boxes in frames of two sizes can only be drawn with legacy")
        return self._label_first(rng, *frame)

    def _label_first(self, rng: np.random.Generator, height: int, width: int) -> BoxPair:
        units = rng.random(4 * _ATTEMPTS + 4).tolist()
        label, corner = int(units[-1] * len(RATES)), int(units[-2] * 4)
        rows, columns, down, across = self._room_for(RATES[label], units, height, width)
        top = int(units[-3] * (height - rows - down + 1))
        left = int(units[-4] * (width - columns - across + 1))
        # Of the two boxes that span the drawn rectangle, the corner says which is the first and how they lie.
        tops = (top + down, top) if corner < 2 else (top, top + down)
        lefts = (left + across, left) if corner % 2 == 0 else (left, left + across)
        first, second = (Box(one, other, rows, columns) for one, other in zip(tops, lefts, strict=True))
        return BoxPair(first, second, label)

    def _room_for(self, rate: float, units: list[float], height: int, width: int) -> tuple[int, int, int, int]:
        """Size of a box, and how far down and across the other one lies, so that both fit into the frame."""
        for first in range(0, 4 * _ATTEMPTS, 4):
            size = area_aspect_size(
                units[first : first + 3], height=height, width=width, area=self.area, aspect=self.aspect
            )
            if size is None:
                continue
            down, across = _shift(rate, units[first + 3], *size, whole=round)
            if size[0] + down <= height and size[1] + across <= width:
                return *size, down, across
        return self._smallest(rate, height, width)

    def _smallest(self, rate: float, height: int, width: int) -> tuple[int, int, int, int]:
        """The smallest box, as square as the frame allows, shifted along the frame's longer side."""
        size = self.area[0] * height * width
        short = max(1, min(round(math.sqrt(size)), height, width))
        long = max(1, min(round(size / short), int(max(height, width) / (2.0 - rate))))
        shift = round((1.0 - rate) * long)
        if height > width:
            return long, short, shift, 0
        return short, long, 0, shift

    def _until_it_fits(
        self, rng: np.random.Generator, frame: tuple[int, int], second: tuple[int, int]
    ) -> BoxPair:  # fmt: skip
        units = rng.random(6 * _ATTEMPTS + 2).tolist()
        sizes = (
            area_aspect_size(units[one : one + 3], height=frame[0], width=frame[1], area=self.area, aspect=self.aspect)
            for one in range(0, 3 * _ATTEMPTS, 3)
        )
        rows, columns = next((size for size in sizes if size is not None), (min(frame), min(frame)))
        top, left = int(units[-1] * (frame[0] - rows + 1)), int(units[-2] * (frame[1] - columns + 1))
        box = Box(top, left, rows, columns)
        for one in range(3 * _ATTEMPTS, 6 * _ATTEMPTS, 3):
            label, corner = int(units[one] * len(RATES)), int(units[one + 1] * 4)
            down, across = _shift(RATES[label], units[one + 2], rows, columns, whole=int)
            other_top, other_left = (
                top - down if corner < 2 else top + down,
                left - across if corner % 2 == 0 else left + across,
            )
            inside = (
                other_top >= 0 if corner < 2 else other_top + rows <= second[0],
                other_left >= 0 if corner % 2 == 0 else other_left + columns <= second[1],
            )
            if all(inside):
                return BoxPair(box, Box(other_top, other_left, rows, columns), label)
        return BoxPair(box, box, 0)


def _shift(rate: float, unit: float, rows: int, columns: int, *, whole: Callable[[float], int]) -> tuple[int, int]:
    """How far down and across a box moves to share `rate` of its area: shared width uniform, height what follows.

    The release cuts the shared height to whole pixels, which `whole` = int repeats; round comes nearer to the rate.
    """
    least = max(1, whole(rate * columns))
    shared = least + int(unit * (columns - least + 1))
    return rows - min(rows, whole(rate * columns * rows / shared)), columns - shared

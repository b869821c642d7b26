"""Two clips of different times, the first one once more, and an order of its segments, as DualVar draws them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_process.records import VideoRecord
from pipelines.draw import Augmentation, ColourJitter, centred_frames, random_crop
from pipelines.plan import ClipPlan, SamplePlan

# 0.64 is the release's outer probability of 0.8 times the jitter's own 0.8.
_COLOUR = ColourJitter(0.8, 0.8, 0.8, 0.2, probability=0.64, blur=0.5)

FULL_AUGMENTATION = Augmentation(colour=_COLOUR)
"""DualVar's recipe: colour jitter and blur; no flip."""

FIRST_AUGMENTATION = Augmentation(strong=0.8, colour=_COLOUR)
"""The same for its first clip, which stays plain in one of five samples."""


@dataclass(frozen=True)
class SegmentPlanner:
    """Three clips a video: two at independent times, and the first one's frames with an augmentation of its own.

    Targets: ``segment_order`` (S,) int64, a uniform permutation (the identity allowed) in which the third clip's
    segments are shown a second time: part s of the shuffled clip is part ``segment_order[s]`` of the original.

    Attributes:
        num_frames: T, frames a clip; a multiple of `num_segments`.
        stride: video frames from one to the next.
        size: output height and width, pixels.
        resize: (height, width) that frames are thought to be resized to before the random crop of `size`. The release
            exchanges the two and makes frames 171 high and 128 wide: (171, 128) for parity.
        area: None; or instead of `resize` a square whose area is uniform in this range of shares of the largest.
        turn: whether each clip is turned by a number of quarter turns, all four equally likely.
        num_segments: S.
        inside: clips lie inside of videos that are long enough; otherwise any frame may be a clip's centre, and clips
            stand still where they reach over an end, as published.
        reverse: probability that all clips of a sample run backwards.
        first: augmentation of the first clip.
        others: of the second and third.
    """

    num_frames: int = 16
    stride: int = 4
    size: int = 112
    resize: tuple[int, int] = (128, 171)
    area: tuple[float, float] | None = None
    turn: bool = False
    num_segments: int = 2
    inside: bool = False
    reverse: float = 0.5
    first: Augmentation = FIRST_AUGMENTATION
    others: Augmentation = FULL_AUGMENTATION

    def __post_init__(self) -> None:
        if self.area is None and min(self.resize) < self.size:
            raise ValueError(f"a crop of {self.size} pixels does not fit into frames resized to {self.resize}")
        if self.num_segments < 1 or self.num_frames % self.num_segments:
            raise ValueError(f"{self.num_frames} frames cannot be cut into {self.num_segments} equal segments")

    @property
    def operations(self) -> frozenset[str]:
        """Names out of `pipelines.plan.OPERATIONS` that clips may need."""
        return self.first.operations | self.others.operations | ({"turn"} if self.turn else set())

    def __call__(self, rng: np.random.Generator, record: VideoRecord) -> SamplePlan:
        """Draw one sample."""
        one, two, backwards = rng.random(3).tolist()
        first, second = (self._frames(place, record) for place in (one, two))
        if backwards < self.reverse:
            first, second = first[::-1], second[::-1]
        clips = (
            self._clip(rng, record, first, self.first),
            self._clip(rng, record, second, self.others),
            self._clip(rng, record, first, self.others),
        )
        return SamplePlan(clips, {"segment_order": rng.permutation(self.num_segments).astype(np.int64)})

    def _frames(self, place: float, record: VideoRecord) -> tuple[int, ...]:
        """Of a clip at a place in [0, 1) of all places of its centre."""
        before = self.num_frames // 2 * self.stride
        room = record.num_frames - (self.num_frames - 1) * self.stride
        centre = before + int(place * room) if self.inside and room > 0 else int(place * record.num_frames)
        return centred_frames(
            centre, num_frames=self.num_frames, stride=self.stride, video_frames=record.num_frames
        )  # fmt: skip

    def _clip(
        self, rng: np.random.Generator, record: VideoRecord, frames: tuple[int, ...], augmentation: Augmentation
    ) -> ClipPlan:
        box = random_crop(
            rng,
            area=self.area,
            crop=self.size,
            resized=self.resize,
            height=record.height,
            width=record.width,
        )
        change = augmentation.draw(rng, self.num_frames)
        turns = int(rng.integers(0, 4)) if self.turn else 0
        return ClipPlan(frames, box, quarter_turns=turns, **change._asdict())


@dataclass(frozen=True)
class PairPlanner:
    """The first two of the three clips, which are the same as with the third.

    Attributes:
        clips: draws the sample.
    """

    clips: SegmentPlanner

    def __call__(self, rng: np.random.Generator, record: VideoRecord) -> SamplePlan:
        """Draw one sample."""
        return SamplePlan(self.clips(rng, record).clips[:2])

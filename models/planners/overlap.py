"""Two clips whose spans and boxes overlap by rates that are asked for, as CSTP draws them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from data_process.records import VideoRecord
from pipelines.draw import Augmentation, ColourJitter, SpatialOverlap, TemporalOverlap, shared_area, unturned
from pipelines.plan import Box, ClipPlan, SamplePlan

AUGMENTATION = Augmentation(
    strong=0.3, tilt=10.0, flip=0.5, colour=ColourJitter(0.4, 0.4, 0.4, 0.1, probability=0.8, grey=0.2, blur=0.5)
)
"""CSTP's choice of its strong and its plain recipe; but grey drops the colours."""

LEGACY_AUGMENTATION = replace(AUGMENTATION, colour=replace(AUGMENTATION.colour, flicker=True))
"""The same with the release's grey: one channel alone, another one in every frame."""


@dataclass(frozen=True)
class OverlapPlanner:
    """Two clips a video with a common playback rate, each turned, cut and augmented on its own.

    Targets, all int64 places in the rates: ``spatial`` (), ``temporal`` (), ``playback`` (), ``turns`` (2,), quarter
    turns counter-clockwise of each clip; and float32 for checking, what really is shared: ``spatial_overlap`` () of a
    box, ``temporal_overlap`` () of the span.

    Attributes:
        size: output height and width, pixels.
        temporal: frames of both clips.
        spatial: boxes of both clips.
        turn: whether clips are turned.
        raster: the release's boxes: drawn in the turned frames' rasters, so that labels compare coordinates of
            differently turned frames and boxes reach outside of them. Needs ``spatial.legacy``. Otherwise boxes are
            drawn in the upright frame, and their label is what they share of it.
        augmentation: of each clip.
    """

    size: int = 112
    temporal: TemporalOverlap = field(default_factory=TemporalOverlap)
    spatial: SpatialOverlap = field(default_factory=SpatialOverlap)
    turn: bool = True
    raster: bool = False
    augmentation: Augmentation = AUGMENTATION

    def __post_init__(self) -> None:
        if self.raster and not self.spatial.legacy:
            raise ValueError("raster boxes are the release's own; they need spatial.legacy")

    @property
    def num_frames(self) -> int:
        """T, frames a clip."""
        return self.temporal.num_frames

    @property
    def operations(self) -> frozenset[str]:
        """Names out of `pipelines.plan.OPERATIONS` that clips may need."""
        turned = {"turn"} if self.turn else set()
        return self.augmentation.operations | turned | ({"pad"} if self.raster else set())

    def __call__(self, rng: np.random.Generator, record: VideoRecord) -> SamplePlan:
        """Draw one sample."""
        times = self.temporal.draw(rng, record.num_frames)
        turns = [int(4 * unit) for unit in rng.random(2).tolist()] if self.turn else [0, 0]
        boxes, label = self._boxes(rng, record, turns)
        clips = tuple(
            self._clip(rng, frames, box, turn)
            for frames, box, turn in zip((times.first, times.second), boxes, turns, strict=True)
        )
        targets = {
            "spatial": np.array(label, dtype=np.int64),
            "temporal": np.array(times.label, dtype=np.int64),
            "playback": np.array(times.playback, dtype=np.int64),
            "turns": np.array(turns, dtype=np.int64),
            "spatial_overlap": np.array(shared_area(*boxes), dtype=np.float32),
            "temporal_overlap": np.array(times.overlap, dtype=np.float32),
        }
        return SamplePlan(clips, targets)

    def _boxes(self, rng: np.random.Generator, record: VideoRecord, turns: list[int]) -> tuple[tuple[Box, Box], int]:
        upright = record.height, record.width
        if not self.raster:
            drawn = self.spatial.draw(rng, upright)
            return (drawn.first, drawn.second), drawn.label
        lying = record.width, record.height
        sizes = [lying if turn % 2 else upright for turn in turns]
        pair = self.spatial.draw(rng, sizes[0], sizes[1])
        boxes = (
            unturned(pair.first, turns[0], height=record.height, width=record.width),
            unturned(pair.second, turns[1], height=record.height, width=record.width),
        )
        return boxes, pair.label

    def _clip(self, rng: np.random.Generator, frames: tuple[int, ...], box: Box, turn: int) -> ClipPlan:
        change = self.augmentation.draw(rng, self.num_frames)
        # The label counts turns before the mirror; executors turn behind it, where they run the other way round.
        turns = -turn % 4 if change.flip else turn
        return ClipPlan(frames, box, quarter_turns=turns, padded=self.raster, **change._asdict())

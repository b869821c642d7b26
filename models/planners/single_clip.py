"""One clip of consecutive (or strided) frames per video with a random crop, and what IIC adds to it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Literal

import numpy as np

from data_process.records import VideoRecord
from pipelines.draw import (
    ColourJitter,
    area_aspect_box,
    clip_frames,
    looped,
    random_crop,
    random_start,
    restarted,
    short_side_size,
)
from pipelines.plan import Box, ClipPlan, SamplePlan

IntraNegative = Literal["repeat", "shuffle", "quadrants", "blur", "none"]
"""How a clip is made a negative of itself: its temporal order is destroyed, or its picture is."""

Short = Literal["looped", "restarted", "padded"]
"""What becomes of a clip that is longer than its video."""


@dataclass(frozen=True)
class ClipDraw:
    """How a training clip is drawn; the defaults are IIC's (a random crop and nothing else).

    Attributes:
        num_frames: T, frames a clip.
        stride: video frames from one to the next.
        size: output height and width, pixels.
        resize: (height, width) that frames are thought to be resized to before the random crop of `size`, or their
            shorter side (VTDL).
        area: None; or instead of `resize` a square whose area is uniform in this range of shares of the largest.
        aspect: None; or the range of width / height of a box that has a share `area` of the whole frame and is
            stretched to a square (the usual random resized crop, in CSTP's fine-tuning).
        short: what a video that is shorter than a clip gives: ``looped`` keeps its phase, ``restarted`` goes back to
            the first frame (VTDL, CSTP), ``padded`` stands still (DualVar) on its first frame before or on its last
            frame behind the rest, equally likely.
        angle: the whole frame is rotated by up to so many degrees either way, before it is cut.
        flip: probability of a mirror image.
        turn: whether quarter turns are drawn, all four equally likely.
        colour: colour changes.
        drop_last_frame: leave out the last frame of a video, as IIC does because flow has one frame less.
    """

    num_frames: int = 16
    stride: int = 1
    size: int = 112
    resize: tuple[int, int] | int = (128, 171)
    area: tuple[float, float] | None = None
    aspect: tuple[float, float] | None = None
    short: Short = "looped"
    angle: float = 0.0
    flip: float = 0.0
    turn: bool = False
    colour: ColourJitter = field(default_factory=ColourJitter)
    drop_last_frame: bool = True

    def __post_init__(self) -> None:
        if self.area is None and self._shorter < self.size:
            raise ValueError(f"a crop of {self.size} pixels does not fit into frames resized to {self.resize}")
        if self.aspect is not None and self.area is None:
            raise ValueError(f"aspect {self.aspect} goes with area, the share of the frame; set both, or resize alone")

    @property
    def _shorter(self) -> int:
        return self.resize if isinstance(self.resize, int) else min(self.resize)

    @property
    def operations(self) -> frozenset[str]:
        """Names out of `pipelines.plan.OPERATIONS` that clips may need."""
        own = {"flip": self.flip > 0, "turn": self.turn, "rotate": self.angle > 0}
        return self.colour.operations | {name for name, is_used in own.items() if is_used}

    @property
    def varies(self) -> bool:
        """Whether two clips of the same frames may differ: by their crop, or by what else is drawn."""
        # Of frames whose shorter side is resized to `size` only square ones show nothing but that.
        longer = max(self.resize) if not isinstance(self.resize, int) else self.resize + 1
        return bool(self.operations) or self.area is not None or longer > self.size

    def draw(self, rng: np.random.Generator, record: VideoRecord) -> ClipPlan:
        """A clip at a uniform start; of videos that are shorter what `short` says."""
        length = max(1, record.num_frames - self.drop_last_frame)
        start = random_start(rng, video_frames=length, num_frames=self.num_frames, stride=self.stride)
        box, frames = self._box(rng, record), self._frames(start, length)
        flip, turns = rng.random() < self.flip, int(rng.integers(0, 4)) if self.turn else 0
        photometric = self.colour.draw_clip(rng, self.num_frames)
        # Drawn last, and only where asked for: plans without them are those of a draw that knew neither.
        angle = self.angle * (2 * float(rng.random()) - 1) if self.angle else 0.0
        if self.short == "padded":
            frames = self._padded(rng, length)
        return ClipPlan(frames, box, flip=bool(flip), quarter_turns=turns, angle=angle, photometric=photometric)

    def _box(self, rng: np.random.Generator, record: VideoRecord) -> Box:
        height, width = record.height, record.width
        if self.area is not None and self.aspect is not None:
            return area_aspect_box(rng, height=height, width=width, area=self.area, aspect=self.aspect)
        resized = self.resize
        if isinstance(resized, int):
            resized = short_side_size(height, width, resized)
        return random_crop(rng, area=self.area, crop=self.size, resized=resized, height=height, width=width)

    def _frames(self, start: int, length: int) -> tuple[int, ...]:
        if self.short == "restarted":
            return restarted(start, num_frames=self.num_frames, stride=self.stride, video_frames=length)
        return looped(clip_frames(start, num_frames=self.num_frames, stride=self.stride), length)

    def _padded(self, rng: np.random.Generator, length: int) -> tuple[int, ...]:
        """Frames by DualVar's rule, whose starts of long videos leave out the last one."""
        taken = self.num_frames * self.stride
        start, coin = (float(one) for one in rng.random(2))
        if length > taken:
            return clip_frames(int(start * (length - taken)), num_frames=self.num_frames, stride=self.stride)
        first = min(int(start * self.stride), length - 1)
        inside = tuple(range(first, length, self.stride))[: self.num_frames]
        missing = self.num_frames - len(inside)
        return (0,) * missing + inside if coin < 0.5 else inside + (length - 1,) * missing


@dataclass(frozen=True)
class BankPlanner:
    """A clip, or more of the same frames, the bank rows it is compared with, and how its order is destroyed.

    Attributes:
        clip: how the clip is drawn.
        num_rows: N, rows of the bank.
        num_negatives: K, gives the target ``negatives`` (K,) int64: rows uniform over all N with replacement, the
            sample's own not excluded; 0 for no such target.
        intra_negative: repeat gives the target ``intra_frame`` () int64, shuffle ``intra_order`` (4,) int64, quadrants
            ``intra_quadrants`` (4,) int64.
        num_views: V, clips of the same frames, each cut and coloured on its own.
    """

    clip: ClipDraw
    num_rows: int
    num_negatives: int
    intra_negative: IntraNegative
    num_views: int = 1

    def __call__(self, rng: np.random.Generator, record: VideoRecord) -> SamplePlan:
        """Draw one sample."""
        first, *others = (self.clip.draw(rng, record) for _ in range(self.num_views))
        clips = first, *(replace(other, frames=first.frames) for other in others)
        targets: dict[str, np.ndarray] = {}
        if self.num_negatives:
            targets["negatives"] = rng.integers(0, self.num_rows, self.num_negatives, dtype=np.int64)
        if self.intra_negative == "repeat":
            targets["intra_frame"] = np.array(rng.integers(0, self.clip.num_frames), dtype=np.int64)
        elif self.intra_negative == "shuffle":
            targets["intra_order"] = swapped_chunks(rng)
        elif self.intra_negative == "quadrants":
            targets["intra_quadrants"] = moved_quadrants(rng)
        return SamplePlan(clips, targets)


def swapped_chunks(rng: np.random.Generator, num_chunks: int = 4) -> np.ndarray:
    """0..num_chunks-1 with two different places swapped, all pairs equally likely, int64."""
    order = np.arange(num_chunks, dtype=np.int64)
    first = int(rng.integers(0, num_chunks))
    second = (first + int(rng.integers(1, num_chunks))) % num_chunks
    order[[first, second]] = order[[second, first]]
    return order


def moved_quadrants(rng: np.random.Generator) -> np.ndarray:
    """One of the 23 orders of 0..3 that are not 0, 1, 2, 3, all equally likely, int64."""
    orders = list(permutations(range(4)))
    return np.array(orders[int(rng.integers(1, len(orders)))], dtype=np.int64)

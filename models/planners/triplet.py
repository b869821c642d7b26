"""Anchor, positive and a negative from another time of the same video, as VTDL draws them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from data_process.records import VideoRecord
from models.planners.frame_order import FrameShuffle, check_shuffle, shuffled_order
from models.planners.orientations import NumOrientations
from pipelines.draw import (
    Augmentation,
    ColourJitter,
    TripletStarts,
    cut_sides,
    random_crop,
    restarted,
    short_side_size,
)
from pipelines.plan import ClipPlan, SamplePlan

Part = Literal["anchor", "positive", "negative"]
"""A clip of a triplet."""

TRIPLET: tuple[Part, ...] = ("anchor", "positive", "negative")
"""The order in which triplets are drawn."""

BASIC_AUGMENTATION = Augmentation(
    angle=10.0, colour=ColourJitter(brightness=0.5, contrast=0.5, saturation=0.25, hue=0.5)
)
"""VTDL's basic augmentation (no flip), with all four colour changes at once."""

LEGACY_AUGMENTATION = Augmentation(
    angle=10.0, colour=ColourJitter(brightness=0.5, contrast=0.5, saturation=0.25, hue=0.5, one_of_four=True)
)
"""The same as its code has it: only one of the four colour changes takes effect."""


@dataclass(frozen=True)
class TripletPlanner:
    """Three clips a video: anchor and positive of the same frames, each augmented on its own, and another time.

    Targets: ``mix_frame`` () int64, the frame of the anchor that temporal consistent augmentation blends into all of
    its frames, uniform; ``mix_weight`` () float32, its weight, uniform in [0, mix_strength). (The original draws one
    weight for a whole batch; here every sample has its own, so that plans do not depend on batches.)

    Attributes:
        num_frames: T, frames a clip.
        stride: video frames from one to the next.
        size: output height and width, pixels.
        short_side: that frames are thought to be resized to before the random crop of `size`.
        area: None; or instead of `short_side` a square whose area is uniform in this range of shares of the largest.
        turn: whether the triplet is turned as a whole by a number of quarter turns, all four equally likely. (Where
            clips were turned apart, a small network had learned nothing of the motion set after 170 steps.)
        starts: when anchor and negative begin.
        augmentation: of each clip.
        mix_strength: alpha of the weight; 0 for none.
        inter_mix_strength: largest weight of a still of another video of the global batch; 0 for none (0.3 in the
            release, which holds this and what follows and leaves it off).
        cut_share: largest share of the picture that a window takes which is put to 0; 0 for none (0.05 in the release).
        shuffle: how the order of frames of a negative is destroyed; kept for not.
        orientations: in how many ways clips are laid, each clip in its own; 1 for as they are.
    """

    num_frames: int = 16
    stride: int = 4
    size: int = 224
    short_side: int = 256
    area: tuple[float, float] | None = None
    turn: bool = False
    starts: TripletStarts = field(default_factory=TripletStarts)
    augmentation: Augmentation = BASIC_AUGMENTATION
    mix_strength: float = 0.1
    inter_mix_strength: float = 0.0
    cut_share: float = 0.0
    shuffle: FrameShuffle = "kept"
    orientations: NumOrientations = 1

    def __post_init__(self) -> None:
        shares = {name: getattr(self, name) for name in ("mix_strength", "inter_mix_strength", "cut_share")}
        for name, share in shares.items():
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"{name} ({share}) must lie in [0, 1]")
        check_shuffle(self.shuffle, self.num_frames)
        if self.area is None and self.short_side < self.size:
            raise ValueError(f"a crop of {self.size} pixels does not fit into a short side of {self.short_side}")

    @property
    def operations(self) -> frozenset[str]:
        """Names out of `pipelines.plan.OPERATIONS` that clips may need."""
        return self.augmentation.operations | ({"turn"} if self.turn else set())

    def __call__(self, rng: np.random.Generator, record: VideoRecord) -> SamplePlan:
        """Draw one sample; its clips are anchor, positive, negative."""
        anchor, other = (self._frames(start, record) for start in self.starts.draw(rng, record.num_frames))
        turns = int(rng.integers(0, 4)) if self.turn else 0
        clips = tuple(self._clip(rng, record, frames, turns) for frames in (anchor, anchor, other))
        frame, weight = rng.random(2).tolist()
        targets = {
            "mix_frame": np.array(int(frame * self.num_frames), dtype=np.int64),
            "mix_weight": np.array(weight * self.mix_strength, dtype=np.float32),
        }
        return SamplePlan(clips, targets | self._further_targets(rng))

    def _further_targets(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        # Drawn last: with all of them off, plans are those of a planner that knew none.
        targets: dict[str, np.ndarray] = {}
        if self.inter_mix_strength:
            frame, place, weight = rng.random(3).tolist()
            targets["inter_frame"] = np.array(int(frame * self.num_frames), dtype=np.int64)
            targets["inter_place"] = np.array(place, dtype=np.float64)
            targets["inter_weight"] = np.array(weight * self.inter_mix_strength, dtype=np.float32)
        if self.cut_share:
            share, *centre = rng.random(3).tolist()
            sides = [
                cut_sides(int(unit * self.size), side=self.size, share=share * self.cut_share) for unit in centre
            ]  # fmt: skip
            targets["cut_window"] = np.array(sides, dtype=np.int64).reshape(4)
        if self.shuffle != "kept":
            targets["shuffle_order"] = shuffled_order(rng, self.num_frames, self.shuffle)
        if self.orientations > 1:
            targets["orientation"] = rng.integers(0, self.orientations, len(TRIPLET), dtype=np.int64)
        return targets

    def _frames(self, start: int, record: VideoRecord) -> tuple[int, ...]:
        return restarted(start, num_frames=self.num_frames, stride=self.stride, video_frames=record.num_frames)

    def _clip(self, rng: np.random.Generator, record: VideoRecord, frames: tuple[int, ...], turns: int) -> ClipPlan:
        box = random_crop(
            rng,
            area=self.area,
            crop=self.size,
            resized=short_side_size(record.height, record.width, self.short_side),
            height=record.height,
            width=record.width,
        )
        change = self.augmentation.draw(rng, self.num_frames)
        return ClipPlan(frames, box, quarter_turns=turns, **change._asdict())


@dataclass(frozen=True)
class PartialTriplet:
    """Some clips of a triplet, and rows of a bank to compare them with.

    The whole triplet is drawn, so that a sample's clips do not depend on which of them are used.

    Attributes:
        triplet: draws the sample.
        parts: clips that are kept, in the order of `TRIPLET`.
        num_rows: N, rows of the bank.
        num_negatives: K, gives the target ``negatives`` (K,) int64: rows uniform over all N with replacement, the
            sample's own not excluded; 0 for no such target.
    """

    triplet: TripletPlanner
    parts: tuple[Part, ...] = TRIPLET
    num_rows: int = 0
    num_negatives: int = 0

    def __call__(self, rng: np.random.Generator, record: VideoRecord) -> SamplePlan:
        """Draw one sample."""
        whole = self.triplet(rng, record)
        targets, places = dict(whole.targets), [TRIPLET.index(part) for part in self.parts]
        if "orientation" in targets:
            targets["orientation"] = targets["orientation"][places]
        if self.num_negatives:
            targets["negatives"] = rng.integers(0, self.num_rows, self.num_negatives, dtype=np.int64)
        return SamplePlan(tuple(whole.clips[place] for place in places), targets)

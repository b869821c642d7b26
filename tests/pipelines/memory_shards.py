"""A few videos in memory with the members of a ShardSet that pipelines use, and plans for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import simplejpeg

from data_process.frames import STREAMS, EncodedFrames
from data_process.records import VideoRecord
from pipelines.draw import ColourJitter, clip_frames, random_area_box, random_start
from pipelines.plan import Box, ClipFormat, ClipPlan, Photometric, SamplePlan


@dataclass
class MemoryShards:
    """Records and JPEG frames; picklable, and it counts the frames that were read."""

    records: list[VideoRecord]
    units: list[list[bytes]]
    frames_read: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> VideoRecord:
        return self.records[index]

    @property
    def labels(self) -> np.ndarray:
        return np.array([record.label for record in self.records])

    def read_frames(self, index: int, frames: Sequence[int]) -> EncodedFrames:
        numbers = tuple(sorted(set(frames)))
        self.frames_read += numbers
        codec, units = self.records[index].codec, self.units[index]
        return EncodedFrames(codec, numbers, tuple(units if codec in STREAMS else (units[one] for one in numbers)))


def picture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A photograph's stand-in (height, width, 3) uint8: soft patches, hard edges and some grain."""
    coarse = rng.integers(0, 256, (height // 9 + 2, width // 9 + 2, 3)).astype(np.float32)
    rows, columns = np.linspace(0, len(coarse) - 1.001, height), np.linspace(0, coarse.shape[1] - 1.001, width)
    top, left = rows.astype(int), columns.astype(int)
    down, across = (rows - top)[:, None, None], (columns - left)[None, :, None]
    upper = coarse[top][:, left] * (1 - across) + coarse[top][:, left + 1] * across
    lower = coarse[top + 1][:, left] * (1 - across) + coarse[top + 1][:, left + 1] * across
    pixels = upper * (1 - down) + lower * down
    pixels[height // 3 : height // 2, width // 4 : width // 2] = rng.integers(0, 256, 3)
    return np.clip(pixels + rng.normal(0, 4, pixels.shape), 0, 255).astype(np.uint8)


def record_of(units: list[bytes], number: int, label: int = 0) -> VideoRecord:
    height, width = simplejpeg.decode_jpeg_header(units[0])[:2]
    return VideoRecord(f"video/{number}", label, "train", "jpeg", len(units), 25.0, height, width)


def generated(count: int = 12, *, seed: int = 0, frames: int = 9) -> MemoryShards:
    """Videos of odd sizes and different lengths."""
    rng = np.random.default_rng(seed)
    units = [
        [
            simplejpeg.encode_jpeg(np.ascontiguousarray(picture(rng, 61 + 2 * number, 83 - number)), quality=85)
            for _ in range(frames + number % 3)
        ]
        for number in range(count)
    ]
    return MemoryShards([record_of(frames, number, number % 4) for number, frames in enumerate(units)], units)


def flow_videos(count: int) -> MemoryShards:
    """Videos of flow that waves to and fro, of odd sizes."""
    rng = np.random.default_rng(0)
    records, units = [], []
    for number in range(count):
        height, width = 61 + 2 * number, 83 - number
        waves = rng.uniform(-0.2, 0.2, (9, 2, 2))
        frames = []
        for wave in waves:
            rows, columns = np.mgrid[: 2 * height, :width]
            picture = 128 + 60 * np.sin(wave[0, 0] * rows + wave[0, 1] * columns) + rng.normal(0, 3, rows.shape)
            frames.append(simplejpeg.encode_jpeg(picture.astype(np.uint8)[:, :, None], quality=90, colorspace="GRAY"))
        records.append(VideoRecord(f"v{number}", 0, "train", "flow-jpeg", 9, 25.0, height, width))
        units.append(frames)
    return MemoryShards(records, units)


JITTER = ColourJitter(brightness=0.6, contrast=0.6, saturation=0.6, hue=0.1, probability=0.8, grey=0.3, blur=0.5)


@dataclass(frozen=True)
class RandomPlanner:
    """Plans that use the given operations at random, with a target that follows from the plan."""

    operations: frozenset[str]
    num_views: int = 2
    num_frames: int = 4

    def __call__(self, rng: np.random.Generator, record: VideoRecord) -> SamplePlan:
        clips = tuple(self._clip(rng, record) for _ in range(self.num_views))
        starts = np.array([clip.frames[0] for clip in clips], dtype=np.int64)
        return SamplePlan(clips, {"label": np.int64(record.label), "start": starts})

    def _clip(self, rng: np.random.Generator, record: VideoRecord) -> ClipPlan:
        start = random_start(rng, video_frames=record.num_frames, num_frames=self.num_frames)
        frames = clip_frames(start, num_frames=self.num_frames)
        order = rng.permutation(self.num_frames)
        wide = random_area_box(rng, height=record.height, width=record.width, area=(0.05, 1.0))
        tall = Box(wide.top, wide.left, max(1, wide.height - int(rng.integers(0, 9))), wide.width)
        used = self.operations
        if "pad" in used:
            down, across = rng.integers(-tall.height // 2, tall.height // 2, 2).tolist()
            tall = Box(tall.top + down, tall.left + across, tall.height, tall.width)
        each = self.num_frames if rng.random() < 0.3 else 1
        return ClipPlan(
            tuple(frames[place] for place in order),
            tall,
            angle=float(rng.uniform(-15, 15)) if "rotate" in used else 0.0,
            padded="pad" in used,
            tilt=float(rng.uniform(-15, 15)) if "tilt" in used else 0.0,
            flip="flip" in used and bool(rng.random() < 0.5),
            quarter_turns=int(rng.integers(0, 4)) if "turn" in used else 0,
            photometric=tuple(self._photometric(rng) for _ in range(each)),
        )

    def _photometric(self, rng: np.random.Generator) -> Photometric:
        drawn, used = JITTER.draw(rng), self.operations
        colour = (drawn.brightness, drawn.contrast, drawn.saturation, drawn.hue) if "colour" in used else (1, 1, 1, 0)
        channel = int(rng.integers(0, 3)) if "channel" in used and rng.random() < 0.4 else None
        return Photometric(
            *colour,
            grey="grey" in used and drawn.grey and channel is None,
            blur=drawn.blur if "blur" in used else 0.0,
            channel=channel,
        )

    def clip_format(self, size: int = 40) -> ClipFormat:
        return ClipFormat(
            self.num_views,
            self.num_frames,
            size,
            mean=(0.45, 0.4, 0.35),
            std=(0.225, 0.25, 0.3),
            operations=self.operations,
        )

"""What DALI is given for a batch: JPEGs, a parameter row a frame, and how a resize ends at the edge of the crop."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from data_process.decoding import decode
from data_process.errors import InputError, RunError
from data_process.frames import PICTURES, EncodedFrames
from data_process.records import VideoRecord
from pipelines.mending import Mender
from pipelines.plan import PARAMETERS, ClipFormat, ClipPlan, Interpolation
from pipelines.source import PlannedBatch
from pipelines.vectors import vector_map

COLUMN = {name: number for number, name in enumerate((*PARAMETERS, "margin"))}
"""Places in the parameter row of a frame; the last one is the pixels of zeros that a resize reads around the crop. Rows
of flow go on with the four numbers of the map of its vectors."""


REACH: Mapping[Interpolation, int] = {"bilinear": 1, "bicubic": 2}
"""Of the filter of a resize to either side, in output pixels, at least in input pixels."""


Frames = Mapping[int, Any]
"""Frames of one sample by number: JPEGs or pixels (height, width, 3), each an array or tensor of uint8."""


class Feed:
    """What DALI asks for batches, ahead of consumption: parameter rows and frames; remembers what it handed out.

    Args:
        planned: the batches.
        clip_format: of their clips.
        codec: how all their videos are stored.
        frames_of: what to hand out of each sample's frames.
    """

    def __init__(
        self,
        planned: Iterator[PlannedBatch],
        clip_format: ClipFormat,
        codec: str,
        frames_of: Callable[[PlannedBatch], list[Frames]],
    ) -> None:
        self._planned, self._num_views, self._size = planned, clip_format.num_views, clip_format.size
        self._codec, self._frames_of, self._is_flow = codec, frames_of, clip_format.is_flow
        self._interpolation: Interpolation = clip_format.interpolation
        self._waiting: dict[str, deque[PlannedBatch]] = {"rows": deque(), "frames": deque()}
        self.taken: deque[PlannedBatch] = deque()

    def rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Parameter rows of a batch's N frames (N, 16), and edge gains (N, S, 1, 1) and (N, 1, S, 1); float32."""
        batch = self._next("rows")
        rows = np.concatenate([clip.parameters() for _, clip in self._clips(batch)])
        sides = rows[:, [COLUMN["height"], COLUMN["width"]]]
        margin = np.ceil(REACH[self._interpolation] * np.maximum(sides.max(axis=1, keepdims=True) / self._size, 1.0))
        down, across = (
            np.stack([edge_gain(int(side), self._size, self._interpolation) for side in column]) for column in sides.T
        )
        gains = down.reshape(-1, self._size, 1, 1), across.reshape(-1, 1, self._size, 1)
        columns = [rows, margin]
        if self._is_flow:
            maps = [vector_map(clip, self._size).reshape(1, 4) for _, clip in self._clips(batch)]
            columns.append(
                np.repeat(np.concatenate(maps), [len(clip.frames) for _, clip in self._clips(batch)], axis=0)
            )
        return np.concatenate(columns, axis=1, dtype=np.float32), *gains

    def frames(self) -> list[Any]:
        """The N frames of a batch, in the order of their rows."""
        batch = self._next("frames")
        samples = self._frames_of(batch)
        return [samples[sample][frame] for sample, clip in self._clips(batch) for frame in clip.frames]

    def _clips(self, batch: PlannedBatch) -> Iterator[tuple[int, ClipPlan]]:
        """Sample number and clip, view by view."""
        for view in range(self._num_views):
            for sample, plan in enumerate(batch.plans):
                yield sample, plan.clips[view]

    def _next(self, asked: str) -> PlannedBatch:
        """The next batch that this source was not asked for yet; DALI asks both, in an order of its own."""
        if not self._waiting[asked]:
            batch = next(self._planned)  # its end is the end of DALI's epoch
            for record in batch.records:
                if record.codec != self._codec:
                    raise InputError(
                        f"{record.id} is stored as {record.codec}, videos before it as {self._codec}; DALI takes one "
                        "codec a run: rebuild one part, or use --pipeline.backend host"
                    )
            self.taken.append(batch)
            for waiting in self._waiting.values():
                waiting.append(batch)
        return self._waiting[asked].popleft()


def stored_frames(batch: PlannedBatch) -> list[Frames]:
    """The frames as they are stored, one array of bytes each."""
    return [
        {number: np.frombuffer(unit, np.uint8) for number, unit in zip(stored.numbers, stored.units, strict=True)}
        for stored in batch.frames
    ]


def _decoded(stored: EncodedFrames, record: VideoRecord) -> Frames:
    # Decoders pad their rows, which DALI does not take.
    return {number: np.ascontiguousarray(pixels) for number, pixels in decode(stored, record).items()}


class HostDecoder:
    """Decodes on the CPU, a sample a thread, what the graph cannot."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="intravid-decode")

    def __call__(self, batch: PlannedBatch) -> list[Frames]:
        """Pixels of every frame."""
        return list(self._pool.map(_decoded, batch.frames, batch.records))

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)


@lru_cache(maxsize=4096)
def edge_gain(length: int, size: int, interpolation: Interpolation = "bilinear") -> np.ndarray:
    """By how much a resize from `length` to `size` pixels that takes zeros from outside is too small, (size,) float32.

    At each output pixel the sum of the filter's weights over the part of it inside; 1 but for the ends. The filter is
    that of an antialiased resize, the triangle or the cubic of Catmull and Rom (a = -0.5, Pillow's), in units of output
    pixels, at least of input pixels.
    """
    scale = length / size
    width = max(scale, 1.0)
    margin = math.ceil(REACH[interpolation] * width) + 1
    centres = (np.arange(size)[:, None] + 0.5) * scale
    places = np.arange(-margin, length + margin)[None] + 0.5
    weights = (_cubic if interpolation == "bicubic" else _triangle)(np.abs(places - centres) / width)
    inside = weights[:, margin:-margin]
    return (weights.sum(axis=1) / inside.sum(axis=1)).astype(np.float32)


def _triangle(distance: np.ndarray) -> np.ndarray:
    return np.clip(1.0 - distance, 0.0, None)


def _cubic(distance: np.ndarray) -> np.ndarray:
    near = (1.5 * distance - 2.5) * distance**2 + 1.0
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    return np.where(distance < 1.0, near, np.where(distance < 2.0, far, 0.0))


def checked(planned: Iterable[PlannedBatch], mender: Mender) -> Iterator[PlannedBatch]:
    """The same batches, mended; a JPEG that is cut short would end the whole graph without telling whose it was."""
    for batch in planned:
        frames = tuple(
            mender.checked(stored, record, check_jpeg) if stored.codec in PICTURES else stored
            for record, stored in zip(batch.records, batch.frames, strict=True)
        )
        # A batch is told from others by being the same object.
        same = all(one is other for one, other in zip(frames, batch.frames, strict=True))
        yield batch if same else replace(batch, frames=frames)


def check_jpeg(data: bytes, record: VideoRecord, frame: int) -> None:
    """Fail for bytes that are no whole JPEG, or of another size than the record says."""
    from simplejpeg import decode_jpeg_header

    if data[:2] != b"\xff\xd8" or data[-2:] != b"\xff\xd9":
        raise RunError(f"{record.id}, frame {frame}: the stored bytes are no complete JPEG")
    try:
        height, width = map(int, decode_jpeg_header(data)[:2])
    except ValueError as error:
        raise RunError(f"{record.id}, frame {frame}: the stored JPEG cannot be read ({error})") from None
    size = (height // 2 if record.codec == "flow-jpeg" else height), width
    # A box beyond the frame would be DALI's error, without a name, or black where it is padded.
    if size != (record.height, record.width):
        raise RunError(
            f"{record.id}, frame {frame} has {size[0]}x{size[1]} pixels, its record says {record.height}x{record.width}"
        )

"""What DALI is given for a batch: JPEGs, a parameter row a frame, and how a resize ends at the edge of the crop."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np

from data_process.errors import RunError
from pipelines.plan import PARAMETERS, ClipFormat
from pipelines.source import PlannedBatch

COLUMN = {name: number for number, name in enumerate((*PARAMETERS, "margin"))}
"""Places in the parameter row of a frame; the last one is the pixels of zeros that a resize reads around the crop."""


class Feed:
    """The callable that DALI asks for batches, ahead of consumption; remembers what it handed out."""

    def __init__(self, planned: Iterator[PlannedBatch], clip_format: ClipFormat) -> None:
        self._planned, self._num_views, self._size = planned, clip_format.num_views, clip_format.size
        self.taken: deque[PlannedBatch] = deque()

    def __call__(self) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
        """JPEGs of N frames, their rows (N, 14), and edge gains (N, S, 1, 1) and (N, 1, S, 1); float32."""
        batch = next(self._planned)  # its end is the end of DALI's epoch
        frames, tables = [], []
        for view in range(self._num_views):
            for plan, stored in zip(batch.plans, batch.frames, strict=True):
                clip = plan.clips[view]
                tables.append(clip.parameters())
                frames += [np.frombuffer(stored[frame], np.uint8) for frame in clip.frames]
        self.taken.append(batch)
        rows = np.concatenate(tables)
        sides = rows[:, [COLUMN["height"], COLUMN["width"]]]
        margin = np.ceil(np.maximum(sides.max(axis=1, keepdims=True) / self._size, 1.0))
        down, across = (np.stack([edge_gain(int(side), self._size) for side in column]) for column in sides.T)
        gains = down.reshape(-1, self._size, 1, 1), across.reshape(-1, 1, self._size, 1)
        return frames, np.concatenate([rows, margin], axis=1, dtype=np.float32), *gains


@lru_cache(maxsize=4096)
def edge_gain(length: int, size: int) -> np.ndarray:
    """By how much a resize from `length` to `size` pixels that takes zeros from outside is too small, (size,) float32.

    At each output pixel the sum of the filter's weights over the part of it inside; 1 but for the ends. The filter is
    the triangle of an antialiased bilinear resize, as wide as one output pixel on each side, at least one input pixel.
    """
    scale = length / size
    width = max(scale, 1.0)
    margin = math.ceil(width) + 1
    centres = (np.arange(size)[:, None] + 0.5) * scale
    places = np.arange(-margin, length + margin)[None] + 0.5
    weights = np.clip(1.0 - np.abs(places - centres) / width, 0.0, None)
    inside = weights[:, margin:-margin]
    return (weights.sum(axis=1) / inside.sum(axis=1)).astype(np.float32)


def checked(planned: Iterable[PlannedBatch]) -> Iterator[PlannedBatch]:
    """The same batches; a JPEG that is cut short would end the whole graph without telling whose it was."""
    from simplejpeg import decode_jpeg_header

    for batch in planned:
        for record, stored in zip(batch.records, batch.frames, strict=True):
            for frame, data in stored.items():
                if data[:2] != b"\xff\xd8" or data[-2:] != b"\xff\xd9":
                    raise RunError(f"{record.id}, frame {frame}: the stored bytes are no complete JPEG")
                try:
                    size = tuple(decode_jpeg_header(data)[:2])
                except ValueError as error:
                    raise RunError(f"{record.id}, frame {frame}: the stored JPEG cannot be read ({error})") from None
                # A box beyond the frame would be DALI's error, without a name, or black where it is padded.
                if size != (record.height, record.width):
                    raise RunError(
                        f"{record.id}, frame {frame} has {size[0]}x{size[1]} pixels, "
                        f"its record says {record.height}x{record.width}"
                    )
        yield batch

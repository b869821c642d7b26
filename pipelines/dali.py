"""Carries plans out with NVIDIA DALI: one JPEG and one parameter row a sample, on the CPU or a GPU.

A DALI batch holds the frames of all clips in the order (view, sample, frame), so that each view comes out as one
contiguous channels-last-3d tensor without a copy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from data_process.errors import InputError, RunError
from pipelines.plan import PARAMETERS, ClipFormat
from pipelines.source import PlannedBatch

_COLUMN = {name: number for number, name in enumerate(PARAMETERS)}


class DaliExecutor:
    """Turns planned batches into normalised clips in one DALI graph.

    Args:
        clip_format: views, frames, size, normalisation and the operations that the graph holds.
        max_samples: most samples in a batch.
        device: where augmentation runs and clips end: cpu, or gpu.
        decode: cpu, or mixed (nvJPEG; device gpu only).
        device_id: number of the GPU.
        threads: CPU threads of the graph.
        prefetch: batches that DALI works on ahead.

    Raises:
        InputError: where DALI is not installed, or mixed decoding is asked for without a GPU.
    """

    def __init__(
        self,
        clip_format: ClipFormat,
        *,
        max_samples: int,
        device: Literal["cpu", "gpu"] = "cpu",
        decode: Literal["cpu", "mixed"] = "cpu",
        device_id: int | None = None,
        threads: int,
        prefetch: int = 2,
    ) -> None:
        if decode == "mixed" and device != "gpu":
            raise InputError("pipeline.decode mixed needs a CUDA device; use cpu or auto on a machine without one")
        self._format = clip_format
        self._feed = _Feed(clip_format)
        self._pipeline = _build_pipeline(
            self._feed,
            clip_format,
            batch_size=max_samples * clip_format.frames_per_sample,
            device=device,
            decode=decode,
            device_id=device_id if device == "gpu" else None,
            threads=threads,
            prefetch=prefetch,
        )

    def run(self, planned: Iterable[PlannedBatch]) -> Iterator[tuple[PlannedBatch, tuple[Tensor, ...]]]:
        """Each batch with its V clips (b, 3, T, S, S) float32, contiguous in channels-last-3d."""
        self._feed.begin(iter(planned))
        while True:
            try:
                (output,) = self._pipeline.run()
            except StopIteration:
                self._pipeline.reset()
                return
            batch = self._feed.taken.popleft()
            pixels = torch.from_dlpack(output.as_tensor())
            shape = (self._format.num_views, len(batch.index), self._format.num_frames)
            yield batch, tuple(pixels.view(*shape, *pixels.shape[1:]).permute(0, 1, 5, 2, 3, 4))

    def close(self) -> None:
        """Let DALI's threads and memory go."""
        if hasattr(self, "_pipeline"):
            del self._pipeline


class _Feed:
    """The callable that DALI asks for batches, ahead of consumption; remembers what it handed out."""

    def __init__(self, clip_format: ClipFormat) -> None:
        self._format = clip_format
        self._planned: Iterator[PlannedBatch] = iter(())
        self.taken: deque[PlannedBatch] = deque()

    def begin(self, planned: Iterator[PlannedBatch]) -> None:
        self._planned = planned
        self.taken.clear()

    def __call__(self) -> tuple[list[np.ndarray], np.ndarray]:
        batch = next(self._planned)  # its end is the end of DALI's epoch
        frames, rows = [], []
        for view in range(self._format.num_views):
            for plan, record, stored in zip(batch.plans, batch.records, batch.frames, strict=True):
                clip = plan.clips[view]
                rows.append(clip.parameters())
                frames += [_as_array(stored[frame], record.id, frame) for frame in clip.frames]
        self.taken.append(batch)
        return frames, np.concatenate(rows)


def _as_array(data: bytes, video_id: str, frame: int) -> np.ndarray:
    # A broken JPEG would end the whole pipeline without telling whose it was.
    if data[:2] != b"\xff\xd8" or data[-2:] != b"\xff\xd9":
        raise RunError(f"{video_id}, frame {frame}: the stored bytes are no complete JPEG")
    return np.frombuffer(data, np.uint8)


def _build_pipeline(
    feed: _Feed,
    clip_format: ClipFormat,
    *,
    batch_size: int,
    device: str,
    decode: str,
    device_id: int | None,
    threads: int,
    prefetch: int,
) -> Any:
    try:
        from nvidia.dali import fn, types
        from nvidia.dali.pipeline import pipeline_def
    except ImportError:
        raise InputError(
            "pipeline.backend dali: NVIDIA DALI is not installed. `pip install 'intravid[dali]'` (CUDA 13) or "
            "'intravid[dali-cuda12]' brings it; --pipeline.backend host works without."
        ) from None

    dtypes: Any = types  # its members are made at import and unknown to type checkers

    @pipeline_def(  # pyright: ignore[reportCallIssue]
        batch_size=batch_size,
        num_threads=threads,
        device_id=device_id,
        exec_dynamic=True,
        prefetch_queue_depth=prefetch,
        py_start_method="spawn",
    )
    def graph() -> Any:
        jpeg, row = fn.external_source(
            source=feed, num_outputs=2, batch=True, dtype=[dtypes.UINT8, dtypes.FLOAT], ndim=[1, 1]
        )
        decoded = fn.decoders.image(jpeg, device=decode, output_type=dtypes.RGB, jpeg_fancy_upsampling=True)
        if device == "gpu" and decode == "cpu":
            decoded = decoded.gpu()
        return _augment(fn, dtypes, decoded, row, clip_format)

    pipeline = graph()
    pipeline.build()
    return pipeline


def _augment(fn: Any, types: Any, pixels: Any, row: Any, clip_format: ClipFormat) -> Any:
    """Frames HWC uint8 to normalised HWC float; operations outside the clip format are not in the graph."""

    def value(name: str) -> Any:
        return row[_COLUMN[name]]

    operations, size = clip_format.operations, clip_format.size
    if "rotate" in operations:
        angle = value("angle")
        pixels = fn.cast(pixels, dtype=types.FLOAT)
        pixels = fn.rotate(pixels, angle=angle, interp_type=types.INTERP_LINEAR, keep_size=True, fill_value=0)
    top, height = _COLUMN["top"], _COLUMN["height"]
    pixels = fn.slice(
        pixels,
        fn.cast(row[top : top + 2], dtype=types.INT32),
        fn.cast(row[height : height + 2], dtype=types.INT32),
        axes=[0, 1],
    )
    recolours = bool(operations & {"colour", "grey"})
    # Levels are rounded once, behind the colour map that would amplify the rounding.
    pixels = fn.resize(pixels, size=(size, size), interp_type=types.INTERP_LINEAR, antialias=True, dtype=types.FLOAT)
    if not recolours:
        pixels = fn.cast(pixels, dtype=types.UINT8)
    if "flip" in operations:
        pixels = fn.flip(pixels, horizontal=fn.cast(value("flip"), dtype=types.INT32))
    if "turn" in operations:
        angle = value("turns") * 90.0
        pixels = fn.rotate(pixels, angle=angle, interp_type=types.INTERP_NN, keep_size=True, fill_value=0)
    if recolours:
        # color_twist would take the contrast of floats around 0.5, so contrast and brightness have an operator apart.
        saturation = value("saturation") * (1.0 - value("grey"))
        pixels = fn.color_twist(pixels, saturation=saturation, hue=value("hue"))
        pixels = fn.brightness_contrast(
            pixels,
            brightness=value("brightness"),
            contrast=value("contrast"),
            contrast_center=128.0,
            dtype=types.UINT8,
        )
    if "blur" in operations:
        # A window of 1 is the identity; sigma 0 with window 0 is refused by DALI.
        radius = fn.cast(-_floor(-3.0 * value("blur")), dtype=types.INT32)
        pixels = fn.gaussian_blur(pixels, sigma=value("blur"), window_size=2 * radius + 1)
    return fn.crop_mirror_normalize(
        pixels,
        dtype=types.FLOAT,
        mean=[255.0 * mean for mean in clip_format.mean],
        std=[255.0 * std for std in clip_format.std],
        output_layout="HWC",
    )


def _floor(value: Any) -> Any:
    from nvidia.dali import math

    return math.floor(value)

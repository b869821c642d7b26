"""Carries plans out with NVIDIA DALI: one JPEG and one parameter row a sample, on the CPU or a GPU.

A DALI batch holds the frames of all clips in the order (view, sample, frame), so that each view comes out as one
contiguous channels-last-3d tensor without a copy.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any, Literal

import torch
from torch import Tensor

from data_process.errors import InputError, RunError
from pipelines.dali_feed import COLUMN, Feed, checked
from pipelines.plan import ClipFormat
from pipelines.prefetch import UntilError
from pipelines.source import PlannedBatch


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
        _require_dali()
        self._format = clip_format
        self._gpu, self._decode = device == "gpu", decode
        self._options = {
            "batch_size": max_samples * clip_format.frames_per_sample,
            "num_threads": threads,
            "device_id": device_id if device == "gpu" else None,
            "prefetch_queue_depth": prefetch,
        }

    def run(self, planned: Iterable[PlannedBatch]) -> Generator[tuple[PlannedBatch, tuple[Tensor, ...]], None, None]:
        """Each batch with its V clips (b, 3, T, S, S) float32, contiguous in channels-last-3d.

        Every run has a graph of its own, since one that was left in the middle still holds the old batches.

        Raises:
            RunError: for a JPEG that cannot be decoded or has another size than the record says.
        """
        batches = UntilError(checked(planned))
        feed = Feed(batches, self._format)
        pipeline = self._build(feed)
        while True:
            try:
                (output,) = pipeline.run()
            except StopIteration:
                break
            except RuntimeError as error:
                raise _failure(feed.taken, error) from error
            batch = feed.taken.popleft()
            pixels = torch.from_dlpack(output.as_tensor())
            shape = (self._format.num_views, len(batch.index), self._format.num_frames)
            yield batch, tuple(pixels.view(*shape, *pixels.shape[1:]).permute(0, 1, 5, 2, 3, 4))
        batches.reraise()

    def _build(self, feed: Feed) -> Any:
        from nvidia.dali import fn, types
        from nvidia.dali.pipeline import Pipeline

        dtypes: Any = types  # its members are made at import and unknown to type checkers
        # Only the dynamic executor lets a tensor outlive the next run without a copy.
        pipeline = Pipeline(exec_dynamic=True, **self._options)
        with pipeline:
            jpeg, row, down, across = fn.external_source(
                source=feed,
                num_outputs=4,
                batch=True,
                dtype=[dtypes.UINT8, dtypes.FLOAT, dtypes.FLOAT, dtypes.FLOAT],
                ndim=[1, 1, 3, 3],
            )
            pixels = fn.decoders.image(jpeg, device=self._decode, output_type=dtypes.RGB, jpeg_fancy_upsampling=True)
            if self._gpu:
                pixels, down, across = pixels.gpu(), down.gpu(), across.gpu()
            pipeline.set_outputs(_augment(fn, dtypes, pixels, row, down * across, self._format))
        pipeline.build()
        return pipeline

    def close(self) -> None:
        """Nothing is held between runs; a run's graph goes with its generator."""


def _require_dali() -> None:
    try:
        import nvidia.dali  # noqa: F401
    except ImportError:
        raise InputError(
            "pipeline.backend dali: NVIDIA DALI is not installed. `pip install 'intravid[dali]'` (CUDA 13) or "
            "'intravid[dali-cuda12]' brings it; --pipeline.backend host works without."
        ) from None


def _failure(taken: Iterable[PlannedBatch], error: RuntimeError) -> RunError:
    """What broke the graph: the first frame that the host cannot decode either, else DALI's own words."""
    from pipelines.host import decode

    for batch in taken:
        for record, stored in zip(batch.records, batch.frames, strict=True):
            for frame, data in stored.items():
                try:
                    decode(data, record, frame)
                except RunError as found:
                    return found
    return RunError(f"DALI failed: {error}")


def _augment(fn: Any, types: Any, pixels: Any, row: Any, gain: Any, clip_format: ClipFormat) -> Any:
    """Frames HWC uint8 to normalised HWC float; operations outside the clip format are not in the graph."""

    def value(name: str) -> Any:
        return row[COLUMN[name]]

    operations, size = clip_format.operations, clip_format.size
    recolours = bool(operations & {"colour", "grey"})
    if "rotate" in operations:
        # Levels are rounded once: behind the colours, which could amplify the rounding, where there are any.
        kept = types.FLOAT if recolours else types.UINT8
        pixels = fn.rotate(
            fn.cast(pixels, dtype=kept),
            angle=value("angle"),
            interp_type=types.INTERP_LINEAR,
            keep_size=True,
            fill_value=0,
        )
    top, height = COLUMN["top"], COLUMN["height"]
    pixels = fn.slice(
        pixels,
        start=fn.cast(row[top : top + 2], dtype=types.INT32),
        shape=fn.cast(row[height : height + 2], dtype=types.INT32),
        axes=[0, 1],
        out_of_bounds_policy="pad" if "pad" in operations else "error",
        fill_values=0,
    )
    if recolours:
        # color_twist would take the contrast of floats around 0.5, so contrast and brightness have an operator apart.
        saturation = value("saturation") * (1.0 - value("grey"))
        pixels = fn.color_twist(pixels, saturation=saturation, hue=value("hue"), dtype=types.FLOAT)
        pixels = fn.brightness_contrast(
            pixels,
            brightness=value("brightness"),
            contrast=value("contrast"),
            contrast_center=128.0,
            dtype=types.UINT8,
        )
    pixels = _resize(fn, types, pixels, row, gain, size)
    if "tilt" in operations:
        pixels = fn.rotate(
            pixels, angle=value("tilt"), interp_type=types.INTERP_LINEAR, keep_size=True, fill_value=0
        )  # fmt: skip
    if "flip" in operations:
        pixels = fn.flip(pixels, horizontal=fn.cast(value("flip"), dtype=types.INT32))
    if "turn" in operations:
        angle = value("turns") * 90.0
        pixels = fn.rotate(pixels, angle=angle, interp_type=types.INTERP_NN, keep_size=True, fill_value=0)
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


def _resize(fn: Any, types: Any, pixels: Any, row: Any, gain: Any, size: int) -> Any:
    """Antialiased bilinear resize whose filter ends at the edge of the crop, as Pillow's and torch's.

    DALI would repeat the pixels at the edge instead, which was seen to move it by 20 levels where much is shrunk.
    """
    height, margin = COLUMN["height"], row[COLUMN["margin"]]
    sides, margins = row[height : height + 2], fn.stack(margin, margin)
    padded = fn.slice(
        pixels,
        start=fn.cast(-margins, dtype=types.INT32),
        shape=fn.cast(sides + 2.0 * margins, dtype=types.INT32),
        axes=[0, 1],
        out_of_bounds_policy="pad",
        fill_values=0,
    )
    resized = fn.resize(
        padded,
        size=(size, size),
        roi_start=margins,
        roi_end=sides + margins,
        interp_type=types.INTERP_LINEAR,
        antialias=True,
    )
    return fn.cast(resized * gain, dtype=types.UINT8)


def _floor(value: Any) -> Any:
    from nvidia.dali import math as dali_math

    return dali_math.floor(value)

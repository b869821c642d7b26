"""Carries plans out with NVIDIA DALI: one JPEG and one parameter row a sample, on the CPU or a GPU.

A DALI batch holds the frames of all clips in the order (view, sample, frame), so that each view comes out as one
contiguous channels-last-3d tensor without a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from itertools import chain
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from data_process.decoding import decode
from data_process.errors import InputError, RunError
from data_process.frames import PICTURES, STREAMS
from pipelines.dali_feed import Feed, Frames, HostDecoder, checked, stored_frames
from pipelines.dali_graph import augment, flow_picture
from pipelines.mending import Mender
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
        mender: what is done about damaged frames; None fails at the first.

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
        mender: Mender | None = None,
    ) -> None:
        if decode == "mixed" and device != "gpu":
            raise InputError("pipeline.decode mixed needs a CUDA device; use cpu or auto on a machine without one")
        _require_dali()
        self._format, self._mender = clip_format, mender or Mender(0)
        self._gpu, self._decode = device == "gpu", decode
        self._options = {
            "batch_size": max_samples * clip_format.frames_per_sample,
            "num_threads": threads,
            "device_id": device_id if device == "gpu" else None,
            "prefetch_queue_depth": prefetch,
        }
        self._host_decoder: HostDecoder | None = None

    def run(self, planned: Iterable[PlannedBatch]) -> Generator[tuple[PlannedBatch, tuple[Tensor, ...]], None, None]:
        """Each batch with its V clips (b, C, T, S, S) float32, contiguous in channels-last-3d.

        Every run has a graph of its own, since one that was left in the middle still holds the old batches.

        Raises:
            RunError: for frames that cannot be decoded or have another size than the record says.
            InputError: for videos that are stored in more than one way.
        """
        batches = UntilError(checked(planned, self._mender))
        first = next(batches, None)
        if first is None:
            batches.reraise()
            return
        codec = first.frames[0].codec
        feed = Feed(chain([first], batches), self._format, codec, self._frames_of(codec))
        pipeline = self._build(feed, codec)
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

    def _frames_of(self, codec: str) -> Callable[[PlannedBatch], list[Frames]]:
        """What the graph is given of each frame: JPEGs, which it decodes itself, or pixels."""
        if codec in PICTURES:
            return stored_frames
        if codec in STREAMS and self._decode == "mixed":
            return VideoDecoder("mixed", self._options).decode
        if self._host_decoder is None:
            self._host_decoder = HostDecoder(self._options["num_threads"])
        return self._host_decoder

    def _build(self, feed: Feed, codec: str) -> Any:
        import nvidia.dali
        import nvidia.dali.math
        from nvidia.dali import fn, types
        from nvidia.dali.pipeline import Pipeline

        dtypes: Any = types  # its members are made at import and unknown to type checkers
        on_gpu = codec in STREAMS and self._decode == "mixed"
        # Only the dynamic executor lets a tensor outlive the next run without a copy.
        pipeline = Pipeline(exec_dynamic=True, **self._options)
        with pipeline:
            row, down, across = fn.external_source(
                source=feed.rows, num_outputs=3, batch=True, dtype=dtypes.FLOAT, ndim=[1, 3, 3]
            )
            given = fn.external_source(
                source=feed.frames,
                batch=True,
                device="gpu" if on_gpu else "cpu",
                dtype=dtypes.UINT8,
                ndim=1 if codec in PICTURES else 3,
                layout=None if codec in PICTURES else "HWC",
            )
            pixels = given
            if codec in PICTURES:
                kind = dtypes.GRAY if self._format.is_flow else dtypes.RGB
                pixels = fn.decoders.image(given, device=self._decode, output_type=kind, jpeg_fancy_upsampling=True)
            if self._format.is_flow:
                pixels = flow_picture(nvidia.dali, pixels)
            if self._gpu:
                pixels, down, across = pixels.gpu(), down.gpu(), across.gpu()
            pipeline.set_outputs(augment(nvidia.dali, pixels, row, (down, across), self._format))
        pipeline.build()
        return pipeline

    def close(self) -> None:
        """End the threads; a run's graph goes with its generator."""
        if self._host_decoder is not None:
            self._host_decoder.close()
            self._host_decoder = None


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
    for batch in taken:
        for record, stored in zip(batch.records, batch.frames, strict=True):
            try:
                decode(stored, record)
            except RunError as found:
                return found
    return RunError(f"DALI failed: {error}")


class VideoDecoder:
    """Decodes the wanted frames of one video a sample in a pipeline of its own.

    Args:
        device: mixed for the decoder of a GPU (H.264), cpu for DALI's own (VP9, MJPEG; what H.264 is tested with).
        options: batch size, threads and GPU of the pipeline that takes the frames.
    """

    def __init__(self, device: Literal["cpu", "mixed"], options: Mapping[str, Any]) -> None:
        from nvidia.dali import fn, types
        from nvidia.dali.pipeline import Pipeline

        dtypes: Any = types
        self._device = device
        self._given: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        self._pipeline = Pipeline(exec_dynamic=True, **{**options, "prefetch_queue_depth": 1})
        with self._pipeline:
            data, numbers = fn.external_source(
                source=lambda: self._given, num_outputs=2, batch=True, dtype=[dtypes.UINT8, dtypes.INT32], ndim=1,
            )  # fmt: skip
            self._pipeline.set_outputs(fn.decoders.video(data, device=device, frames=numbers))
        self._pipeline.build()

    def decode(self, batch: PlannedBatch) -> list[Frames]:
        """For each sample frame number to pixels (height, width, 3), tensors where the decoder left them."""
        videos = [np.frombuffer(stored.units[0], np.uint8) for stored in batch.frames]
        numbers = [np.array(stored.numbers, dtype=np.int32) for stored in batch.frames]
        self._given = videos, numbers
        (output,) = self._pipeline.run()
        # On the GPU nothing is copied; tensors of the CPU DALI would not take.
        handed_on = torch.from_dlpack if self._device == "mixed" else np.array
        return [
            dict(zip(stored.numbers, handed_on(output[sample]), strict=True))
            for sample, stored in enumerate(batch.frames)
        ]

"""Deterministic clips of evaluation: evenly spaced over the video, centre crop, one view a clip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from data_process.errors import InputError
from data_process.records import VideoRecord
from pipelines.batch import ViewBatch
from pipelines.draw import centre_box, clip_frames, even_starts, looped, resized_crop
from pipelines.loader import PipelineConfig, carried_out, make_executor, to_device
from pipelines.mending import MendedVideos, Mender
from pipelines.plan import Box, ClipFormat, ClipPlan, Planner, SamplePlan
from pipelines.prefetch import Prefetcher
from pipelines.source import PlannedBatch, VideoStore, plan_batch


@dataclass(frozen=True)
class EvaluationClips:
    """Clips that a video is judged by; also the planner that draws them.

    Attributes:
        num_clips: evenly spaced clips of a video, one view each.
        num_frames: frames a clip.
        stride: video frames from one to the next.
        size: output height and width, pixels.
        resize: (height, width) that frames are thought to be resized to before a centre crop of `size`, as IIC's
            128 x 171 for 112; None takes the largest centred square.
        mean: of the normalisation, per channel in [0, 1].
        std: likewise.
        drop_last_frame: leave out the last frame, as IIC does because flow has one frame less.
        frozen_frame: None; or a place in [0, 1] whose one frame is repeated in every clip (the one-frame control).
    """

    num_clips: int = 10
    num_frames: int = 16
    stride: int = 1
    size: int = 112
    resize: tuple[int, int] | None = (128, 171)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    drop_last_frame: bool = False
    frozen_frame: float | None = None

    def __post_init__(self) -> None:
        if min(self.num_clips, self.num_frames, self.stride, self.size) < 1:
            raise InputError(f"clips, frames, stride and size of evaluation must be at least 1, got {self}")
        if self.resize is not None and min(self.resize) < self.size:
            raise InputError(f"the crop ({self.size}) must fit into resize {self.resize}, or resize be null")
        if self.frozen_frame is not None and not 0.0 <= self.frozen_frame <= 1.0:
            raise InputError(f"frozen_frame ({self.frozen_frame}) is a place in the video from 0 to 1")

    @property
    def clip_format(self) -> ClipFormat:
        """Format of the clips; no operation beside crop and resize."""
        return ClipFormat(self.num_clips, self.num_frames, self.size, self.mean, self.std)

    def planner(self) -> Planner:
        """The planner, which is this object."""
        return self

    def __call__(self, _: np.random.Generator, record: VideoRecord) -> SamplePlan:
        """The clips of a video, nothing drawn; its label is the target."""
        box = self._box(record)
        clips = tuple(ClipPlan(frames, box) for frames in self._frames(record))
        return SamplePlan(clips, {"label": np.array(record.label, dtype=np.int64)})

    def _frames(self, record: VideoRecord) -> list[tuple[int, ...]]:
        length = max(1, record.num_frames - self.drop_last_frame)
        if self.frozen_frame is not None:
            return [(round(self.frozen_frame * (length - 1)),) * self.num_frames] * self.num_clips
        starts = even_starts(
            video_frames=length, num_clips=self.num_clips, num_frames=self.num_frames, stride=self.stride
        )
        return [looped(clip_frames(start, num_frames=self.num_frames, stride=self.stride), length) for start in starts]

    def _box(self, record: VideoRecord) -> Box:
        if self.resize is None:
            return centre_box(record.height, record.width)
        # Python rounds 29.5 to 30, as torchvision's CenterCrop does with IIC's 171 - 112.
        top, left = (round((side - self.size) / 2) for side in self.resize)
        return resized_crop(
            top, left, crop=self.size, resized=self.resize, height=record.height, width=record.width
        )  # fmt: skip


def evaluation_batches(
    videos: VideoStore,
    clips: EvaluationClips,
    *,
    config: PipelineConfig,
    indices: Sequence[int],
    batch_size: int,
    local_ranks: int = 1,
    device: torch.device | str = "cpu",
) -> Iterator[ViewBatch]:
    """Batches of the given samples in their order, the last one short where they do not divide."""
    target, clip_format = torch.device(device), clips.clip_format
    mender = Mender(config.max_damaged_frames)
    executor = make_executor(
        clip_format, config, max_samples=batch_size, device=target, mender=mender, local_ranks=local_ranks
    )
    mended = MendedVideos(videos, mender)

    def planned(first: int) -> PlannedBatch:
        return plan_batch(mended, clips, clip_format, indices[first : first + batch_size], seed=0, epoch=0)

    firsts = range(0, len(indices), batch_size)
    background = Prefetcher(carried_out(planned, firsts, executor, readers=config.readers), depth=config.prefetch)
    try:
        for batch, _ in background:
            yield to_device(batch, target)
    finally:
        background.stop()
        executor.close()

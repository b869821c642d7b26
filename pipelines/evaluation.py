"""Deterministic clips of evaluation: spaced evenly over a video or covering it, cropped at fixed places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal, get_args

import numpy as np
import torch

from data_process.errors import InputError
from data_process.records import VideoRecord
from pipelines.batch import ViewBatch
from pipelines.draw import resized_crop
from pipelines.draw.windows import (
    Clips,
    capped_clips,
    drawn_clips,
    even_clips,
    joined_windows,
    leading_windows,
    sliding_windows,
)
from pipelines.loader import PipelineConfig, carried_out, make_executor
from pipelines.mending import MendedVideos, Mender
from pipelines.plan import ClipFormat, ClipPlan, Interpolation, Modality, SamplePlan, sample_rng
from pipelines.prefetch import Prefetcher
from pipelines.side_stream import sent
from pipelines.source import PlannedBatch, VideoStore, read_planned

Sampling = Literal["even", "capped", "drawn", "leading", "joined", "sliding"]
Crops = Literal[1, 3, 5, 10]
_WINDOWS = ("leading", "joined", "sliding")
"""Samplings that give some videos more clips than others."""


@dataclass(frozen=True)
class EvaluationClips:
    """Clips that a video is judged by.

    Attributes:
        num_clips: of a video, of the samplings even, capped and drawn; the most of leading.
        sampling: even (IIC: short videos start again) or capped (DualVar: they stand still at their last frame) for
            `num_clips` spread over the video; drawn (VTDL) for as many at drawn places; leading (VTDL) for the first
            ones, `hop` frames apart, that fit; joined (CSTP: neighbours share a frame) or sliding (DualVar: half
            overlapping) for as many windows as cover it.
        crops: places of every clip: 1 in the centre; 3 along the longer side; 5 at the corners and in the centre; 10
            those and their mirror images.
        num_frames: frames a clip.
        stride: video frames from one to the next.
        size: output height and width, pixels.
        resize: (height, width) that frames are thought to be resized to before a crop of `size`, as IIC's 128 x 171 for
            112; or their shorter side, as VTDL's 256 for 224 and CSTP's 128 for 112; None takes the largest square.
        mean: of the normalisation, per channel in [0, 1].
        std: likewise.
        interpolation: of the resize: bilinear, or bicubic as in CSTP and DualVar; both as Pillow's.
        hop: frames from the start of a leading window to that of the next.
        seed: of the sampling drawn.
        drop_last_frame: leave out the last frame, as IIC does because flow has one frame less.
        modality: rgb, or flow, flow-u, flow-v of videos of optical flow; see `pipelines.plan.ClipFormat`.
        frozen_frame: None; or a place in [0, 1] whose one frame is repeated in every clip (the one-frame control).
    """

    num_clips: int = 10
    sampling: Sampling = "even"
    crops: Crops = 1
    num_frames: int = 16
    stride: int = 1
    size: int = 112
    resize: tuple[int, int] | int | None = (128, 171)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    interpolation: Interpolation = "bilinear"
    hop: int = 10
    seed: int = 0
    drop_last_frame: bool = False
    modality: Modality = "rgb"
    frozen_frame: float | None = None

    def __post_init__(self) -> None:
        if min(self.num_clips, self.num_frames, self.stride, self.size, self.hop) < 1:
            raise InputError(f"clips, frames, stride, size and hop of evaluation must be at least 1, got {self}")
        for name, kind in (("sampling", Sampling), ("crops", Crops), ("interpolation", Interpolation)):
            allowed = get_args(kind)
            if (value := getattr(self, name)) not in allowed:
                raise InputError(f"{name} {value!r} of evaluation: expected one of {', '.join(map(str, allowed))}")
        shorter = (
            self.size if self.resize is None else self.resize if isinstance(self.resize, int) else min(self.resize)
        )
        if shorter < self.size:
            raise InputError(f"the crop ({self.size}) must fit into resize {self.resize}, or resize be null")
        if self.frozen_frame is not None and not 0.0 <= self.frozen_frame <= 1.0:
            raise InputError(f"frozen_frame ({self.frozen_frame}) is a place in the video from 0 to 1")

    @property
    def clip_format(self) -> ClipFormat:
        """Format of the clips of one plan: those of a video, or where windows cover it the crops of one window."""
        views = self.crops * (1 if self.sampling in _WINDOWS else self.num_clips)
        operations = frozenset({"flip"} if self.crops == 10 else ())
        return ClipFormat(
            views, self.num_frames, self.size, self.mean, self.std, operations, self.modality,
            interpolation=self.interpolation,
        )  # fmt: skip

    def plans(self, record: VideoRecord, index: int = 0) -> tuple[SamplePlan, ...]:
        """What is seen of a video: one plan, or one for each window. Its label is the target.

        Nothing but the sampling drawn depends on the sample index; its places follow from it and the seed.
        """
        targets = {"label": np.array(record.label, dtype=np.int64)}
        places = self._places(record)
        clips = [tuple(replace(place, frames=frames) for place in places) for frames in self._frames(record, index)]
        if self.sampling in _WINDOWS:
            return tuple(SamplePlan(crops, targets) for crops in clips)
        return (SamplePlan(tuple(clip for crops in clips for clip in crops), targets),)

    def _frames(self, record: VideoRecord, index: int) -> Clips:
        length = max(1, record.num_frames - self.drop_last_frame)
        clip = {"num_frames": self.num_frames, "stride": self.stride}
        if self.sampling == "joined":
            found = joined_windows(length, **clip)
        elif self.sampling == "sliding":
            found = sliding_windows(length, num_frames=self.num_frames, stride=self.stride)
        elif self.sampling == "leading":
            found = leading_windows(length, num_clips=self.num_clips, hop=self.hop, **clip)
        elif self.sampling == "drawn":
            found = drawn_clips(sample_rng(self.seed, 0, index), length, num_clips=self.num_clips, **clip)
        else:
            spread = even_clips if self.sampling == "even" else capped_clips
            found = spread(length, num_clips=self.num_clips, **clip)
        if self.frozen_frame is None:
            return found
        return ((round(self.frozen_frame * (length - 1)),) * self.num_frames,) * len(found)

    def _places(self, record: VideoRecord) -> list[ClipPlan]:
        """The crops of a clip, of one frame each."""
        height, width = record.height, record.width
        if self.resize is None:
            resized, crop = (height, width), min(height, width)
            centre = (height - crop) // 2, (width - crop) // 2
        else:
            resized, crop = _resized(self.resize, height, width), self.size
            # Python rounds 29.5 to 30, as torchvision's CenterCrop does with IIC's 171 - 112.
            centre = round((resized[0] - crop) / 2), round((resized[1] - crop) / 2)
        boxes = [
            resized_crop(top, left, crop=crop, resized=resized, height=height, width=width)
            for top, left in _crop_places(self.crops, centre, (resized[0] - crop, resized[1] - crop))
        ]
        mirrored = (False, True) if self.crops == 10 else (False,)
        return [ClipPlan((0,), box, flip=flip) for flip in mirrored for box in boxes]


def _resized(resize: tuple[int, int] | int, height: int, width: int) -> tuple[int, int]:
    """(height, width) of resized frames; a shorter side keeps the aspect, the longer one cut to whole pixels."""
    if not isinstance(resize, int):
        return resize
    longer = resize * max(height, width) // min(height, width)
    return (resize, longer) if height <= width else (longer, resize)


def _crop_places(crops: Crops, centre: tuple[int, int], last: tuple[int, int]) -> list[tuple[int, int]]:
    """(top, left) of the crops; those of 5 in the order of torchvision's FiveCrop."""
    if crops == 1:
        return [centre]
    if crops == 3:
        down = last[0] > last[1]
        ends = [(place, centre[1]) if down else (centre[0], place) for place in (0, last[0] if down else last[1])]
        return [ends[0], centre, ends[1]]
    return [(0, 0), (0, last[1]), (last[0], 0), last, centre]


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
    """Batches of the plans of the given samples in their order, the last one short where they do not divide.

    Where windows cover a video, each is a row of its own, and a video's rows follow each other, also over the end of a
    batch: ``index`` tells which belong together.
    """
    target, clip_format = torch.device(device), clips.clip_format
    mender = Mender(config.max_damaged_frames)
    executor = make_executor(
        clip_format, config, max_samples=batch_size, device=target, mender=mender, local_ranks=local_ranks
    )
    mended = MendedVideos(videos, mender)

    def planned(part: list[tuple[int, SamplePlan]]) -> PlannedBatch:
        return read_planned(mended, clip_format, [index for index, _ in part], [plan for _, plan in part])

    parts = _parts(((index, plan) for index in indices for plan in clips.plans(videos[index], index)), batch_size)
    produced = carried_out(planned, parts, executor, readers=config.readers)
    background = Prefetcher(sent(produced, target), depth=config.prefetch)
    try:
        for arriving, _ in background:
            yield arriving.arrived()
    finally:
        background.stop()
        executor.close()


def _parts(plans: Iterator[tuple[int, SamplePlan]], size: int) -> Iterator[list[tuple[int, SamplePlan]]]:
    while part := list(islice(plans, size)):
        yield part

"""Clips of frames and the same clips of the optical flow of the same videos: one plan, two stores, two executors."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import tee

import numpy as np
from torch import Tensor

from data_process.records import VideoRecord
from pipelines.plan import Box, ClipFormat, ClipPlan, SamplePlan
from pipelines.source import Executor, PlannedBatch, VideoStore, read_planned


@dataclass(frozen=True)
class PairedFlow:
    """The optical flow of videos.

    Attributes:
        videos: of flow.
        place: (N,) for each video of frames the index of its flow, as `data_process.flow_pairs.pair_flow` gives it.
    """

    videos: VideoStore
    place: np.ndarray

    def follow(self, batch: PlannedBatch, clip_format: ClipFormat) -> PlannedBatch:
        """The batch of flow that shows what a batch of frames shows."""
        indices = self.place[batch.index]
        plans = [
            SamplePlan(tuple(flow_clip(clip, record, self.videos[int(index)]) for clip in plan.clips), plan.targets)
            for index, record, plan in zip(indices, batch.records, batch.plans, strict=True)
        ]
        return read_planned(self.videos, clip_format, indices, plans)


def flow_clip(clip: ClipPlan, frames: VideoRecord, flow: VideoRecord) -> ClipPlan:
    """The clip of flow at the same time and place as a clip of frames.

    Flow t leads from frame t to frame t + 1; behind the last frame none follows, and the last flow is shown again. The
    box is scaled where flow was stored at another size. Vectors are those of the video also where a clip plays
    backwards or faster.
    """
    last = flow.num_frames - 1
    return replace(
        clip,
        frames=tuple(min(frame, last) for frame in clip.frames),
        box=_scaled(clip.box, flow.height / frames.height, flow.width / frames.width, flow, padded=clip.padded),
    )


def _scaled(box: Box, down: float, across: float, record: VideoRecord, *, padded: bool) -> Box:
    if (down, across) == (1.0, 1.0):
        return box
    top, bottom = round(box.top * down), round((box.top + box.height) * down)
    left, right = round(box.left * across), round((box.left + box.width) * across)
    if not padded:
        top, left = min(top, record.height - 1), min(left, record.width - 1)
        bottom, right = min(bottom, record.height), min(right, record.width)
    return Box(top, left, max(1, bottom - top), max(1, right - left))


class PairedExecutor:
    """An executor for frames and one for their flow, side by side.

    Args:
        frames: carries the batches out.
        flow: carries out the flow that follows them.
    """

    def __init__(self, frames: Executor, flow: Executor) -> None:
        self._frames, self._flow = frames, flow

    def run(self, planned: Iterable[PlannedBatch]) -> Generator[tuple[PlannedBatch, tuple[Tensor, ...]], None, None]:
        """Each batch with its V clips, and behind them the V clips of flow, all (b, 3, T, S, S).

        Raises:
            RunError: for frames of either that cannot be decoded.
        """
        ours, theirs = tee(planned)
        with closing(self._frames.run(ours)) as frames, closing(self._flow.run(_flow_of(theirs))) as flow:
            for (batch, clips), (_, vectors) in zip(frames, flow, strict=True):
                yield batch, clips + vectors

    def close(self) -> None:
        """End both."""
        self._frames.close()
        self._flow.close()


def _flow_of(planned: Iterable[PlannedBatch]) -> Iterator[PlannedBatch]:
    for batch in planned:
        if batch.flow is None:
            raise ValueError("a batch without flow was planned for clips of flow")
        yield batch.flow

"""What a run sees at a step, drawn: plans make it a function of the configuration, before the run or long after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from data_process.decoding import decode
from data_process.errors import InputError
from data_process.video_set import VideoSet
from launch.config import LoadedRun
from models.method import DatasetFacts, Method
from pipelines.batch import ViewBatch
from pipelines.host import HostExecutor
from pipelines.paired import PairedFlow
from pipelines.plan import ClipFormat
from pipelines.plan_sheet import PlanSheetLayout, draw_plan_sheet
from pipelines.source import ClipSource, PlannedBatch

if TYPE_CHECKING:
    from PIL import Image


def draw_seen(
    loaded: LoadedRun, *, step: int = 0, rank: int = 0, ranks: int = 1, samples: int = 8, layout: PlanSheetLayout
) -> Image.Image:
    """A sheet of the first samples that a run sees at a step.

    Args:
        loaded: the configuration of the run.
        step: from 0; a checkpoint of step N was saved before the batch of step N.
        rank: whose part of the batch.
        ranks: how many ranks share the batch; 1 for the whole of it.
        samples: most samples to draw.
        layout: measures of the sheet.

    Raises:
        InputError: for a step or rank that does not exist, or a dataset that is not there.
    """
    if step < 0 or not 0 <= rank < ranks:
        raise InputError(f"step {step}, rank {rank} of {ranks}: both count from 0, ranks up to their number less one")
    videos = loaded.config.data.open()
    flow = loaded.config.data.open_flow(videos)
    method = loaded.build_method(DatasetFacts(len(videos), len(videos.classes)))
    train, clip_format = loaded.config.train, method.clip_format
    source = partial(
        ClipSource,
        videos,
        method.planner(),
        clip_format,
        seed=train.seed,
        global_batch=train.global_batch,
        flow=PairedFlow(*flow) if flow else None,
    )
    batch = source(rank=rank, world_size=ranks)(step, most=samples)
    part = f", rank {rank} of {ranks}" if ranks > 1 else ""
    title = (
        f"{type(method).__name__}, step {step}{part}, seed {train.seed}: "
        f"{len(batch.index)} of {train.global_batch // ranks} samples"
    )
    clips = _executed(batch, clip_format.of_frames)
    if method.mixes_samples:
        everyone = source(rank=0, world_size=1)(step)
        derived = method.derived(_view_batch(everyone, _executed(everyone, clip_format.of_frames)))
        first = rank * (train.global_batch // ranks)
        derived = {name: made[first : first + len(batch.index)] for name, made in derived.items()}
    else:
        derived = method.derived(_view_batch(batch, clips))
    sheet = _sheet(title, batch, clips, clip_format.of_frames, layout, derived)
    if batch.flow is None:
        return sheet
    moving = _executed(batch.flow, clip_format.of_flow)
    return _below(sheet, _sheet(f"{title}: {clip_format.flow}", batch.flow, moving, clip_format.of_flow, layout, {}))


def draw_batch(loaded: LoadedRun, method: Method, videos: VideoSet, *, most: int) -> ViewBatch:
    """Samples of a split, drawn and augmented as the run draws those of its own; at most so many.

    Raises:
        InputError: for a split without the optical flow that the method sees.
    """
    flow, clip_format = loaded.config.data.open_flow(videos), method.clip_format
    source = ClipSource(
        videos,
        method.planner(),
        clip_format,
        seed=loaded.config.train.seed,
        global_batch=min(most, len(videos)),
        flow=PairedFlow(*flow) if flow else None,
    )
    batch = source(0)
    return _view_batch(batch, _executed(batch, clip_format.of_frames))


def _executed(batch: PlannedBatch, clip_format: ClipFormat) -> tuple[Tensor, ...]:
    executor = HostExecutor(clip_format, threads=2)
    try:
        ((_, clips),) = executor.run([batch])
    finally:
        executor.close()
    return tuple(clips)


def _sheet(
    title: str,
    batch: PlannedBatch,
    clips: Sequence[Tensor],
    clip_format: ClipFormat,
    layout: PlanSheetLayout,
    derived: Mapping[str, Tensor],
) -> Image.Image:
    stored = [_first_frame(batch, number) for number in range(len(batch.index))]
    return draw_plan_sheet(title, batch, clips, stored, clip_format, layout, derived=derived)


def _view_batch(batch: PlannedBatch, clips: Sequence[Tensor]) -> ViewBatch:
    targets = {name: torch.from_numpy(values) for name, values in batch.targets.items()}
    return ViewBatch(tuple(clips), torch.from_numpy(batch.index), targets)


def _below(upper: Image.Image, lower: Image.Image) -> Image.Image:
    from PIL import Image

    both = Image.new("RGB", (max(upper.width, lower.width), upper.height + lower.height), "white")
    both.paste(upper, (0, 0))
    both.paste(lower, (0, upper.height))
    return both


def _first_frame(batch: PlannedBatch, number: int) -> np.ndarray:
    return decode(batch.frames[number], batch.records[number])[batch.plans[number].clips[0].frames[0]]

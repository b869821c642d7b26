"""From a step number to what an executor needs: plans and the encoded frames that they name."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from data_process.errors import InputError
from data_process.frames import EncodedFrames
from data_process.records import VideoRecord
from pipelines import order
from pipelines.plan import DIGESTS, ClipFormat, Planner, SamplePlan, sample_rng

if TYPE_CHECKING:
    from torch import Tensor


class VideoStore(Protocol):
    """What is needed of `data_process.shards.ShardSet`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> VideoRecord: ...

    def read_frames(self, index: int, frames: Sequence[int]) -> EncodedFrames:
        """Some frames, each once, as they are stored."""
        ...


class FlowStore(Protocol):
    """What is needed of `pipelines.paired.PairedFlow`."""

    def follow(self, batch: PlannedBatch, clip_format: ClipFormat) -> PlannedBatch:
        """The batch of flow that shows what a batch of frames shows."""
        ...


@dataclass(frozen=True)
class PlannedBatch:
    """One rank's part of a batch before it is pixels; b samples.

    Attributes:
        index: (b,) int64, sample numbers.
        plans: b sample plans.
        records: b records.
        frames: for each sample the stored frames that its clips need, each read once.
        flow: the same clips of the optical flow, where the clip format adds them.
    """

    index: np.ndarray
    plans: tuple[SamplePlan, ...]
    records: tuple[VideoRecord, ...]
    frames: tuple[EncodedFrames, ...]
    flow: PlannedBatch | None = None

    @cached_property
    def targets(self) -> dict[str, np.ndarray]:
        """Targets of all samples, name to (b, ...).

        Raises:
            ValueError: where samples differ in names, shapes or dtypes (a fault of the planner).
        """
        first = _outline(self.plans[0])
        for record, plan in zip(self.records, self.plans, strict=True):
            if (outline := _outline(plan)) != first:
                raise ValueError(
                    f"targets must be alike in all samples: {record.id} has {outline}, {self.records[0].id} has {first}"
                )
        return {name: np.stack([plan.targets[name] for plan in self.plans]) for name in first}

    @cached_property
    def digest(self) -> int:
        """64 bits over all plans and indices that do not depend on their order or on how ranks share them (a sum)."""
        total = 0
        for index, plan in zip(self.index, self.plans, strict=True):
            total += int(plan.digest()[:15], 16) * (2 * int(index) + 1)
        return total % DIGESTS


class Executor(Protocol):
    """Carries plans out; `pipelines.host` and `pipelines.dali`."""

    def run(self, planned: Iterable[PlannedBatch]) -> Generator[tuple[PlannedBatch, tuple[Tensor, ...]], None, None]:
        """Each batch with its V clips (b, 3, T, S, S); an error comes after all batches before it."""
        ...

    def close(self) -> None:
        """Let threads and memory go."""
        ...


@dataclass(frozen=True)
class ClipSource:
    """Plans and frames of one rank, as a pure function of the step.

    Attributes:
        videos: where records and frames come from.
        planner: draws a sample.
        clip_format: what every plan must fit.
        seed: of order and plans.
        global_batch: samples a step, over all ranks.
        flow: the optical flow of the videos, for clip formats that add it.
        rank: which part of them.
        world_size: number of ranks.
    """

    videos: VideoStore
    planner: Planner
    clip_format: ClipFormat
    seed: int = field(kw_only=True)
    global_batch: int = field(kw_only=True)
    rank: int = field(default=0, kw_only=True)
    world_size: int = field(default=1, kw_only=True)
    flow: FlowStore | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"train.seed ({self.seed}) must not be negative")
        if remainder := self.global_batch % self.world_size:
            raise InputError(
                f"train.global_batch ({self.global_batch}) must be divisible by the {self.world_size} ranks; "
                f"{self.global_batch - remainder + self.world_size} is the next that is"
            )
        if self.clip_format.flow and self.flow is None:
            raise InputError(
                f"the method sees {self.clip_format.flow}: give data.flow the shards that `intravid build --modality "
                "flow` makes of the same videos"
            )
        if self.flow is not None and not self.clip_format.flow:
            raise InputError("data.flow is given, but the method sees frames alone; leave it out")
        if not 0 < self.global_batch <= len(self.videos):
            raise InputError(
                f"train.global_batch ({self.global_batch}) must lie between 1 and the {len(self.videos)} videos of the "
                "split; give a smaller one or more videos"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Whole global batches in an epoch."""
        return order.steps_per_epoch(len(self.videos), self.global_batch)

    def __call__(self, step: int, most: int | None = None) -> PlannedBatch:
        """Plans and frames of this rank's part of a step, or of its first samples."""
        num_samples = len(self.videos)
        everything = order.step_indices(self.seed, step, global_batch=self.global_batch, num_samples=num_samples)
        mine = order.rank_slice(everything, rank=self.rank, world_size=self.world_size)
        epoch = order.epoch_of_step(step, num_samples, self.global_batch)
        batch = plan_batch(self.videos, self.planner, self.clip_format, mine[:most], seed=self.seed, epoch=epoch)
        if self.flow is None:
            return batch
        return replace(batch, flow=self.flow.follow(batch, self.clip_format.of_flow))


def _outline(plan: SamplePlan) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (str(value.dtype), value.shape) for name, value in plan.targets.items()}


def plan_batch(
    videos: VideoStore,
    planner: Planner,
    clip_format: ClipFormat,
    indices: Sequence[int] | np.ndarray,
    *,
    seed: int,
    epoch: int,
) -> PlannedBatch:
    """Plans of the given samples, drawn and checked, and the frames that they name.

    Raises:
        InputError: for videos of another modality than the clips.
        ValueError: for a plan that does not fit the clip format or its video (a fault of the planner).
    """
    plans = [planner(sample_rng(seed, epoch, index), videos[index]) for index in map(int, indices)]
    return read_planned(videos, clip_format, indices, plans)


def read_planned(
    videos: VideoStore,
    clip_format: ClipFormat,
    indices: Sequence[int] | np.ndarray,
    plans: Sequence[SamplePlan],
) -> PlannedBatch:
    """The given plans of the given samples, checked, and the frames that they name.

    Raises:
        InputError: for videos of another modality than the clips.
        ValueError: for a plan that does not fit the clip format or its video (a fault of the planner).
    """
    records, frames = [], []
    for index, plan in zip(map(int, indices), plans, strict=True):
        record = videos[index]
        if (record.codec == "flow-jpeg") != clip_format.is_flow:
            raise InputError(
                f"{record.id} is stored as {record.codec}, clips of {clip_format.modality} are wanted; give data.root "
                f"shards made by intravid build --modality {'flow' if clip_format.is_flow else 'rgb'}"
            )
        clip_format.check(plan)
        for clip in plan.clips:
            clip.check_fits(record)
        records.append(record)
        frames.append(videos.read_frames(index, sorted({frame for clip in plan.clips for frame in clip.frames})))
    return PlannedBatch(np.array(indices, dtype=np.int64), tuple(plans), tuple(records), tuple(frames))

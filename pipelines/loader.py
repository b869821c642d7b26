"""Batches for a rank, prefetched in the background; measures how long the step waited for them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from typing import Literal, TypeVar

import torch

from data_process.cores import available_cores
from data_process.errors import InputError
from pipelines.batch import ViewBatch
from pipelines.mending import MendedVideos, Mender
from pipelines.paired import PairedExecutor, PairedFlow
from pipelines.plan import ClipFormat, Planner
from pipelines.prefetch import Prefetcher, map_ahead
from pipelines.source import ClipSource, Executor, PlannedBatch, VideoStore

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PipelineConfig:
    """How planned clips become tensors; nothing here changes what is drawn.

    Attributes:
        backend: dali, host, or auto (dali on a CUDA device where it is installed, host otherwise).
        threads: CPU threads of this rank for decoding and augmentation; 0 shares the machine's cores among its ranks.
        prefetch: finished batches that are kept ready.
        readers: threads that read stored frames, a batch each; more hide the latency of a slow file system.
        decode: where DALI decodes JPEGs: cpu, mixed (on the GPU), or auto (mixed on a CUDA device).
        max_damaged_frames: stored frames found damaged that a rank may show as their nearest intact neighbours in the
            same sample, each with a warning; one more stops the run, 0 stops it at the first.
    """

    backend: Literal["auto", "host", "dali"] = "auto"
    threads: int = 0
    prefetch: int = 2
    readers: int = 2
    decode: Literal["auto", "cpu", "mixed"] = "auto"
    max_damaged_frames: int = 8

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise InputError(f"pipeline.threads ({self.threads}) must be 0 (share the cores) or more")
        if self.max_damaged_frames < 0:
            raise InputError(f"pipeline.max_damaged_frames ({self.max_damaged_frames}) must be 0 or more")
        for name in ("prefetch", "readers"):
            if (value := getattr(self, name)) < 1:
                raise InputError(f"pipeline.{name} ({value}) must be at least 1")


def thread_count(asked: int, *, local_ranks: int) -> int:
    """Threads of this rank: those asked for, or for 0 its share of the cores that `local_ranks` processes have."""
    cores = available_cores()
    if asked * local_ranks > cores:
        _log.warning(
            "%d threads for each of %d ranks on %d cores slow each other down; pipeline.threads 0 shares the cores",
            asked,
            local_ranks,
            cores,
        )
    return asked or max(1, cores // local_ranks)


def make_executor(
    clip_format: ClipFormat,
    config: PipelineConfig,
    *,
    max_samples: int,
    device: torch.device,
    mender: Mender | None = None,
    local_ranks: int = 1,
) -> Executor:
    """The executor that a configuration asks for.

    Raises:
        InputError: for a backend that is not installed or a decoder that the device does not have.
    """
    threads = thread_count(config.threads, local_ranks=local_ranks)
    given = {"max_samples": max_samples, "device": device, "mender": mender}
    if not clip_format.flow:
        return _single_executor(clip_format, config, threads=threads, **given)
    halves = max(1, threads - threads // 2), max(1, threads // 2)
    formats = clip_format.of_frames, clip_format.of_flow
    return PairedExecutor(
        *(_single_executor(one, config, threads=share, **given) for one, share in zip(formats, halves, strict=True))
    )


def _single_executor(
    clip_format: ClipFormat,
    config: PipelineConfig,
    *,
    threads: int,
    max_samples: int,
    device: torch.device,
    mender: Mender | None,
) -> Executor:
    on_gpu = device.type == "cuda"
    if _backend(config, on_gpu=on_gpu) == "host":
        from pipelines.host import HostExecutor

        return HostExecutor(clip_format, threads=threads, pinned=on_gpu, mender=mender)
    from pipelines.dali import DaliExecutor

    return DaliExecutor(
        clip_format,
        max_samples=max_samples,
        device="gpu" if on_gpu else "cpu",
        decode=("mixed" if on_gpu else "cpu") if config.decode == "auto" else config.decode,
        device_id=_gpu_number(device) if on_gpu else None,
        threads=threads,
        prefetch=config.prefetch,
        mender=mender,
    )


def _gpu_number(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


def _backend(config: PipelineConfig, *, on_gpu: bool) -> str:
    if config.backend != "auto":
        return config.backend
    from importlib.util import find_spec

    return "dali" if on_gpu and find_spec("nvidia") and find_spec("nvidia.dali") else "host"


class Loader:
    """Endless batches of one rank, from any step.

    Attributes:
        source: plans and frames as a function of the step.
        wait_s: seconds that the consumer has waited for batches so far.
    """

    def __init__(self, source: ClipSource, executor: Executor, *, config: PipelineConfig, device: torch.device) -> None:
        self.source = source
        self.wait_s = 0.0
        self._executor, self._config, self._device = executor, config, device
        self._running: Prefetcher[ViewBatch] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Whole global batches in an epoch."""
        return self.source.steps_per_epoch

    def batches(self, start_step: int) -> Iterator[ViewBatch]:
        """The batch of `start_step` and all that follow; what a step gives does not depend on where it was begun.

        One iteration at a time: a second one ends the first. Errors of reading and decoding come out at the step
        that they belong to, after all batches before it.
        """
        self._stop_background()
        produced = carried_out(self.source, count(start_step), self._executor, readers=self._config.readers)
        running = self._running = Prefetcher(produced, depth=self._config.prefetch)
        try:
            for batch, waited in running:
                self.wait_s += waited
                yield to_device(batch, self._device)
        finally:
            running.stop()

    def _stop_background(self) -> None:
        if self._running is not None:
            self._running.stop()
            self._running = None

    def close(self) -> None:
        """End all threads."""
        self._stop_background()
        self._executor.close()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


Step = TypeVar("Step")


def carried_out(
    source: Callable[[Step], PlannedBatch], steps: Iterable[Step], executor: Executor, *, readers: int
) -> Generator[ViewBatch, None, None]:
    """The batch of each step, or of whatever the source takes: read by `readers` threads, carried out by the executor.

    On the CPU, or DALI's device.
    """
    with closing(map_ahead(source, steps, threads=readers)) as planned, closing(executor.run(planned)) as finished:
        for batch, clips in finished:
            device = clips[0].device
            yield ViewBatch(
                clips=clips,
                index=torch.from_numpy(batch.index).to(device),
                targets={name: torch.from_numpy(value).to(device) for name, value in batch.targets.items()},
                plan_digest=batch.digest,
            )


def to_device(batch: ViewBatch, device: torch.device) -> ViewBatch:
    """The batch on a device; called by the consumer, so that the copy stands in the consumer's stream."""
    return batch if batch.index.device == device else batch.to(device, non_blocking=True)


def build_loader(
    videos: VideoStore,
    planner: Planner,
    clip_format: ClipFormat,
    *,
    config: PipelineConfig,
    seed: int,
    global_batch: int,
    rank: int = 0,
    world_size: int = 1,
    local_ranks: int = 1,
    device: torch.device | str = "cpu",
    flow: PairedFlow | None = None,
) -> Loader:
    """A loader of one rank's part of every global batch.

    Raises:
        InputError: for a batch that does not divide by the ranks or exceeds the dataset, or a missing backend.
    """
    mender = Mender(config.max_damaged_frames)
    source = ClipSource(
        MendedVideos(videos, mender),
        planner,
        clip_format,
        seed=seed,
        global_batch=global_batch,
        rank=rank,
        world_size=world_size,
        flow=PairedFlow(MendedVideos(flow.videos, mender), flow.place) if flow else None,
    )
    target = torch.device(device)
    executor = make_executor(
        clip_format,
        config,
        max_samples=global_batch // world_size,
        device=target,
        mender=mender,
        local_ranks=local_ranks,
    )
    return Loader(source, executor, config=config, device=target)

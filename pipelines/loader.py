"""Batches for a rank, prefetched in the background; measures how long the step waited for them."""

from __future__ import annotations

import os
import queue
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from data_process.errors import InputError
from pipelines.batch import ViewBatch
from pipelines.plan import ClipFormat, Planner
from pipelines.source import ClipSource, PlannedBatch, VideoStore


@dataclass(frozen=True)
class PipelineConfig:
    """How planned clips become tensors; nothing here changes what is drawn.

    Attributes:
        backend: dali, host, or auto (dali on a CUDA device where it is installed, host otherwise).
        threads: CPU threads of this rank for decoding and augmentation; 0 shares the machine's cores among its ranks.
        prefetch: batches that are prepared ahead.
        decode: where DALI decodes JPEGs: cpu, mixed (on the GPU), or auto (mixed on a CUDA device).
    """

    backend: Literal["auto", "host", "dali"] = "auto"
    threads: int = 0
    prefetch: int = 2
    decode: Literal["auto", "cpu", "mixed"] = "auto"

    def __post_init__(self) -> None:
        if self.threads < 0 or self.prefetch < 1:
            raise InputError(f"pipeline.threads {self.threads} must be >= 0, pipeline.prefetch {self.prefetch} >= 1")


class Executor(Protocol):
    """Carries plans out; `pipelines.host` and `pipelines.dali`."""

    def run(self, planned: Iterable[PlannedBatch]) -> Iterator[tuple[PlannedBatch, tuple[Tensor, ...]]]:
        """Each batch with its V clips (b, 3, T, S, S)."""
        ...

    def close(self) -> None:
        """Let threads and memory go."""
        ...


def available_cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its control group."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.exists():
        limit, period = quota.read_text().split()[:2]
        if limit != "max":
            cores = min(cores, max(1, int(limit) // int(period)))
    return cores


def make_executor(
    clip_format: ClipFormat, config: PipelineConfig, *, max_samples: int, device: torch.device, local_ranks: int = 1
) -> Executor:
    """The executor that a configuration asks for.

    Raises:
        InputError: for a backend that is not installed or a decoder that the device does not have.
    """
    cores = available_cores()
    threads = config.threads or max(1, cores // local_ranks)
    if config.threads * local_ranks > cores:
        warnings.warn(
            f"pipeline.threads {config.threads} for {local_ranks} ranks on {cores} cores: more threads than cores "
            "slow each other down; 0 shares the cores evenly",
            stacklevel=3,
        )
    on_gpu = device.type == "cuda"
    if _backend(config, on_gpu=on_gpu) == "host":
        from pipelines.host import HostExecutor

        return HostExecutor(clip_format, threads=threads)
    from pipelines.dali import DaliExecutor

    return DaliExecutor(
        clip_format,
        max_samples=max_samples,
        device="gpu" if on_gpu else "cpu",
        decode=("mixed" if on_gpu else "cpu") if config.decode == "auto" else config.decode,
        device_id=(device.index or 0) if on_gpu else None,
        threads=threads,
        prefetch=config.prefetch,
    )


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

    def __init__(self, source: ClipSource, executor: Executor, *, prefetch: int, device: torch.device) -> None:
        self.source = source
        self.wait_s = 0.0
        self._executor, self._prefetch, self._device = executor, prefetch, device
        self._running: Prefetcher | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Whole global batches in an epoch."""
        return self.source.steps_per_epoch

    def batches(self, start_step: int) -> Iterator[ViewBatch]:
        """The batch of `start_step` and all that follow; what a step gives does not depend on where it was begun."""
        self._stop_background()
        self._running = Prefetcher(self._executor.run(self.source.from_step(start_step)), self._prefetch, self._device)
        for batch, waited in self._running:
            self.wait_s += waited
            yield batch

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


class Prefetcher:
    """A thread that works through an iterator and keeps a bounded number of results ready, in order."""

    def __init__(
        self, results: Iterator[tuple[PlannedBatch, tuple[Tensor, ...]]], prefetch: int, device: torch.device
    ) -> None:
        self._results, self._device = results, device
        self._ready: queue.Queue[ViewBatch | BaseException | None] = queue.Queue(maxsize=prefetch)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="loader", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        last: BaseException | None = None
        try:
            for planned, clips in self._results:
                if not self._hand_over(to_view_batch(planned, clips, self._device)):
                    return
        except BaseException as error:
            last = error
        self._hand_over(last)

    def _hand_over(self, item: ViewBatch | BaseException | None) -> bool:
        while not self._stopping.is_set():
            try:
                self._ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def __iter__(self) -> Iterator[tuple[ViewBatch, float]]:
        while True:
            start = time.perf_counter()
            item = self._ready.get()
            waited = time.perf_counter() - start
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item, waited

    def stop(self) -> None:
        """End the thread; results that are ready are dropped."""
        self._stopping.set()
        self._thread.join()


def to_view_batch(planned: PlannedBatch, clips: tuple[Tensor, ...], device: torch.device) -> ViewBatch:
    """Clips, targets and indices as one batch on a device; pinned and asynchronous where that is a GPU."""
    batch = ViewBatch(
        clips=clips,
        index=torch.from_numpy(planned.index.copy()),
        targets={name: torch.from_numpy(value) for name, value in planned.targets.items()},
    )
    if device.type == "cpu":
        return batch
    return batch.to(device, non_blocking=True)


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
) -> Loader:
    """A loader of one rank's part of every global batch.

    Raises:
        InputError: for a batch that does not divide by the ranks or exceeds the dataset, or a missing backend.
    """
    source = ClipSource(videos, planner, clip_format, seed, global_batch, rank, world_size)
    target = torch.device(device)
    executor = make_executor(
        clip_format, config, max_samples=global_batch // world_size, device=target, local_ranks=local_ranks
    )
    return Loader(source, executor, prefetch=config.prefetch, device=target)

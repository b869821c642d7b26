"""Carries plans out on the CPU with simplejpeg and torch: the reference, and the fast path without a GPU."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from pipelines.mending import Mender
from pipelines.pixels import as_channels, cut_clip
from pipelines.plan import ClipFormat
from pipelines.prefetch import UntilError
from pipelines.recycled import RecycledMemory
from pipelines.source import PlannedBatch

_BATCHES_AT_ONCE = 2
"""So that threads that run out of samples of one batch go on with those of the next."""


class HostExecutor:
    """Turns planned batches into normalised clips, one sample a thread; each stored frame is decoded once a sample.

    Pixels do not depend on the number of threads.

    Args:
        clip_format: views, frames, size and normalisation.
        threads: samples in work side by side.
        pinned: whether clips lie in page-locked memory, from which a copy to a GPU does not wait.
        mender: what is done about damaged frames; None fails at the first.
    """

    def __init__(
        self, clip_format: ClipFormat, *, threads: int, pinned: bool = False, mender: Mender | None = None
    ) -> None:
        self._format, self._pinned, self._mender = clip_format, pinned, mender or Mender(0)
        self._channels = clip_format.channels
        mean, std = (np.array(values[: self._channels]) for values in (clip_format.mean, clip_format.std))
        # One row of pixels, so that the innermost loop is long.
        self._scale = torch.from_numpy(np.tile(1.0 / (255.0 * std), clip_format.size)).float()
        self._offset = torch.from_numpy(np.tile(-mean / std, clip_format.size)).float()
        self._recycled = RecycledMemory()
        self._pool = _single_threaded_pool(threads)

    def run(self, planned: Iterable[PlannedBatch]) -> Generator[tuple[PlannedBatch, tuple[Tensor, ...]], None, None]:
        """Each batch with its V clips (b, C, T, S, S) float32, contiguous in channels-last-3d.

        Raises:
            RunError: for frames that cannot be decoded or have another size than the record says.
        """
        batches = UntilError(planned)
        running: deque[tuple[PlannedBatch, list[Tensor], list[Future[None]]]] = deque()
        try:
            for batch in batches:
                running.append(self._begin(batch))
                if len(running) == _BATCHES_AT_ONCE:
                    yield _finished(*running.popleft())
            while running:
                yield _finished(*running.popleft())
        finally:
            for _, _, samples in running:
                for sample in samples:
                    sample.cancel()
        batches.reraise()

    def _begin(self, batch: PlannedBatch) -> tuple[PlannedBatch, list[Tensor], list[Future[None]]]:
        shape = (len(batch.index), self._format.num_frames, self._format.size, self._format.size, self._channels)
        views = [self._memory(shape) for _ in range(self._format.num_views)]
        samples = [self._pool.submit(self._fill, batch, sample, views) for sample in range(len(batch.index))]
        return batch, views, samples

    def _memory(self, shape: tuple[int, ...]) -> Tensor:
        # Torch keeps page-locked memory itself, until the copies from it are done.
        return torch.empty(shape, pin_memory=True) if self._pinned else self._recycled.take(shape)

    def _fill(self, batch: PlannedBatch, sample: int, views: list[Tensor]) -> None:
        decoded = self._mender.decode(batch.frames[sample], batch.records[sample])
        for clip, view in zip(batch.plans[sample].clips, views, strict=True):
            pixels = cut_clip(decoded, clip, self._format.size, self._format.interpolation)
            pixels = as_channels(pixels, self._format.component)
            rows = pixels.flatten(2).float()
            torch.addcmul(self._offset, rows, self._scale, out=view[sample].view(rows.shape))

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _finished(
    batch: PlannedBatch, views: list[Tensor], samples: list[Future[None]]
) -> tuple[PlannedBatch, tuple[Tensor, ...]]:
    for sample in samples:
        sample.result()
    return batch, tuple(view.permute(0, 4, 1, 2, 3) for view in views)


def _single_threaded_pool(threads: int) -> ThreadPoolExecutor:
    """Threads in which torch's own operators use one core each; the caller's thread count stays as it was."""
    before = torch.get_num_threads()
    started = threading.Barrier(threads + 1)

    def start() -> None:
        # The first query fixes the thread's own setting; only then does setting it last.
        torch.get_num_threads()
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(threads, thread_name_prefix="intravid-host", initializer=start)
    for _ in range(threads):
        pool.submit(int)
    started.wait()
    torch.set_num_threads(before)
    return pool

"""Batches on their way to a GPU while it computes: copied in a stream of their own, ahead of their use."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.batch import ViewBatch


@dataclass(frozen=True)
class Arriving:
    """A batch whose copy has been asked for.

    Attributes:
        batch: on the device.
        copied: happens when it is there; None for one that was there already.
    """

    batch: ViewBatch
    copied: torch.cuda.Event | None

    def arrived(self) -> ViewBatch:
        """The batch, for the caller's stream: its work waits for the copy, the processor does not."""
        if self.copied is None:
            return self.batch
        stream = torch.cuda.current_stream(self.batch.index.device)
        stream.wait_event(self.copied)
        for tensor in _tensors(self.batch):
            # Its memory belongs to the stream of the copy, which would give it away once nobody here holds it.
            tensor.record_stream(stream)
        return self.batch


def sent(batches: Generator[ViewBatch, None, None], device: torch.device) -> Generator[Arriving, None, None]:
    """Each batch on its way to a device, to CUDA's in a side stream; run it in the thread that prefetches."""
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None
    with closing(batches):
        for batch in batches:
            if stream is None or batch.index.device.type == "cuda":
                yield Arriving(batch, None)
                continue
            with torch.cuda.stream(stream):
                moved = batch.to(device, non_blocking=True)
                copied = torch.cuda.Event()
                copied.record(stream)
            yield Arriving(moved, copied)


def _tensors(batch: ViewBatch) -> Iterable[Tensor]:
    return *batch.clips, batch.index, *batch.targets.values()

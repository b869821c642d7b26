"""Memory of batches that nobody uses any more, for the batches to come."""

from __future__ import annotations

import math
import weakref
from collections import deque

import torch
from torch import Tensor


class RecycledMemory:
    """Gives tensors whose memory is used again once nobody holds them or a view of them.

    Fresh memory comes from the system page by page, at each page's first touch; writing a batch to it took two to
    six times as long as writing it to pages that are there.
    """

    def __init__(self) -> None:
        self._free: deque[Tensor] = deque()

    def take(self, shape: tuple[int, ...]) -> Tensor:
        """A float32 tensor of any content on the CPU."""
        memory = self._suitable(math.prod(shape))
        # A tensor made of an array holds on to it for as long as anything shares its memory, and tells its end.
        lease = memory.numpy()
        weakref.finalize(lease, self._free.append, memory).atexit = False
        return torch.from_numpy(lease).view(shape)

    def _suitable(self, numel: int) -> Tensor:
        while self._free:
            memory = self._free.popleft()
            if memory.numel() == numel:
                return memory
        return torch.empty(numel)

"""All ranks' tensors in rank order, with and without gradient; in one process the tensor itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def world_size() -> int:
    """Number of ranks; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this rank; 0 without a process group."""
    return dist.get_rank() if world_size() > 1 else 0


def gather_rows(rows: Tensor) -> Tensor:
    """The rows (b, ...) of all ranks one below the other, (W * b, ...), detached; b must be the same on all ranks."""
    rows = rows.detach()
    if world_size() == 1:
        return rows
    parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


def gather_with_gradient(rows: Tensor) -> Tensor:
    """As `gather_rows`; each rank's rows get the gradients of the losses of all ranks, summed.

    Where every rank's loss is the mean over its own rows against the gathered ones, the mean of the parameters'
    gradients over ranks (what DDP takes) is then that of the loss over the global batch. A gather that keeps only the
    own gradient, as CoCLR's and DualVar's releases have it, loses the others' part.
    """
    if world_size() == 1:
        return rows
    gathered: Tensor = _Gather.apply(rows)  # type: ignore[assignment]
    return gathered


def gather_with_own_gradient(rows: Tensor) -> Tensor:
    """As `gather_rows`; each rank's rows get the gradient of its own loss alone, for parity with such releases."""
    everyone = gather_rows(rows)
    mine = own_rows(everyone)
    return torch.cat([everyone[: mine.start], rows, everyone[mine.stop :]])


def own_rows(gathered: Tensor) -> slice:
    """Where the rows of this rank stand in what was gathered."""
    size = len(gathered) // world_size()
    return slice(rank() * size, (rank() + 1) * size)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        return gather_rows(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        return total[own_rows(total)]

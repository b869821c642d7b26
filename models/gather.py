"""All ranks' tensors in rank order; in one process the tensor itself."""

import torch
from torch import Tensor
from torch import distributed as dist


def gather_rows(rows: Tensor) -> Tensor:
    """The rows (b, ...) of all ranks one below the other, (W * b, ...), detached; b must be the same on all ranks."""
    rows = rows.detach()
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)

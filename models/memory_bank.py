"""One stored feature per training video, moved towards the newest feature of that video."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class MemoryBank(nn.Module):
    """Rows of unit length after their first update; a buffer, so part of every checkpoint.

    240,000 videos of 512 numbers take 0.49 GB in float32.

    Args:
        num_rows: N, videos.
        dim: D, size of a feature.
        momentum: share of the old row in the new one.
        generator: of the initial rows, uniform in +-1/sqrt(D/3), so that their expected squared length is 1.
    """

    def __init__(self, num_rows: int, dim: int, *, momentum: float, generator: torch.Generator) -> None:
        super().__init__()
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"momentum {momentum} must lie in [0, 1)")
        self.momentum = momentum
        bound = (dim / 3.0) ** -0.5
        self.rows: Tensor
        self.register_buffer("rows", (2.0 * torch.rand(num_rows, dim, generator=generator) - 1.0) * bound)

    def lookup(self, index: Tensor) -> Tensor:
        """Rows (..., D) at index (...); a copy that later updates leave alone."""
        return self.rows.index_select(0, index.reshape(-1)).view(*index.shape, -1)

    @torch.no_grad()
    def update(self, index: Tensor, features: Tensor) -> None:
        """Set rows index (B,) to the normalised mixture of themselves and features (B, D).

        Where a row is named twice the first in the batch counts, so with gathered batches the lowest rank.
        """
        first = _first_occurrences(index)
        index, features = index[first], features[first].to(self.rows.dtype)
        mixed = self.momentum * self.rows[index] + (1.0 - self.momentum) * features
        self.rows[index] = functional.normalize(mixed, dim=1)


def _first_occurrences(index: Tensor) -> Tensor:
    """Positions of the first occurrence of each value, in rising order."""
    values, inverse = torch.unique(index, return_inverse=True)
    positions = torch.arange(len(index), device=index.device)
    first = torch.full((len(values),), len(index), dtype=torch.int64, device=index.device)
    return first.scatter_reduce(0, inverse, positions, reduce="amin").sort().values

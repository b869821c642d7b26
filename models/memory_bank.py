"""One stored feature per training video, moved towards the newest feature of that video.

N rows, D features, W ranks; B samples of this rank, M rows that each of them is compared with.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.row_exchange import DrawnRows

BankPlacement = Literal["replicated", "sharded"]
"""Where the rows of a bank are: all of them on every rank, or each on one rank (`models.sharded_bank`)."""


class MemoryBank(nn.Module):
    """A whole bank on every rank; rows of unit length after their first update; a buffer, so part of every checkpoint.

    Args:
        num_rows: N, videos.
        dim: D, size of a feature.
        momentum: share of the old row in the new one.
        generator: of the initial rows, uniform in +-1/sqrt(D/3), so that their expected squared length is 1.
    """

    def __init__(self, num_rows: int, dim: int, *, momentum: float, generator: torch.Generator) -> None:
        super().__init__()
        self.momentum = checked_momentum(momentum)
        self.rows: Tensor
        self.register_buffer("rows", first_rows(num_rows, dim, generator))

    def lookup(self, index: Tensor) -> Tensor:
        """Rows (..., D) at index (...); a copy that later updates leave alone."""
        return self.rows.index_select(0, index.reshape(-1)).view(*index.shape, -1)

    def find(self, index: Tensor) -> DrawnRows:
        """The rows index (B, M), to be scored in any bank of the same size and placement."""
        return DrawnRows(index)

    def scores(self, features: Tensor, drawn: DrawnRows) -> Tensor:
        """Dot products (B, M) of features (B, D) and of the rows that were drawn for each."""
        return torch.bmm(self.lookup(drawn.index), features.unsqueeze(2)).squeeze(2)

    @torch.no_grad()
    def update(self, index: Tensor, features: Tensor) -> None:
        """Set rows index (B,) to the normalised mixture of themselves and features (B, D).

        Where a row is named twice the first in the batch counts, so with gathered batches the lowest rank.
        """
        first = first_occurrences(index)
        index = index[first]
        self.rows[index] = moved(self.rows[index], features[first], self.momentum)


def bank_bytes(num_videos: int, dim: int, *, ranks: int = 1, dtype: torch.dtype = torch.float32) -> int:
    """Bytes on each rank of one bank whose rows are shared out over `ranks`; 1 for a bank that is whole on each."""
    return -(-num_videos // ranks) * dim * dtype.itemsize


def checked_momentum(momentum: float) -> float:
    """The share of an old row.

    Raises:
        ValueError: outside of [0, 1).
    """
    if not 0.0 <= momentum < 1.0:
        raise ValueError(f"momentum {momentum} must lie in [0, 1)")
    return momentum


def first_rows(num_rows: int, dim: int, generator: torch.Generator) -> Tensor:
    """Rows (num_rows, dim) uniform in +-1/sqrt(D/3); drawn in parts, they are the same rows."""
    # In place: a copy of a large bank may not fit.
    return torch.rand(num_rows, dim, generator=generator).mul_(2.0).sub_(1.0).mul_((dim / 3.0) ** -0.5)


def moved(rows: Tensor, features: Tensor, momentum: float) -> Tensor:
    """The normalised mixture of rows and features, both (B, D)."""
    return functional.normalize(momentum * rows + (1.0 - momentum) * features.to(rows.dtype), dim=1)


def first_occurrences(index: Tensor) -> Tensor:
    """Positions of the first occurrence of each value, in rising order."""
    values, inverse = torch.unique(index, return_inverse=True)
    positions = torch.arange(len(index), device=index.device)
    first = torch.full((len(values),), len(index), dtype=torch.int64, device=index.device)
    return first.scatter_reduce(0, inverse, positions, reduce="amin").sort().values

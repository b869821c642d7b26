"""The newest features of other clips, first in, first out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from data_process.errors import InputError
from models.gather import gather_rows


class FeatureQueue(nn.Module):
    """K rows, of which the oldest are overwritten (He et al., "Momentum Contrast", arXiv 1911.05722); in checkpoints.

    Rows are the same on all ranks: what is pushed is gathered first. K need not divide by the batch. One million rows
    of 128 numbers take 0.5 GB in float32 on every rank.

    Args:
        num_rows: K.
        dim: D, size of a feature.
        generator: of the first rows, which count as features until they are overwritten.
        unit_rows: first rows normal and of unit length (MoCo, DualVar); otherwise uniform in +-1/sqrt(D/3), not
            normalised (VTDL).

    Attributes:
        rows: (K, D).
        pointer: place of the oldest row, () int64.
        num_pushed: rows pushed so far, () int64; where it is below K the rest are still first rows.
    """

    rows: Tensor
    pointer: Tensor
    num_pushed: Tensor

    def __init__(self, num_rows: int, dim: int, *, generator: torch.Generator, unit_rows: bool = True) -> None:
        super().__init__()
        if num_rows < 1:
            raise ValueError(f"a queue needs at least one row, got {num_rows}")
        if unit_rows:
            rows = functional.normalize(torch.randn(num_rows, dim, generator=generator), dim=1)
        else:
            rows = (2.0 * torch.rand(num_rows, dim, generator=generator) - 1.0) * (dim / 3.0) ** -0.5
        self.register_buffer("rows", rows)
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self.register_buffer("num_pushed", torch.zeros((), dtype=torch.int64))

    def snapshot(self) -> Tensor:
        """The rows (K, D) as they are now; a copy, which a later push leaves alone."""
        return self.rows.clone()

    @torch.no_grad()
    def push(self, features: Tensor) -> Tensor:
        """Overwrite the oldest rows by the features (b, D) of all ranks, in rank order; their places (W * b,) int64.

        Raises:
            InputError: for more features than the queue has rows, which would partly overwrite each other.
        """
        features = gather_rows(features).to(self.rows.dtype)
        if len(features) > len(self.rows):
            raise InputError(
                f"{len(features)} features of a global batch do not fit a queue of {len(self.rows)} rows; give the "
                "method's queue at least as many, or lower train.global_batch"
            )
        places = (self.pointer + torch.arange(len(features), device=self.rows.device)) % len(self.rows)
        self.rows[places] = features
        self.pointer.copy_((self.pointer + len(features)) % len(self.rows))
        self.num_pushed += len(features)
        return places

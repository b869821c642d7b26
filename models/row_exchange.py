"""Dot products with rows that lie on other ranks: what was drawn goes to the rows, and numbers come back.

Row i of N lies on rank i mod W in place i // W, so that all ranks have equally many, to one. B samples of this rank, M
rows drawn for each of them, D features; a pair is a sample and one of its rows.

Scores travel, rows do not. Of the W B M pairs of a step, drawn evenly, each rank holds the rows of about B M. It gets
so many numbers, of which (W - 1) / W come from others, over the network:

    once a step, for all banks        B M int64      the pairs that others ask for
    a bank and view, forward          W B D + B M    features of all ranks, scores of the own samples
    a bank and view, backward         B M + W B D    gradients of scores, and of features as every rank has them
    a bank, update                    W B D          features of all ranks, as for whole banks

Rows instead would be B M D numbers a bank, and nothing in the backward pass: the gradient of a feature is a sum of
rows that would be at hand. So scores are cheaper where M (D - 2) > 2 W D, about M > 2 W. With IIC's 1024 negatives of
512 numbers and 16 samples on each of 8 ranks they are 0.16 million numbers, and rows would be 8.4 million. Both do the
same multiplications.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.autograd.function import once_differentiable
from torch.nn import functional

from models.gather import gather_rows, rank, world_size

_BLOCK = 1 << 22
"""Numbers of rows that are copied out at a time."""


class RowExchange:
    """Who needs the product of what, agreed once and used for any number of banks; collective on construction.

    The number of pairs differs from step to step, so that the host waits here for the device, once. That is cheap where
    nothing else is queued yet, and so belongs before the networks.

    Args:
        index: (B, M) int64, rows drawn for the samples of this rank; its shape must be the same on all ranks.
        num_rows: N.

    Raises:
        ValueError: for an index outside of 0 .. N - 1.
    """

    def __init__(self, index: Tensor, num_rows: int) -> None:
        ranks, flat = world_size(), index.reshape(-1)
        self._shape, places = index.shape, -(-num_rows // ranks)
        owners = flat % ranks
        self._order = torch.argsort(owners, stable=True)  # pairs by the rank that has the row, then by sample
        bounds = torch.arange(ranks + 1, device=index.device)
        asked = torch.searchsorted(owners[self._order], bounds).diff()
        given = _exchanged(asked, [1] * ranks, [1] * ranks)
        least, most, *counts = torch.cat([torch.stack(flat.aminmax()), asked, given]).tolist()
        if least < 0 or most >= num_rows:
            raise ValueError(f"rows {least} to {most} were drawn of a bank of {num_rows}")
        self._asked, self._given = counts[:ranks], counts[ranks:]
        samples = torch.arange(len(index), device=index.device) + rank() * len(index)
        pairs = samples.repeat_interleave(index.shape[1]) * places + flat // ranks
        pairs = _exchanged(pairs[self._order], self._asked, self._given)
        self._samples, self._places = pairs // places, pairs % places  # samples rise: by rank, then as they were drawn

    def scores(self, features: Tensor, rows: Tensor) -> Tensor:
        """Dot products (B, M) of features (B, D) and the rows drawn for each; collective, also in the backward pass.

        Args:
            features: of this rank's samples; get the gradients of their scores.
            rows: (ceil(N / W), D), of the same dtype, the part of a bank that this rank keeps; must stay as they are
                until the backward pass is over, which is checked.
        """
        scores: Tensor = _Scores.apply(features, rows, self)  # type: ignore[assignment]
        return scores

    def products(self, features: Tensor, rows: Tensor) -> Tensor:
        """Scores (B, M) from features (B, D) and this rank's rows; no graph."""
        everyone, size = gather_rows(features), max(1, _BLOCK // rows.shape[1])
        blocks = zip(self._samples.split(size), self._places.split(size), strict=True)
        answers = torch.cat([(everyone[samples] * rows[places]).sum(dim=1) for samples, places in blocks])
        scores = torch.empty_like(self._order, dtype=answers.dtype)
        scores[self._order] = _exchanged(answers, self._given, self._asked)
        return scores.view(self._shape)

    def weighted_sums(self, weights: Tensor, rows: Tensor) -> Tensor:
        """Sums (B, D) of the rows drawn for each sample times weights (B, M); no graph."""
        weights = _exchanged(weights.reshape(-1)[self._order], self._asked, self._given)
        num_samples = self._shape[0] * world_size()
        starts = torch.searchsorted(self._samples, torch.arange(num_samples, device=rows.device))
        parts = functional.embedding_bag(self._places, rows, starts, mode="sum", per_sample_weights=weights)
        equal = [self._shape[0]] * world_size()
        return _exchanged(parts, equal, equal).view(world_size(), self._shape[0], -1).sum(dim=0)


@dataclass(frozen=True)
class DrawnRows:
    """Rows that the samples of this rank are compared with.

    Attributes:
        index: (B, M) int64.
        exchange: where the rows lie on several ranks, how their scores are got.
    """

    index: Tensor
    exchange: RowExchange | None = None


class _Scores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, rows: Tensor, exchange: RowExchange) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.exchange = exchange
        return exchange.products(features, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (rows,) = ctx.saved_tensors
        return ctx.exchange.weighted_sums(gradient, rows), None, None


def _exchanged(values: Tensor, sent: list[int], received: list[int]) -> Tensor:
    """What all ranks have for this one, in rank order; `sent` of the values go to each of them."""
    if world_size() == 1:
        return values
    result = values.new_empty((sum(received), *values.shape[1:]))
    dist.all_to_all_single(result, values.contiguous(), received, sent)
    return result

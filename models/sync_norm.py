"""Batch norms that normalise by the statistics of all ranks' batches together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm

from models.gather import world_size


def synchronise_norms(module: nn.Module) -> nn.Module:
    """The module with every batch norm over all ranks: torch's own on CUDA, `GatheredBatchNorm` elsewhere.

    Parameters, buffers and their names stay; a module that is itself a batch norm is replaced, others are changed in
    place.
    """
    if any(parameter.is_cuda for parameter in module.parameters()):
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    if isinstance(module, _BatchNorm):
        return GatheredBatchNorm.like(module)
    for name, child in list(module.named_children()):
        setattr(module, name, synchronise_norms(child))
    return module


class GatheredBatchNorm(_BatchNorm):
    """A batch norm over all ranks, of any device and precision, in plain operations: torch's refuses CPU tensors.

    Ranks may have batches of different sizes. Gradients are exact: with the mean of the ranks' gradients, as DDP takes
    it, those of the global batch.
    """

    @classmethod
    def like(cls, norm: _BatchNorm) -> GatheredBatchNorm:
        """The same layer, with the same parameters and buffers."""
        new = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        new._parameters, new._buffers = norm._parameters, norm._buffers
        return new.train(norm.training)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected (B, C, ...), got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, ...) normalised over the ranks, batches and places of each channel."""
        self._check_input_dim(input)
        if not self.training or world_size() == 1:
            return super().forward(input)
        wide = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        over = [place for place in range(input.ndim) if place != 1]
        count = torch.full((1,), input.numel() / input.shape[1], dtype=wide.dtype, device=input.device)
        mean, total = _shared_mean(wide.sum(dim=over), count)
        centred = wide - _along(mean, input.ndim)
        variance, _ = _shared_mean(centred.square().sum(dim=over), count)
        self._remember(mean.detach(), variance.detach(), total)
        scale = (variance + self.eps).rsqrt()
        shift = torch.zeros_like(scale)
        if self.affine:
            scale, shift = scale * self.weight, self.bias
        return (centred * _along(scale, input.ndim) + _along(shift, input.ndim)).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, total: Tensor) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        share = self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        share = share or 0.0  # a still copy of `models.recompute` has neither counter nor momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        unbiased = variance * (total / (total - 1.0).clamp(min=1.0))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)


def _shared_mean(sums: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over all ranks of what has these sums, and its count."""
    both: Tensor = _Sum.apply(torch.cat([sums, count]))  # type: ignore[assignment]
    return both[:-1] / both[-1], both[-1].detach()


def _along(values: Tensor, ndim: int) -> Tensor:
    return values.view(1, -1, *[1] * (ndim - 2))


class _Sum(torch.autograd.Function):
    """Sum over ranks, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total

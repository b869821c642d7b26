"""Number formats of a step: autocast, loss scaling, TF32."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class PrecisionConfig:
    """Number formats of training; weights and optimizer state are always float32.

    Attributes:
        dtype: of matrix products and convolutions; ``fp16`` scales the loss. ``bf16`` on the CPU is for trying things
            out: it does without torch's fast kernels, which compute wrong gradients there.
        tf32: let float32 products on NVIDIA GPUs round their inputs to 10 bits of mantissa. torch's own default is on
            for convolutions and off for matrix products; here one switch means both.
    """

    dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    tf32: bool = True


class Precision:
    """Carries out a step in the configured formats on one device."""

    def __init__(self, config: PrecisionConfig, device: torch.device) -> None:
        self._dtype, self._device = _DTYPES[config.dtype], device
        self._scaler = torch.amp.GradScaler(device.type, enabled=config.dtype == "fp16")
        self._unscaled = False
        if device.type == "cuda":
            rounding = "tf32" if config.tf32 else "ieee"
            torch.backends.cuda.matmul.fp32_precision = rounding
            torch.backends.cudnn.conv.fp32_precision = rounding  # pyright: ignore[reportAttributeAccessIssue]
        elif self._dtype is torch.bfloat16:
            # oneDNN of torch 2.13 writes the bfloat16 gradients of some 3-D kernels wrongly, and past their end
            # (measured on an EPYC with avx512_bf16: numbers of 1e36, then "double free or corruption").
            torch.backends.mkldnn.enabled = False  # pyright: ignore[reportAttributeAccessIssue]

    def autocast(self) -> AbstractContextManager[Any]:
        """Context of the forward pass."""
        return torch.autocast(self._device.type, dtype=self._dtype, enabled=self._dtype is not torch.float32)

    def backward(self, loss: Tensor) -> None:
        """Gradients of the (scaled) loss."""
        self._scaler.scale(loss).backward()

    @property
    def scales_loss(self) -> bool:
        """Whether gradients that overflow are no fault, but lower the loss scale."""
        return self._scaler.is_enabled()

    def gradient_norm(self, optimizer: Optimizer, parameters: Iterable[Tensor], *, clip_norm: float = 0.0) -> Tensor:
        """Norm of all gradients together, (), without the loss scale; then they are clipped to `clip_norm` unless 0."""
        self._scaler.unscale_(optimizer)
        self._unscaled = True
        found = [parameter for parameter in parameters if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm([one.grad for one in found if one.grad is not None])
        if clip_norm > 0:
            torch.nn.utils.clip_grads_with_norm_(found, clip_norm, norm)
        return norm

    def step(self, optimizer: Optimizer) -> None:
        """The optimizer's step; under fp16 a step whose gradients overflow is left out."""
        self._scaler.step(optimizer)
        self._scaler.update()
        self._unscaled = False

    def leave_out(self, optimizer: Optimizer) -> None:
        """In place of `step`: keep the weights, and lower the loss scale where the gradients were not finite."""
        if not self._unscaled:
            self._scaler.unscale_(optimizer)
        if self._scaler.is_enabled():
            self._scaler.update()
        self._unscaled = False

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: the loss scale, empty but for fp16."""
        return self._scaler.state_dict()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with a checkpoint's loss scale; one from another format starts afresh."""
        if state and self._scaler.is_enabled():
            self._scaler.load_state_dict(state)

"""How much of a device's arithmetic a step uses: operations counted in a real step, against the published peak."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.flop_counter import FlopCounterMode

from engine.precision import PrecisionConfig

_PEAKS: dict[str, dict[str, float]] = {
    "H200": {"16": 989.5e12, "tf32": 494.7e12, "fp32": 67.0e12},
    "H100 PCIe": {"16": 756.0e12, "tf32": 378.0e12, "fp32": 51.0e12},
    "H100 NVL": {"16": 835.5e12, "tf32": 417.5e12, "fp32": 60.0e12},
    "H100": {"16": 989.5e12, "tf32": 494.7e12, "fp32": 67.0e12},
    "A100": {"16": 312.0e12, "tf32": 156.0e12, "fp32": 19.5e12},
    "L40S": {"16": 362.05e12, "tf32": 183.0e12, "fp32": 91.6e12},
    "V100": {"fp16": 125.0e12, "fp32": 15.7e12},
    "T4": {"fp16": 65.0e12, "fp32": 8.1e12},
}
"""Part of a device's name to operations a second without sparsity, from NVIDIA's data sheets; the first that fits. "16"
is bfloat16 and float16; what is missing the device cannot do in its tensor cores, and is not known here."""


def peak_flops(device_name: str, precision: PrecisionConfig) -> float | None:
    """Operations a second that a GPU can reach in the products of a precision; None where it is not known.

    Args:
        device_name: as `torch.cuda.get_device_name` tells it.
        precision: of training.
    """
    peaks = next((peaks for part, peaks in _PEAKS.items() if part in device_name), {})
    if precision.dtype == "fp32":
        return peaks.get("tf32", peaks.get("fp32")) if precision.tf32 else peaks.get("fp32")
    return peaks.get(precision.dtype, peaks.get("16"))


class StepFlops:
    """Operations of one rank's step: convolutions and products, forward and backward, a multiply-add as two.

    Counted while the first step of a start runs, which they do not change. What `train.recompute` computes twice counts
    twice. Compiled kernels cannot be counted.

    Args:
        device: of the rank.
        precision: of training.
        enabled: False for a compiled method.

    Attributes:
        flops: of a step; None before it was counted, or where it cannot be.
        peak: of the device, a second; None where it is not known.
    """

    def __init__(self, device: torch.device, precision: PrecisionConfig, *, enabled: bool) -> None:
        self._enabled = enabled
        self.flops: float | None = None
        self.peak = peak_flops(torch.cuda.get_device_name(device), precision) if device.type == "cuda" else None

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Around the passes of every step; costs nothing from the second on."""
        if not self._enabled or self.flops is not None:
            yield
            return
        with FlopCounterMode(display=False) as counter:
            yield
        self.flops = float(counter.get_total_flops())

    def rates(self, step_s: float) -> dict[str, float | None]:
        """Operations a second and their share of the peak, for steps of so many seconds."""
        rate = None if self.flops is None else self.flops / max(step_s, 1e-9)
        return {"flops_per_s": rate, "mfu": rate / self.peak if rate is not None and self.peak else None}

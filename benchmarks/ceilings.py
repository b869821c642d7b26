"""What a device can do at best: a large matrix product, and a large copy."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

_ROUNDS = 5


def matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large square product, the best of a few."""
    side = 8192 if device.type == "cuda" else 1024
    one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / _best_seconds(lambda: one @ other, device)


def copy_bytes(device: torch.device) -> float:
    """Bytes a second, read and written ones together, of a copy that no cache holds; the best of a few."""
    count = 2**30 if device.type == "cuda" else 2**27
    source = torch.zeros(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * count / _best_seconds(lambda: target.copy_(source), device)


def wait_for(device: torch.device) -> None:
    """Until the device has done everything that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _best_seconds(work: Callable[[], object], device: torch.device) -> float:
    times = []
    for _ in range(_ROUNDS + 1):  # the first also chooses kernels and touches memory
        wait_for(device)
        begin = time.perf_counter()
        work()
        wait_for(device)
        times.append(time.perf_counter() - begin)
    return min(times[1:])

"""The host executor's work stage by stage, in one thread: what each costs, and what it cannot cost less."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from data_process.decoding import decode
from pipelines.pixels import cut_clip
from pipelines.source import ClipSource

STAGES = ("plan and read", "+ decode", "+ crop, resize, colour, blur")
"""Each with all before it."""


def stages(source: ClipSource) -> dict[str, Callable[[], Iterator[int]]]:
    """Name to a function that begins the steps of a stage and of those before it."""
    return {name: lambda depth=depth: _steps(source, depth) for depth, name in enumerate(STAGES)}


def _steps(source: ClipSource, depth: int) -> Iterator[int]:
    step, before = 0, torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        while True:
            batch = source(step)
            for frames, record, plan in zip(batch.frames, batch.records, batch.plans, strict=True):
                if depth > 0:
                    decoded = decode(frames, record)
                if depth > 1:
                    for clip in plan.clips:
                        cut_clip(decoded, clip, source.clip_format.size)
            step += 1
            yield sum(len(plan.clips) for plan in batch.plans)
    finally:
        torch.set_num_threads(before)


def told(stage_ms: list[float], host_ms: float) -> str:
    """What the stages are of the host executor's processor time a clip, and which is the largest.

    Args:
        stage_ms: milliseconds a clip of `STAGES`, each with those before it.
        host_ms: of the executor in one thread, everything included.
    """
    names = ("plan and read", "decode JPEGs", "crop, resize, colour and blur", "normalise and hand over")
    ends = [*stage_ms, host_ms]
    parts = [max(0.0, end - start) for start, end in zip([0.0, *ends], ends, strict=False)]
    shares = ", ".join(f"{name} {part:.2f}" for name, part in zip(names, parts, strict=True))
    largest = names[parts.index(max(parts))]
    return f"of the host executor's {host_ms:.2f} ms a clip in one thread: {shares}; the limiting stage is: {largest}"

"""The same work in several processes that share nothing: what a machine gives when nobody waits for anybody."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from typing import Any

_WARM_UP = 3


def clips_per_second(
    begin: Callable[..., Iterator[int]], arguments: tuple[Any, ...], *, processes: int, steps: int, rounds: int
) -> float:
    """Clips a second of so many processes together, each of which carries out `steps` steps; the best of the rounds.

    Args:
        begin: a function that can be pickled, called in each process; gives the clips of each step.
        arguments: of it.
        processes: how many.
        steps: measured steps of a process and round.
        rounds: how often.
    """
    context = get_context("spawn")
    together = context.Barrier(processes)
    counts = context.SimpleQueue()
    running = [
        context.Process(target=_work, args=(begin, arguments, together, counts, steps, rounds), daemon=True)
        for _ in range(processes)
    ]
    for process in running:
        process.start()
    results = [counts.get() for _ in running]
    for process in running:
        process.join()
    return max(sum(speeds) for speeds in zip(*results, strict=True))


def _work(
    begin: Callable[..., Iterator[int]],
    arguments: tuple[Any, ...],
    together: Barrier,
    counts: Any,
    steps: int,
    rounds: int,
) -> None:
    speeds = []
    running = begin(*arguments)
    for _ in islice(running, _WARM_UP):
        pass
    for _ in range(rounds):
        together.wait()
        start = time.perf_counter()
        clips = sum(islice(running, steps))
        speeds.append(clips / (time.perf_counter() - start))
    running.close()  # type: ignore[attr-defined]
    counts.put(speeds)

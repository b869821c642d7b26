"""Shards of a build: a thread per ffmpeg, records in the order of the plan."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from data_process import ffmpeg, killable
from data_process.build_config import BuildConfig
from data_process.build_events import ShardBuilt, VideoEnded, cpu_seconds
from data_process.build_log import BuildLog
from data_process.build_plan import BuildPlan
from data_process.build_stop import stops_at_safe_points
from data_process.cores import available_cores
from data_process.outcome import Quarantined, Stored
from data_process.quarantine import write_report
from data_process.shard_writer import ShardWriter, shard_name
from data_process.transcode import transcode
from data_process.transcode_config import TranscodeConfig

_JOBS_A_PROCESS = 16

Told = Callable[[VideoEnded | ShardBuilt], None]


def build_shards(out: Path, plan: BuildPlan, numbers: Sequence[int], config: BuildConfig, log: BuildLog) -> None:
    """Write the given shards, in one process or several, and tell the log of them.

    However it ends, no ffmpeg goes on: on an error or a signal the running ones are killed.

    Raises:
        RunError: where the disk is full, or a process of the build died.
    """
    jobs = config.jobs or available_cores()
    processes = min(len(numbers), config.processes or -(-jobs // _JOBS_A_PROCESS))
    videos = sum(len(plan.shard(number)) for number in numbers)

    def told(event: VideoEnded | ShardBuilt) -> None:
        if killable.is_stopped():
            raise KeyboardInterrupt
        log.heard(event)

    with stops_at_safe_points():
        if processes <= 1:
            with log.shown(videos):
                build_in_order(out, plan, numbers, config.transcode, jobs, told)
        else:
            from data_process.build_workers import Writers

            # The display has a thread: it begins when all processes are forked.
            writers = Writers(out, plan, numbers, config.transcode, jobs=jobs, processes=processes)
            with writers, log.shown(videos):
                writers.listen(told)


def build_in_order(
    out: Path, plan: BuildPlan, numbers: Sequence[int], config: TranscodeConfig, jobs: int, told: Told
) -> None:
    """Write shards one after the other; `told` hears of every video and every shard."""
    positions = [position for number in numbers for position in plan.shard(number)]
    try:
        with ThreadPoolExecutor(jobs, thread_name_prefix="ffmpeg") as pool:
            try:
                # Closed before the pool, which would otherwise finish what is waiting although nobody wants it.
                with closing(_outcomes(pool, plan, positions, config, ahead=jobs + 2)) as outcomes:
                    for number in numbers:
                        told(_build_shard(out, plan, number, outcomes, told))
            except BaseException:
                killable.stop_all()
                raise
    finally:
        killable.allow()


def _outcomes(
    pool: ThreadPoolExecutor, plan: BuildPlan, positions: list[int], config: TranscodeConfig, *, ahead: int
) -> Generator[Stored | Quarantined]:
    """Outcomes in the order of the plan, at most `ahead` videos in work or waiting, so that memory stays bounded."""
    waiting: deque[Future[Stored | Quarantined]] = deque()
    try:
        for position in positions:
            waiting.append(pool.submit(transcode, plan.videos[position], plan.labels[position], config))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _build_shard(
    out: Path, plan: BuildPlan, number: int, outcomes: Iterator[Stored | Quarantined], told: Told
) -> ShardBuilt:
    start, rows, stored = time.monotonic(), [], []
    positions, final = plan.shard(number), out / shard_name(number)
    is_replaced = final.exists()
    with ShardWriter(out, number, settings_digest=plan.settings_digest, tool=ffmpeg.version()) as writer:
        for position in positions:
            outcome = next(outcomes)
            if isinstance(outcome, Stored):
                writer.add(outcome.header, outcome.units)
                stored.append(outcome.header.state)
            rows += outcome.report_rows(plan.videos[position])
            told(_ended(outcome))
        if is_replaced:
            # Only now, and before its report: a build that is killed leaves no shard beside the report of another.
            final.unlink(missing_ok=True)
        # Before the shard appears: a shard without its report would hide what was left out.
        write_report(out, number, rows)
    return ShardBuilt(
        number=number,
        videos=len(positions),
        stored=tuple(stored),
        rows=tuple(rows),
        num_bytes=writer.num_bytes,
        seconds=time.monotonic() - start,
    )


def _ended(outcome: Stored | Quarantined) -> VideoEnded:
    num_bytes, source_s = 0, 0.0
    if isinstance(outcome, Stored):
        num_bytes = int(outcome.header.unit_sizes.sum())
        source_s = float(outcome.header.source.get("duration") or 0.0)
    return VideoEnded(isinstance(outcome, Stored), num_bytes, source_s, os.getpid(), cpu_seconds())

"""Shards of a build: a thread per ffmpeg, records in the order of the plan, one writer or several."""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

from data_process import ffmpeg
from data_process.build_config import BuildConfig, BuildSummary
from data_process.build_events import ShardBuilt, cpu_seconds
from data_process.build_plan import BuildPlan
from data_process.cores import available_cores
from data_process.outcome import Quarantined, Stored
from data_process.progress import show_progress
from data_process.quarantine import write_report
from data_process.shard_writer import ShardWriter
from data_process.transcode import TranscodeConfig, transcode

_JOBS_A_PROCESS = 16


def build_shards(
    out: Path, plan: BuildPlan, numbers: Sequence[int], config: BuildConfig, summary: BuildSummary
) -> None:
    """Write the given shards and count them.

    However it ends, no ffmpeg goes on: on an error or a signal the running ones are killed.

    Raises:
        RunError: where the disk is full, or a process of the build died.
    """
    jobs = config.jobs or available_cores()
    processes = min(len(numbers), config.processes or -(-jobs // _JOBS_A_PROCESS))
    videos = sum(len(plan.shard(number)) for number in numbers)
    start = time.monotonic()
    with show_progress("build", videos, unit="videos") as progress, _stops_at_safe_points():
        done, bad = 0, 0

        def told(event: ShardBuilt | bool) -> None:
            """A video that ended (and whether it is left out), or a shard."""
            nonlocal done, bad
            if ffmpeg.is_stopped():
                raise KeyboardInterrupt
            if isinstance(event, ShardBuilt):
                event.add_to(summary)
                left = (videos - done) * (time.monotonic() - start) / done if done else None
                event.tell(as_json=config.log_json, left_s=left)
            else:
                done, bad = done + 1, bad + event
                progress.advance(bad=bad)

        if processes <= 1:
            build_in_order(out, plan, numbers, config.transcode, jobs, told)
        else:
            from data_process.build_workers import build_side_by_side

            build_side_by_side(out, plan, numbers, config.transcode, jobs, processes, told)


def build_in_order(
    out: Path,
    plan: BuildPlan,
    numbers: Sequence[int],
    config: TranscodeConfig,
    jobs: int,
    told: Callable[[ShardBuilt | bool], None],
) -> None:
    """Write shards one after the other; `told` hears of every video (whether it is left out) and every shard."""
    positions = [position for number in numbers for position in plan.shard(number)]
    try:
        with ThreadPoolExecutor(jobs, thread_name_prefix="ffmpeg") as pool:
            try:
                # Closed before the pool, which would otherwise finish what is waiting although nobody wants it.
                with closing(_outcomes(pool, plan, positions, config, ahead=jobs + 2)) as outcomes:
                    for number in numbers:
                        told(_build_shard(out, plan, number, outcomes, told))
            except BaseException:
                ffmpeg.stop_all()
                raise
    finally:
        ffmpeg.allow()


@contextmanager
def _stops_at_safe_points() -> Iterator[None]:
    """TERM and Ctrl-C end the block between two videos: an exception inside of LMDB would leave a temporary file."""
    got: list[int] = []

    def stop(number: int, frame: object) -> None:
        got.append(number)
        ffmpeg.stop_all()

    # Only the main thread may set handlers; others are ended by it.
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    except KeyboardInterrupt:
        if signal.SIGTERM not in got:
            raise
    finally:
        ffmpeg.allow()
        for number, handler in before.items():
            signal.signal(number, handler)
    if signal.SIGTERM in got:
        raise SystemExit(128 + signal.SIGTERM)
    if got:
        raise KeyboardInterrupt


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
    out: Path,
    plan: BuildPlan,
    number: int,
    outcomes: Iterator[Stored | Quarantined],
    told: Callable[[bool], None],
) -> ShardBuilt:
    start, rows, stored, source_seconds = time.monotonic(), [], [], 0.0
    positions = plan.shard(number)
    with ShardWriter(out, number, settings_digest=plan.settings_digest, tool=ffmpeg.version()) as writer:
        for position in positions:
            outcome = next(outcomes)
            if isinstance(outcome, Stored):
                writer.add(outcome.header, outcome.units)
                stored.append(outcome.header.state)
                source_seconds += float(outcome.header.source.get("duration") or 0.0)
            rows += outcome.report_rows(plan.videos[position])
            told(not isinstance(outcome, Stored))
        # Before the shard appears: a shard without its report would hide what was left out.
        write_report(out, number, rows)
    return ShardBuilt(
        number=number,
        videos=len(positions),
        stored=tuple(stored),
        rows=tuple(rows),
        num_bytes=writer.num_bytes,
        seconds=time.monotonic() - start,
        source_seconds=source_seconds,
        cpu_seconds=cpu_seconds(),
    )

"""Several processes that write shards: one feeds about sixteen ffmpegs, machines have more cores than that."""

from __future__ import annotations

import ctypes
import multiprocessing
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from data_process import ffmpeg
from data_process.build_events import ShardBuilt
from data_process.build_plan import BuildPlan
from data_process.build_shards import build_in_order
from data_process.errors import InputError, RunError
from data_process.transcode import TranscodeConfig

_PR_SET_PDEATHSIG = 1
_LOOK_UP_S = 0.2


def build_side_by_side(
    out: Path,
    plan: BuildPlan,
    numbers: Sequence[int],
    config: TranscodeConfig,
    jobs: int,
    processes: int,
    told: Callable[[ShardBuilt | bool], None],
) -> None:
    """Shards dealt out to processes; what they tell arrives here, and the first failure ends all of them."""
    # Forked, so that the plan of a million videos is not copied through a pipe.
    context = multiprocessing.get_context("fork")
    workers: dict[Connection, Any] = {}
    try:
        for number in range(processes):
            mine, theirs = context.Pipe(duplex=False)
            share = -(-(jobs - number) // processes)
            arguments = (theirs, out, plan, list(numbers[number::processes]), config, max(1, share))
            worker = context.Process(target=_work, args=arguments, daemon=True)
            worker.start()
            theirs.close()
            workers[mine] = worker
        while workers:
            if ffmpeg.is_stopped():
                raise KeyboardInterrupt
            for connection in wait(list(workers), timeout=_LOOK_UP_S):
                assert isinstance(connection, Connection)
                _receive(connection, workers, told)
    finally:
        for worker in workers.values():
            worker.terminate()
        for worker in workers.values():
            worker.join()


def _receive(connection: Connection, workers: dict[Connection, Any], told: Callable[[ShardBuilt | bool], None]) -> None:
    try:
        event = connection.recv()
    except EOFError:
        worker = workers.pop(connection)
        worker.join()
        if worker.exitcode:
            how = f"by signal {-worker.exitcode}" if worker.exitcode < 0 else f"with status {worker.exitcode}"
            raise RunError(
                f"a process of the build ended {how}; run the same command again to go on (finished shards are kept)"
            ) from None
        return
    if isinstance(event, Exception):
        raise event
    told(event)


def _work(
    connection: Connection, out: Path, plan: BuildPlan, numbers: list[int], config: TranscodeConfig, jobs: int
) -> None:
    """A writing process: ends with its parent, and hands failures on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Ctrl-C reaches the whole group; the parent answers it and ends its children by TERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: ffmpeg.stop_all())
    try:
        build_in_order(out, plan, numbers, config, jobs, connection.send)
    except (InputError, RunError) as error:
        connection.send(_without_cause(error))
    except KeyboardInterrupt:
        pass  # asked to stop; the shard that was in work is gone
    connection.close()


def _without_cause(error: Exception) -> Exception:
    """The error alone: what it came from may not be picklable."""
    return type(error)(*error.args)

"""Several processes that write shards: one feeds about sixteen ffmpegs, machines have more cores than that."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from data_process import killable
from data_process.build_plan import BuildPlan
from data_process.build_shards import Told, build_in_order
from data_process.durable import sweep_stale
from data_process.errors import InputError, RunError
from data_process.transcode_config import TranscodeConfig

_PR_SET_PDEATHSIG = 1
_LOOK_UP_S = 0.2
_PATIENCE_S = 10.0
_ASKED_TO_STOP = 128 + signal.SIGTERM


class Writers:
    """Processes that write shards, from their start to their end; the first failure ends all of them.

    Args:
        out: folder of the shards.
        plan: of the build.
        numbers: of the shards, dealt out in turn.
        config: what is stored.
        jobs: ffmpegs side by side, shared by the processes.
        processes: how many.
    """

    def __init__(
        self, out: Path, plan: BuildPlan, numbers: Sequence[int], config: TranscodeConfig, *, jobs: int, processes: int
    ) -> None:
        self._out = out
        self._working: dict[Connection, Any] = {}
        # Forked, so that the plan of a million videos is not copied through a pipe.
        context = multiprocessing.get_context("fork")
        for number in range(processes):
            mine, theirs = context.Pipe(duplex=False)
            share = max(1, -(-(jobs - number) // processes))
            ends = theirs, [*self._working, mine]
            arguments = (ends, os.getpid(), out, plan, list(numbers[number::processes]), config, share)
            worker = context.Process(target=_work, args=arguments, daemon=True)
            self._working[mine] = worker
            worker.start()
            theirs.close()

    def listen(self, told: Told) -> None:
        """Hand on what the processes tell, until the last has ended.

        Raises:
            KeyboardInterrupt: where this process was asked to stop.
            InputError: of a process.
            RunError: of a process, or where one died.
        """
        while self._working:
            if killable.is_stopped():
                raise KeyboardInterrupt
            for connection in wait(list(self._working), timeout=_LOOK_UP_S):
                assert isinstance(connection, Connection)
                self._receive(connection, told)

    def _receive(self, connection: Connection, told: Told) -> None:
        try:
            event = connection.recv()
        except EOFError:
            worker = self._working.pop(connection)
            connection.close()
            worker.join()
            if worker.exitcode:
                how = f"by signal {-worker.exitcode}" if worker.exitcode < 0 else f"with status {worker.exitcode}"
                raise RunError(
                    f"a process of the build ended {how}; run the same command again to go on (finished shards are "
                    "kept)"
                ) from None
            return
        if isinstance(event, Exception):
            raise event
        told(event)

    def __enter__(self) -> Writers:
        return self

    def __exit__(self, *error: object) -> None:
        for connection, worker in self._working.items():
            # Nobody listens any more: a process that waits to be heard is let go.
            connection.close()
            worker.terminate()
        for worker in self._working.values():
            worker.join(_PATIENCE_S)
            if worker.is_alive():
                worker.kill()
                worker.join()
        # Those that died had no time to remove what they had begun.
        sweep_stale(self._out)


def _work(
    ends: tuple[Connection, Sequence[Connection]],
    parent: int,
    out: Path,
    plan: BuildPlan,
    numbers: list[int],
    config: TranscodeConfig,
    jobs: int,
) -> None:
    """A writing process: ends with its parent, and hands failures on."""
    connection, foreign = ends
    for one in foreign:
        one.close()  # inherited: as long as one is open here, no writer would notice that nobody listens
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return  # it died before the kernel watched
    # Ctrl-C reaches the whole group; the parent answers it and ends its children by TERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: killable.stop_all())
    try:
        build_in_order(out, plan, numbers, config, jobs, connection.send)
    except (InputError, RunError) as error:
        connection.send(_without_cause(error))
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(_ASKED_TO_STOP)  # the shard that was in work is gone
    connection.close()


def _without_cause(error: Exception) -> Exception:
    """The error alone: what it came from may not be picklable."""
    return type(error)(*error.args)

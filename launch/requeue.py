"""How a rank leaves once all have stopped and saved: requeued, waiting to be killed, or simply ended."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import NoReturn

from engine.stop import Stop

_LOG = logging.getLogger(__name__)
_TERM_WAIT_S = 600.0
NOT_REQUEUED = 3
"""Exit status where the run was saved, but the job could not be put back into the queue."""


def leave_stopped(
    reason: Stop, *, rank: int, previous: Mapping[int, object], environ: Mapping[str, str] | None = None
) -> int:
    """Exit status of a rank that stopped with its state saved; under SLURM it may not return.

    USR2 and the deadline put the job back into the queue. TERM never does: it may be the user's scancel, and where
    it is preemption SLURM requeues by itself, but only a job that still runs when its grace ends.

    Args:
        reason: what the ranks agreed on.
        rank: of this process.
        previous: signal number to the handler that stood there before the run (submitit's for USR2).
        environ: of the process.
    """
    environ = os.environ if environ is None else environ
    in_slurm = "SLURM_JOB_ID" in environ
    if reason is Stop.INTERRUPT:
        return 130
    if not in_slurm:
        return 0
    if reason is Stop.TERMINATE:
        return _wait_to_be_killed()
    if rank != 0:
        # A normal return would make submitit record a result for a job that goes on.
        sys.stdout.flush()
        os._exit(0)
    handler = previous.get(signal.SIGUSR2)
    if callable(handler):
        handler(signal.SIGUSR2, None)
    return _requeue(environ)


def _wait_to_be_killed() -> int:
    _LOG.info("saved after SIGTERM; waiting for the end, the job is not requeued from here")
    deadline = time.monotonic() + _TERM_WAIT_S
    while time.monotonic() < deadline:
        time.sleep(1.0)
    return 128 + signal.SIGTERM


def _requeue(environ: Mapping[str, str]) -> int:
    job = environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in environ:
        job = f"{environ['SLURM_ARRAY_JOB_ID']}_{environ['SLURM_ARRAY_TASK_ID']}"
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, timeout=60, capture_output=True, text=True)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        _LOG.error("the run is saved, but job %s could not be requeued (%s); submit the same command again", job, said)
        return NOT_REQUEUED
    _LOG.info("saved; job %s is back in the queue", job)
    _exit_quietly()


def _exit_quietly() -> NoReturn:
    sys.stdout.flush()
    os._exit(0)

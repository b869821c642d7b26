"""How a submitted job stands, without an accounting database and never waiting for ever."""

from __future__ import annotations

import pickle
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_process.errors import RunError
from launch.controller import AWAY, is_away

UNKNOWN = "UNKNOWN"
"""State of a job that squeue does not know, or that nobody can be asked about."""
END_STATES = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"}
)


def job_state(job_id: str) -> str:
    """State that squeue tells, of jobs that ended lately too.

    UNKNOWN where it knows no such job or is not there; UNREACHED where nobody answers it.
    """
    command = ["squeue", "-h", "-t", "all", "-j", job_id, "-o", "%T"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return UNKNOWN
    except subprocess.TimeoutExpired:
        return AWAY
    if is_away(asked.stderr):
        return AWAY
    lines = asked.stdout.split()
    return lines[0] if asked.returncode == 0 and lines else UNKNOWN


def local_state(job: Any) -> str:
    """State of a job of submitit's local executor, in SLURM's words."""
    return recorded_state(job.paths.result_pickle) if job.done() else "RUNNING"


def recorded_state(result: Path) -> str:
    """What a finished job's result file says: COMPLETED or FAILED; UNKNOWN without one (killed, cancelled)."""
    if not result.is_file():
        return UNKNOWN
    # Written by our own job on our own storage, and read only to see which of the two words stands in it.
    kind, _ = pickle.loads(result.read_bytes())
    return "COMPLETED" if kind == "success" else "FAILED"


def wait_for_end(job: Any, *, limit_s: float, every_s: float = 1.0, state: Callable[[], str] | None = None) -> str:
    """State in which a job ended.

    squeue forgets a finished job after a while (MinJobAge, minutes); then the job's own result file tells, and where
    there is none the answer is UNKNOWN: cancelled, out of memory, or lost with its machine. A controller that is away
    for a while is waited for.

    Args:
        job: submitit's.
        limit_s: give up after this many seconds.
        every_s: between two looks.
        state: how to look; squeue by default.

    Raises:
        RunError: where it has not ended within the limit.
    """
    look = state or (lambda: job_state(str(job.job_id)))
    deadline, unknown = time.monotonic() + limit_s, 0
    while True:
        now = look()
        # Right after a submission, and between two states, squeue may miss a job once.
        unknown = unknown + 1 if now == UNKNOWN else 0
        if now in END_STATES:
            return now
        if unknown == 3:
            return recorded_state(job.paths.result_pickle)
        if time.monotonic() > deadline:
            raise RunError(
                f"job {job.job_id} is still {now} after {limit_s:.0f} s; `squeue -j {job.job_id}` tells more"
            )
        time.sleep(every_s)


def unwritten(folder: Path) -> str:
    """Why a job that has ended may have left no log; empty where it has left one."""
    if any(folder.glob("*_log.err")):
        return ""
    return (
        f"it left no log in {folder}: the machines of the job probably do not see this folder, or may not write there. "
        "Take a run folder on storage that all machines share"
    )

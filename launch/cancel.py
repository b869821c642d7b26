"""The end of submitted jobs, which nothing starts again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

from data_process.errors import RunError
from launch.job_records import LOGS, JobRecord, read_records
from launch.job_status import ask_squeue, statuses
from launch.retry import CANCELLED


def cancel_jobs(run: Path) -> list[str]:
    """Cancel what is waiting or running of a run's jobs; their numbers.

    Raises:
        InputError: where none was ever submitted.
        RunError: where scancel fails, or a job runs on another machine without SLURM.
    """
    records = read_records(run)
    known = ask_squeue([record.job_id for record in records if not record.host])
    # A later stage first: it must not start because the one before it has gone.
    live = [record for record in reversed(records) if any(not one.is_over for one in statuses(run, record, known))]
    for record in live:
        _mark(run, record)
        if record.host:
            _end_here(record)
        else:
            _scancel(record.job_id)
    return [record.job_id for record in live]


def _mark(run: Path, record: JobRecord) -> None:
    # Read by the batch script: a requeue that was under way must not bring the job back.
    for key in record.keys:
        (run / LOGS / key).mkdir(parents=True, exist_ok=True)
        (run / LOGS / key / CANCELLED).touch()


def _scancel(job_id: str) -> None:
    try:
        subprocess.run(["scancel", job_id], check=True, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or error
        raise RunError(
            f"scancel {job_id} failed ({str(said).strip()}); run it on a login node of the cluster"
        ) from None


def _end_here(record: JobRecord) -> None:
    if record.host != socket.gethostname():
        raise RunError(f"job {record.job_id} runs on {record.host} without SLURM; run `intravid cancel` there")
    os.kill(int(record.job_id), signal.SIGTERM)

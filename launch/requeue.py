"""How a rank leaves once all have stopped and saved: requeued, waiting to be killed, or simply ended."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from threading import Thread

from engine.stop import Stop

_LOG = logging.getLogger(__name__)
_TERM_WAIT_S = 600.0
_MARGIN_S = 90.0
"""Own deadline before the job's end, after the signal that `intravid submit` asks for: for jobs started without it."""

NOT_REQUEUED = 3
"""Exit status where the run was saved, but the job could not be put back into the queue."""


def leave_stopped(
    reason: Stop, *, rank: int, previous: Mapping[int, object], environ: Mapping[str, str] | None = None
) -> int:
    """Exit status of a rank that stopped with its state saved; under SLURM or submitit it may not return.

    USR2 and the deadline put the job back into the queue. TERM never does: it may be the user's scancel, and where
    it is preemption SLURM requeues by itself, but only a job that still runs when its grace ends. Outside of both a
    stop is simply the end: 0, or 130 after Ctrl-C, and 143 after TERM under torchrun on several machines.

    Args:
        reason: what the ranks agreed on.
        rank: of this process.
        previous: signal number to the handler that stood there before the run (submitit's for USR2).
        environ: of the process.
    """
    environ = os.environ if environ is None else environ
    submitit = previous.get(signal.SIGUSR2)
    submitit = submitit if callable(submitit) else None
    if reason is Stop.INTERRUPT:
        return 128 + signal.SIGINT
    if reason is Stop.TERMINATE:
        if "SLURM_JOB_ID" in environ:
            return wait_to_be_killed()
        # To an agent of torchrun, 0 means that the run is complete: that of a machine that was not told to end would
        # wait five minutes for the one that was, which has left.
        return 128 + signal.SIGTERM if int(environ.get("GROUP_WORLD_SIZE", "1")) > 1 else 0
    if submitit is None and "SLURM_JOB_ID" not in environ:
        return 0
    if rank != 0:
        # A normal return would make submitit record a result for a job that goes on.
        _leave_at_once()
    return _requeue(environ, submitit)


def requeue_when_told() -> None:
    """Let submitit's handler answer USR2 for a command that starts again where it was, without a word of its own.

    The signal reaches all processes of a job step: blocked here, it is blocked in the children that come, such as the
    writers of a build and its ffmpeg, which would otherwise die of it or requeue the job once more.
    """
    handler = signal.getsignal(signal.SIGUSR2)
    if not callable(handler):
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    Thread(target=_answer, args=(handler,), daemon=True).start()


def _answer(handler: Callable[..., object]) -> None:
    while True:
        signal.sigwait({signal.SIGUSR2})
        try:
            handler(signal.SIGUSR2, None)
        except SystemExit:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(255)  # as submitit's own exit; a thread cannot end the process otherwise
        except (OSError, subprocess.SubprocessError, RuntimeError) as error:
            _LOG.error("the job could not be requeued (%s); it goes on until its time is up", error)


def seconds_left(environ: Mapping[str, str]) -> float:
    """Seconds after which a SLURM job should stop by itself; 0 where there is no limit, or so little time that only
    the signal can tell.
    """
    if "SLURM_JOB_ID" not in environ:
        return 0.0
    command = ["squeue", "-h", "-j", environ["SLURM_JOB_ID"], "-o", "%L"]
    try:
        said = subprocess.run(command, check=True, timeout=20, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        _LOG.warning("squeue does not tell when this job ends (%s); only signals will stop the run in time", error)
        return 0.0
    left = _seconds(said)
    return left - _MARGIN_S if left > 3 * _MARGIN_S else 0.0


def _seconds(text: str) -> float:
    """Seconds in squeue's time left ([[D-]H:]M:S); 0 for UNLIMITED, INVALID and the like."""
    match = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)", text)
    if match is None:
        return 0.0
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def wait_to_be_killed() -> int:
    """Stay for SLURM to end this process, ten minutes at most: the status of one that SIGTERM has ended."""
    _LOG.info("saved after SIGTERM; waiting for the end, the job is not requeued from here")
    # submitit's own handler stands again; it would requeue what the user may have cancelled.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    deadline = time.monotonic() + _TERM_WAIT_S
    while time.monotonic() < deadline:
        time.sleep(1.0)
    return 128 + signal.SIGTERM


def _requeue(environ: Mapping[str, str], submitit: Callable[..., object] | None) -> int:
    try:
        if submitit is not None:
            submitit(signal.SIGUSR2, None)  # rewrites its files, requeues, and leaves by SystemExit
        else:
            _scontrol_requeue(environ)
            _leave_at_once()
        said = "submitit came back without having requeued it"
    except (OSError, subprocess.SubprocessError, RuntimeError) as error:
        said = getattr(error, "stderr", None) or str(error)
    _LOG.error("the run is saved, but its job could not be requeued (%s); submit the same command again", said)
    return NOT_REQUEUED


def _scontrol_requeue(environ: Mapping[str, str]) -> None:
    job = environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in environ:
        job = f"{environ['SLURM_ARRAY_JOB_ID']}_{environ['SLURM_ARRAY_TASK_ID']}"
    subprocess.run(["scontrol", "requeue", job], check=True, timeout=60, capture_output=True, text=True)
    _LOG.info("saved; job %s is back in the queue", job)


def _leave_at_once() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)

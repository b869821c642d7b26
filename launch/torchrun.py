"""The other launcher: one process of a job on each machine, which starts the ranks of that machine by torchrun."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from launch.env import expand_nodes, master_port
from launch.requeue import wait_to_be_killed
from launch.snapshot import START

_REQUEUE_S = 60.0
"""Most seconds between a rank's request to requeue the job and SLURM's end of it."""

_DEAF = ("/bin/sh", "-c", 'trap "" USR2; exec "$0" "$@"')
"""Starts a program that ignores USR2, and so do its children until they say otherwise: torchrun would die of it."""


def torchrun_command(arguments: Sequence[str], ranks: int, environ: Mapping[str, str]) -> list[str]:
    """The command line of one machine's agent; a pure function.

    Args:
        arguments: words behind `intravid`.
        ranks: on this machine.
        environ: of the job's process there.
    """
    words = ["--nproc-per-node", str(ranks), "--max-restarts", "0"]
    if "SLURM_JOB_ID" in environ:
        job, restarts = environ["SLURM_JOB_ID"], environ.get("SLURM_RESTART_COUNT", "0")
        nodes = expand_nodes(environ["SLURM_JOB_NODELIST"])
        # Which machine holds the store is told rather than found out: where the own name means 127.0.1.1, none would.
        first = int(environ.get("SLURM_NODEID", "0") == "0")
        words += ["--nnodes", str(len(nodes)), "--rdzv-backend", "c10d", "--rdzv-id", f"{job}-{restarts}"]
        words += ["--rdzv-endpoint", f"{nodes[0]}:{master_port(job, restarts)}", "--rdzv-conf", f"is_host={first}"]
    else:
        words += ["--standalone"]
    start = Path(__file__).resolve().parents[1] / START
    program = [str(start), "-u", "-m", "launch"] if start.is_file() else ["-m", "launch"]
    return [sys.executable, "-m", "torch.distributed.run", *words, *program, *arguments]


def run_torchrun(arguments: Sequence[str], ranks: int) -> int:
    """Start the ranks of this machine and wait for them: the exit status, 1 where one of them failed.

    The ranks answer signals themselves: they save, and rank 0 asks SLURM to requeue the job. This process only stays
    until SLURM ends it, for a job that ends by itself while it is preempted counts as done.
    """
    seen: set[int] = set()
    agent: subprocess.Popen[bytes] | None = None

    def note(number: int, frame: FrameType | None) -> None:
        seen.add(number)
        if number == signal.SIGTERM and agent is not None and "SLURM_JOB_ID" not in os.environ:
            agent.terminate()  # SLURM tells every process of the step, a local job only this one

    # The agents of several machines would find each other's stale keys in a store that they share with the workers.
    more = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    command = torchrun_command(arguments, ranks, os.environ)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    for number in before:
        signal.signal(number, note)
    agent = subprocess.Popen([*_DEAF, *command], env={**os.environ, **more})
    status = agent.wait()
    if signal.SIGTERM in seen and "SLURM_JOB_ID" in os.environ:
        return wait_to_be_killed()
    if signal.SIGUSR2 in seen and status == 0 and "SLURM_JOB_ID" in os.environ:
        time.sleep(_REQUEUE_S)  # a return would record a result for a job that goes on
    for number, handler in before.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)
    return status if status >= 0 else 128 - status  # of an agent that a signal has ended, as a shell tells it

"""Another command as a SLURM job through submitit: one task per rank, saved and requeued until it is done."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_process.errors import InputError, RunError

_SIGNAL_DELAY_S = 120
_REQUEUES = 10_000  # submitit counts every stop of a job under ten minutes as a time-out
_END_STATES = frozenset(
    "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED TIMEOUT".split()  # noqa: SIM905
)


@dataclass(frozen=True)
class ClusterConfig:
    """What a job asks of the cluster.

    Attributes:
        nodes: machines.
        gpus_per_node: GPUs on each; also the ranks on each unless `tasks_per_node` says otherwise.
        tasks_per_node: ranks on each machine; 0 takes one per GPU, or one without GPUs.
        cpus_per_task: cores of each rank; 0 leaves it to the cluster.
        mem_gb: memory of each machine; 0 leaves it to the cluster.
        minutes: time limit; the job saves and requeues itself before it.
        partition: of the cluster; empty for its default.
        account: to be charged.
        qos: quality of service.
        constraint: features of the machines.
        setup: shell lines before the ranks start, for instance exports.
        signal_delay_s: seconds before the limit at which ranks are told to save.
        extra: further sbatch options, name to value.
    """

    nodes: int = 1
    gpus_per_node: int = 0
    tasks_per_node: int = 0
    cpus_per_task: int = 0
    mem_gb: float = 0.0
    minutes: int = 24 * 60
    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    setup: tuple[str, ...] = ()
    signal_delay_s: int = _SIGNAL_DELAY_S
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def num_ranks(self) -> int:
        """Ranks of the whole job."""
        return self.nodes * self.ranks_per_node

    @property
    def ranks_per_node(self) -> int:
        """Ranks on each machine."""
        return self.tasks_per_node or self.gpus_per_node or 1

    def __post_init__(self) -> None:
        if min(self.nodes, self.minutes) < 1 or min(self.gpus_per_node, self.tasks_per_node, self.cpus_per_task) < 0:
            raise InputError(
                f"--nodes {self.nodes} and the time limit ({self.minutes} min) must be at least 1, GPUs, tasks and "
                "CPUs not negative"
            )


@dataclass
class CommandJob:
    """What submitit pickles and every rank calls: an `intravid` command as plain words.

    Attributes:
        arguments: words behind `intravid`.
    """

    arguments: list[str]

    def __call__(self) -> int:
        """Run the command in this process.

        Raises:
            RunError: where it ends with another status than 0, so that the job counts as failed.
        """
        from launch.cli import main

        status = main(list(self.arguments))
        if status:
            raise RunError(f"intravid {shlex.join(self.arguments)} ended with status {status}")
        return status

    def checkpoint(self) -> Any:
        """What runs after a requeue: the same command, which resumes by itself."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(CommandJob(list(self.arguments)))


def submit(arguments: Sequence[str], cluster: ClusterConfig, folder: Path, *, name: str, local: bool = False) -> Any:
    """Queue a command; submitit's job.

    Args:
        arguments: words behind `intravid`.
        cluster: what to ask for.
        folder: of submitit's scripts and logs, on storage that all machines share; holds %j for the job's id.
        name: of the job.
        local: run it on this machine instead.

    Raises:
        InputError: where SLURM is missing or refuses the job.
    """
    import submitit
    from submitit.helpers import clean_env

    executor = make_executor(cluster, folder, name=name, local=local)
    # Submitted from inside another job, SLURM_* and RANK of that one would leak into this one.
    with clean_env():
        try:
            return executor.submit(CommandJob(list(arguments)))
        except (submitit.core.utils.FailedJobError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or getattr(error, "output", None) or str(error)
            said = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
            raise InputError(f"SLURM refused the job: {' '.join(said.split())[-600:]}") from None


def make_executor(cluster: ClusterConfig, folder: Path, *, name: str, local: bool = False) -> Any:
    """Submitit's executor for a job.

    Raises:
        InputError: where sbatch is missing.
    """
    from shutil import which

    import submitit

    if not local and which("sbatch") is None:
        raise InputError("sbatch is not on this machine; run `intravid submit` on a login node, or add --local")
    executor = submitit.AutoExecutor(folder=str(folder), cluster="local" if local else "slurm")
    given: dict[str, Any] = {
        "name": name,
        "nodes": cluster.nodes,
        "tasks_per_node": cluster.ranks_per_node,
        "timeout_min": cluster.minutes,
        "slurm_signal_delay_s": cluster.signal_delay_s,
        "slurm_setup": [f"export PYTHONPATH={shlex.quote(_import_path())}", *cluster.setup],
        "slurm_srun_args": ["--kill-on-bad-exit=1"],
        "slurm_additional_parameters": {"requeue": True, "open-mode": "append", **cluster.extra},
        "slurm_max_num_timeout": _REQUEUES,
    }
    optional = {
        "gpus_per_node": cluster.gpus_per_node,
        "cpus_per_task": cluster.cpus_per_task,
        "mem_gb": cluster.mem_gb,
        "slurm_partition": cluster.partition,
        "slurm_account": cluster.account,
        "slurm_qos": cluster.qos,
        "slurm_constraint": cluster.constraint,
    }
    given |= {option: value for option, value in optional.items() if value}
    if local:
        given = {option: value for option, value in given.items() if not option.startswith("slurm_")}
    executor.update_parameters(**given)
    return executor


def _import_path() -> str:
    here = str(Path(__file__).resolve().parents[1])
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])


def sbatch_text(arguments: Sequence[str], cluster: ClusterConfig, folder: Path, *, name: str) -> str:
    """The sbatch script that `submit` would hand to SLURM."""
    executor = make_executor(cluster, folder, name=name)
    command = executor._executor._submitit_command_str
    return executor._executor._make_submission_file_text(command, f"intravid {shlex.join(arguments)}")


def parse_minutes(text: str) -> int:
    """Minutes in SLURM's notations: ``90``, ``1:30:00``, ``30:00`` (minutes and seconds), ``2-12:00:00``.

    Raises:
        InputError: for any other text.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if match is None:
        raise InputError(f"--time {text}: expected minutes, H:MM:SS or D-HH:MM:SS")
    days, first, second, third = (int(part) if part else 0 for part in match.groups())
    if match[1] is not None or match[4] is not None:
        return max(1, days * 1440 + first * 60 + second + (third > 0))
    return max(1, first + (second > 0))


def job_state(job_id: str) -> str:
    """State that squeue tells, finished jobs included; UNKNOWN where it knows none such."""
    asked = subprocess.run(
        ["squeue", "-h", "-t", "all", "-j", job_id, "-o", "%T"], capture_output=True, text=True, timeout=60, check=False
    )
    lines = asked.stdout.split()
    return lines[0] if asked.returncode == 0 and lines else "UNKNOWN"


def wait_for_end(job_id: str, *, limit_s: float, every_s: float = 0.5) -> str:
    """State in which a job ended; needs no accounting database, and never waits longer than the limit.

    A job that squeue no longer knows counts as ended, with the state UNKNOWN.

    Raises:
        RunError: where it has not ended within the limit.
    """
    deadline, unknown_before = time.monotonic() + limit_s, False
    state = "UNKNOWN"
    while time.monotonic() < deadline:
        state = job_state(job_id)
        # Just after submission, and between two states, squeue may miss a job once.
        if state in _END_STATES or (state == "UNKNOWN" and unknown_before):
            return state
        unknown_before = state == "UNKNOWN"
        time.sleep(every_s)
    raise RunError(f"job {job_id} is still {state} after {limit_s:.0f} s; `squeue -j {job_id}` tells more")

"""Another command as a SLURM job through submitit: one task per rank, saved and requeued until it is done."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_process.errors import InputError, RunError
from launch.cluster import ClusterConfig

_REQUEUES = 10_000
"""Times that submitit may requeue a job; its own 3 would be spent by stops in the first minutes of short jobs."""

_SITE_VARIABLES = ("SLURM_CONF", "SLURM_CLUSTERS")
"""SLURM variables that say where the cluster is, rather than which job this is."""


class CommandEndedError(RunError, SystemExit):
    """A command ended with another status than 0.

    As an exception it makes submitit record the job as failed; as an exit it gives the process the command's status,
    where any other exception would turn 3 (saved, but not requeued) and 143 (told to end) into 1.

    Attributes:
        code: the status.
    """

    def __init__(self, arguments: Sequence[str], status: int) -> None:
        super().__init__(f"intravid {shlex.join(arguments)} ended with status {status}")
        self.code = status


@dataclass
class CommandJob:
    """What submitit pickles and every rank calls: an `intravid` command as plain words.

    Attributes:
        arguments: words behind `intravid`.
    """

    arguments: list[str]

    def __call__(self) -> None:
        """Run the command in this process.

        Raises:
            CommandEndedError: where it ends with another status than 0.
        """
        from launch.cli import main

        # It has handlers of its own; passed on to those of the run, every message would stand there twice.
        logging.getLogger("submitit").propagate = False
        status = main(list(self.arguments))
        if status:
            raise CommandEndedError(self.arguments, status)

    def checkpoint(self) -> Any:
        """What runs after a requeue: the same command, which resumes by itself, wherever it began."""
        from submitit.helpers import DelayedSubmission

        words = [word for word in self.arguments if not word.startswith(("--resume=", "--start-over"))]
        return DelayedSubmission(CommandJob(words))


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
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    executor = make_executor(cluster, folder, name=name, local=local)
    with _outside_any_job():
        try:
            return executor.submit(CommandJob(list(arguments)))
        except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or getattr(error, "output", None) or str(error)
            said = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
            raise InputError(f"SLURM refused the job: {' '.join(said.split())[-600:]}") from None


@contextmanager
def _outside_any_job() -> Iterator[None]:
    """Hide SLURM_*, SUBMITIT_* and RANK of a job that submits another one, which would inherit its shape.

    A login shell keeps its own SBATCH_* defaults, and the way to the cluster stays known in either case.
    """
    if "SLURM_JOB_ID" not in os.environ and "SUBMITIT_EXECUTOR" not in os.environ:
        yield
        return
    from submitit.helpers import clean_env

    site = {name: os.environ[name] for name in _SITE_VARIABLES if name in os.environ}
    with clean_env():
        os.environ.update(site)
        yield


def make_executor(cluster: ClusterConfig, folder: Path, *, name: str, local: bool = False) -> Any:
    """Submitit's executor for a job.

    Raises:
        InputError: where sbatch is missing, or a job of several machines is to run on this one.
    """
    from shutil import which

    import submitit

    if local and cluster.nodes > 1:
        raise InputError(f"--local runs on this machine alone, but cluster.nodes is {cluster.nodes}; set it to 1")
    if not local and which("sbatch") is None:
        raise InputError("sbatch is not on this machine; run `intravid submit` on a login node, or add --local")
    kind = "local" if local else "slurm"
    executor = submitit.AutoExecutor(folder=str(folder), cluster=kind, **{f"{kind}_max_num_timeout": _REQUEUES})
    executor.update_parameters(**_shared_options(cluster, name, kind), **({} if local else _slurm_options(cluster)))
    return executor


def _shared_options(cluster: ClusterConfig, name: str, kind: str) -> dict[str, Any]:
    given = {
        "name": name,
        "nodes": cluster.nodes,
        "tasks_per_node": cluster.ranks_per_node,
        "timeout_min": cluster.minutes,
        "gpus_per_node": cluster.gpus_per_node,
        "cpus_per_task": cluster.cpus_per_task,
        "mem_gb": cluster.mem_gb,
        f"{kind}_setup": [f"export PYTHONPATH={shlex.quote(_import_path())}", *cluster.setup],
    }
    return {option: value for option, value in given.items() if value}


def _slurm_options(cluster: ClusterConfig) -> dict[str, Any]:
    given: dict[str, Any] = {
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "constraint": cluster.constraint,
        "signal_delay_s": cluster.signal_delay_s,
        # A rank that dies alone would leave the others waiting until the process group times out.
        "srun_args": ["--kill-on-bad-exit=1", "--open-mode=append"],
        "additional_parameters": {"requeue": True, **cluster.extra},
    }
    return {f"slurm_{option}": value for option, value in given.items() if value != ""}


def _import_path() -> str:
    here = str(Path(__file__).resolve().parents[1])
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])


def sbatch_text(cluster: ClusterConfig, folder: Path, *, name: str) -> str:
    """The sbatch script that `submit` would hand to SLURM; nothing is written."""
    slurm = make_executor(cluster, folder, name=name)._executor
    return slurm._make_submission_file_text(slurm._submitit_command_str, "dry-run")

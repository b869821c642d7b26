"""Another command as a SLURM job through submitit: one task per rank, saved and requeued until it is done."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_process.errors import InputError, RunError
from launch.cluster import ClusterConfig
from launch.preflight import Expected, check_node
from launch.requeue import requeue_when_told
from launch.retry import FINAL, FINAL_STATUSES
from launch.snapshot import START
from launch.torchrun import run_torchrun

_REQUEUES = 10_000
"""Times that submitit may requeue a job; its own 3 would be spent by stops in the first minutes of short jobs."""

_SAVING = ("pretrain",)
"""Commands that answer signals themselves, at a step boundary."""

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
        torchrun: ranks that this process starts on its machine by torchrun; 0 where it is a rank itself.
        expected: what every machine has to see; None to start unlooked.
    """

    arguments: list[str]
    torchrun: int = 0
    expected: Expected | None = None

    def __call__(self) -> None:
        """Run the command in this process.

        Raises:
            CommandEndedError: where it ends with another status than 0.
        """
        # It has handlers of its own; passed on to those of the run, every message would stand there twice.
        logging.getLogger("submitit").propagate = False
        status = self._refusal() or self._run()
        if status:
            if status in FINAL_STATUSES:
                _note_final(status)
            raise CommandEndedError(self.arguments, status)

    def _refusal(self) -> int:
        local_rank = os.environ.get("SLURM_LOCALID") or os.environ.get("SUBMITIT_LOCAL_LOCALID", "0")
        if self.expected is None or local_rank != "0":
            return 0
        try:
            check_node(self.expected, os.environ)
        except InputError as error:
            print(f"intravid: error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
            return 2
        return 0

    def _run(self) -> int:
        from launch.cli import main

        if self.torchrun:
            return run_torchrun(self.arguments, self.torchrun)
        if self.arguments[0] not in _SAVING:
            requeue_when_told()
        return main(list(self.arguments))

    def checkpoint(self) -> Any:
        """What runs after a requeue: the same command, which resumes by itself, wherever it began."""
        from submitit.helpers import DelayedSubmission

        words = [word for word in self.arguments if not word.startswith(("--resume=", "--start-over"))]
        return DelayedSubmission(replace(self, arguments=words))


def _note_final(status: int) -> None:
    """Tell the batch script what srun may not: it has the largest status of all tasks, that of a rank killed later."""
    if "SUBMITIT_EXECUTOR" in os.environ:
        from submitit import JobEnvironment

        (JobEnvironment().paths.folder / FINAL).write_text(f"{status}\n", encoding="utf-8")


@dataclass(frozen=True)
class Surroundings:
    """What a job is started with besides its command.

    Attributes:
        code: snapshot of the package that it runs; None for the code that is imported here.
        after: jobs that must end well before it starts.
        failed: whether a failed run is started again, as long as it gets on.
    """

    code: Path | None = None
    after: tuple[str, ...] = ()
    failed: bool = False


def submit(
    job: CommandJob | Sequence[CommandJob],
    cluster: ClusterConfig,
    folder: Path,
    *,
    name: str,
    around: Surroundings | None = None,
    local: bool = False,
) -> list[Any]:
    """Queue a command, or several as an array; submitit's jobs.

    Args:
        job: what to run; the tasks of an array.
        cluster: what to ask for.
        folder: of submitit's scripts and logs, on storage that all machines share; holds %j for the job's id.
        name: of the job.
        around: code, earlier jobs, retries.
        local: run it on this machine instead.

    Raises:
        InputError: where SLURM is missing or refuses the job.
    """
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    executor = make_executor(cluster, folder, name=name, around=around, local=local)
    with _outside_any_job():
        try:
            if isinstance(job, CommandJob):
                return [executor.submit(job)]
            with executor.batch():
                queued = [executor.submit(task) for task in job]
            return queued
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


def make_executor(
    cluster: ClusterConfig, folder: Path, *, name: str, around: Surroundings | None = None, local: bool = False
) -> Any:
    """Submitit's executor for a job.

    Raises:
        InputError: where sbatch is missing, or a job of several machines is to run on this one.
    """
    from shutil import which

    import submitit

    if local and cluster.nodes > 1:
        raise InputError(f"--local runs on this machine alone, but launch.nodes is {cluster.nodes}; set it to 1")
    if not local and which("sbatch") is None:
        raise InputError("sbatch is not on this machine; run `intravid submit` on a login node, or add --local")
    around = around or Surroundings()
    kind = "local" if local else "slurm"
    started = {f"{kind}_max_num_timeout": _REQUEUES, f"{kind}_python": _python(around.code)}
    executor = submitit.AutoExecutor(folder=str(folder), cluster=kind, **started)
    slurm = {} if local else _slurm_options(cluster, folder.parent, around)
    executor.update_parameters(**{**_shared_options(cluster, name, kind, around), **slurm})
    return executor


def _python(code: Path | None) -> str:
    words = [sys.executable] if code is None else [sys.executable, str(code / START)]
    return shlex.join(words)


def _shared_options(cluster: ClusterConfig, name: str, kind: str, around: Surroundings) -> dict[str, Any]:
    together = cluster.ranks_per_node if cluster.launcher == "torchrun" else 1
    given = {
        "name": name,
        "nodes": cluster.nodes,
        "tasks_per_node": cluster.slurm_tasks_per_node,
        "timeout_min": cluster.minutes,
        "gpus_per_node": cluster.gpus_per_node,
        "cpus_per_task": cluster.cpus_per_task * together,
        "mem_gb": cluster.mem_gb,
        f"{kind}_setup": [f"export PYTHONPATH={shlex.quote(_import_path(around.code))}", *cluster.setup],
    }
    return {option: value for option, value in given.items() if value}


def _slurm_options(cluster: ClusterConfig, logs: Path, around: Surroundings) -> dict[str, Any]:
    chained = {"dependency": f"afterok:{':'.join(around.after)}", "kill-on-invalid-dep": "yes"} if around.after else {}
    begin, end = _guards(cluster, logs, around)
    given: dict[str, Any] = {
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "constraint": cluster.constraint,
        "signal_delay_s": cluster.signal_delay_s,
        # A rank that dies alone would leave the others waiting until the process group times out.
        "srun_args": ["--kill-on-bad-exit=1", "--open-mode=append"],
        "additional_parameters": {"requeue": True, **chained, **cluster.extra},
        "setup": [f"export PYTHONPATH={shlex.quote(_import_path(around.code))}", *cluster.setup, *begin],
        "teardown": end,
    }
    return {f"slurm_{option}": value for option, value in given.items() if value not in ("", [])}


def _guards(cluster: ClusterConfig, logs: Path, around: Surroundings) -> tuple[list[str], list[str]]:
    """Lines of the batch script before and after srun: `launch.retry`; none for code that is not a snapshot."""
    if around.code is None:
        return [], []
    asked = f"{_python(around.code)} -m launch.retry {{}} {shlex.quote(str(logs.resolve()))} "
    asked += f"--limit {cluster.fruitless_starts}"
    failed = " --failed" if around.failed else ""
    after = f'{asked.format("end")} --status "$status"{failed}'
    looked = _look_line(around.code) if cluster.nodes > 1 else []
    return [f"{asked.format('begin')} || exit 1", *looked], ["status=$?", after, 'exit "$status"']


def _look_line(code: Path) -> list[str]:
    """Let every machine look for the code of the job, before srun fails to write a log there and the others wait.

    Status 2 is that of wrong input. Any other comes from a signal, or from srun, and the job answers that itself.
    """
    told = (
        '"intravid: error: node $SLURMD_NODENAME: the run folder is not there: $0 does not exist on this machine; '
        'take a run folder on storage that all machines share"'
    )
    look = shlex.quote(f'[ -e "$0" ] || {{ echo {told} >&2; exit 2; }}')
    step = 'srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 sh -c'
    return [f"{step} {look} {shlex.quote(str(code / START))}", "[ $? -ne 2 ] || exit 2"]


def _import_path(code: Path | None) -> str:
    here = str(code or Path(__file__).resolve().parents[1])
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])


def sbatch_text(
    cluster: ClusterConfig, folder: Path, *, name: str, tasks: int = 0, around: Surroundings | None = None
) -> str:
    """The sbatch script that `submit` would hand to SLURM; nothing is written."""
    slurm = make_executor(cluster, folder, name=name, around=around)._executor
    if tasks:
        slurm.parameters["map_count"] = tasks
    return slurm._make_submission_file_text(slurm._submitit_command_str, "dry-run")

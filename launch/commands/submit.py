"""`intravid submit`: other commands as SLURM jobs, one after the other."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.commands._resume import add_resume, resume_words

if TYPE_CHECKING:
    from launch.stages import Stage

EXAMPLE = """\
example:
  intravid submit pretrain configs/pretrain/iic_r3d_ucf101.yaml --data.root shards/ --run_dir runs/iic \\
      --nodes 2 --gpus-per-node 8 --time 24:00:00 --partition gpu
  intravid submit pretrain RECIPE --cluster configs/cluster/gpu8.yaml --nodes 4 --launcher torchrun --dry-run
  intravid submit build videos/ shards/ --array 16 --cpus-per-task 16 \\
      --then pretrain RECIPE --data.root shards/ --run_dir runs/iic --cluster configs/cluster/gpu8.yaml \\
      --then retrieve runs/iic --controls --gpus-per-node 1 --then report runs/iic
  intravid submit knn runs/iic --after runs/iic --gpus-per-node 1

a stage starts when the one before has ended well; --partition, --account, --qos, --constraint and --setup hold for the
later stages too, unless they say otherwise. The job's exit status is that of the command; 3 means saved, but the
cluster would not requeue it: submit it again. `intravid jobs RUN` shows how it stands, `intravid cancel RUN` ends it.
"""
COMMANDS = ("build", "pretrain", "finetune", "retrieve", "knn", "linear", "test", "extract", "export", "report")
_PLAIN = {
    "nodes": "machines (1)",
    "gpus-per-node": "GPUs on each; one rank per GPU (0)",
    "tasks-per-node": "ranks on each machine, where not one per GPU",
    "cpus-per-task": "cores of each rank",
    "mem-gb": "memory of each machine",
    "time": "limit: minutes, H:MM:SS or D-HH:MM:SS (24:00:00)",
    "partition": "partition",
    "account": "account to be charged",
    "qos": "quality of service",
    "constraint": "features of the machines",
    "signal-delay-s": "seconds before the limit at which the ranks save (120)",
    "launcher": "ranks: one SLURM task for each rank; torchrun: one for each machine, which starts its ranks (ranks)",
    "fruitless-starts": "starts without progress after which the job gives up (3)",
}
"""Options that stand for the settings `launch.*` of a recipe."""

_OF_THE_SITE = ("partition", "account", "qos", "constraint", "setup")
"""Options that later stages take over."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="intravid submit",
        description="Run commands as SLURM jobs, one task per rank. What they need is looked at before they are "
        "queued and by every machine at its start; what runs is a copy of the package as it is now. A job saves and "
        "requeues itself before the time limit and when told by USR2, and starts again after a failure while it gets "
        "on; scancel ends it for good. Options not listed here belong to the command; those of the cluster may stand "
        "in the recipe instead, as launch.nodes and so on, or in a file of their own.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("command", help=f"one of {', '.join(_known())}; its own words and options follow")
    parser.add_argument("--cluster", type=Path, metavar="FILE", help="YAML with a section `launch:`, for a whole site")
    for name, text in _PLAIN.items():
        parser.add_argument(f"--{name}", help=text, metavar=name.rsplit("-", 1)[-1].upper())
    parser.add_argument("--array", type=int, default=0, metavar="N", help="share a build among N tasks")
    parser.add_argument("--setup", action="append", metavar="LINE", help="shell line before the start; repeatable")
    parser.add_argument("--sbatch", action="append", metavar="NAME=VALUE", help="further sbatch option; repeatable")
    parser.add_argument(
        "--after", action="append", default=[], metavar="JOB", help="start when this job, or the last of this run, has "
        "ended well; repeatable"
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="print the sbatch scripts and stop")
    parser.add_argument("--local", action="store_true", help="run the same jobs on this machine, without SLURM")
    parser.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="wait for each, at most so long")
    add_resume(parser)
    parser.add_argument("--then", metavar="COMMAND ...", help="another stage, with options of its own; repeatable")
    return parser


def _known() -> list[str]:
    from launch.cli import COMMANDS as ALL

    return [name for name in COMMANDS if name in ALL]


def main(arguments: list[str]) -> int:
    """Run the command."""
    parts = _split(arguments)
    parsed = [_parser().parse_known_args(part) for part in parts]
    first = parsed[0][0]
    from launch.stages import check_chain, queue_stage, scripts

    stages = [_stage(given, words, first) for given, words in parsed]
    after = [_job_of(text) for text in first.after]
    if first.dry_run:
        print("\n".join(scripts(stages, after)), end="")
        return 0
    from data_process.errors import RunError

    waited = [Path(text) for text in first.after if not text.isdecimal()]
    expected = check_chain(stages, local=first.local, waited=waited)
    for stage, seen in zip(stages, expected, strict=True):
        queued = queue_stage(stage, seen, after, local=first.local)
        number = str(queued[0].job_id).split("_")[0]
        logs = stage.logs / (number if len(queued) == 1 else f"{number}_*")
        if first.local and len(queued) > 1:
            logs = stage.logs  # as many processes as tasks, each with a number of its own
        print(f"job {number}: logs in {logs}, {_what(stage)}", flush=True)
        after = [number]
        limit_s = first.wait or (60.0 * stage.cluster.minutes if first.local and len(stages) > 1 else 0.0)
        if limit_s and (ended := _wait(queued, limit_s, local=first.local)):
            raise RunError(f"job {ended[0].job_id} ended as {ended[1]}; {_last_words(ended[0])}")
    return 0


def _split(arguments: list[str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for word in arguments:
        if word == "--then":
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def _stage(given: argparse.Namespace, words: list[str], first: argparse.Namespace) -> Stage:
    from data_process.errors import InputError
    from launch.cluster import read_cluster
    from launch.stages import read_stage

    if given.command not in _known():
        raise InputError(f"{given.command!r} is not run as a job; expected one of {', '.join(_known())}")
    if given is not first:
        idle = [name for name in ("after", "dry_run", "local", "wait") if getattr(given, name)]
        if idle:
            raise InputError(f"--{idle[0].replace('_', '-')} is for the whole chain; put it before the first --then")
        for name in _OF_THE_SITE:
            if getattr(given, name) is None:
                setattr(given, name, getattr(first, name))
    of_cluster = read_cluster(given.cluster) if given.cluster else []
    words = [*resume_words(given), *words]
    return read_stage(given.command, words, of_cluster=of_cluster, options=cluster_overrides(given), tasks=given.array)


def _what(stage: Stage) -> str:
    return f"run in {stage.home}" if stage.command == "pretrain" else f"{stage.command} {stage.home}"


def cluster_overrides(given: argparse.Namespace) -> list[str]:
    """The options of the cluster as overrides of a recipe's ``launch.*``."""
    from data_process.errors import InputError

    settings = {name.replace("-", "_"): getattr(given, name.replace("-", "_")) for name in _PLAIN}
    overrides = [f"--launch.{name}={value}" for name, value in settings.items() if value is not None]
    if given.setup:
        overrides.append(f"--launch.setup={json.dumps(given.setup)}")
    if given.sbatch:
        if unpaired := [option for option in given.sbatch if "=" not in option]:
            raise InputError(f"--sbatch {unpaired[0]}: expected NAME=VALUE, for instance --sbatch nice=100")
        overrides.append(f"--launch.extra={json.dumps(dict(one.split('=', 1) for one in given.sbatch))}")
    return overrides


def _job_of(text: str) -> str:
    """A job's number, or that of the last job of a run folder."""
    from data_process.errors import InputError
    from launch.job_records import read_records

    if text.isdecimal():
        return text
    if not Path(text).is_dir():
        raise InputError(f"--after {text}: expected the number of a job, or the folder of a submitted run")
    return read_records(Path(text))[-1].job_id


def _wait(jobs: list[Any], limit_s: float, *, local: bool) -> tuple[Any, str] | None:
    """The first job that did not end well, and how; None where all did."""
    from launch.watch import local_state, wait_for_end

    for job in jobs:
        look = (lambda job=job: local_state(job)) if local else None
        state = wait_for_end(job, limit_s=limit_s, state=look)
        print(f"job {job.job_id}: {state}", flush=True)
        if state != "COMPLETED":
            return job, state
    return None


def _last_words(job: Any) -> str:
    from launch.watch import unwritten

    return unwritten(job.paths.folder) or f"its log: {job.paths.stderr}"

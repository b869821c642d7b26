"""`intravid submit`: another command as a SLURM job."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from launch.commands._resume import add_resume, resume_words

EXAMPLE = """\
example:
  intravid submit pretrain configs/pretrain/iic_r3d_ucf101.yaml --data.root shards/ --run_dir runs/iic \\
      --nodes 2 --gpus-per-node 8 --time 24:00:00 --partition gpu
  intravid submit pretrain configs/smoke/iic.yaml --data.root shards/ --run_dir runs/s --tasks-per-node 2 --dry-run

the job's exit status is that of the command; 3 means saved, but the cluster would not requeue it: submit it again.
"""
COMMANDS = ("pretrain",)
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
}
"""Options that stand for the settings `cluster.*` of a recipe."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="intravid submit",
        description="Run a command as a SLURM job, one task per rank. It saves and requeues itself before the time "
        "limit and when told by USR2, until it is done; scancel ends it for good. Options not listed here belong to "
        "the command; those of the cluster may stand in the recipe instead, as cluster.nodes and so on.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("command", choices=COMMANDS, help="command to run")
    parser.add_argument("recipe", type=Path, help="its recipe")
    for name, text in _PLAIN.items():
        parser.add_argument(f"--{name}", help=text, metavar=name.rsplit("-", 1)[-1].upper())
    parser.add_argument("--setup", action="append", metavar="LINE", help="shell line before the start; repeatable")
    parser.add_argument("--sbatch", action="append", metavar="NAME=VALUE", help="further sbatch option; repeatable")
    parser.add_argument("--dry-run", action="store_true", help="print the sbatch script and stop")
    parser.add_argument("--local", action="store_true", help="run the same job on this machine, without SLURM")
    parser.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="wait for its end, at most so long")
    add_resume(parser)
    return parser


def main(arguments: list[str]) -> int:
    """Run the command."""
    given, rest = _parser().parse_known_args(arguments)
    words = [*rest, *cluster_overrides(given)]
    from data_process.errors import InputError
    from launch.config import load_run
    from launch.submit import sbatch_text, submit

    loaded = load_run(given.recipe, words)  # a wrong setting is told now, not when the job starts
    config = loaded.config
    passes = config.train.accumulate
    if config.train.global_batch % (config.cluster.num_ranks * passes):
        times = f" times the {passes} passes of train.accumulate" if passes > 1 else ""
        raise InputError(
            f"train.global_batch ({config.train.global_batch}) must be divisible by the {config.cluster.num_ranks} "
            f"ranks of the job{times}"
        )
    run_dir = Path(config.run_dir)
    name, folder = f"intravid-{run_dir.name}", run_dir / "slurm" / "%j"
    if given.dry_run:
        print(sbatch_text(config.cluster, folder, name=name))
        return 0
    words = [given.command, str(given.recipe.resolve()), *resume_words(given), *words]
    job = submit(words, config.cluster, folder, name=name, local=given.local)
    print(f"job {job.job_id}: logs in {str(folder).replace('%j', str(job.job_id))}, run in {run_dir}", flush=True)
    return _wait(job, given.wait, local=given.local) if given.wait else 0


def cluster_overrides(given: argparse.Namespace) -> list[str]:
    """The options of the cluster as overrides of a recipe's ``cluster.*``."""
    from data_process.errors import InputError

    settings = {name.replace("-", "_"): getattr(given, name.replace("-", "_")) for name in _PLAIN}
    overrides = [f"--cluster.{name}={value}" for name, value in settings.items() if value is not None]
    if given.setup:
        overrides.append(f"--cluster.setup={json.dumps(given.setup)}")
    if given.sbatch:
        if unpaired := [option for option in given.sbatch if "=" not in option]:
            raise InputError(f"--sbatch {unpaired[0]}: expected NAME=VALUE, for instance --sbatch nice=100")
        overrides.append(f"--cluster.extra={json.dumps(dict(one.split('=', 1) for one in given.sbatch))}")
    return overrides


def _wait(job: object, limit_s: float, *, local: bool) -> int:
    from typing import Any

    from data_process.errors import RunError
    from launch.watch import local_state, wait_for_end

    queued: Any = job
    state = wait_for_end(queued, limit_s=limit_s, state=(lambda: local_state(queued)) if local else None)
    print(f"job {queued.job_id}: {state}")
    if state != "COMPLETED":
        raise RunError(f"job {queued.job_id} ended as {state}; its log: {queued.paths.stderr}")
    return 0

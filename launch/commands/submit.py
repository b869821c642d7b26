"""`intravid submit`: another command as a SLURM job."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLE = """\
example:
  intravid submit pretrain configs/pretrain/iic_r3d_ucf101.yaml --data.root shards/ --run_dir runs/iic \\
      --nodes 2 --gpus-per-node 8 --time 24:00:00 --partition gpu
  intravid submit pretrain configs/smoke/iic.yaml --data.root shards/ --run_dir runs/s --tasks-per-node 2 --dry-run
"""
COMMANDS = ("pretrain",)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="intravid submit",
        description="Run a command as a SLURM job, one task per rank. It saves and requeues itself before the time "
        "limit and when told by USR2, until it is done; scancel ends it for good. Options not listed here belong to "
        "the command.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("command", choices=COMMANDS, help="command to run")
    parser.add_argument("recipe", type=Path, help="its recipe")
    parser.add_argument("--nodes", type=int, default=1, help="machines (1)")
    parser.add_argument("--gpus-per-node", type=int, default=0, help="GPUs on each; one rank per GPU (0)")
    parser.add_argument("--tasks-per-node", type=int, default=0, help="ranks on each machine, where not one per GPU")
    parser.add_argument("--cpus-per-task", type=int, default=0, help="cores of each rank")
    parser.add_argument("--mem-gb", type=float, default=0.0, help="memory of each machine")
    parser.add_argument("--time", default="24:00:00", help="limit: minutes, H:MM:SS or D-HH:MM:SS (24:00:00)")
    parser.add_argument("--partition", default="", help="partition")
    parser.add_argument("--account", default="", help="account to be charged")
    parser.add_argument("--qos", default="", help="quality of service")
    parser.add_argument("--constraint", default="", help="features of the machines")
    parser.add_argument("--setup", action="append", default=[], help="shell line before the ranks start; repeatable")
    parser.add_argument("--sbatch", action="append", default=[], metavar="NAME=VALUE", help="further sbatch option")
    parser.add_argument("--signal-delay", type=int, default=120, help="seconds before the limit to save at (120)")
    parser.add_argument("--dry-run", action="store_true", help="print the sbatch script and stop")
    parser.add_argument("--local", action="store_true", help="run the same job on this machine, without SLURM")
    parser.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="wait this long for the end")
    return parser


def main(arguments: list[str]) -> int:
    """Run the command."""
    given, rest = _parser().parse_known_args(arguments)
    from data_process.errors import InputError, RunError
    from launch.config import load_run
    from launch.submit import ClusterConfig, parse_minutes, sbatch_text, submit, wait_for_end

    loaded = load_run(given.recipe, rest)  # a wrong setting is told now, not when the job starts
    if unpaired := [option for option in given.sbatch if "=" not in option]:
        raise InputError(f"--sbatch {unpaired[0]}: expected NAME=VALUE, for instance --sbatch nice=100")
    cluster = ClusterConfig(
        nodes=given.nodes,
        gpus_per_node=given.gpus_per_node,
        tasks_per_node=given.tasks_per_node,
        cpus_per_task=given.cpus_per_task,
        mem_gb=given.mem_gb,
        minutes=parse_minutes(given.time),
        partition=given.partition,
        account=given.account,
        qos=given.qos,
        constraint=given.constraint,
        setup=tuple(given.setup),
        signal_delay_s=given.signal_delay,
        extra=dict(option.split("=", 1) for option in given.sbatch),
    )
    _check_batch(loaded.config.train.global_batch, cluster.num_ranks)
    run_dir = Path(loaded.config.run_dir)
    name, folder = f"intravid-{run_dir.name}", run_dir / "slurm" / "%j"
    words = [given.command, str(given.recipe.resolve()), *rest]
    if given.dry_run:
        print(sbatch_text(words, cluster, folder, name=name))
        return 0
    job = submit(words, cluster, folder, name=name, local=given.local)
    print(f"job {job.job_id}, logs in {str(folder).replace('%j', str(job.job_id))}, run in {run_dir}")
    if given.wait and given.local:
        job.result()
    elif given.wait:
        state = wait_for_end(str(job.job_id), limit_s=given.wait)
        print(f"job {job.job_id}: {state}")
        if state != "COMPLETED":
            raise RunError(f"job {job.job_id} ended as {state}; its log: {job.paths.stderr}")
    return 0


def _check_batch(global_batch: int, ranks: int) -> None:
    from data_process.errors import InputError

    if global_batch % ranks:
        raise InputError(f"train.global_batch ({global_batch}) must be divisible by the {ranks} ranks of the job")

"""A chain of jobs, from words to what SLURM is asked for: every stage is judged before the first is queued."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data_process.data_config import DataConfig
from data_process.errors import InputError
from launch.cluster import ClusterConfig
from launch.job_records import LOGS, JobRecord, add_record
from launch.preflight import Expected, check_folder, check_partition, check_script, expectation
from launch.snapshot import keep_recipe, snapshot_path, take_snapshot
from launch.submit import CommandJob, Surroundings, sbatch_text, submit

RECIPES = ("pretrain", "finetune")
"""Commands whose first word is a recipe; that of others is a run, or what `build` reads."""


@dataclass(frozen=True)
class Stage:
    """One job of a chain.

    Attributes:
        arguments: words behind `intravid`.
        cluster: what to ask for.
        home: folder of the run, or of the shards: logs are in its ``slurm/``.
        tasks: of an array; 0 for one job.
        recipe: its place among the arguments; 0 where there is none.
        data: that it reads, to be looked at by every machine; None where that is the command's own business.
        gpus: that every machine has to show.
        told: what the user may want to know.
    """

    arguments: list[str]
    cluster: ClusterConfig
    home: Path
    tasks: int = 0
    recipe: int = 0
    data: DataConfig | None = None
    gpus: int = 0
    told: list[str] = field(default_factory=list)

    @property
    def command(self) -> str:
        """`pretrain`, `build`, ..."""
        return self.arguments[0]

    @property
    def name(self) -> str:
        """Of the job."""
        kind = "" if self.command in RECIPES else f"{self.command}-"
        return f"intravid-{kind}{self.home.resolve().name}"

    @property
    def logs(self) -> Path:
        """Folder of scripts, logs, code and records."""
        return self.home / LOGS


def read_stage(
    command: str, words: Sequence[str], *, of_cluster: Sequence[str], options: Sequence[str], tasks: int = 0
) -> Stage:
    """A stage from its words; wrong settings are told here.

    Args:
        command: which.
        words: its own.
        of_cluster: overrides from a cluster file, which a recipe's own overrides come after.
        options: overrides from `intravid submit`'s options, which come last.
        tasks: of an array.

    Raises:
        InputError: for settings that are wrong or contradict each other.
    """
    if tasks and command != "build":
        raise InputError(f"--array shares the work of `build` among tasks; {command} has --nodes and --tasks-per-node")
    if command in RECIPES:
        return _training_stage(command, words, of_cluster, options)
    cluster = _cluster([word for word in of_cluster if word.startswith("--launch.")], options)
    positional = [word for word in words if not word.startswith("-")]
    if command == "build":
        from launch.commands.build import command_parser

        given = command_parser().parse_args(words)
        if not given.source.exists():
            raise InputError(f"there is no {given.source} to build shards from; expected a folder of videos or a list")
        return Stage([command, *words], cluster, given.out, tasks)
    if not positional:
        raise InputError(f"{command} needs a run folder; see `intravid {command} --help`")
    run = Path(positional[0])
    home = run.parent.parent if run.suffix == ".pt" else run
    if run.suffix in (".yaml", ".yml"):
        raise InputError(f"{command} as a job writes its log to a run folder; give that in the place of {run}")
    return Stage([command, *words], cluster, home)


def _cluster(of_cluster: Sequence[str], options: Sequence[str]) -> ClusterConfig:
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(ClusterConfig, "launch")
    try:
        return parser.instantiate(parser.parse_args([*of_cluster, *options])).launch
    except (ArgumentError, ValueError, TypeError) as error:
        from launch.config import explained

        raise InputError(explained(str(error))) from None


def _training_stage(command: str, words: Sequence[str], of_cluster: Sequence[str], options: Sequence[str]) -> Stage:
    from launch.commands import finetune, pretrain
    from launch.config import load_run

    given, overrides = (finetune if command == "finetune" else pretrain).command_parser().parse_known_args(words)
    if command == "finetune":
        overrides = finetune.run_overrides(given, overrides)
    config = load_run(given.recipe, [*of_cluster, *overrides, *options]).config
    passes = config.train.accumulate
    if config.train.global_batch % (config.launch.num_ranks * passes):
        times = f" times the {passes} passes of train.accumulate" if passes > 1 else ""
        raise InputError(
            f"train.global_batch ({config.train.global_batch}) must be divisible by the {config.launch.num_ranks} "
            f"ranks of the job{times}"
        )
    # The recipe's word goes first; all that the command does not know may stand in any order behind it.
    place = next(number for number, word in enumerate(words) if Path(word) == given.recipe)
    own = [*words[:place], *words[place + 1 :]]
    return Stage(
        [command, str(given.recipe.resolve()), *of_cluster, *own, *options],
        config.launch,
        Path(config.run_dir),
        recipe=1,
        data=config.data,
        gpus=0 if config.dist.device == "cpu" else config.launch.gpus_per_node,
    )


def scripts(stages: Sequence[Stage], after: Sequence[str]) -> list[str]:
    """The sbatch scripts of a chain; nothing is written."""
    texts, waited = [], tuple(after)
    for number, stage in enumerate(stages):
        around = _around(stage, snapshot_path(stage.logs).resolve(), waited)
        text = sbatch_text(stage.cluster, stage.logs / "%j", name=stage.name, tasks=stage.tasks, around=around)
        texts.append(f"{text}\n# every task runs: intravid {' '.join(stage.arguments)}\n")
        waited = (f"<stage-{number + 1}>",)
    return texts


def check_chain(stages: Sequence[Stage], *, local: bool, waited: Sequence[Path] = ()) -> list[Expected]:
    """Look at all that a chain needs, before any of it is queued.

    Args:
        stages: in their order.
        local: whether they run on this machine.
        waited: folders whose jobs the chain waits for: shards that may not be there yet.

    Raises:
        InputError: at the first thing that is not as it must be, in one paragraph.
    """
    expected, built = [], list(waited)
    for stage in stages:
        if not local:
            check_partition(stage.cluster.partition)
            check_script(scripts([stage], ())[0], stage.cluster)
        check_folder(stage.home, min_free_gb=stage.cluster.min_free_gb)
        gpus = 0 if local else stage.gpus
        expected.append(expectation(stage.logs, gpus=gpus, data=stage.data, built=built))
        if stage.command == "build":
            built.append(stage.home)
    return expected


def queue_stage(stage: Stage, expected: Expected, after: Sequence[str], *, local: bool) -> list[Any]:
    """Hand one stage to SLURM, or start it here; submitit's jobs, one a task.

    Raises:
        InputError: where it is refused.
    """
    arguments = list(stage.arguments)
    if stage.recipe:
        arguments[stage.recipe] = str(keep_recipe(Path(arguments[stage.recipe]), stage.logs))
    around = _around(stage, take_snapshot(stage.logs), tuple(after))
    agents = stage.cluster.ranks_per_node if stage.cluster.launcher == "torchrun" else 0
    job = CommandJob(arguments, agents, expected)
    shares = [
        replace(job, arguments=[*arguments, "--task", str(task), "--tasks", str(stage.tasks)])
        for task in range(stage.tasks)
    ]
    queued = submit(shares or job, stage.cluster, stage.logs / "%j", name=stage.name, around=around, local=local)
    for number, one in enumerate(queued):
        if local or number == 0:
            add_record(stage.home, _record(stage, one, len(queued), after, local=local))
    return queued


def _record(stage: Stage, job: Any, queued: int, after: Sequence[str], *, local: bool) -> JobRecord:
    import socket

    tasks = queued if stage.tasks > 1 and not local else 0  # SLURM makes a plain job of an array of one
    return JobRecord(
        job_id=str(job.job_id).split("_")[0] if tasks else str(job.job_id),
        arguments=stage.arguments,
        ranks=stage.cluster.num_ranks,
        tasks=tasks,
        after=list(after),
        host=socket.gethostname() if local else "",
    )


def _around(stage: Stage, code: Path, after: tuple[str, ...]) -> Surroundings:
    return Surroundings(code, after, failed=stage.command in RECIPES)

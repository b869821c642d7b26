"""The runs of the benchmarks on the motion set of `intravid synth`: one set for each seed, one process for each run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from data_process import killable
from data_process.build import build
from data_process.build_config import BuildConfig
from data_process.build_stop import stops_at_safe_points
from data_process.errors import RunError
from data_process.motion_set import MotionSetConfig, write_motion_set
from data_process.progress import show_progress
from data_process.shards import ShardSet
from data_process.source import SourceRequest

RECIPES = Path(__file__).parents[1] / "configs" / "motion"
_FEWER = {"iic": 400}
"""Training videos of recipes that renew a bank row once an epoch, and so count in epochs."""
One = TypeVar("One")
Result = TypeVar("Result")
_LIMIT_S = 6 * 3600.0


@dataclass(frozen=True)
class Job:
    """One training run.

    Attributes:
        row: of the table.
        recipe: name of a file of configs/motion.
        seed: of videos, weights and batches.
        settings: beside those of the recipe.
        folder: of the run.
    """

    row: str
    recipe: str
    seed: int
    settings: tuple[str, ...]
    folder: Path

    @property
    def result(self) -> Path:
        """What it measured, once it has ended."""
        return self.folder / "judged.json"


def in_parallel(work: Callable[[One], Result], jobs: Sequence[One], *, threads: int) -> list[Result]:
    """The results in the order of the jobs, each made by a thread that waits for its run; with progress."""
    with (
        stops_at_safe_points(),
        ThreadPoolExecutor(threads) as pool,
        show_progress("runs", len(jobs), unit="runs") as progress,
    ):
        made: list[Result] = []
        for result in pool.map(work, jobs):
            made.append(result)
            progress.advance(1)
    return made


def make_set(folder: Path, config: MotionSetConfig) -> None:
    """Videos and shards of a motion set, and the ids of those that a recipe takes; what is there already stays."""
    write_motion_set(folder / "videos", config)
    build("folder", SourceRequest(folder / "videos"), folder / "shards", BuildConfig())
    ids = [record.id for record in ShardSet(folder / "shards", split="train")]
    for recipe, count in _FEWER.items():
        chosen = first_of_each(ids, min(count, config.videos))
        (folder / f"{recipe}.txt").write_text("\n".join(chosen))


def first_of_each(ids: Sequence[str], count: int) -> list[str]:
    """As many ids of each class, which is the first part of an id."""
    classes: dict[str, list[str]] = {}
    for one in ids:
        classes.setdefault(one.rpartition("/")[0], []).append(one)
    return [one for members in classes.values() for one in members[: count // len(classes)]]


def train_and_judge(job: Job, dataset: Path) -> dict[str, dict[str, float]]:
    """What a run measured, which is carried out unless it has ended before; see `launch.demo.judge`.

    Args:
        job: the run.
        dataset: folder of `make_set`.

    Raises:
        RunError: where it ends without.
    """
    if job.result.exists():
        return json.loads(job.result.read_text())
    settings = [f"--data.root={dataset / 'shards'}", f"--run_dir={job.folder}", f"--train.seed={job.seed}"]
    if (subset := dataset / f"{job.recipe}.txt").exists():
        settings.append(f"--data.subset={subset}")
    settings += ["--pipeline.threads=1", "--dist.device=cpu", "--train.tensorboard=false", *job.settings]
    command = [sys.executable, "-m", "launch", "bench", "motion", "--one", str(RECIPES / f"{job.recipe}.yaml")]
    carry_out([*command, "--settings", *settings], job.result)
    return json.loads(job.result.read_text())


def carry_out(command: list[str], result: Path) -> None:
    """Run a program that leaves a result in the folder of its run, and what it says beside that.

    Raises:
        RunError: where it ends without.
    """
    result.parent.mkdir(parents=True, exist_ok=True)
    # It ends with this process, however that ends.
    ended = killable.run(command, limit_s=_LIMIT_S)
    (result.parent / "output.txt").write_text("\n".join(ended.messages))
    if ended.status or not result.exists():
        raise RunError(f"the run {result.parent} ended with status {ended.status}; see output.txt in it")

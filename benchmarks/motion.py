"""What the methods learn on the motion set of `intravid synth`, beside a random network and a single frame.

Every recipe of configs/motion is trained once for each seed, which draws the videos, the first weights and the batches.
Runs are spread over the cores, one thread each. kNN and linear probe are
accuracies in per cent on the test videos (chance 12.5), "one frame" is the kNN accuracy of one repeated frame, averaged
over six frame numbers. A folder that is given keeps videos and runs, and a second start goes on with what is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.motion_runs import RECIPES, Job, in_parallel, make_set, train_and_judge
from benchmarks.options import add_outputs, positive
from benchmarks.scoreboard import Goal, Scoreboard
from data_process.cores import available_cores
from data_process.motion_set import MotionSetConfig
from data_process.motion_world import LEVELS
from launch.config import LoadedRun, load_run
from launch.demo import judge
from launch.pretrain import pretrain

ABLATIONS = {
    "iic, no intra-negatives": ("iic", ("--method.intra_negative=none",)),
    "vtdl, nothing blended": ("vtdl", ("--method.clip.mix_strength=0",)),
    "vtdl, no same-video negative": ("vtdl", ("--method.same_video_negative=false",)),
    "dualvar, no ranking": ("dualvar", ("--method.mode=clip-tc",)),
    **{
        f"cstp, no {task}": ("cstp", (f"--method.weights.{task}=0",))
        for task in ("byol", "spatial", "temporal", "playback", "rotation")
    },
}
"""Row to recipe and settings: what the papers leave out."""

_GAINS = {"iic": 40.0, "dualvar": 40.0, "cstp": 35.0, "vtdl": 30.0}
_COLUMNS = (
    "kNN random", "kNN", "gains", "+-", "linear random", "linear", "linear gains", "linear +-", "top-1", "one frame",
    "runs",
)  # fmt: skip


def main(arguments: list[str]) -> int:
    """Run the benchmark."""
    given = _parser().parse_args(arguments)
    if given.one:
        return _carry_out(given.one, given.settings)
    if given.folder:
        return _compare(given, given.folder)
    with tempfile.TemporaryDirectory() as folder:
        return _compare(given, Path(folder))


def _compare(given: argparse.Namespace, folder: Path) -> int:
    variants = {name: (name, ()) for name in given.recipes}
    if given.ablations:
        variants |= {row: one for row, one in ABLATIONS.items() if one[0] in given.recipes}
    more = tuple(f"--{setting}" for setting in given.set)
    jobs = [
        Job(row, recipe, seed, (*settings, *more), folder / "runs" / f"{'-'.join(row.split())}-{seed}")
        for seed in given.seeds
        for row, (recipe, settings) in variants.items()
    ]
    os.environ["OMP_NUM_THREADS"] = "1"  # of the runs, which torch reads when it is imported
    for seed in given.seeds:
        make_set(
            folder / f"set-{seed}",
            MotionSetConfig(videos=given.videos, test_videos=given.test_videos, seed=seed, level=given.level),
        )
    judged = in_parallel(lambda job: train_and_judge(job, folder / f"set-{job.seed}"), jobs, threads=given.jobs)
    found: dict[str, list[dict[str, dict[str, float]]]] = {row: [] for row in variants}
    for job, one in zip(jobs, judged, strict=True):
        found[job.row].append(one)
    rows = summary(found)
    setting = (
        f"{given.videos} training and {given.test_videos} test videos of eight motions, level {given.level}, "
        f"generator seeds {', '.join(map(str, given.seeds))}; means, and standard deviations of gains over seeds"
    )
    Scoreboard("motion", setting, _COLUMNS, rows, goals(rows)).publish(given.json)
    return 0


def _carry_out(recipe: Path, settings: Sequence[str]) -> int:
    """Train and judge in this process."""
    import torch

    torch.set_num_threads(1)
    loaded: LoadedRun = load_run(recipe, list(settings))
    if status := pretrain(loaded):
        return status
    run_dir = Path(loaded.config.run_dir)
    (run_dir / "judged.json").write_text(json.dumps(judge(run_dir)))
    return 0


def summary(results: Mapping[str, Sequence[Mapping[str, Mapping[str, float]]]]) -> dict[str, tuple[float | None, ...]]:
    """A row of the table for the runs of each row; see `launch.demo.judge` for what a run measured."""
    return {row: _row([list(one.values()) for one in runs]) for row, runs in results.items()}


def _row(runs: Sequence[Sequence[Mapping[str, float]]]) -> tuple[float | None, ...]:
    def mean(values: Sequence[float]) -> float:
        return round(statistics.mean(values), 1)

    def spread(values: Sequence[float]) -> float | None:
        return round(statistics.stdev(values), 1) if len(values) > 1 else None

    numbers: list[float | None] = []
    for measure in ("knn", "linear"):
        before, after = [one[0][measure] for one in runs], [one[3][measure] for one in runs]
        gains = [last - first for first, last in zip(before, after, strict=True)]
        numbers += [mean(before), mean(after), mean(gains), spread(gains)]
    return *numbers, mean([one[3]["retrieve@1"] for one in runs]), mean([one[2]["knn"] for one in runs]), len(runs)


def goals(rows: Mapping[str, tuple[float | None, ...]]) -> tuple[Goal, ...]:
    """Gains of kNN that the four methods should reach, in points; for VTDL that of the linear probe, too."""
    found = [
        Goal(f"{name}: gain of kNN", rows[name][2], least, at_most=False, unit=" points")
        for name, least in _GAINS.items()
        if name in rows
    ]
    if "vtdl" in rows:
        found.append(Goal("vtdl: gain of the linear probe", rows["vtdl"][6], 40.0, at_most=False, unit=" points"))
    return tuple(found)


def _parser() -> argparse.ArgumentParser:
    names = sorted(path.stem for path in RECIPES.glob("*.yaml") if path.stem != "finetune")
    parser = argparse.ArgumentParser(
        prog="intravid bench motion",
        description=__doc__,
        epilog="example:\n  intravid bench motion --recipes iic simclr --seeds 31 32 33 --folder motion/\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--recipes", nargs="+", choices=names, default=names, metavar="NAME", help=f"({' '.join(names)})"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[31, 32, 33], help="one run each (31 32 33)")
    parser.add_argument("--ablations", action="store_true", help="also what the papers leave out, one thing at a time")
    parser.add_argument("--videos", type=positive, default=640, help="to train on (640; IIC takes 400 of them)")
    parser.add_argument("--test-videos", type=positive, default=400, help="to judge on (400)")
    parser.add_argument("--level", choices=list(LEVELS), default="plain", help="of the motion set (plain)")
    parser.add_argument("--jobs", type=positive, default=available_cores(), help="runs side by side (one a core)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings for all runs")
    parser.add_argument("--folder", type=Path, help="for videos and runs (a temporary one)")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--settings", nargs=argparse.REMAINDER, default=[], help=argparse.SUPPRESS)
    add_outputs(parser)
    return parser

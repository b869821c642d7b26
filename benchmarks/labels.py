"""What pretraining is worth where few labels are known, on the motion set of `intravid synth`.

Every recipe of configs/motion is trained once for each seed without labels, as `intravid bench motion` does, whose runs
are taken where they are in the folder. Then configs/motion/finetune.yaml trains the same network on a share of every
class, from these weights and from first weights, and `intravid test` judges it on the test videos. Accuracies in per
cent (chance 12.5); gains are over first weights with the same videos, batches and number of steps. One row has first
weights trained for twice as long.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.motion_runs import RECIPES, Job, carry_out, in_parallel, make_set, train_and_judge
from benchmarks.options import add_outputs, positive
from benchmarks.scoreboard import Scoreboard
from data_process.cores import available_cores
from data_process.motion_set import MotionSetConfig
from data_process.motion_world import LEVELS
from launch.cli import main as intravid
from launch.config import load_run

FINETUNE = RECIPES / "finetune.yaml"
SCRATCH = "first weights"
LONGER = "first weights, twice the steps"
_METHODS = ("iic", "vtdl", "dualvar", "cstp")
_COLUMNS = ("top 1", "+-", "gain", "gain +-", "smallest gain", "largest gain", "runs")


def main(arguments: list[str]) -> int:
    """Run the benchmark."""
    given = _parser().parse_args(arguments)
    if given.one:
        return _tune_and_test(given.one, given.settings)
    if given.folder:
        return _compare(given, given.folder)
    with tempfile.TemporaryDirectory() as folder:
        return _compare(given, Path(folder))


def _compare(given: argparse.Namespace, folder: Path) -> int:
    os.environ["OMP_NUM_THREADS"] = "1"  # of the runs, which torch reads when it is imported
    for seed in given.seeds:
        facts = MotionSetConfig(videos=given.videos, test_videos=given.test_videos, seed=seed, level=given.level)
        make_set(folder / f"set-{seed}", facts)
    jobs = [(row, seed) for seed in given.seeds for row in (SCRATCH, LONGER, *given.recipes)]
    accuracies = in_parallel(lambda job: _accuracy(folder, job[0], job[1], given), jobs, threads=given.jobs)
    found: dict[str, list[float]] = {row: [] for row, _ in jobs}
    for (row, _), accuracy in zip(jobs, accuracies, strict=True):
        found[row].append(accuracy)
    setting = (
        f"labels of {given.fraction:g} of {given.videos} training videos, {given.test_videos} test videos, level "
        f"{given.level}, generator seeds {', '.join(map(str, given.seeds))}; means over seeds and standard deviations"
    )
    Scoreboard("labels", setting, _COLUMNS, summary(found), ()).publish(given.json)
    return 0


def summary(found: Mapping[str, Sequence[float]]) -> dict[str, tuple[float | None, ...]]:
    """A row of the table for the accuracies of each row, which are in the order of the seeds."""
    rows: dict[str, tuple[float | None, ...]] = {}
    for row, values in found.items():
        mean, spread = _mean_and_spread(values)
        if row == SCRATCH:
            rows[row] = (mean, spread, None, None, None, None, len(values))
            continue
        gains = [value - scratch for value, scratch in zip(values, found[SCRATCH], strict=True)]
        rows[row] = (mean, spread, *_mean_and_spread(gains), min(gains), max(gains), len(values))
    return rows


def _mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None


def _accuracy(folder: Path, row: str, seed: int, given: argparse.Namespace) -> float:
    """Top-1 accuracy of one fine-tuned network, trained unless that is done; called by a thread for each run."""
    dataset, weights = folder / f"set-{seed}", "none"
    if row not in (SCRATCH, LONGER):
        job = Job(row, row, seed, tuple(f"--{setting}" for setting in given.set), folder / "runs" / f"{row}-{seed}")
        train_and_judge(job, dataset)
        weights = str(job.folder)
    tuned = folder / "tuned" / f"{'-'.join(row.replace(',', '').split())}-{given.fraction:g}-{seed}"
    result = tuned / "eval-test.json"
    if not result.exists():
        settings = [f"--weights={weights}", f"--label-fraction={given.fraction}", "--select=none"]
        settings += [f"--data.root={dataset / 'shards'}", f"--data.label_seed={seed}", f"--train.seed={seed}"]
        settings += [f"--run_dir={tuned}", "--pipeline.threads=1", "--dist.device=cpu", "--train.tensorboard=false"]
        settings += [f"--{setting}" for setting in given.tune]
        if row == LONGER:
            train = load_run(FINETUNE, settings[3:]).config.train
            unit = "steps" if train.steps else "epochs"
            settings.append(f"--train.{unit}={2 * train.num_steps(1)}")
        command = [sys.executable, "-m", "launch", "bench", "labels", "--one", str(tuned), "--settings", *settings]
        carry_out(command, result)
    (judged,) = json.loads(result.read_text())["rows"].values()
    return judged["top1"]


def _tune_and_test(run: Path, settings: Sequence[str]) -> int:
    """Fine-tune and judge in this process."""
    import torch

    torch.set_num_threads(1)
    return intravid(["finetune", str(FINETUNE), *settings]) or intravid(["test", str(run)])


def _parser() -> argparse.ArgumentParser:
    names = sorted(path.stem for path in RECIPES.glob("*.yaml") if path != FINETUNE)
    parser = argparse.ArgumentParser(
        prog="intravid bench labels",
        description=__doc__,
        epilog="example:\n  intravid bench labels --fraction 0.1 --seeds 51 52 53 --folder motion/\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--recipes", nargs="+", choices=names, default=_METHODS, metavar="NAME", help=f"({' '.join(_METHODS)})"
    )
    parser.add_argument("--fraction", type=float, default=0.1, help="of every class whose labels are used (0.1)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[31, 32, 33], help="one run each (31 32 33)")
    parser.add_argument("--videos", type=positive, default=640, help="to train on (640; IIC takes 400 of them)")
    parser.add_argument("--test-videos", type=positive, default=400, help="to judge on (400)")
    parser.add_argument("--level", choices=list(LEVELS), default="plain", help="of the motion set (plain)")
    parser.add_argument("--jobs", type=positive, default=available_cores(), help="runs side by side (one a core)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of pretraining")
    parser.add_argument("--tune", nargs="+", default=[], metavar="KEY=VALUE", help="settings of fine-tuning")
    parser.add_argument("--folder", type=Path, help="for videos and runs (a temporary one)")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--settings", nargs=argparse.REMAINDER, default=[], help=argparse.SUPPRESS)
    add_outputs(parser)
    return parser

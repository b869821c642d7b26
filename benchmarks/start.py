"""How long a training run takes to its first step: fresh, and resumed from its checkpoint.

Every start is a process of its own, timed from its beginning until its first step stands in the log. What importing
torch alone takes is measured in turns with them and shown beside; "beyond torch" is the rest. Videos, shards and the
checkpoint are made before.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from benchmarks.options import add_outputs, add_rounds, positive
from benchmarks.scoreboard import Goal, Scoreboard
from data_process.build import build
from data_process.build_config import BuildConfig
from data_process.errors import RunError
from data_process.motion_set import MotionSetConfig, write_motion_set
from data_process.source import SourceRequest

RECIPE = Path(__file__).parents[1] / "configs" / "smoke" / "iic.yaml"
_COLUMNS = ("to the first step, s", "beyond torch, s")
_TORCH = "import torch"
_MOST_S = 10.0
_LIMIT_S = 300.0
_LOOK_S = 0.01


def main(arguments: list[str]) -> int:
    """Run the benchmark."""
    given = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=given.scratch) as scratch:
        starts = make_starts(Path(scratch), given)
        times: dict[str, list[float]] = {name: [] for name in starts}
        for _ in range(given.rounds):
            for name, start in starts.items():
                times[name].append(start())
    rows = summary(times)
    setting = f"{given.recipe.name}, {given.videos} videos; medians of {given.rounds} starts"
    Scoreboard("start", setting, _COLUMNS, rows, goals(rows)).publish(given.json)
    return 0


def summary(times: Mapping[str, Sequence[float]]) -> dict[str, tuple[float | None, ...]]:
    """Median seconds of each kind of start, and what is left of them without torch's import."""
    medians = {name: statistics.median(one) for name, one in times.items()}
    return {name: (took, None if name == _TORCH else took - medians[_TORCH]) for name, took in medians.items()}


def goals(rows: dict[str, tuple[float | None, ...]]) -> tuple[Goal, ...]:
    """A resumed run may take ten seconds more than torch's import."""
    return tuple(
        Goal(f"{name}, beyond torch", row[1], _MOST_S, at_most=True, unit=" s")
        for name, row in rows.items()
        if name.startswith("resumed")
    )


def make_starts(scratch: Path, given: argparse.Namespace) -> dict[str, Callable[[], float]]:
    """What is timed, by name; each call is one start and gives its seconds."""
    write_motion_set(scratch / "videos", MotionSetConfig(videos=given.videos, test_videos=8, seed=given.seed))
    build("folder", SourceRequest(scratch / "videos"), scratch / "shards", BuildConfig())
    begun = scratch / "begun"
    words = [sys.executable, "-m", "launch", "pretrain", str(given.recipe), f"--data.root={scratch / 'shards'}"]
    words += [f"--train.steps={given.step + 1}", "--train.log_every=1", f"--train.save_every={given.step}"]
    words += ["--train.tensorboard=false", *given.settings]
    _finish([*words, f"--run_dir={begun}", f"--train.steps={given.step}"])

    def begin(backend: str, state: Path | None) -> float:
        folder = scratch / "run"
        if state:
            shutil.copytree(state, folder)
        try:
            return seconds_to_first_step([*words, f"--run_dir={folder}", f"--pipeline.backend={backend}"], folder)
        finally:
            shutil.rmtree(folder)

    def torch_alone() -> float:
        start = time.perf_counter()
        _finish([sys.executable, "-c", "import torch"])
        return time.perf_counter() - start

    backends = ["host", *(["dali"] if find_spec("nvidia.dali") else [])]
    starts: dict[str, Callable[[], float]] = {_TORCH: torch_alone}
    for backend in backends:
        starts[f"fresh, {backend}"] = partial(begin, backend, None)
        starts[f"resumed, {backend}"] = partial(begin, backend, begun)
    return starts


def seconds_to_first_step(command: Sequence[str], folder: Path) -> float:
    """From the beginning of a process until it has added the record of a step to the log of its run folder.

    Raises:
        RunError: if it ends, or five minutes pass, without one.
    """
    log = folder / "log.jsonl"
    before = log.stat().st_size if log.is_file() else 0
    with tempfile.TemporaryFile("w+") as said:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=said, stderr=said, env=os.environ)
        try:
            while not (log.is_file() and b'"losses"' in log.read_bytes()[before:]):
                if process.poll() is not None or time.perf_counter() - start > _LIMIT_S:
                    said.seek(0)
                    raise RunError(f"the run of the benchmark made no step: {said.read()[-2000:]}")
                time.sleep(_LOOK_S)
            return time.perf_counter() - start
        finally:
            process.kill()
            process.wait()


def _finish(command: Sequence[str]) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RunError(f"{' '.join(command)} ended with status {ended.returncode}: {ended.stderr[-2000:]}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="intravid bench start",
        description=__doc__,
        epilog="example:\n  intravid bench start --settings --train.global_batch=8\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="what is trained (iic.yaml of configs/smoke)")
    parser.add_argument("--videos", type=positive, default=128, help="to train on (128)")
    parser.add_argument("--seed", type=int, default=0, help="of the videos")
    parser.add_argument("--step", type=positive, default=5, help="that the resumed run has finished (5)")
    parser.add_argument("--settings", nargs=argparse.REMAINDER, default=[], help="further settings of the recipe, last")
    add_rounds(parser)
    add_outputs(parser, scratch=True)
    return parser

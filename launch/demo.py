"""The whole way on a small set: videos, shards, pretraining with a stop and a resume, and what was learned."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from data_process.build import build
from data_process.build_config import BuildConfig
from data_process.errors import RunError
from data_process.motion_set import MotionSetConfig, write_motion_set
from data_process.source import SourceRequest
from engine.checkpoint import checkpoint_step, latest_checkpoint
from launch.config import load_run
from launch.evaluate import evaluate, one_frame_control, open_subject, print_table, results_of
from launch.pretrain import pretrain
from launch.report.write import write_report
from launch.results import PRETRAINED_ONE_FRAME, RANDOM, RANDOM_ONE_FRAME

_LEAST_GAIN, _LARGEST_CONTROL = 20.0, 18.0
"""Points of kNN over a random network, and kNN of the one-frame control, between which the demo counts as failed."""


def demo(out: Path, *, seed: int = 0, videos: int = 400, test_videos: int = 160) -> int:
    """Run the demo in a folder; finished parts are kept, so that a second start goes on.

    Args:
        out: folder for videos, shards and the run.
        seed: of videos, weights and batches.
        videos: to train on.
        test_videos: to judge on.

    Returns:
        Exit status: 0, also where TERM stopped it; 130 after Ctrl-C.

    Raises:
        RunError: where nothing was learned, or a single frame tells the class.
    """
    recipe = Path(str(files("configs") / "motion" / "iic.yaml"))
    run_dir, shards = out / "run", out / "shards"
    overrides = [f"--data.root={shards}", f"--run_dir={run_dir}", f"--train.seed={seed}"]
    with _part("1/6 write motion videos"):
        write_motion_set(out / "videos", MotionSetConfig(videos=videos, test_videos=test_videos, seed=seed))
    with _part("2/6 build shards"):
        build("folder", SourceRequest(out / "videos"), shards, BuildConfig())
    loaded = load_run(recipe, overrides)
    half = (loaded.config.train.steps or 0) // 2
    parts = (
        (f"3/6 pretrain to step {half} and stop", load_run(recipe, [*overrides, f"--train.stop_at_step={half}"]), half),
        ("4/6 resume and pretrain to the end", loaded, loaded.config.train.steps or 0),
    )
    for title, run, step in parts:
        with _part(title):
            status = pretrain(run)
        reached = checkpoint_step(latest_checkpoint(run_dir))
        if status or reached < step:
            # A signal ended it: what comes next would take half a run for a whole one.
            print(f"stopped at step {reached} of {step}; the same command goes on from there")
            return status
    with _part("5/6 evaluate"):
        rows = judge(run_dir)
    with _part("6/6 report"):
        page = keep(run_dir, rows)
    print_table(f"motion set, {test_videos} test videos, per cent (chance 12.5)", rows)
    print(f"videos, shards and run: {out}")
    print(f"report: {page}")
    return _verdict(rows)


def judge(run_dir: Path) -> dict[str, dict[str, float]]:
    """Measures of a run's backbone and of the one it began with, of whole clips and of one repeated frame."""
    subject = open_subject(run_dir)
    config, data = subject.config, subject.loaded.config.data
    videos = (data.open(config.gallery), data.open(config.query))
    before = subject.untrained()
    return {
        RANDOM: evaluate(before, videos, config, name=RANDOM),
        RANDOM_ONE_FRAME: one_frame_control(before, videos, config),
        PRETRAINED_ONE_FRAME: one_frame_control(subject.backbone, videos, config),
        f"pretrained, {subject.origin}": evaluate(subject.backbone, videos, config, name="pretrained"),
    }


def keep(run_dir: Path, rows: dict[str, dict[str, float]]) -> Path:
    """Put the rows beside the run as `eval-demo.json`, and write its report; the path of that."""
    subject = open_subject(run_dir)
    config, data = subject.config, subject.loaded.config.data
    videos = (data.open(config.gallery), data.open(config.query))
    results_of(subject, videos, rows, config=config).write(run_dir / "eval-demo.json")
    return write_report([run_dir], run_dir / "report.html")


def _verdict(rows: dict[str, dict[str, float]]) -> int:
    *_, pretrained = rows.values()
    gain = pretrained["knn"] - rows[RANDOM]["knn"]
    control = rows[PRETRAINED_ONE_FRAME]["knn"]
    print(f"kNN gains {gain:.1f} points over a random network; one frame alone gives {control:.1f}")
    if gain < _LEAST_GAIN or control > _LARGEST_CONTROL:
        raise RunError(
            f"the demo expects a kNN gain of at least {_LEAST_GAIN:.0f} points (got {gain:.1f}) and at most "
            f"{_LARGEST_CONTROL:.0f} per cent from one frame (got {control:.1f}); the log of the run tells whether it "
            "was trained to its end"
        )
    return 0


@contextmanager
def _part(title: str) -> Iterator[None]:
    print(f"== {title}", flush=True)
    start = time.monotonic()
    yield
    print(f"   {time.monotonic() - start:.0f} s", flush=True)

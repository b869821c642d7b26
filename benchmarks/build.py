"""What a build costs in processor time, beside the originals' two steps and beside bare ffmpeg, on the same videos.

Contenders take turns, round by round, and medians count. Processor time is that of this process and of all that it
starts; the start of the interpreter is nobody's. Every contender makes JPEGs of the same short side and quality:

  bare ffmpeg              the command that intravid runs, one thread, its output thrown away: the floor
  intravid build           shards with checksums, and their index
  two steps, as published  frame files by ffmpeg with its default threads, one video after the other; then lists of
                           them into LMDB, read by 64 processes
  two steps, tuned         the same with as many extractions side by side, and as many processes, as there are cores
"""

from __future__ import annotations

import argparse
import contextlib
import io
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.list_database import start_workers
from benchmarks.options import add_outputs, add_rounds, positive
from benchmarks.scoreboard import Goal, Scoreboard
from benchmarks.two_steps import TwoSteps
from benchmarks.videos import make_videos
from data_process import ffmpeg
from data_process.build import BuildConfig, build
from data_process.cores import available_cores
from data_process.errors import InputError
from data_process.probe import StreamFacts, probe
from data_process.shards import ShardSet
from data_process.source import SourceRequest, SourceVideo, read_source
from data_process.transcode import picture_of
from data_process.transcode_config import TranscodeConfig

OURS, FLOOR = "intravid build", "bare ffmpeg"
PUBLISHED, TUNED = "two steps, as published", "two steps, tuned"

Contender = Callable[[Path], int]
"""Does its work in an empty folder and gives the number of frames it stored."""


@dataclass(frozen=True)
class Cost:
    """What one turn of a contender took: seconds of all processes, seconds that passed, frames and bytes stored."""

    cpu_s: float
    wall_s: float
    frames: int
    num_bytes: int


def contenders(
    videos: Sequence[SourceVideo], source: Path, *, short_side: int, quality: int, jobs: int, workers: int
) -> dict[str, Contender]:
    """Name to contender.

    Args:
        videos: what is stored.
        source: the folder that they lie in.
        short_side: pixels of the JPEGs.
        quality: ffmpeg's q:v.
        jobs: ffmpegs side by side; the published way runs one.
        workers: packing processes of the published way.
    """
    config = TranscodeConfig(short_side=short_side, quality=quality, min_frames=1)
    commands = [command for video in videos if (command := _bare_command(video.path, config))]
    if not commands:
        raise InputError(f"{source} holds no video that ffmpeg can read; expected files such as .mp4 or .avi")
    published = TwoSteps(short_side, quality, side_by_side=1, workers=workers)
    tuned = TwoSteps(short_side, quality, side_by_side=jobs, workers=jobs)
    return {
        FLOOR: lambda _: _run_bare(commands, jobs),
        OURS: lambda out: _run_build(source, out, BuildConfig(config, jobs=jobs, max_bad=1.0)),
        PUBLISHED: lambda out: published.run(videos, out),
        TUNED: lambda out: tuned.run(videos, out),
    }


def _bare_command(path: Path, config: TranscodeConfig) -> list[str] | None:
    facts = probe(path)
    if not isinstance(facts, StreamFacts) or config.quality is None:
        return None
    return ffmpeg.jpeg_command(path, picture_of(facts, config), quality=config.quality)


def _run_bare(commands: Sequence[list[str]], jobs: int) -> int:
    def run(command: list[str]) -> None:
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run, commands))
    return 0


def _run_build(source: Path, out: Path, config: BuildConfig) -> int:
    with contextlib.redirect_stderr(io.StringIO()):
        build("folder", SourceRequest(source), out / "shards", config)
    return int(ShardSet(out / "shards").num_frames.sum())


def processor_s() -> float:
    """Seconds of processor time so far, of this process and of those that it started and waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def take_turn(contender: Contender, scratch: Path) -> Cost:
    """Run a contender once in a folder of its own."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        cpu, wall = processor_s(), time.perf_counter()
        frames = contender(Path(folder))
        cpu, wall = processor_s() - cpu, time.perf_counter() - wall
        # LMDB files may have holes: what is allocated counts.
        stored = sum(path.stat().st_blocks * 512 for path in Path(folder).rglob("*.lmdb"))
    return Cost(cpu, wall, frames, stored)


def compare(entrants: dict[str, Contender], scratch: Path, *, rounds: int) -> dict[str, list[Cost]]:
    """The costs of all turns, name to one a round."""
    turns: dict[str, list[Cost]] = {name: [] for name in entrants}
    for _ in range(rounds):
        for name, contender in entrants.items():
            turns[name].append(take_turn(contender, scratch))
    return turns


def score(turns: dict[str, list[Cost]], *, num_videos: int, setting: str, workers: int, start_s: float) -> Scoreboard:
    """Medians and the ratios that count.

    Args:
        turns: costs of every contender.
        num_videos: that each of them stored.
        setting: of the scoreboard.
        workers: packing processes of the published way.
        start_s: processor time that their start takes, seconds.
    """

    def medians(name: str) -> tuple[float, float]:
        costs = turns[name]
        return statistics.median(one.cpu_s for one in costs), statistics.median(one.wall_s for one in costs)

    cpu = {name: medians(name)[0] for name in turns}
    rows: dict[str, tuple[float | None, ...]] = {}
    for name, costs in turns.items():
        frames = float(costs[-1].frames) or None
        stored = costs[-1].num_bytes / 1e6 or None
        rows[name] = (*(number / num_videos for number in medians(name)), frames, stored, cpu[name] / cpu[FLOOR])
    return Scoreboard(
        "build",
        setting,
        ("cpu s/video", "wall s/video", "frames", "MB", "x floor"),
        rows,
        goals=(
            Goal("cpu, intravid / two steps as published", cpu[OURS] / cpu[PUBLISHED], 0.65, at_most=True),
            Goal("cpu, intravid / two steps tuned", cpu[OURS] / cpu[TUNED], 0.9, at_most=True),
            Goal("cpu, bare ffmpeg / intravid", 100 * cpu[FLOOR] / cpu[OURS], 85, at_most=False, unit=" %"),
        ),
        remarks=(
            f"To start the {workers} processes of the published way takes {start_s:.1f} s of processor time, once a "
            f"run: without it the first ratio is {cpu[OURS] / (cpu[PUBLISHED] - start_s):.2f}.",
        ),
    )


def main(arguments: list[str]) -> int:
    """Run the benchmark."""
    given = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=given.scratch, prefix="intravid-bench-") as folder:
        scratch = Path(folder)
        source = given.videos
        if source is None:
            source = scratch / "videos"
            make_videos(source, count=given.count, seconds=given.seconds)
        videos = read_source("folder", SourceRequest(source)).videos
        for video in videos:
            video.path.read_bytes()  # into the page cache, so that the first round costs what the others do
        entrants = contenders(
            videos,
            source,
            short_side=given.short_side,
            quality=given.quality,
            jobs=given.jobs,
            workers=given.workers,
        )
        turns = compare(entrants, scratch, rounds=given.rounds)
        start = take_turn(lambda out: start_workers(given.workers, out), scratch).cpu_s
    origin = "generated videos (360p and 720p)" if given.videos is None else f"videos of {given.videos}"
    setting = f"{len(videos)} {origin}, short side {given.short_side}, q:v {given.quality}, {given.jobs} jobs"
    setting += f", {given.rounds} rounds"
    score(turns, num_videos=len(videos), setting=setting, workers=given.workers, start_s=start).publish(given.json)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="intravid bench build",
        description=__doc__,
        epilog="example:\n  intravid bench build\n  intravid bench build videos/ --rounds 5 --json build.json\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("videos", type=Path, nargs="?", help="folder of videos (default: generated ones)")
    parser.add_argument("--count", type=positive, default=48, help="generated videos (48)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a generated video (10)")
    parser.add_argument("--short-side", type=positive, default=256, help="pixels (256)")
    parser.add_argument("--quality", type=int, default=2, help="JPEG scale of ffmpeg (2, as the originals)")
    add_rounds(parser)
    parser.add_argument("--jobs", type=positive, default=available_cores(), help="ffmpegs side by side (one a core)")
    parser.add_argument("--workers", type=positive, default=64, help="packing processes of the published way (64)")
    add_outputs(parser, scratch=True)
    return parser

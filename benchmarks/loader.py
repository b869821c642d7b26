"""Speed of the loader's executors side by side: clips a second, and milliseconds of processor time a clip.

Every contender carries out the same plans of the same videos. They take turns, several rounds each; of the processor
time the lowest round is reported, since a busy machine can only add to it. Clips a second depend on what else runs.
`pillow` is the plain way: one thread with Pillow's operations, without prefetching. Peers that are installed read the
same frames from a list in LMDB (CoCLR, CSTP) and from MP4 files (decord, PyAV), and go on with Pillow's operations.
The stages of the host executor are measured alone, each with those before it: what decoding and resizing cost in any
case. So are as many processes as threads that share nothing: what the machine's cores give together.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.options import add_outputs, add_rounds, positive
from benchmarks.peers import GROUP, Contender, carried_out, from_shards, peers
from benchmarks.pictures import drifting_jpegs
from benchmarks.scoreboard import Goal, Scoreboard
from benchmarks.side_by_side import clips_per_second
from benchmarks.stages import STAGES, stages, told
from data_process.cores import available_cores
from data_process.records import VideoRecord
from data_process.shard_writer import write_dataset
from data_process.shards import ShardSet
from pipelines.draw import ColourJitter, clip_frames, looped, random_area_box, random_start
from pipelines.loader import PipelineConfig, build_loader
from pipelines.plan import ClipFormat, ClipPlan, SamplePlan
from pipelines.source import ClipSource

NUM_VIEWS, NUM_FRAMES, SIZE = 2, 16, 112
PLAIN = "pillow, 1 thread"
STAGE = "stage: "
STRONG = ColourJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, probability=0.8, grey=0.2, blur=0.5)


@dataclass(frozen=True)
class BenchmarkPlanner:
    """Two clips a video: a random crop each, and with a jitter also flips and colours."""

    jitter: ColourJitter | None

    @property
    def clip_format(self) -> ClipFormat:
        """Two views of 16 frames of 112 x 112 pixels."""
        operations = {"flip"} | self.jitter.operations if self.jitter else set()
        return ClipFormat(NUM_VIEWS, NUM_FRAMES, SIZE, operations=frozenset(operations))

    def __call__(self, rng: np.random.Generator, record: VideoRecord) -> SamplePlan:
        """The clips of a video."""
        return SamplePlan(tuple(self._clip(rng, record) for _ in range(NUM_VIEWS)))

    def _clip(self, rng: np.random.Generator, record: VideoRecord) -> ClipPlan:
        start = random_start(rng, video_frames=record.num_frames, num_frames=NUM_FRAMES)
        frames = looped(clip_frames(start, num_frames=NUM_FRAMES), record.num_frames)
        box = random_area_box(rng, height=record.height, width=record.width, area=(0.4, 1.0))
        clip = ClipPlan(frames, box)
        if self.jitter is None:
            return clip
        return replace(clip, flip=bool(rng.random() < 0.5), photometric=(self.jitter.draw(rng),))


RECIPES = {"crop": BenchmarkPlanner(None), "augment": BenchmarkPlanner(STRONG)}


def write_videos(root: Path, *, height: int, width: int, count: int, frames: int) -> ShardSet:
    """Videos of generated JPEG frames."""
    rng = np.random.default_rng(0)

    def video(number: int) -> tuple[dict[str, object], list[bytes]]:
        units = drifting_jpegs(rng, frames, height=height, width=width)
        return {"id": f"video/{number}", "height": height, "width": width}, units

    return ShardSet(write_dataset(root, [video(number) for number in range(count)]), split="train")


def loader_steps(videos: ShardSet, planner: BenchmarkPlanner, config: PipelineConfig, batch: int) -> Iterator[int]:
    """The number of clips of each step of a loader."""
    with build_loader(videos, planner, planner.clip_format, config=config, seed=0, global_batch=batch) as loader:
        for one in loader.batches(0):
            yield len(one) * NUM_VIEWS


def contenders(
    videos: ShardSet, planner: BenchmarkPlanner, folder: Path, *, threads: list[int], batch: int
) -> dict[str, Contender]:
    """The contenders by name; what is not installed is left out."""
    from importlib.util import find_spec

    backends = ["host", "dali"] if find_spec("nvidia") and find_spec("nvidia.dali") else ["host"]
    source = ClipSource(videos, planner, planner.clip_format, seed=0, global_batch=batch)
    found = {PLAIN: Contender(lambda: carried_out(source, from_shards))}
    found |= peers(source, videos, folder)
    found |= {f"{STAGE}{name}": Contender(begin) for name, begin in stages(source).items()}
    for backend in backends:
        for count in threads:
            config = PipelineConfig(backend=backend, threads=count)  # type: ignore[arg-type]
            name = f"{backend}, {count} thread{'s' if count > 1 else ''}"
            found[name] = Contender(lambda config=config: loader_steps(videos, planner, config, batch))
    return found


def processor_s() -> float:
    """Seconds of processor time of all threads of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(contender: Contender, steps: int) -> tuple[float, float, float]:
    """Milliseconds of processor time, clips a second and kilobytes a clip, over `steps` steps behind three of warm-up.

    What was prepared ahead at the start of the interval is made up for by what is prepared ahead at its end.
    """
    running = contender.begin()
    for _ in islice(running, 3):
        pass
    cpu, wall, read = processor_s(), time.perf_counter(), contender.num_bytes()
    clips = sum(islice(running, steps))
    cpu, wall, read = processor_s() - cpu, time.perf_counter() - wall, contender.num_bytes() - read
    running.close()  # type: ignore[attr-defined]
    return 1e3 * cpu / clips, clips / wall, 1e-3 * read / clips


def compare(
    videos: ShardSet, folder: Path, *, threads: list[int], batch: int, steps: int, rounds: int
) -> dict[str, tuple[float | None, ...]]:
    """All contenders of all recipes, in turns: lowest processor time a clip, most clips a second, times Pillow."""
    rows: dict[str, tuple[float | None, ...]] = {}
    for recipe, planner in RECIPES.items():
        runs: dict[str, list[tuple[float, float, float]]] = {}
        place = folder / recipe
        place.mkdir()
        field = contenders(videos, planner, place, threads=threads, batch=batch)
        for _ in range(rounds):
            for name, contender in field.items():
                runs.setdefault(name, []).append(measure(contender, steps))
        plain = min(cpu for cpu, _, _ in runs[PLAIN])
        for name, results in runs.items():
            cpu, speed, read = zip(*results, strict=True)
            rows[f"{recipe}: {name}"] = (min(cpu), max(speed), min(read), plain / min(cpu))
        if (count := max(threads)) > 1:
            alone = PipelineConfig(backend="host", threads=1, readers=1)
            together = clips_per_second(
                loader_steps, (videos, planner, alone, batch), processes=count, steps=steps, rounds=rounds
            )
            rows[f"{recipe}: {count} processes of host, 1 thread"] = (None, together, None, None)
    return rows


def goals(rows: dict[str, tuple[float | None, ...]]) -> tuple[Goal, ...]:
    """How the host executor stands against MP4 files, and how its threads add up."""
    found = []
    for recipe in RECIPES:
        ours = rows.get(f"{recipe}: host, 1 thread", (None,))[0]
        mp4 = [row[0] for name, row in rows.items() if name.startswith(f"{recipe}: mp4") and row[0]]
        if ours and mp4:
            what = f"{recipe}: cpu of the best reader of mp4 (a key frame in {GROUP}) / host, 1 thread"
            found.append(Goal(what, min(mp4) / ours, 10.0, at_most=False))
        alone = rows.get(f"{recipe}: host, 1 thread", (None, None))[1]
        together = rows.get(f"{recipe}: host, 4 threads", (None, None))[1]
        processes = rows.get(f"{recipe}: 4 processes of host, 1 thread", (None, None))[1]
        if alone and together:
            found.append(Goal(f"{recipe}: clips/s, 4 threads / 1 (quiet cores)", together / alone, 3.4, at_most=False))
        if alone and processes:
            what = f"{recipe}: clips/s, 4 processes / 1 (what these cores give)"
            found.append(Goal(what, processes / alone, 3.4, at_most=False))
    return tuple(found)


def remarks(rows: dict[str, tuple[float | None, ...]]) -> tuple[str, ...]:
    """Where the host executor's time goes, by recipe."""
    found = []
    for recipe in RECIPES:
        host = rows.get(f"{recipe}: host, 1 thread", (None,))[0]
        parts = [rows[f"{recipe}: {STAGE}{name}"][0] for name in STAGES]
        if host:
            found.append(f"{recipe}: {told([part or 0.0 for part in parts], host)}")
    return tuple(found)


def main(arguments: list[str]) -> int:
    """Run the benchmark."""
    given = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        if given.shards:
            videos = ShardSet(given.shards, split="train")
        else:
            size = {"height": given.height, "width": given.width}
            videos = write_videos(Path(folder) / "shards", **size, count=given.videos, frames=given.frames)
        rows = compare(
            videos, Path(folder), threads=given.threads, batch=given.batch, steps=given.steps, rounds=given.rounds
        )
        first = videos[0]
    setting = (
        f"{NUM_VIEWS} clips of {NUM_FRAMES} frames a video ({first.width} x {first.height}) to {SIZE} x {SIZE}, "
        f"{available_cores()} cores, {given.rounds} rounds"
    )
    columns = ("cpu ms/clip", "clips/s", "KB/clip", "cpu, Pillow / this")
    Scoreboard("loader", setting, columns, rows, goals(rows), remarks(rows)).publish(given.json)
    return 0


def _parser() -> argparse.ArgumentParser:
    cores = available_cores()
    parser = argparse.ArgumentParser(
        prog="intravid bench loader",
        description=__doc__,
        epilog="example:\n  intravid bench loader --height 256 --width 340\n"
        "  intravid bench loader --shards shards/ --json loader.json\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--shards", type=Path, help="folder of shards (default: generated videos)")
    parser.add_argument("--height", type=positive, default=128, help="of generated videos, pixels (128)")
    parser.add_argument("--width", type=positive, default=171, help="likewise (171)")
    parser.add_argument("--videos", type=positive, default=16, help="generated videos (16)")
    parser.add_argument("--frames", type=positive, default=250, help="of a generated video (250)")
    parser.add_argument(
        "--threads",
        type=int,
        nargs="+",
        default=sorted({1, 2, cores} & set(range(1, cores + 1))),
        help="of the executors; each number is a contender (1, 2 and one a core)",
    )
    parser.add_argument("--batch", type=positive, default=8, help="videos a step (8)")
    parser.add_argument("--steps", type=positive, default=10, help="measured steps a round (10)")
    add_rounds(parser)
    add_outputs(parser)
    return parser

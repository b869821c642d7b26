"""What a dataset of a million videos costs at the start of every process: seconds, and memory of its own.

Only the index is written, for records that are not there; nothing but the index is read. Two processes open it at the
same time, as two ranks of a machine do, look at samples, labels and digest, and the worse of the two counts.

  one root                 a folder of shards
  two roots                the same videos in two folders, joined
  every other id           the one folder, and a file that names half of its videos
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.options import add_outputs, add_rounds, positive
from benchmarks.scoreboard import Goal, Scoreboard
from data_process.data_config import DataConfig
from data_process.errors import InputError
from data_process.id_table import IdTable
from data_process.index import INDEX_FORMAT, ROW

PER_SHARD, CLASSES = 512, 400
_SAMPLES = 2000
_MEMORY = Path("/proc/self/smaps_rollup")


@dataclass(frozen=True)
class Opening:
    """What one process, or the worse of several, needed.

    Attributes:
        open_s: seconds until the first sample is there.
        sample_us: microseconds for each further one, at random places.
        digest_s: seconds for the digest and all labels.
        own_bytes: memory of the process alone, a video.
        shared_mb: memory shared with others.
    """

    open_s: float
    sample_us: float
    digest_s: float
    own_bytes: float
    shared_mb: float


def video_id(number: int) -> str:
    """Id of a synthetic video."""
    return f"class {number % CLASSES}/video {number:09d}"


def write_synthetic_index(root: Path, *, first: int, videos: int) -> None:
    """Index of `videos` records that do not exist, numbered from `first`."""
    root.mkdir(parents=True)
    rows, number = np.zeros(videos, dtype=ROW), np.arange(videos)
    rows["shard"], rows["position"] = number // PER_SHARD, number % PER_SHARD
    rows["label"], rows["frames"], rows["fps_x100"] = (first + number) % CLASSES, 250, 2500
    rows["offset"], rows["length"] = 8192 + 4096 * rows["position"].astype(np.uint64), 4096
    rows["width"], rows["height"] = 340, 256
    np.save(root / "index.npy", rows)
    (root / "ids.bin").write_bytes(IdTable.pack([video_id(one) for one in range(first, first + videos)]))
    facts = {"size": 1 << 31, "transaction": 9, "records": PER_SHARD, "offsets_sha256": "0" * 64}
    shards = {str(one): {"name": f"shard-{one:06d}.lmdb", **facts} for one in range(-(-videos // PER_SHARD))}
    described = {
        "format": INDEX_FORMAT,
        "videos": videos,
        "frames": 250 * videos,
        "classes": [f"class {one}" for one in range(CLASSES)],
        "splits": {"train": [0, videos]},
        "shards": shards,
    }
    (root / "index.json").write_text(json.dumps(described))


def write_datasets(folder: Path, videos: int) -> dict[str, DataConfig]:
    """The three ways to the same videos (or half of them), by name."""
    half = videos // 2
    write_synthetic_index(folder / "whole", first=0, videos=videos)
    write_synthetic_index(folder / "first", first=0, videos=half)
    write_synthetic_index(folder / "second", first=half, videos=videos - half)
    (folder / "ids.txt").write_text("".join(f"{video_id(one)}\n" for one in range(0, videos, 2)))
    return {
        "one root": DataConfig(root=str(folder / "whole")),
        "two roots": DataConfig(root=[str(folder / "first"), str(folder / "second")]),
        "every other id": DataConfig(root=str(folder / "whole"), subset=str(folder / "ids.txt")),
    }


def open_in_two_processes(config: DataConfig) -> Opening:
    """The worse of two fresh processes that have the same videos open at the same time."""
    context = get_context("spawn")
    both_open = context.Barrier(2)
    readers = []
    for _ in range(2):
        ours, theirs = context.Pipe()
        process = context.Process(target=_open, args=(config, both_open, theirs), daemon=True)
        process.start()
        theirs.close()
        readers.append((process, ours))
    openings: list[Opening] = [pipe.recv() for _, pipe in readers]
    for process, _ in readers:
        process.join()
    return worse_of(openings)


def worse_of(openings: Sequence[Opening]) -> Opening:
    """The largest of each cost, and what all of them share at least."""
    return replace(
        Opening(*map(max, zip(*map(astuple, openings), strict=True))), shared_mb=min(one.shared_mb for one in openings)
    )


def _open(config: DataConfig, both_open: Any, pipe: Connection) -> None:
    before = _memory()
    start = time.perf_counter()
    videos = config.open()
    assert videos[len(videos) - 1].num_frames == 250
    opened = time.perf_counter()
    for index in np.random.default_rng(0).integers(0, len(videos), _SAMPLES).tolist():
        videos[index]
    sampled = time.perf_counter()
    assert len(videos.digest) == 64
    assert len(videos.labels) == len(videos)
    digested = time.perf_counter()
    both_open.wait(timeout=60)
    after = _memory()
    # Nobody leaves before both have looked: pages of a process that ended are shared with no one.
    both_open.wait(timeout=60)
    own = (after["Anonymous"] - before["Anonymous"]) / len(videos)
    shared = sum(after[name] - before[name] for name in ("Shared_Clean", "Shared_Dirty")) / 1e6
    pipe.send(Opening(opened - start, 1e6 * (sampled - opened) / _SAMPLES, digested - sampled, own, shared))


def _memory() -> dict[str, int]:
    """Kind of memory of this process to bytes."""
    lines = (line.split() for line in _MEMORY.read_text().splitlines()[1:])
    return {name.rstrip(":"): 1024 * int(size) for name, size, *_ in lines}


def score(openings: dict[str, Opening], *, setting: str) -> Scoreboard:
    """The table, and what a million videos may cost."""
    slowest = max(opening.open_s for opening in openings.values())
    largest = max(opening.own_bytes for opening in openings.values())
    return Scoreboard(
        "index",
        setting,
        ("open s", "sample us", "digest s", "own bytes/video", "shared MB"),
        {name: astuple(opening) for name, opening in openings.items()},
        goals=(
            Goal("slowest opening with its first sample", slowest, 2, at_most=True, unit=" s"),
            Goal("most memory of its own, a video", largest, 100, at_most=True, unit=" bytes"),
        ),
    )


def main(arguments: list[str]) -> int:
    """Run the benchmark."""
    given = _parser().parse_args(arguments)
    if not _MEMORY.exists():
        raise InputError(f"bench index needs Linux: {_MEMORY} tells own memory from shared")
    if given.videos < 2:
        raise InputError(f"--videos {given.videos}: two folders need two videos")
    with tempfile.TemporaryDirectory(dir=given.scratch, prefix="intravid-bench-") as folder:
        configs = write_datasets(Path(folder), given.videos)
        turns: dict[str, list[Opening]] = {name: [] for name in configs}
        for _ in range(given.rounds):
            for name, config in configs.items():
                turns[name].append(open_in_two_processes(config))
    openings = {
        name: Opening(*map(statistics.median, zip(*map(astuple, turn), strict=True))) for name, turn in turns.items()
    }
    score(openings, setting=f"{given.videos:,} videos, {given.rounds} rounds").publish(given.json)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="intravid bench index",
        description=__doc__,
        epilog="example:\n  intravid bench index\n  intravid bench index --videos 10000000 --json index.json\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--videos", type=positive, default=1_000_000, help="of the synthetic index (1,000,000)")
    add_rounds(parser)
    add_outputs(parser, scratch=True)
    return parser

"""What reading a random clip of neighbouring frames costs, beside whole videos through LMDB as the originals read them.

The same frames lie in shards and in a list database. Every reader works in a fresh process and gives encoded frames,
not decoded; intravid checks their checksums. Readers take turns, round by round, and medians count. Cold: the kernel
forgets the files before every clip, and every clip is another video's. Warm: the files are in the page cache.

  intravid                 only the wanted bytes, with pread
  list, no readahead       txn.get and unpacking of the video's list, with the open flags of the originals
  list, readahead          the same with read-ahead by the kernel
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from dataclasses import astuple
from pathlib import Path

import numpy as np

from benchmarks.list_database import write_lists
from benchmarks.options import add_outputs, add_rounds, positive
from benchmarks.pictures import drifting_jpegs
from benchmarks.reading import Clip, ReaderSpec, Reading, read_clips
from benchmarks.scoreboard import Goal, Scoreboard
from data_process.errors import InputError
from data_process.frames import STREAMS
from data_process.shard_writer import write_dataset
from data_process.shards import ShardSet

OURS, LIST, LIST_AHEAD = "intravid", "list, no readahead", "list, readahead"
_POOL = 500


def write_shards(root: Path, *, videos: int, frames: int, height: int, width: int) -> None:
    """Videos whose frames are drawn from a pool of encoded ones: their bytes differ, and writing them takes seconds."""
    rng = np.random.default_rng(0)
    scenes = [drifting_jpegs(rng, _POOL // 10, height=height, width=width, patch=24, grain=4.0) for _ in range(10)]
    pool = [frame for scene in scenes for frame in scene]
    facts = {"height": height, "width": width}
    drawn = (rng.integers(len(pool), size=frames) for _ in range(videos))
    write_dataset(
        root,
        (
            ({"id": f"video/{number:06d}", **facts}, [pool[place] for place in places])
            for number, places in enumerate(drawn)
        ),
    )


def copy_to_lists(shards: ShardSet, path: Path, *, count: int) -> None:
    """The first videos of the shards as a list database; numbers are sample indices."""
    whole = (
        (index, shards[index].id, shards.read_frames(index, range(shards[index].num_frames)).units)
        for index in range(count)
    )
    write_lists(path, ([video] for video in whole))


def draw_clips(shards: ShardSet, count: int, *, frames: int, rng: np.random.Generator) -> list[Clip]:
    """A random clip of each of the first `count` videos, in random order."""
    clips = []
    for index in map(int, rng.permutation(count)):
        start = int(rng.integers(shards[index].num_frames - frames + 1))
        clips.append((index, tuple(range(start, start + frames))))
    return clips


def compare(
    readers: dict[str, ReaderSpec],
    shards: ShardSet,
    *,
    count: int,
    frames: int,
    clips: int,
    warm_clips: int,
    rounds: int,
) -> dict[str, tuple[Reading, Reading]]:
    """Cold and warm readings of every reader, the median of the rounds in each number."""
    rng = np.random.default_rng(0)
    turns: dict[str, list[tuple[Reading, Reading]]] = {name: [] for name in readers}
    for _ in range(rounds):
        drawn = draw_clips(shards, count, frames=frames, rng=rng)
        # Always in the same order: a reader that keeps the last headers finds none of them again.
        warm = [drawn[number % count] for number in range(warm_clips)]
        for name, spec in readers.items():
            turns[name].append((read_clips(spec, drawn[:clips], cold=True), read_clips(spec, warm, cold=False)))
    return {
        name: (_median([cold for cold, _ in readings]), _median([warm for _, warm in readings]))
        for name, readings in turns.items()
    }


def _median(readings: list[Reading]) -> Reading:
    return Reading(*map(statistics.median, zip(*map(astuple, readings), strict=True)))


def score(readings: dict[str, tuple[Reading, Reading]], *, setting: str) -> Scoreboard:
    """The table and the ratios that count."""
    rows: dict[str, tuple[float | None, ...]] = {
        name: (
            cold.ms,
            cold.disk_bytes / 1e3,
            cold.faults,
            warm.ms,
            warm.cpu_ms,
            max(cold.memory_mb, warm.memory_mb),
        )
        for name, (cold, warm) in readings.items()
    }
    cold = {name: pair[0] for name, pair in readings.items()}
    warm = {name: pair[1] for name, pair in readings.items()}
    on_disk = cold[OURS].disk_bytes > 0
    remarks = (
        () if on_disk else ("Nothing came from a disk: give --scratch, or shards, on a file system that has one.",)
    )

    def slower(name: str) -> float | None:
        return cold[name].ms / cold[OURS].ms if on_disk else None

    return Scoreboard(
        "clip",
        setting,
        ("cold ms", "cold KB", "cold faults", "warm ms", "warm cpu ms", "memory MB"),
        rows,
        goals=(
            Goal(
                f"bytes from disk, intravid / {LIST}",
                cold[OURS].disk_bytes / cold[LIST].disk_bytes if on_disk else None,
                0.1,
                at_most=True,
            ),
            Goal(f"cold time, {LIST} / intravid", slower(LIST), 20, at_most=False),
            Goal(f"cold time, {LIST_AHEAD} / intravid", slower(LIST_AHEAD), 3, at_most=False),
            Goal(f"warm cpu, {LIST} / intravid", warm[LIST].cpu_ms / warm[OURS].cpu_ms, 4, at_most=False),
            Goal("memory of intravid", rows[OURS][-1], 64, at_most=True, unit=" MB"),
        ),
        remarks=remarks,
    )


def main(arguments: list[str]) -> int:
    """Run the benchmark."""
    given = _parser().parse_args(arguments)
    if not (hasattr(os, "posix_fadvise") and Path("/proc/self/io").exists()):
        raise InputError("bench clip needs Linux: posix_fadvise to empty the page cache, /proc/self/io to count bytes")
    with tempfile.TemporaryDirectory(dir=given.scratch, prefix="intravid-bench-") as folder:
        root = given.shards or Path(folder) / "shards"
        if given.shards is None:
            write_shards(root, videos=given.videos, frames=250, height=given.height, width=given.width)
        shards = ShardSet(root)
        count = _usable(shards, given.videos, given.frames)
        copy_to_lists(shards, Path(folder) / "lists.lmdb", count=count)
        readers = {
            OURS: ReaderSpec(root),
            LIST: ReaderSpec(Path(folder) / "lists.lmdb", readahead=False),
            LIST_AHEAD: ReaderSpec(Path(folder) / "lists.lmdb", readahead=True),
        }
        clips = min(given.clips, count)
        readings = compare(
            readers,
            shards,
            count=count,
            frames=given.frames,
            clips=clips,
            warm_clips=given.warm_clips,
            rounds=given.rounds,
        )
        size_mb = (Path(folder) / "lists.lmdb").stat().st_blocks * 512 / 1e6
    setting = (
        f"{given.frames} frames of {shards[0].width} x {shards[0].height}, {count} videos, {size_mb:,.0f} MB; "
        f"{clips} cold and {given.warm_clips} warm clips, {given.rounds} rounds"
    )
    score(readings, setting=setting).publish(given.json)
    return 0


def _usable(shards: ShardSet, wanted: int, frames: int) -> int:
    """Number of first videos to read from.

    Raises:
        InputError: where they are not JPEGs or too short.
    """
    count = min(wanted, len(shards))
    for record in map(shards.__getitem__, range(count)):
        if record.codec in STREAMS:
            raise InputError(f"{shards.root} holds {record.codec} records; bench clip compares stored JPEG frames")
        if record.num_frames < frames:
            raise InputError(f"{record.id} has {record.num_frames} frames; give --frames {record.num_frames} or less")
    return count


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="intravid bench clip",
        description=__doc__,
        epilog="example:\n  intravid bench clip\n  intravid bench clip shards/ --json clip.json\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shards", type=Path, nargs="?", help="folder of shards (default: generated videos)")
    parser.add_argument("--videos", type=positive, default=300, help="to read from; generated: 250 frames each (300)")
    parser.add_argument("--height", type=positive, default=256, help="of generated videos, pixels (256)")
    parser.add_argument("--width", type=positive, default=340, help="likewise (340)")
    parser.add_argument("--frames", type=positive, default=16, help="of a clip (16)")
    parser.add_argument("--clips", type=positive, default=100, help="cold clips a round, each of another video (100)")
    parser.add_argument("--warm-clips", type=positive, default=2000, help="warm clips a round (2000)")
    add_rounds(parser)
    add_outputs(parser, scratch=True)
    return parser

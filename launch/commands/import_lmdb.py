"""`intravid import-lmdb`: databases of CoCLR and CSTP to shards."""

from __future__ import annotations

import argparse
from pathlib import Path

from launch.array import parse_with_task
from launch.names import read_classes

EXAMPLE = """\
example:
  intravid import-lmdb k400.lmdb shards/                          # CoCLR: one file
  intravid import-lmdb Kinetics-lmdb/ shards/ --fps 30            # CSTP: a folder with data.mdb
"""


def main(arguments: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="intravid import-lmdb",
        description="Write the videos of an LMDB database of CoCLR or CSTP as shards. Frames are stored as they are; "
        "shards that exist are kept: run the same command again to go on after a stop.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, help="the database, a file or a folder")
    parser.add_argument("out", type=Path, help="folder for the shards")
    parser.add_argument("--split", default="train", help="split of its videos (train)")
    parser.add_argument(
        "--fps",
        type=float,
        default=0.0,
        help="rate of its frames, which it does not tell: CSTP extracts Kinetics at 30, UCF101 and HMDB51 at 25, CoCLR "
        "all at their own (unknown)",
    )
    parser.add_argument("--classes", type=Path, help="file of class names, one a line, in the order of the labels")
    parser.add_argument("--videos-per-shard", type=int, help="64 for sets up to 4,096 videos, 512 beyond")
    parser.add_argument(
        "--max-bad", type=float, default=0.01, help="share left out beyond which exit status is 1 (0.01)"
    )
    given = parse_with_task(parser, arguments)
    from data_process.import_lmdb import ImportConfig, import_lmdb

    config = ImportConfig(
        given.split, given.fps, given.videos_per_shard, task=given.task, tasks=given.tasks, max_bad=given.max_bad
    )
    summary = import_lmdb(given.source, given.out, config, classes=read_classes(given.classes))
    state = "indexed" if summary.complete else "other tasks have shards to write; the last one writes the index"
    print(f"{given.out}: {summary}; {state}")
    return 0

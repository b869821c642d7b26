"""`intravid repack`: a dataset into other shards, without encoding."""

from __future__ import annotations

import argparse
from pathlib import Path

from launch.array import parse_with_task
from launch.names import read_names


def main(arguments: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="intravid repack",
        description="Copy the records of a dataset into shards of another size, or some of its videos only.",
        epilog="example:\n  intravid repack shards/ larger/ --videos-per-shard 512\n"
        "  intravid repack shards/ clean/ --without bad_ids.txt\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("root", type=Path, help="folder of shards")
    parser.add_argument("out", type=Path, help="folder for the new shards")
    parser.add_argument("--split", help="keep only this split (all)")
    parser.add_argument("--only", type=Path, metavar="FILE", help="keep only the videos with these ids, one a line")
    parser.add_argument("--without", type=Path, metavar="FILE", help="leave out the videos with these ids")
    parser.add_argument("--videos-per-shard", type=int, help="64 for sets up to 4,096 videos, 512 beyond")
    given = parse_with_task(parser, arguments)
    from data_process.repack import RepackConfig, repack

    config = RepackConfig(
        split=given.split,
        only=read_names(given.only, "--only"),
        without=read_names(given.without, "--without") or (),
        videos_per_shard=given.videos_per_shard,
        task=given.task,
        tasks=given.tasks,
    )
    summary = repack(given.root, given.out, config)
    state = "indexed" if summary.complete else "other tasks have shards to write; the last one writes the index"
    print(f"{given.out}: {summary}; {state}")
    return 0

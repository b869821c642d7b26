"""`intravid synth`: a labelled motion dataset of real MP4 files."""

from __future__ import annotations

import argparse
from pathlib import Path

_TEXT = """\
Write videos of light sprites on a dark ground in eight classes that differ in motion only (line, circle, zigzag,
shuttle, spin, pulse, blink, jump): a single frame says nothing about the class. The folder can be given to
`intravid build` as it is. Every video is a function of the seed, the split and its number; an interrupted run is
finished by the same command."""

_EXAMPLE = """\
example:
  intravid synth motion/ --videos 400 --test-videos 160 --seed 1
  intravid build motion/ motion-shards/
"""


def main(arguments: list[str]) -> int:
    """Write the set that the arguments ask for."""
    asked = _parser().parse_args(arguments)

    from data_process.motion_set import MotionSetConfig, write_motion_set

    test_videos = round(asked.videos * 0.4) if asked.test_videos is None else asked.test_videos
    config = MotionSetConfig(
        videos=asked.videos,
        test_videos=test_videos,
        seed=asked.seed,
        level=asked.level,
        size=asked.size,
        frames=asked.frames,
    )
    written = write_motion_set(asked.out, config, jobs=asked.jobs)
    kept = len(config.items) - written
    print(
        f"{asked.out}: {config.videos} training and {config.test_videos} test videos"
        + (f", {kept} of them from an earlier run" if kept else "")
        + f"; next: intravid build {asked.out} SHARDS"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="intravid synth",
        description=_TEXT,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write; new, empty, or of an interrupted run")
    parser.add_argument("--videos", type=int, default=400, metavar="N", help="training videos (default 400)")
    parser.add_argument("--test-videos", type=int, metavar="M", help="test videos (default two for every five of N)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of all random draws (default 0)")
    parser.add_argument(
        "--level",
        default="default",
        metavar="LEVEL",
        help="default; plain (the same colours and ground in all videos, easier to learn from); medium (free colours "
        "and shapes, full range of speeds); hard (no network was seen to learn it yet)",
    )
    parser.add_argument("--size", type=int, default=64, metavar="PX", help="height and width (default 64)")
    parser.add_argument("--frames", type=int, default=64, metavar="T", help="frames a video, 25 a second (default 64)")
    parser.add_argument(
        "--jobs", type=int, metavar="J", help="videos at a time (default one a core); no effect on bytes"
    )
    return parser

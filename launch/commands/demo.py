"""`intravid demo`: everything once, on a small generated set."""

from __future__ import annotations

import argparse
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="intravid demo",
        description="Motion videos, shards, pretraining with a stop and a resume, retrieval, kNN and linear probe, a "
        "report: a few minutes on two cores. A second start in the same folder goes on with what is there.",
        epilog="example:\n  intravid demo demo-out --seed 1\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, nargs="?", default=Path("demo-out"), help="folder (demo-out)")
    parser.add_argument("--seed", type=int, default=0, help="of videos, weights and batches (0)")
    parser.add_argument("--videos", type=int, default=400, help="to train on (400)")
    parser.add_argument("--test-videos", type=int, default=160, help="to judge on (160)")
    given = parser.parse_args(arguments)
    from launch.demo import demo
    from launch.pretrain import set_up_logging

    set_up_logging()
    return demo(given.out, seed=given.seed, videos=given.videos, test_videos=given.test_videos)

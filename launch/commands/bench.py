"""`intravid bench`: the speed of each stage, side by side with peers."""

from __future__ import annotations

import argparse
from importlib import import_module

BENCHMARKS = {
    "build": "processor time of a build, beside the originals' two steps and bare ffmpeg",
    "clip": "reading a random clip, beside whole videos through LMDB: time, bytes, memory",
    "index": "the start of a process on a million videos: time, memory of its own",
    "labels": "what pretraining is worth where few labels are known, beside training from scratch",
    "loader": "clips a second of the loader's executors, beside Pillow",
    "motion": "what the methods learn on the motion set, beside random networks and single frames",
    "start": "a training run's way to its first step, fresh and resumed, beside importing torch",
    "step": "the training loop, beside the plainest loop that takes the same steps",
}
"""Name to one line of help; each is a module of `benchmarks` with `main(arguments)`."""


def main(arguments: list[str]) -> int:
    """Run one benchmark; its own options stand behind its name."""
    names = "\n".join(f"  {name:<8} {text}" for name, text in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="intravid bench",
        description=f"Measure one stage on this machine, contenders in turns.\n\n{names}",
        epilog="example:\n  intravid bench build\n  intravid bench loader --help       options of one benchmark\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this, or behind a name its options")
    parser.add_argument("name", nargs="?", choices=tuple(BENCHMARKS), help="what is measured")
    given = parser.parse_args(arguments[:1])
    if given.help or given.name is None:
        parser.print_help()
        return 0 if given.help else 2
    from launch.env import check_one_checkout

    check_one_checkout(["benchmarks"])
    return import_module(f"benchmarks.{given.name}").main(arguments[1:])

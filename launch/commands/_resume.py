"""Options of `pretrain` and `submit` that say where a run begins."""

from __future__ import annotations

import argparse


def add_resume(parser: argparse.ArgumentParser) -> None:
    """Add ``--resume`` and ``--start-over``."""
    parser.add_argument(
        "--resume",
        default="auto",
        metavar="WHERE",
        help="auto (default): the newest checkpoint in the run folder, first weights where there is none; none: first "
        "weights; or a step-*.pt file or run folder, of this run or another on the same clips",
    )
    parser.add_argument(
        "--start-over",
        action="store_true",
        help="with --resume none or another run's checkpoint: move what the run folder holds into its earlier-001, "
        "earlier-002, ...",
    )


def resume_words(given: argparse.Namespace) -> list[str]:
    """The same options as words, for a command that is started by another."""
    words = [] if given.resume == "auto" else [f"--resume={given.resume}"]
    return [*words, "--start-over"] if given.start_over else words

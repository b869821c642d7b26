"""Options of `pretrain` and `finetune` that time some steps."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.profile import Profile


def add_profile(parser: argparse.ArgumentParser) -> None:
    """Add ``--profile`` and ``--profile-steps``."""
    parser.add_argument(
        "--profile",
        action="store_true",
        help="time the stages of some steps, trace a few more into the run folder, name what limits the run, and stop "
        "with the state saved; the same command without it goes on",
    )
    parser.add_argument("--profile-steps", type=int, default=20, metavar="N", help="that are timed (20)")


def asked_profile(given: argparse.Namespace) -> Profile | None:
    """What the options ask for."""
    from engine.profile import Profile

    return Profile(given.profile_steps) if given.profile else None

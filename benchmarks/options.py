"""Command-line options that all benchmarks read alike."""

from __future__ import annotations

import argparse
from pathlib import Path


def positive(text: str) -> int:
    """A whole number of at least 1, as a `type` of argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: expected 1 or more")
    return number


def add_rounds(parser: argparse.ArgumentParser) -> None:
    """`--rounds`: turns of every contender."""
    parser.add_argument("--rounds", type=positive, default=3, help="turns of every contender (3)")


def add_outputs(parser: argparse.ArgumentParser, *, scratch: bool = False) -> None:
    """`--json`, and `--scratch` of benchmarks that write much."""
    if scratch:
        parser.add_argument("--scratch", type=Path, help="folder for what is written (the system's temporary folder)")
    parser.add_argument("--json", type=Path, help="also write the numbers here")

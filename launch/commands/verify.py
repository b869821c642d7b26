"""`intravid verify`: check a dataset of shards."""

from __future__ import annotations

import argparse
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Run the command; 1 where damage was found."""
    parser = argparse.ArgumentParser(
        prog="intravid verify",
        description="Check shards: 0 names and sizes, 1 structure and index, 2 every header, 3 every frame's checksum.",
        epilog="example:\n  intravid verify shards/ --level 3\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("root", type=Path, help="folder of shards")
    parser.add_argument("--level", type=int, default=2, help="0 to 3, each includes those below (2)")
    given = parser.parse_args(arguments)
    from data_process.verify import LEVELS, verify

    found = verify(given.root, level=given.level)
    for damage in found:
        print(damage)
    if found:
        print(f"{len(found)} problems; move damaged shards away and run `intravid build` again: it rebuilds only those")
        return 1
    print(f"{given.root}: no damage found (level {given.level}: {LEVELS[given.level]})")
    return 0

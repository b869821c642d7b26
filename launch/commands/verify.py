"""`intravid verify`: check a dataset of shards."""

from __future__ import annotations

import argparse
from pathlib import Path

from launch.array import parse_with_task

EXAMPLE = """\
example:
  intravid verify shards/ --level 3
  intravid verify shards/ --level 3 --move-damaged && intravid build videos/ shards/    # repair: rebuilds only those
  sbatch --array=0-15 --wrap "intravid verify shards/ --level 4"
"""


def main(arguments: list[str]) -> int:
    """Run the command; 1 where damage was found."""
    parser = argparse.ArgumentParser(
        prog="intravid verify",
        description="Check shards: 0 names and sizes, 1 structure and index, 2 every header, 3 every frame's checksum, "
        "4 every k-th frame decoded.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("root", type=Path, help="folder of shards")
    parser.add_argument("--level", type=int, default=2, help="0 to 4, each includes those below (2)")
    parser.add_argument("--every", type=int, default=16, metavar="K", help="level 4 decodes every k-th frame (16)")
    parser.add_argument("--jobs", type=int, default=0, help="shards checked side by side (one a core)")
    parser.add_argument("--move-damaged", action="store_true", help="move damaged shards to ROOT/damaged")
    given = parse_with_task(parser, arguments)
    from data_process.verify import LEVELS, VerifyConfig, move_damaged, verify

    config = VerifyConfig(given.level, given.every, given.jobs, given.task, given.tasks)
    found = verify(given.root, config)
    for damage in found:
        print(damage)
    if not found:
        print(f"{given.root}: no damage found (level {given.level}: {LEVELS[given.level]})")
        return 0
    if given.move_damaged:
        moved = move_damaged(given.root, found)
        print(
            f"{len(found)} problems; {len(moved)} files are now in {given.root}/damaged; run the same `intravid build`"
        )
    else:
        print(
            f"{len(found)} problems; --move-damaged, then the same `intravid build`, rebuilds the damaged shards only"
        )
    return 1

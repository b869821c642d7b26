"""`intravid stage`: a copy of a dataset on a disk of this machine."""

from __future__ import annotations

import argparse
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="intravid stage",
        description="Copy a dataset to a disk of this machine: checked, resumable (the same command goes on), and once "
        "however many processes ask for it. Recipes do the same with data.stage.",
        epilog="example:\n  intravid stage /lustre/k400 $TMPDIR/k400\n"
        "  intravid pretrain recipe.yaml --data.root /lustre/k400 --data.stage $TMPDIR\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("root", type=Path, help="folder of shards")
    parser.add_argument("target", type=Path, help="folder for the copy")
    given = parser.parse_args(arguments)
    from data_process.stage import stage

    copied = stage(given.root, given.target)
    print(f"{given.target}: {copied / 1e6:.1f} MB copied" if copied else f"{given.target}: nothing had to be copied")
    return 0

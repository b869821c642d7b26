"""`intravid cancel`: end the jobs of a run for good."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLE = """\
example:
  intravid cancel runs/iic
  intravid cancel shards/            # a build

the same `intravid submit` goes on later from what is saved.
"""


def main(arguments: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="intravid cancel",
        description="End the jobs that were submitted for a run (or for a build: the folder of its shards), waiting "
        "ones too. One that trains saves first, in the time that the cluster leaves it; none is started again.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, help="folder of a submitted run")
    given = parser.parse_args(arguments)
    from launch.cancel import cancel_jobs

    cancelled = cancel_jobs(given.run)
    for job_id in cancelled:
        print(f"job {job_id}: cancelled")
    if not cancelled:
        print(f"no job of {given.run} is waiting or running")
    return 0

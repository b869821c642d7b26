"""`intravid jobs`: how submitted runs stand."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launch.job_status import JobStatus

EXAMPLE = """\
example:
  intravid jobs runs/iic              # each job of this run, its step and speed, the end of the log that tells most
  intravid jobs runs/iic --lines 40
  intravid jobs                       # one line for each run in runs/
"""


def main(arguments: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="intravid jobs",
        description="State of the submitted jobs of a run (or of a build: the folder of its shards), its last step, "
        "speed and time to go, and the end of the log of the rank that failed, or of rank 0. Asks squeue, and what the "
        "job has left in the folder; neither sacct nor a running job is needed.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, nargs="?", help="run folder; without it, all in the folder --runs")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="of run folders (runs)")
    parser.add_argument("--lines", type=int, default=10, metavar="N", help="of the log (10)")
    given = parser.parse_args(arguments)
    if given.run is not None:
        return _show(given.run, given.lines)
    from data_process.errors import InputError

    found = sorted({path.parents[1] for path in given.runs.glob("*/slurm/jobs.jsonl")})
    if not found:
        raise InputError(f"no submitted run is in {given.runs}; name a run folder, or their folder with --runs")
    for run in found:
        last = _statuses(run)[-1]
        print(f"{run}: {last.record.command} {last.state} (job {last.key}){_progress(run, last)}")
    return 0


def _statuses(run: Path) -> list[JobStatus]:
    from launch.job_records import read_records
    from launch.job_status import ask_squeue, statuses

    records = read_records(run)
    known = ask_squeue([record.job_id for record in records if not record.host])
    return [status for record in records for status in statuses(run, record, known)]


def _show(run: Path, lines: int) -> int:
    from launch.job_status import tail

    found = _statuses(run)
    for one in found:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.record.time))
        starts = f", {one.starts} starts" if one.starts > 1 else ""
        after = f", after {', '.join(one.record.after)}" if one.record.after and one.state == "PENDING" else ""
        reason = f": {one.reason}" if one.reason else ""
        print(f"job {one.key}  {one.record.command:<9} {one.state}{after}{starts}, submitted {when}{reason}")
    begun = [one for one in found if one.log is not None]
    shown = next((one for one in begun if not one.is_over), begun[-1] if begun else None)
    if progress := _progress(run, shown):
        print(f"run{progress}")
    if shown is not None and shown.log is not None:
        print(f"the end of {shown.log}:")
        for line in tail(shown.log, lines):
            print(f"  {line}")
    return 0


def _progress(run: Path, status: JobStatus | None) -> str:
    from launch.job_status import advance

    now = advance(run)
    if now is None:
        return ""
    of = f" of {now.total}" if now.total else ""
    text = f": step {now.step}{of}, {now.step_s:.3g} s a step, {now.clips_per_s:.0f} clips/s"
    if status is None or status.state != "RUNNING" or status.record.command != "pretrain":
        return text
    if now.eta_s is not None:
        text += f", {_duration(now.eta_s)} to go"
    return text if now.age_s is None else f"{text}, last sign of life {_duration(now.age_s)} ago"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

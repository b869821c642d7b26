"""Whether a job goes on: asked by its batch script before the ranks start, and after they have ended.

SLURM starts a job again after preemption and after the loss of a machine, the ranks put it back into the queue before
its time limit, and this module does so where a rank has failed. What no start has brought forward, none will: after a
number of starts without progress the job ends, with the reason. Only the standard library is needed here, and no tool
of SLURM beyond squeue and scontrol; where a node has none, a failed job stays failed. A controller that is away is
waited for.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from launch.controller import is_away

STARTS, GAVE_UP, CANCELLED, FINAL = "starts.jsonl", "gave-up", "cancelled", "final-status"
"""Files of a job's folder: its starts, why it gave up, that its user cancelled it, and a status not to be mended."""

FINAL_STATUSES = (2, 3, 130, 143)
"""Of a rank that another start does not mend, or must not: wrong input, saved but not requeued, told to stop."""

_NEVER = frozenset({0, 2, 3, 130})
"""The same of srun, which tells the largest status of all ranks. There 143 may come from a rank that srun itself has
ended after another had failed; one that was told to stop leaves its own word in `FINAL`."""

_PATIENCE_S, _PAUSE_S = 900.0, 5.0
"""How long a controller is waited for, and between two questions; a restart takes seconds, a change-over minutes."""

_STEPS_S = 150.0
"""How long a controller may take to hear that the ranks have ended: the machines repeat it once a minute."""


def progress(folder: Path) -> int:
    """What has been reached in a run folder (steps of the newest checkpoint) or a folder of shards (their number)."""
    names = [path.name for path in (folder / "checkpoints").glob("step-*.pt")]
    steps = [int(match[1]) for name in names if (match := re.fullmatch(r"step-(\d+)\.pt", name))]
    return max(steps, default=0) if steps else sum(1 for _ in folder.glob("*.lmdb"))


def fruitless(starts: Sequence[Mapping[str, object]], now: int) -> int:
    """How many of the last starts began where the job still is."""
    count = 0
    for start in reversed(starts):
        if start["progress"] != now:
            break
        count += 1
    return count


def read_starts(job: Path) -> list[dict[str, object]]:
    """The starts that a job's folder tells of, oldest first."""
    path = job / STARTS
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def job_key(environ: Mapping[str, str]) -> str:
    """Number of a job, ``ARRAY_TASK`` in an array: the name of its folder."""
    if "SLURM_ARRAY_JOB_ID" in environ:
        return f"{environ['SLURM_ARRAY_JOB_ID']}_{environ['SLURM_ARRAY_TASK_ID']}"
    return environ["SLURM_JOB_ID"]


def begin(logs: Path, *, limit: int, environ: Mapping[str, str]) -> str:
    """Note a start; why the job must not go on, or nothing.

    Args:
        logs: folder of the jobs of a run or of a build, beside what they make.
        limit: starts without progress.
        environ: of the batch script.
    """
    job = logs / job_key(environ)
    if (job / CANCELLED).exists():
        return "the job was cancelled by `intravid cancel` and is not started again"
    if not logs.is_dir():
        return f"{logs} is not there on this machine; take a run folder on storage that all machines share"
    job.mkdir(exist_ok=True)  # SLURM may be faster than the submission
    now = progress(logs.parent)
    if reason := _exhausted(job, now, limit):
        return reason
    start = {
        "progress": now,
        "time": round(time.time()),
        "restart": int(environ.get("SLURM_RESTART_COUNT", "0")),
        "nodes": environ.get("SLURM_JOB_NODELIST", ""),
    }
    with open(job / STARTS, "a", encoding="utf-8") as file:
        file.write(json.dumps(start) + "\n")
    (job / FINAL).unlink(missing_ok=True)
    return ""


def end(logs: Path, status: int, *, limit: int, failed: bool, environ: Mapping[str, str]) -> str:
    """Put a job whose ranks have ended badly back into the queue; what was done about it, or nothing.

    Args:
        logs: as of `begin`.
        status: of srun, the largest of its tasks.
        limit: starts without progress.
        failed: whether status 1, a failed run, may be mended by another start.
        environ: of the batch script.
    """
    key = job_key(environ)
    job = logs / key
    if status in _NEVER or (status == 1 and not failed) or (job / FINAL).exists() or (job / CANCELLED).exists():
        return ""
    if reason := _exhausted(job, progress(logs.parent), limit):
        return reason
    try:
        asked = ["squeue", "-h", "-j", environ["SLURM_JOB_ID"], "-o", "%T"]
        state = _answer(asked)
        if state != "RUNNING":
            return ""  # SLURM ends or requeues it already: cancelled, preempted, put back by a rank
        _wait_for_steps(environ["SLURM_JOB_ID"])
        _answer(["scontrol", "requeue", key])
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or error
        return f"the ranks ended with status {status}, and the job could not be requeued ({said}); submit it again"
    return f"the ranks ended with status {status}; the job is back in the queue and goes on from what is saved"


def _wait_for_steps(job_id: str) -> None:
    """Return once the controller knows that the ranks have ended.

    It may have been away when they did. A job put back before would be ended once more, and its machines drained,
    because a step that has ended does not answer.
    """
    deadline = time.monotonic() + _STEPS_S
    while time.monotonic() < deadline:
        steps = _answer(["squeue", "-h", "-s", "-j", job_id, "-o", "%i"]).split()
        if all(step.endswith((".batch", ".extern")) for step in steps):
            return
        time.sleep(_PAUSE_S)


def _answer(words: list[str]) -> str:
    """What a tool of SLURM prints, once there is a controller to answer it.

    Raises:
        OSError: where there is no such tool.
        SubprocessError: where it refuses, or nobody has answered it for too long.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return subprocess.run(words, check=True, timeout=60, capture_output=True, text=True).stdout.strip()
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                raise
        except subprocess.CalledProcessError as error:
            if not is_away(error.stderr) or time.monotonic() > deadline:
                raise
        time.sleep(_PAUSE_S)


def _exhausted(job: Path, now: int, limit: int) -> str:
    starts = read_starts(job)
    if (count := fruitless(starts, now)) < limit:
        return ""
    reason = (
        f"{count} starts of this job (the last on {starts[-1]['nodes'] or 'this machine'}) ended without progress: it "
        f"is still at {now}. It gives up; the log before this line tells why the starts ended. Mend that, then submit "
        "the same command again (launch.fruitless_starts sets the number)"
    )
    (job / GAVE_UP).write_text(reason + "\n", encoding="utf-8")
    return reason


def main(arguments: Sequence[str]) -> int:
    """Answer the batch script: 1 where the job must not go on."""
    parser = argparse.ArgumentParser(prog="launch.retry", allow_abbrev=False)
    parser.add_argument("when", choices=("begin", "end"))
    parser.add_argument("logs", type=Path)
    parser.add_argument("--limit", type=int, required=True)
    parser.add_argument("--status", type=int, default=0)
    parser.add_argument("--failed", action="store_true")
    given = parser.parse_args(arguments)
    if given.when == "begin":
        said = begin(given.logs, limit=given.limit, environ=os.environ)
    else:
        said = end(given.logs, given.status, limit=given.limit, failed=given.failed, environ=os.environ)
    if said:
        print(f"intravid: {said}", file=sys.stderr, flush=True)
    return int(bool(said) and given.when == "begin")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
